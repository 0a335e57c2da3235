"""API keys: made once, kept as digests, and refused alike for whatever reason."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import AuthenticationFailed, Credentials
from gateway.auth.keys import WRONG, ApiKey, KeyLogins, make_key
from gateway.auth.users import User
from tests.auth.auth_support import Hands, ask, refused, users, vouched

NOW_MS = 1_800_000_000_000
KNOWN = users(User("ann", groups=("a", "b")), User("root", admin=True), User("gone", disabled=True))
TEXT, KEY = make_key("ann", NOW_MS, NOW_MS + 60_000, "the lamp")


def logins(*keys: ApiKey, now_ms: float = NOW_MS) -> KeyLogins:
    return KeyLogins({key.id: key for key in keys}.get, KNOWN, Hands(now_ms / 1000))


def token(text: str) -> Credentials:
    return Credentials("http", token=text)


def password(text: str, name: str | None = None) -> Credentials:
    return Credentials("mqtt", username=name, password=text.encode())


def test_a_key_is_long_random_and_kept_as_a_digest() -> None:
    assert re.fullmatch(r"gwk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", TEXT)
    assert KEY.digest == hashlib.sha256(TEXT.encode()).hexdigest()
    assert (KEY.user, KEY.created_ms, KEY.expires_at_ms, KEY.description) == (
        "ann",
        NOW_MS,
        NOW_MS + 60_000,
        "the lamp",
    )
    assert len({make_key("ann", NOW_MS)[0] for _ in range(50)}) == 50
    assert KEY.digest not in repr(KEY)


def test_a_key_stands_for_its_user_at_any_door() -> None:
    known = logins(KEY)
    for credentials in (token(TEXT), password(TEXT), password(TEXT, ""), password(TEXT, "ann")):
        principal = vouched(known, credentials)
        assert (principal.name, principal.method, principal.admin) == ("ann", "key", False)
        assert principal.groups == {"a", "b"}
        assert principal.expires_at_ms == NOW_MS + 60_000


def test_a_key_has_what_its_user_has_and_no_more() -> None:
    narrow, key = make_key("ann", NOW_MS, groups=("b", "ops"))
    principal = vouched(logins(key), token(narrow))
    assert (principal.groups, principal.expires_at_ms) == ({"b"}, 0)
    boss, key = make_key("root", NOW_MS)
    assert vouched(logins(key), token(boss)).admin


@pytest.mark.parametrize("text", ["", "gwk", "GWK_x", "eyJ.a.b", "Basic", "a password"])
def test_what_is_no_key_is_left_to_others(text: str) -> None:
    known = logins(KEY)
    assert ask(known, token(text)) is None
    assert ask(known, password(text, "ann")) is None
    assert ask(known, Credentials("mqtt", username="ann")) is None


GONE, GONE_KEY = make_key("gone", NOW_MS)
NOBODYS, NOBODYS_KEY = make_key("nobody", NOW_MS)
OTHER, OTHER_KEY = make_key("ann", NOW_MS)

REFUSED = {
    "an unknown id": token(make_key("ann", NOW_MS)[0]),
    "another's secret": token(TEXT[:17] + OTHER[17:]),
    "another's id": token(OTHER[:17] + TEXT[17:]),
    "a wrong end": token(TEXT[:-1] + ("A" if TEXT[-1] != "A" else "B")),
    "cut": token(TEXT[:-1]),
    "longer": token(TEXT + "A"),
    "the prefix": token("gwk_"),
    "the digest": token(f"gwk_{KEY.id}_{KEY.digest}"),
    "a disabled user": token(GONE),
    "a user who is gone": token(NOBODYS),
    "a password": password(TEXT[:-1], "ann"),
    "somebody else's name": password(TEXT, "root"),
    "no ASCII": token("gwk_ä"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_refusals_have_the_same_words(case: str) -> None:
    assert refused(logins(KEY, GONE_KEY, NOBODYS_KEY, OTHER_KEY), REFUSED[case]) == WRONG


def test_a_key_ends() -> None:
    assert vouched(logins(KEY, now_ms=NOW_MS + 59_999), token(TEXT))
    assert refused(logins(KEY, now_ms=NOW_MS + 60_000), token(TEXT)) == WRONG


@pytest.mark.parametrize(
    ("expires", "description"), [(NOW_MS, ""), (1, ""), (0, "x" * 201), (0, "two\nlines"), (0, "\x1b[31m")]
)
def test_what_makes_no_key(expires: int, description: str) -> None:
    with pytest.raises(ValueError):
        make_key("ann", NOW_MS, expires, description)


@given(st.integers(0, len(TEXT) - 1), st.characters() | st.text(max_size=3))
def test_a_changed_key_never_logs_in(place: int, piece: str) -> None:
    changed = TEXT[:place] + piece + TEXT[place + 1 :]
    try:
        principal = ask(logins(KEY), token(changed))
    except AuthenticationFailed:
        return
    assert principal is None or changed == TEXT
