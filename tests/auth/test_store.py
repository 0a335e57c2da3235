"""Where users, rules and quotas are said: one name is in one place, and what is kept survives."""

from __future__ import annotations

import msgspec
import pytest

from gateway.auth import store
from gateway.auth.acl import authorizer
from gateway.auth.acl.authorizer import Acl, Shadow
from gateway.auth.acl.rule import rule_from
from gateway.auth.directory import Directory
from gateway.auth.store import CONFIGURATION, Table, rules_table, users_table
from gateway.auth.users import User
from gateway.core.access import Action, Principal, Ruling
from gateway.core.errors import Conflict, NotFound, StorageError
from gateway.core.message import Origin
from gateway.storage.memory import MemoryEngine

ANN, BOB = User("ann", "hash", groups=("g",)), User("bob", admin=True, disabled=True)
RULE = rule_from({"id": "r/1", "subject": "everyone", "actions": "all", "resources": ["topic:a", "queue:q"]})


def opened(table: Table, engine: MemoryEngine) -> Table:
    table.load(engine)  # type: ignore[arg-type]
    return table


def test_what_is_kept_is_there_again() -> None:
    engine = MemoryEngine()
    users, rules = opened(users_table(), engine), opened(rules_table(), engine)
    assert [users.put(user.name, user) for user in (ANN, BOB, ANN)] == [True, True, False]
    assert rules.put(RULE.id, RULE)
    again, rules_again = opened(users_table(), engine), opened(rules_table(), engine)
    assert again.all() == [ANN, BOB]
    assert rules_again.get("r/1") == RULE
    assert again.delete("ann") == ANN
    with pytest.raises(NotFound, match="there is no user 'ann'"):
        again.delete("ann")
    assert opened(users_table(), engine).all() == [BOB]


def test_given_things_come_first_and_are_changed_where_they_are_said() -> None:
    users = opened(users_table(), MemoryEngine())
    users.put("bob", BOB)
    users.give({"ann": ANN}, CONFIGURATION)
    assert users.all() == [ANN, BOB]
    assert (users.where("ann"), users.where("bob"), users.where("eve")) == (CONFIGURATION, "", "")
    for change in (
        lambda: users.put("ann", ANN),
        lambda: users.delete("ann"),
        lambda: users.check_all(["ann"]),
    ):
        with pytest.raises(Conflict, match="user 'ann' is in the configuration; change it there"):
            change()
    assert users.get("ann") == ANN


def test_a_file_that_is_read_again_replaces_what_it_said_and_nothing_else() -> None:
    rules = opened(rules_table(), MemoryEngine())
    rules.give({"c": "of the configuration"}, CONFIGURATION)
    rules.give({"a": 1, "b": 2}, "file")
    rules.give({"b": 3}, "file")
    assert rules.all() == ["of the configuration", 3]
    rules.put("kept", RULE)
    for name, where in (("c", CONFIGURATION), ("kept", "the metadata store")):
        with pytest.raises(Conflict, match=f"rule '{name}' of file is in {where}, too"):
            rules.give({name: 1}, "file")
    assert rules.all() == ["of the configuration", 3, RULE]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth/user/x", b"{"),
        ("auth/user/x", b"\xff"),
        ("auth/user/x", b'{"name":7}'),
        ("auth/rule/x", b'{"id":"x"}'),
        ("auth/rule/x", b"[]"),
        ("auth/rule/x", b"nonsense"),
    ],
)
def test_what_cannot_be_read_is_a_fault_and_not_left_out(key: str, value: bytes) -> None:
    """A rule that denies must not get lost."""
    engine = MemoryEngine()
    engine.put(key, value)
    table = users_table() if "user" in key else rules_table()
    with pytest.raises(StorageError, match="'x' in the metadata store"):
        opened(table, engine)


def test_a_name_in_two_places_is_a_fault() -> None:
    engine = MemoryEngine()
    opened(users_table(), engine).put("ann", ANN)
    table = users_table()
    table.give({"ann": ANN}, CONFIGURATION)
    with pytest.raises(StorageError, match="user 'ann' is in the configuration and in the metadata store"):
        opened(table, engine)


def test_there_is_a_limit_and_a_list_is_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "USERS_MAX", 2)
    users = opened(users_table(), MemoryEngine())
    users.check_all(["a", "b", "a"])
    with pytest.raises(Conflict, match="there may be 2"):
        users.check_all(["a", "b", "c"])
    for name in ("a", "b"):
        users.put(name, User(name))
    users.put("a", User("a", "changed"))
    with pytest.raises(Conflict, match="as many as there may be"):
        users.put("c", User("c"))
    users.delete("b")
    users.put("c", User("c"))


def test_a_better_hash_is_kept_unless_the_user_has_changed_meanwhile() -> None:
    directory = Directory()
    opened(directory.users, MemoryEngine()).put("ann", ANN)
    directory.rehashed(User("ann", "other"), "better")
    directory.rehashed(User("bob", "hash"), "better")
    assert directory.user("ann") == ANN
    assert directory.user("bob") is None
    directory.rehashed(ANN, "better")
    assert directory.user("ann") == msgspec.structs.replace(ANN, password="better")


def test_a_user_shows_no_secret() -> None:
    assert "hash" not in repr(User("ann", "hash", "hash", "hash"))


# -- candidates ------------------------------------------------------------------------------------

WHO, HERE = Principal("ann"), Origin("mqtt", "ann", "c")


def test_what_a_candidate_would_change_is_bounded_and_the_latest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authorizer, "DIFFERENCES_MAX", 3)
    acl = Acl()
    acl.shadow = Shadow([RULE], 0)
    for topic in ("a", "b", "a"):
        assert acl.authorize(WHO, HERE, Action.PUBLISH, topic) is None
    for number in range(3):
        acl.authorize(WHO, Origin("mqtt", "ann", f"c{number}"), Action.PUBLISH, "a")
        acl.authorize(WHO, HERE, Action.PUBLISH, "a")
    found = acl.shadow.differences()
    assert [(d["client_id"], d["count"]) for d in found] == [("c1", 1), ("c2", 1), ("c", 5)]
    assert acl.shadow.compared == 9
    with acl.unobserved():
        acl.authorize(WHO, HERE, Action.PUBLISH, "a")
    assert acl.shadow.compared == 9


@pytest.mark.parametrize("live", [None, "allow", "deny"])
def test_a_candidate_decides_nothing(live: str | None) -> None:
    acl = Acl()
    if live is not None:
        acl.rules = type(acl.rules)([rule_from({**RULE.to_mapping(), "id": "live", "decision": live})])
    without = acl.authorize(WHO, HERE, Action.PUBLISH, "a")
    for decision in ("allow", "deny"):
        acl.shadow = Shadow([rule_from({**RULE.to_mapping(), "decision": decision})], 0)
        assert acl.authorize(WHO, HERE, Action.PUBLISH, "a") == without
        same = (decision == "allow") == (live == "allow")
        assert [(d["live"]["allowed"], d["candidate"]["allowed"]) for d in acl.shadow.differences()] == (
            [] if same else [(live == "allow", decision == "allow")]
        )
    assert without == (None if live is None else Ruling(live == "allow", "live"))
