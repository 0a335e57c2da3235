"""Every door x every login x every action, allowed, denied by a rule, and denied by silence.

The table is in `access_table`, with what each door answers in its own protocol's words, and with all
that cannot be expressed, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.interop import access_core
from tests.interop.access_cases import ACTIONS, ANONYMOUS_ADMIN, CASES, Answer, Link, Login, LoginRefused
from tests.interop.access_house import House, Witness
from tests.interop.access_table import (
    ALL_LOGINS,
    DOORS,
    NO_ACTIONS,
    NO_LOGINS,
    PAIRS,
    Door,
    impossible_actions,
    impossible_logins,
)

pytestmark = pytest.mark.interop
NAMES = [f"{door}-{login}" for door, login in PAIRS]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("matrix"))
    made.start()
    yield made
    made.stop()


def judge(door: Door, login: str, action: str, case: str, answer: Answer) -> list[str]:
    """Return what is wrong with an answer."""
    never = login == "anonymous" and action == "administer"
    allowed = case == "allow" and not never
    wanted = (door.yes if allowed else door.no)[action]
    label = f"{action}, {case}:"
    if answer.code != wanted or type(answer.code) is not type(wanted):
        return [f"{label} {wanted!r} is expected, not {answer}"]
    if not door.words:
        return []
    words = ""
    if not allowed:
        words = "no rule allows it" if case == "silence" else f"not-{action}-{login}"
        words = ANONYMOUS_ADMIN if never else words
    return [] if words in answer.text else [f"{label} {words!r} is not in {answer.text!r}"]


def try_all(door: Door, login: str, link: Link, mark: str) -> tuple[list[str], set[str]]:
    """Try every action the door has; return what is wrong, and what should have been published."""
    wrong: list[str] = []
    for action in door.yes:
        for case in CASES:
            more = {"body": f"{mark} {case}"} if action == "publish" else {}
            answer = getattr(link, action)(login, case, **more)
            wrong += judge(door, login, action, case, answer)
    return wrong, {f"{mark} allow"} if "publish" in door.yes else set()


@pytest.mark.parametrize(("name", "login"), PAIRS, ids=NAMES)
def test_what_it_may_do(name: str, login: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    door, found = DOORS[name], []
    if door.connect is None:
        access_core.run_core(
            tmp_path, login, access_core.SECRET, lambda link: found.extend(try_all(door, login, link, "")[0])
        )
        assert found == []
        return
    house: House = request.getfixturevalue("house")
    with closing(Witness(house)) as witness, closing(door.connect(house, house.login(login))) as link:
        found, published = try_all(door, login, link, f"{name} {login}")
        assert found == []
        assert witness.heard() == published


@pytest.mark.parametrize(("name", "login"), PAIRS, ids=NAMES)
def test_a_wrong_login_is_refused(
    name: str, login: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    door = DOORS[name]
    if door.connect is None:
        wrong = b"fedcba9876543210"
        with pytest.raises(LoginRefused) as caught:
            access_core.run_core(tmp_path, login, wrong, lambda link: None)
    else:
        house: House = request.getfixturevalue("house")
        shown = house.wrong(login, list(DOORS).index(name))
        with pytest.raises(LoginRefused) as caught:
            knock(door, house, shown)
        assert not shown.secret or shown.secret not in caught.value.text
    assert caught.value.code == door.refused


def knock(door: Door, house: House, login: Login) -> None:
    """Log in, and ask for something: HTTP says with the first answer who is refused."""
    assert door.connect is not None
    with closing(door.connect(house, login)) as link:
        getattr(link, next(iter(door.yes)))(login.name, "allow")


# -- the table ---------------------------------------------------------------------------------------


def test_every_combination_is_tried_or_named_as_impossible() -> None:
    no_login, no_action = impossible_logins(), impossible_actions()
    for name, door in DOORS.items():
        for login in ALL_LOGINS:
            assert ((name, login) in PAIRS) != ((name, login) in no_login), (name, login)
        for action in ACTIONS:
            assert (action in door.yes) != ((name, action) in no_action), (name, action)
        assert door.yes.keys() == door.no.keys()


def test_what_is_named_is_there_and_has_a_reason() -> None:
    for doors, others, reason in (*NO_LOGINS, *NO_ACTIONS):
        assert reason
        assert set(doors) <= DOORS.keys()
        assert set(others) <= {*ALL_LOGINS, *ACTIONS}
    tried = {login for _, login in PAIRS}
    assert tried == set(ALL_LOGINS), "each login is tried somewhere"
