"""Who gets in by a password: verified in threads, remembered for a while, the same words for all refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters

from gateway.admission import Admission
from gateway.auth import passwords as module
from gateway.auth.hashes import hash_password
from gateway.auth.passwords import Passwords
from gateway.auth.users import User
from gateway.core.access import Credentials, Principal
from gateway.core.clock import Clock
from gateway.core.errors import AuthenticationFailed
from tests.shell.house import until

HASH = hash_password("right")  # one for all tests: a hash is slow by design
WEAK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("right")


def login(username: str | None, password: bytes | None = None) -> Credentials:
    return Credentials("test", username=username, password=password)


def lets_in(authenticator: Passwords, credentials: Credentials) -> bool:
    """Tell whether somebody is vouched for; a name that is not known is left to others."""
    try:
        return ask(authenticator, credentials) is not None
    except AuthenticationFailed:
        return False


def ask(authenticator: Passwords, credentials: Credentials) -> Principal | None:
    return asyncio.run(authenticator.authenticate(credentials))


class People(dict[str, User]):
    """Users by name, and what was told of better hashes."""

    def __init__(self, *users: User) -> None:
        super().__init__({user.name: user for user in users})
        self.better: list[tuple[User, str]] = []

    def rehashed(self, user: User, stored: str) -> None:
        self.better.append((user, stored))


def authenticator(people: People) -> Passwords:
    made = Passwords(people.get, people.rehashed)
    _made.append(made)
    return made


_made: list[Passwords] = []


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    yield
    while _made:
        _made.pop()._threads.shutdown()


@pytest.fixture
def people() -> People:
    return People(
        User("ann", HASH, groups=("sensors", "staff")),
        User("root", HASH, admin=True),
        User("off", HASH, disabled=True),
        User("keyless"),
        User("broken", "$argon2id$nonsense", admin=True),
    )


@pytest.fixture
def users(people: People) -> Passwords:
    return authenticator(people)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was verified: (hash, thread)."""
    calls: list[tuple[str, str]] = []
    verify = module.verify

    def counted(stored: str, password: bytes) -> bool:
        calls.append((stored, threading.current_thread().name))
        return verify(stored, password)

    monkeypatch.setattr(module, "verify", counted)
    return calls


@pytest.mark.parametrize(
    ("name", "admin", "groups"), [("ann", False, {"sensors", "staff"}), ("root", True, set())]
)
def test_the_right_password_lets_a_user_in(
    users: Passwords, name: str, admin: bool, groups: set[str]
) -> None:
    principal = ask(users, login(name, b"right"))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == (name, admin, False)
    assert principal.groups == groups
    assert principal.method == "password"


@pytest.mark.parametrize("text", ["", "p" * 1024, "\u00e4\u20ac\U0001f511", "a\0b"])
def test_any_password_makes_the_round_trip(text: str) -> None:
    one = authenticator(People(User("u", hash_password(text))))
    assert ask(one, login("u", text.encode())) is not None
    with pytest.raises(AuthenticationFailed):
        ask(one, login("u", text.encode() + b"x"))


REFUSED = {
    "a wrong password": login("ann", b"wrong"),
    "the case is wrong": login("ann", b"Right"),
    "no password": login("ann", None),
    "an empty password": login("ann", b""),
    "no text at all": login("ann", b"\xff\xfe\0"),
    "the hash itself": login("ann", HASH.encode()),
    "megabytes": login("ann", b"x" * (1 << 20)),
    "an unknown user": login("bob", b"right"),
    "the empty name": login("", b"right"),
    "a user whose hash is damaged": login("broken", b"right"),
    "a user who is disabled": login("off", b"right"),
    "a user without a password": login("keyless", b""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_named_user_without_the_right_password_is_refused_in_the_same_words(
    users: Passwords, case: str
) -> None:
    """Whoever knows the name refuses, or nobody at the end of the chain: nobody can tell which."""
    admission = Admission([users], Clock(), lambda credentials, why: None)
    with pytest.raises(AuthenticationFailed) as refused:
        asyncio.run(admission.admit(REFUSED[case]))
    assert refused.value.detail == "wrong user name or password"


def test_who_names_no_user_is_left_to_the_next_authenticator(users: Passwords) -> None:
    assert ask(users, login(None, b"right")) is None


def test_megabytes_are_not_fed_to_the_hash(users: Passwords, verified: list[tuple[str, str]]) -> None:
    with pytest.raises(AuthenticationFailed):
        ask(users, login("ann", b"x" * (1 << 20)))
    assert verified == []


@pytest.mark.parametrize("name", ["ann", "bob", "off", "keyless", ""])
def test_whoever_it_is_costs_a_verification_of_the_same_price(
    users: Passwords, verified: list[tuple[str, str]], name: str
) -> None:
    """Else the time of the answer tells which users there are."""
    assert not lets_in(users, login(name, b"x"))
    ((stored, _),) = verified
    assert (stored == HASH) == (name in ("ann", "off"))
    assert extract_parameters(stored) == extract_parameters(HASH)


def test_a_verified_login_is_remembered_only_for_that_user_and_password_and_for_a_while(
    users: Passwords, verified: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert ask(users, login("ann", b"right")) is not None
    assert len(verified) == 1
    for name, password in (("ann", b"wrong"), ("ann", b"wrong"), ("bob", b"right")):
        assert not lets_in(users, login(name, password))
    ask(users, login("root", b"right"))
    assert len(verified) == 5
    monkeypatch.setattr(module.time, "monotonic", lambda: float("inf"))
    ask(users, login("ann", b"right"))
    assert len(verified) == 6
    assert all(thread.startswith("passwords") for _, thread in verified), "verified on the event loop"


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFIED_MAX", 3)
    monkeypatch.setattr(module, "verify", lambda stored, password: True)
    users = authenticator(People(*(User(f"u{n}", HASH) for n in range(10))))
    for n in range(10):
        ask(users, login(f"u{n}", b"p"))
        assert 1 <= len(users._verified) <= 3


def test_what_is_remembered_is_no_longer_good_once_the_user_has_changed(
    users: Passwords, people: People
) -> None:
    ask(users, login("ann", b"right"))
    for changed in (User("ann", HASH, disabled=True), User("ann", hash_password("other")), User("ann")):
        people["ann"] = changed
        with pytest.raises(AuthenticationFailed):
            ask(users, login("ann", b"right"))
    del people["ann"]
    assert not lets_in(users, login("ann", b"right"))
    people["ann"] = User("ann", HASH, admin=True, groups=("new",))
    principal = ask(users, login("ann", b"right"))
    assert principal is not None
    assert (principal.admin, principal.groups) == (True, {"new"})


def test_a_storm_waits_for_few_threads_and_what_is_too_much_is_refused(
    users: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on meanwhile: it counts while all threads are held."""
    monkeypatch.setattr(module, "WAITING_MAX", 5)
    release = threading.Event()
    running: list[str] = []

    def slow(stored: str, password: bytes) -> bool:
        running.append(threading.current_thread().name)
        release.wait(10)
        return True

    monkeypatch.setattr(module, "verify", slow)

    async def storm() -> list[object]:
        logins = [asyncio.ensure_future(users.authenticate(login("ann", b"%d" % n))) for n in range(8)]
        await until(lambda: sum(task.done() for task in logins) >= 3 and len(running) >= 2)
        assert len(running) == module.VERIFY_THREADS
        release.set()
        return await asyncio.gather(*logins, return_exceptions=True)

    results = asyncio.run(storm())
    refused = [result for result in results if isinstance(result, AuthenticationFailed)]
    assert [error.detail for error in refused] == [
        "too many clients log in at once; try again in a moment"
    ] * 3
    assert sum(isinstance(result, Principal) for result in results) == 5
    assert len(set(running)) <= module.VERIFY_THREADS
    assert ask(users, login("root", b"right")) is not None, "places are free again"


# -- better hashes ---------------------------------------------------------------------------------


def test_a_weaker_hash_is_replaced_by_one_of_ours_at_the_first_good_login() -> None:
    people = People(User("old", WEAK, groups=("g",)))
    users = authenticator(people)
    with pytest.raises(AuthenticationFailed):
        ask(users, login("old", b"wrong"))
    assert people.better == []
    assert ask(users, login("old", b"right")) is not None
    ((user, better),) = people.better
    assert user == people["old"]
    assert extract_parameters(better) == extract_parameters(HASH)
    assert module.verify(better, b"right")
    people["old"] = User("old", better)
    assert ask(users, login("old", b"right")) is not None
    assert len(people.better) == 1


@pytest.mark.parametrize("stored", [HASH, ""], ids=["ours", "none"])
def test_a_hash_of_ours_stays(stored: str) -> None:
    people = People(User("u", stored))
    try:
        ask(authenticator(people), login("u", b"right"))
    except AuthenticationFailed:
        assert not stored
    assert people.better == []


def test_a_password_that_is_no_text_keeps_the_hash_it_has() -> None:
    password = b"\xff\xfe"
    people = People(User("u", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(password)))
    assert ask(authenticator(people), login("u", password)) is not None
    assert people.better == []


def test_a_user_is_known_by_name_unless_disabled() -> None:
    users = {"ann": User("ann", admin=True, groups=("g",)), "old": User("old", HASH, disabled=True)}
    authenticator = Passwords(users.get)
    ann = authenticator.principal("ann")
    assert ann is not None
    assert (ann.name, ann.admin, ann.groups) == ("ann", True, frozenset({"g"}))
    assert authenticator.principal("old") is None
    assert authenticator.principal("who") is None
