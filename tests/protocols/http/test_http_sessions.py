"""Logins: asked for once a minute, never mixed up."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import AuthenticationFailed, Certificate
from gateway.protocols.http import sessions
from gateway.protocols.http.answers import Scope
from gateway.protocols.http.sessions import CERTIFICATE, Login, Sessions, credentials, login_of
from tests.protocols.http.http_support import Running, eventually


def basic(name: str, password: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Basic " + base64.b64encode(f"{name}:{password}".encode()))]


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def scope(client: tuple[str, int], headers: list[tuple[bytes, bytes]], certificate: str = "") -> Scope:
    found: Scope = {"client": client, "headers": headers}
    if certificate:
        found[CERTIFICATE] = Certificate("CN=x", "x", fingerprint=certificate)
    return found


async def test_one_login_serves_many_requests(running: Running) -> None:
    known = Sessions(running.gateway)
    lents = await asyncio.gather(
        *(known.of(scope(("1.2.3.4", port), basic("ann", "pass"))) for port in range(50))
    )
    assert len({id(lent) for lent in lents}) == 1
    assert len(running.gateway.logins) == 1
    other_login = await known.of(scope(("1.2.3.4", 1), basic("bob", "pass")))
    other_address = await known.of(scope(("5.6.7.8", 1), basic("ann", "pass")))
    nobody = await known.of(scope(("1.2.3.4", 1), []))
    assert [lent.session.principal.name for lent in (lents[0], other_login, other_address, nobody)] == [
        "ann",
        "bob",
        "ann",
        "anonymous",
    ]
    assert len(running.gateway.logins) == 4


async def test_clients_with_different_certificates_share_nothing(running: Running) -> None:
    known = Sessions(running.gateway)
    login = basic("ann", "pass")
    asked = [scope(("1.2.3.4", 1), login, fingerprint) for fingerprint in ("", "aa", "bb", "aa")]
    lents = await asyncio.gather(*(known.of(each) for each in asked))
    assert lents[1] is lents[3]
    assert len({id(lent) for lent in lents}) == 3
    assert [known.known(each) for each in asked] == lents
    assert known.known(scope(("1.2.3.4", 1), login, "cc")) is None
    found = [who.certificate for who in running.gateway.logins]
    assert {"" if each is None else each.fingerprint for each in found} == {"", "aa", "bb"}


async def test_a_failed_login_is_not_remembered(running: Running) -> None:
    known = Sessions(running.gateway)
    for _ in range(2):
        with pytest.raises(AuthenticationFailed):
            await known.of(scope(("1.2.3.4", 1), basic("ann", "wrong")))
    assert len(running.gateway.logins) == 2
    assert len(known) == 0


async def test_a_login_is_asked_for_again_after_a_minute(running: Running) -> None:
    known = Sessions(running.gateway)
    lent = await known.of(scope(("1.2.3.4", 1), basic("ann", "pass")))
    lent.expires_at_ms = 0
    again = await known.of(scope(("1.2.3.4", 1), basic("ann", "pass")))
    assert again is not lent
    assert (lent.expired, again.expired, len(known)) == (True, False, 1)


async def test_a_session_in_use_is_closed_only_afterwards(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Sessions(running.gateway)
    lent = await known.of(scope(("1.2.3.4", 1), []))
    closed: list[bool] = []
    monkeypatch.setattr(type(lent.session), "close", lambda _: closed.append(True))
    lent.take()
    known.close()
    assert not closed
    lent.give_back()
    assert closed == [True]


async def test_only_so_many_are_remembered(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 3)
    known = Sessions(running.gateway)
    for number in range(10):
        await known.of(scope((f"10.0.0.{number}", 1), []))
        assert len(known) <= 3


async def test_the_first_of_several_may_leave(running: Running) -> None:
    known = Sessions(running.gateway)
    first = asyncio.create_task(known.of(scope(("1.2.3.4", 1), [])))
    second = asyncio.create_task(known.of(scope(("1.2.3.4", 2), [])))
    await eventually(lambda: running.gateway.logins)
    first.cancel()
    assert (await second).session.principal.name == "anonymous"


@pytest.mark.parametrize(
    ("header", "name", "password"),
    [
        (b"Basic " + base64.b64encode(b"ann:pa:ss"), "ann", b"pa:ss"),
        (b"basic " + base64.b64encode("é:ü".encode()), "é", "ü".encode()),
        (b"Basic " + base64.b64encode(b":"), "", b""),
        (b"", None, None),
    ],
)
async def test_basic(header: bytes, name: str | None, password: bytes | None) -> None:
    found = credentials("peer", (header, b""))
    assert (found.protocol, found.peer, found.username, found.password) == ("http", "peer", name, password)


@pytest.mark.parametrize(
    "header",
    [
        b"Basic",
        b"Basic !!!",
        b"Basic " + base64.b64encode(b"nocolon"),
        b"Basic /w==",
        b"Basic " + base64.b64encode(b"\xffann:secret"),
        b"Basic YTpi, Basic YTpi",
        b"Bearer",
        b"Bearer ",
        b"Bearer a b",
        b"Bearer a,b",
        b"Bearer \xe4",
        b"Bearer =",
        b"Bearer YTpi, Bearer YTpi",
        b"Digest x",
        b"gwk_x",
        b"BearerX",
    ],
)
async def test_what_is_no_login(header: bytes) -> None:
    with pytest.raises(AuthenticationFailed, match="Authorization") as refused:
        credentials("peer", (header, b""))
    assert "secret" not in refused.value.detail


@pytest.mark.parametrize("key", [b"a b", b"\xe4", b"a, b", b"\x7f"])
async def test_what_is_no_api_key(key: bytes) -> None:
    with pytest.raises(AuthenticationFailed, match="X-API-Key"):
        credentials("peer", (b"", key))


@pytest.mark.parametrize(
    ("login", "token"),
    [
        ((b"Bearer eyJ.a-_.b", b""), "eyJ.a-_.b"),
        ((b"bearer  AbC+/~==", b""), "AbC+/~=="),
        ((b"", b"gwk_0123_x-_"), "gwk_0123_x-_"),
    ],
)
async def test_tokens_and_keys(login: Login, token: str) -> None:
    found = credentials("peer", login)
    assert (found.token, found.username, found.password, found.method) == (token, None, None, None)


async def test_two_logins_at_once_are_none() -> None:
    with pytest.raises(AuthenticationFailed, match="one login"):
        credentials("peer", (b"Bearer x", b"x"))
    twice = login_of([*bearer("x"), *bearer("x")])
    with pytest.raises(AuthenticationFailed, match="Bearer"):
        credentials("peer", twice)


@given(
    st.binary(max_size=40) | st.binary(max_size=30).map(lambda rest: b"Basic " + base64.b64encode(rest)),
    st.binary(),
)
def test_any_headers_are_credentials_or_a_refusal(authorization: bytes, key: bytes) -> None:
    for login in ((authorization, b""), (b"", key), (authorization, key), (b"Bearer " + key, b"")):
        try:
            assert credentials("peer", login).protocol == "http"
        except AuthenticationFailed:
            pass


async def test_each_way_to_log_in_has_its_own_session(running: Running) -> None:
    """The same text as a token and as a key may be two different things."""
    known = Sessions(running.gateway)
    lents = [
        await known.of(scope(("1.2.3.4", 1), headers))
        for headers in (
            bearer("ann.0"),
            [(b"x-api-key", b"ann.0")],
            [(b"x-api-key", b"Bearer.0")],
            bearer("bob.0"),
            [],
        )
    ]
    assert len({id(lent) for lent in lents}) == 5
    assert lents[0] is await known.of(scope(("1.2.3.4", 2), bearer("ann.0")))
    assert [login.token for login in running.gateway.logins] == ["ann.0", "ann.0", "Bearer.0", "bob.0", None]
    with pytest.raises(AuthenticationFailed):
        await known.of(scope(("1.2.3.4", 1), [*bearer("ann.0"), (b"x-api-key", b"ann.0")]))


@pytest.mark.parametrize(("seconds", "lasts_ms"), [(0, 60_000), (3600, 60_000), (20, 20_000), (-5, -5000)])
async def test_a_shared_session_ends_with_the_token(running: Running, seconds: int, lasts_ms: int) -> None:
    known = Sessions(running.gateway)
    lent = await known.of(scope(("1.2.3.4", 1), bearer(f"ann.{seconds}")))
    now_ms = running.gateway.clock.monotonic_ms
    assert abs(lent.expires_at_ms - now_ms - lasts_ms) < 2000
    again = await known.of(scope(("1.2.3.4", 1), bearer(f"ann.{seconds}")))
    assert (again is lent) == (lasts_ms > 0)


async def test_nothing_is_kept_in_clear(running: Running) -> None:
    known = Sessions(running.gateway)
    await known.of(scope(("1.2.3.4", 1), basic("ann", "pass")))
    assert not any(b"pass" in key[1] or b"YW5u" in key[1] for key in known._lent)
