"""The chain of authenticators: who is asked, what is throttled, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.admission import NOBODY, UNKNOWN, Admission
from gateway.api import Authenticator, Credentials, Exchange, Principal
from gateway.core.clock import Clock
from gateway.core.errors import AuthenticationFailed, Throttled
from gateway.throttle import FAILURES_MAX, REFILL_MS

PEER = "192.0.2.1:1000"


class Knows(Authenticator):
    """Vouches for one user; refuses those it knows by another password; has no opinion of others."""

    def __init__(self, name: str, password: bytes) -> None:
        self._name, self._password = name, password
        self.asked = 0

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        self.asked += 1
        if credentials.username != self._name:
            return None
        if credentials.password != self._password:
            raise AuthenticationFailed("wrong user name or password")
        return Principal(self._name)

    def exchange(self, credentials: Credentials) -> Exchange | None:
        return Steps(self._name) if credentials.method == "TWO-STEP" else None


class Steps(Exchange):
    """Two steps; the second has to be `right`."""

    def __init__(self, name: str) -> None:
        self._name, self._first = name, True

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        if self._first:
            self._first = False
            return b"challenge", None
        if data != b"right":
            raise AuthenticationFailed("wrong proof")
        return b"", Principal(self._name)


class Door:
    """An admission with a driven clock, and what was told of refusals."""

    def __init__(self, *authenticators: Authenticator) -> None:
        self.told: list[tuple[str | None, str]] = []
        self.clock = Clock(1_700_000_000_000, 0)
        self.admission = Admission(
            authenticators, self.clock, lambda c, why: self.told.append((c.username, why))
        )

    def passes(self, ms: int) -> None:
        now_ms = self.clock.monotonic_ms + ms
        self.clock.set(1_700_000_000_000 + now_ms, now_ms)

    def login(self, user: str | None = None, password: bytes | None = None, **more: object) -> Principal:
        fields = {"peer": PEER, "username": user, "password": password, **more}
        return asyncio.run(self.admission.admit(Credentials("test", **fields)))  # type: ignore[arg-type]


@pytest.fixture
def door() -> Door:
    return Door(Knows("ann", b"right"), Knows("bob", b"good"))


def refusal(call: Callable[..., object], *arguments: object, **named: object) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as refused:
        call(*arguments, **named)
    return refused.value


def test_the_first_that_vouches_decides_and_one_that_refuses_ends_it(door: Door) -> None:
    assert door.login("bob", b"good").name == "bob"
    assert refusal(door.login, "ann", b"wrong").detail == "wrong user name or password"
    assert door.admission._authenticators[1].asked == 1  # type: ignore[attr-defined]
    assert refusal(door.login, "eve", b"x").detail == UNKNOWN, "the words for a wrong password"
    assert door.told == [("ann", "wrong user name or password"), ("eve", UNKNOWN)]


def test_whoever_has_failed_too_often_waits_whether_it_is_right_now_or_not(door: Door) -> None:
    for _ in range(FAILURES_MAX):
        refusal(door.login, "ann", b"wrong")
    for password in (b"right", b"wrong"):
        error = refusal(door.login, "ann", password)
        assert isinstance(error, Throttled)
        assert REFILL_MS <= error.retry_ms <= REFILL_MS + 1
        assert error.detail == "too many failed logins; try again in 6 s"
    assert door.admission._authenticators[0].asked == FAILURES_MAX  # type: ignore[attr-defined]
    assert door.told[-1] == ("ann", "too many failed logins; try again in 6 s")
    door.passes(REFILL_MS + 1)
    assert door.login("ann", b"right").name == "ann"


def test_whoever_logged_in_lately_is_let_in_while_others_guess(door: Door) -> None:
    door.login("bob", b"good")
    for number in range(FAILURES_MAX * 3):
        refusal(door.login, f"guess{number}", b"x")
    assert door.login("bob", b"good").name == "bob"
    assert isinstance(refusal(door.login, "ann", b"right"), Throttled)


def test_clients_without_a_login_use_up_nobodys_tries(door: Door) -> None:
    for _ in range(FAILURES_MAX * 3):
        assert refusal(door.login).detail == NOBODY
    assert door.login("ann", b"right").name == "ann"
    assert len(door.told) == FAILURES_MAX * 3


@pytest.mark.parametrize("brought", [{"token": "t"}, {"method": "SCRAM-SHA-256"}, {"username": ""}])
def test_tokens_and_methods_count_as_guesses(door: Door, brought: dict[str, object]) -> None:
    for _ in range(FAILURES_MAX):
        assert not isinstance(refusal(door.login, **{"user": None, **brought}), Throttled)
    assert isinstance(refusal(door.login, **{"user": None, **brought}), Throttled)


def test_a_wrong_password_of_an_exempt_user_counts(door: Door) -> None:
    door.login("ann", b"right")
    for _ in range(FAILURES_MAX):
        assert not isinstance(refusal(door.login, "ann", b"wrong"), Throttled)
    assert isinstance(refusal(door.login, "ann", b"right"), Throttled)


def test_exchanges_are_counted_at_their_end(door: Door) -> None:
    def attempt(proof: bytes) -> Principal | None:
        exchange = door.admission.exchange(Credentials("test", PEER, method="TWO-STEP"))
        assert exchange is not None

        async def run() -> Principal | None:
            assert await exchange.step(b"") == (b"challenge", None)
            return (await exchange.step(proof))[1]

        return asyncio.run(run())

    found = attempt(b"right")
    assert found is not None
    assert found.name == "ann"
    assert door.admission.exchange(Credentials("test", PEER, method="UNKNOWN")) is None
    for _ in range(FAILURES_MAX):
        assert refusal(attempt, b"wrong").detail == "wrong proof"
    assert isinstance(refusal(attempt, b"right"), Throttled)
    assert [why for _, why in door.told[:2]] == ["wrong proof", "wrong proof"]


def test_an_authenticator_that_fails_is_a_bug_and_lets_nobody_in() -> None:
    class Broken(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Principal | None:
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        Door(Broken(), Knows("ann", b"right")).login("ann", b"right")


def test_an_exchange_counts_against_whom_it_turns_out_to_be_about() -> None:
    """From many addresses, each of which has tries left: the user's are used up all the same."""

    class Named(Steps):
        async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
            self.name = "ann"  # as in SCRAM, whose first message has the name
            return await super().step(data)

    class Offers(Authenticator):
        def exchange(self, credentials: Credentials) -> Exchange | None:
            return Named("ann")

    door = Door(Offers())

    def talk(number: int) -> Principal | None:
        async def steps() -> Principal | None:
            exchange = door.admission.exchange(Credentials("test", f"192.0.2.{number}:1", method="M"))
            assert exchange is not None
            await exchange.step(b"")
            return (await exchange.step(b"wrong"))[1]

        return asyncio.run(steps())

    for number in range(FAILURES_MAX):
        assert refusal(talk, number).detail == "wrong proof"
    assert isinstance(refusal(talk, 99), Throttled)
