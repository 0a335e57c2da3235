"""Names from elsewhere: what stands in logs and rules can be seen and has an end."""

from __future__ import annotations

import pytest

from gateway.api import AuthenticationFailed
from gateway.auth.names import NAME_BYTES_MAX, checked_name, same_name


@pytest.mark.parametrize(
    "name", ["ann", "urn:device:7", "ä é", "用户", "a/b", "CN=x,O=y", "x" * NAME_BYTES_MAX]
)
def test_names(name: str) -> None:
    assert checked_name(name, "it") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a\n",
        "a\0b",
        "\u202etxt",
        "a\u200bb",
        "\ud800",
        "x" * (NAME_BYTES_MAX + 1),
        "é" * 200,
        None,
        7,
        b"x",
    ],
)
def test_no_names(name: object) -> None:
    with pytest.raises(AuthenticationFailed, match=r"^it "):
        checked_name(name, "it")


def test_a_user_name_beside_a_proof_is_none_or_the_same() -> None:
    assert same_name(None, "ann")
    assert same_name("", "ann")
    assert same_name("ann", "ann")
    assert not same_name("Ann", "ann")
