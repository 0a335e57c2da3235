"""Keys for handshakes made of them, and how a gateway finds one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.api import Authenticator, Principal, SharedKey
from gateway.auth.shared_keys import KINDS, SharedKeys
from gateway.auth.users import User, seal_for_user, secret_of
from gateway.config import load
from gateway.hookspecs import hookimpl
from gateway.sealing import Sealer
from gateway.server import Server
from gateway.testing import TestGateway
from tests.auth.auth_support import users

SEALER = Sealer(b"k" * 32)
SECRET = b"0123456789abcdef"
KNOWN = users(
    User("lamp", secret=seal_for_user(SEALER, "lamp", SECRET), groups=("g",)),
    User("gone", secret=seal_for_user(SEALER, "gone", SECRET), disabled=True),
    User("short", secret=seal_for_user(SEALER, "short", SECRET[:15])),
    User("plain"),
    User("ä", secret=seal_for_user(SEALER, "ä", SECRET)),
)
KEYS = SharedKeys(KNOWN, lambda user: secret_of(SEALER, user))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lamp", "ä"])
def test_a_users_key(kind: str, name: str) -> None:
    found = KEYS.shared_key(kind, name.encode())
    assert found is not None
    assert (found.key, found.principal.name, found.principal.method) == (SECRET, name, kind)
    assert str(SECRET) not in repr(found)
    assert found.principal.groups == ({"g"} if name == "lamp" else set())


@pytest.mark.parametrize(
    "identity", [b"gone", b"short", b"plain", b"nobody", b"", b"\xff", b"lamp\0", b"x" * 300]
)
def test_nobody_elses(identity: bytes) -> None:
    assert KEYS.shared_key("psk", identity) is None


def test_other_kinds_are_not_ours() -> None:
    assert KEYS.shared_key("wpa", b"lamp") is None


class Late(Authenticator):
    """A plugin's, asked last."""

    methods = ("SCRAM-SHA-256", "LATE")

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        return SharedKey(b"late", Principal("late")) if identity in (b"late", b"lamp") else None


class Early(Authenticator):
    methods = ("SCRAM-SHA-256",)


def test_a_gateway_asks_everybody_in_their_order(tmp_path: Path) -> None:
    plugin = SimpleNamespace(gateway_authenticators=hookimpl(_authenticators))
    for gateway in (
        TestGateway(authenticators=(Early(), KEYS, Late())),
        Server(load(None, ("storage.engine=memory",), True, tmp_path), [plugin]),
    ):
        found = [gateway.shared_key("psk", identity) for identity in (b"lamp", b"late", b"nobody")]
        assert [one and one.principal.name for one in found] == ["lamp", "late", None]
        assert tuple(dict.fromkeys(gateway.methods)) == ("SCRAM-SHA-256", "LATE")
        if isinstance(gateway, TestGateway):
            gateway.close()


def _authenticators(config: object) -> list[Authenticator]:
    return [Early(), KEYS, Late()]
