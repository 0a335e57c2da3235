"""Rules as they are written: what is taken, what is refused in which words, and that nothing else happens."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.acl import files, rule
from gateway.auth.acl.files import parse_rules, read_rules, rules_from
from gateway.auth.acl.rule import Rule, rule_from
from gateway.auth.acl.token import check_rules
from gateway.auth.quotas import Quota, quota_from
from gateway.auth.store import by_id
from gateway.core.access import Action
from gateway.core.errors import InvalidValue

GOOD: dict[str, Any] = {
    "id": "r",
    "decision": "allow",
    "subject": "everyone",
    "actions": ["publish"],
    "resources": ["topic:a/#"],
}


def with_(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


#: What is written -> how it is shown again, as far as that differs.
TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (GOOD, {}),
    (without("decision"), {"decision": "allow"}),
    (with_(decision="deny"), {}),
    (with_(actions="publish"), {"actions": ["publish"]}),
    (with_(actions="all"), {"actions": sorted(a.value for a in Action)}),
    (with_(actions=["view", "publish", "view"]), {"actions": ["publish", "view"]}),
    (with_(resources="queue:q"), {"resources": ["queue:q"]}),
    (with_(resources=["topic:a", "group:q/g", "admin:*", "queue:$vhost/x/*"]), {}),
    (with_(resources="topic:a:b"), {"resources": ["topic:a:b"]}),
    (with_(subject="user:a b\u00e4/:"), {}),
    (with_(subject="certificate:CN=x,O=y"), {}),
    (with_(id="users/x@y%20z.1:2+3-4_5"), {}),
    (with_(id="i" * 1024), {}),
    (with_(**{"from": "10.1.2.3/8"}), {"from": ["10.0.0.0/8"]}),
    (with_(**{"from": ["::1", "127.0.0.1"]}), {"from": ["::1/128", "127.0.0.1/32"]}),
    (with_(**{"from": []}), {}),
    (with_(doors=["mqtt", "coap"]), {}),
    (with_(description="why \u2014 because"), {}),
    (with_(resources="topic:" + "/".join("a" * 320)), {"resources": ["topic:" + "/".join("a" * 320)]}),
]


@pytest.mark.parametrize(("written", "changed"), TAKEN)
def test_a_rule_is_shown_as_it_can_be_written(written: dict[str, Any], changed: dict[str, Any]) -> None:
    found = rule_from(written)
    shown = found.to_mapping()
    assert shown == {key: value for key, value in {**written, **changed}.items() if value != []}
    assert rule_from(shown) == found
    assert rule_from(json.loads(json.dumps(shown))) == found


#: (what is written, words of the refusal)
REFUSED: list[tuple[Any, str]] = [
    (without("id"), "a rule: id: missing"),
    (with_(id=7), "a rule: id: a string"),
    (with_(id=""), "rule '': id: letters, digits"),
    (with_(id="a b"), "id: letters, digits"),
    (with_(id="a\n"), "id: letters, digits"),
    (with_(id="\u00e4"), "id: letters, digits"),
    (with_(id="i" * 1025), "id: a string of at most 1024"),
    (with_(decision="maybe"), "decision: allow or deny is expected, not 'maybe'"),
    (with_(decision=True), "decision: a string"),
    (with_(decision="ALLOW"), "decision: allow or deny"),
    (without("subject"), "subject: missing"),
    (with_(subject="user"), "subject: user: needs a name, as in user:alice"),
    (with_(subject="user:"), "subject: user: needs a name"),
    (with_(subject="everyone:x"), "subject: 'everyone:x': one of user:NAME"),
    (with_(subject="role:x"), "subject: 'role:x': one of"),
    (with_(subject=""), "subject: '': one of"),
    (with_(subject=["everyone"]), "subject: a string"),
    (with_(subject="user:\ud800"), "subject: a string"),
    (without("actions"), "actions: at least one of"),
    (with_(actions=[]), "actions: at least one of"),
    (with_(actions=["write"]), "actions: 'write': one of publish"),
    (with_(actions=["all", "publish"]), "actions: 'all': one of"),
    (with_(actions={"publish": 1}), "actions: a list"),
    (with_(actions=[7]), "actions: a list of strings"),
    (with_(actions=[""]), "actions: a list of strings"),
    (without("resources"), "resources: at least one is needed"),
    (with_(resources=[]), "resources: at least one is needed"),
    (with_(resources=["a/b"]), "resources: 'a/b' does not begin with one of topic:"),
    (with_(resources=["stream:a"]), "does not begin with one of"),
    (with_(resources=["topic:"]), "pattern '': 1 to 65535 bytes"),
    (with_(resources=["topic:a\0"]), "without U+0000"),
    (with_(resources=["topic:" + "x" * 65536]), "1 to 65535 bytes"),
    (with_(resources=["topic:" + "a/" * 320]), "at most 320 levels"),
    (with_(resources=["topic:$queue/x"]), "write queue:x"),
    (with_(resources=["topic:$admin/users"]), "write admin:users"),
    (with_(resources=["topic:a/#/b"]), "'#' the whole last one"),
    (with_(resources=["topic:a#"]), "'#' the whole last one"),
    (with_(resources=["topic:a+/b"]), "'+' must be a whole level"),
    (with_(resources=["topic:${client}"]), "unknown placeholder ${client}; known: ${clientid}"),
    (with_(resources=["topic:${}"]), "unknown placeholder ${}"),
    (with_(resources=["topic:${clientid"]), "a placeholder is ${name}"),
    (with_(resources=["topic:${clientid}*"]), "nothing with * at its end"),
    (with_(resources=["queue:q"] * 1001), "resources: a list of at most 1000"),
    (with_(**{"from": ["localhost"]}), "from: 'localhost' is no address and no range"),
    (with_(**{"from": ["10.0.0.0/33"]}), "is no address and no range"),
    (with_(**{"from": 7}), "from: a list"),
    (with_(doors=[7]), "doors: a list of strings"),
    (with_(description=7), "description: a string"),
    (with_(who="x"), "rule 'r': unknown key 'who'; known: id, decision, subject"),
    ({**GOOD, 7: 8}, "unknown key '7'"),
    ([], "a rule is a table"),
    (None, "a rule is a table"),
    ("allow everyone", "a rule is a table"),
]


@pytest.mark.parametrize(("written", "words"), REFUSED)
def test_a_rule_that_makes_no_sense_is_refused_in_words_that_say_what(written: Any, words: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        rule_from(written)
    assert words in refused.value.detail
    assert len(refused.value.detail) < 1400, "what a client sent is cut short"


def test_a_subject_can_be_given_to_rules_that_name_none() -> None:
    found = rule_from(without("subject"), subject="everyone")
    assert found == rule_from(GOOD)
    assert rule_from(with_(subject="user:x"), subject="everyone").subject == "user:x"


# -- files -----------------------------------------------------------------------------------------

TABLE = '[[rules]]\nid = "{id}"\nsubject = "everyone"\nactions = "view"\nresources = "topic:a"\n'


def test_rules_of_a_file_stay_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("".join(TABLE.format(id=name) for name in ("b", "a", "c")))
    assert [found.id for found in read_rules(path)] == ["b", "a", "c"]
    path.write_text("")
    assert read_rules(path) == []


#: (content, words)
BAD_FILES: list[tuple[bytes, str]] = [
    (b"[[rules]", "not valid TOML"),
    (b"[rules]\nid = 'a'", "each headed by [[rules]]"),
    (b"rules = 'all'", "each headed by [[rules]]"),
    (b"[[rule]]\nid = 'a'", "unknown key 'rule'; a file of rules has [[rules]]"),
    (b"rules = [1]", "rule number 1: a rule is a table"),
    ((TABLE.format(id="a") + TABLE.format(id="")).encode(), "rule number 2: rule '': id"),
    (b"\xff\xfe", "not UTF-8"),
    (b"a = " + b"[" * 100_000, "not valid TOML"),
    (b"[[rules]]\nid = 1979-05-27", "rule number 1: a rule: id: a string"),
]


@pytest.mark.parametrize(("content", "words"), BAD_FILES)
def test_a_fault_names_the_file_and_the_rule(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidValue) as refused:
        read_rules(path)
    assert refused.value.detail.startswith(f"{path}: ")
    assert words in refused.value.detail


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("a\0b")):
        with pytest.raises(InvalidValue, match="cannot be read"):
            read_rules(path)


def test_files_and_lists_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(TABLE.format(id="a") * 3)
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 20)
    with pytest.raises(InvalidValue, match="at most 20 bytes"):
        read_rules(path)
    monkeypatch.setattr(files, "RULES_MAX", 2)
    with pytest.raises(InvalidValue, match="at most 2 tables"):
        rules_from([GOOD] * 3)


def test_an_id_is_there_once() -> None:
    with pytest.raises(InvalidValue, match=r"x\.toml: rule 'r' is there twice"):
        by_id([rule_from(GOOD), rule_from(GOOD)], "x.toml")


# -- anything at all -------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.one_of(
    st.sampled_from(["r", "allow", "deny", "everyone", "user:x", "publish", "all", "topic:a/${clientid}/#"]),
    st.builds("topic:{}".format, st.text("ab/+#*${}cliend\0\ud800", max_size=12)),
    st.builds("{}:{}".format, st.sampled_from([*rule.KINDS, *rule.NAMED]), st.text(max_size=9)),
    st.text(max_size=12),
    st.ip_addresses().map(str),
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.just(GOOD.get(name, "x")), WORDS, st.lists(WORDS, max_size=3), VALUES)
        for name in rule._FIELDS
    },
)


def taken(call: Any, *arguments: Any) -> Any:
    """Return what a call returns, None if it refuses; anything else it raises fails the test."""
    try:
        return call(*arguments)
    except InvalidValue:
        return None


@settings(max_examples=400)
@given(st.one_of(NEARLY, NEARLY, VALUES))
def test_whatever_is_written_is_a_rule_or_refused(written: Any) -> None:
    found: Rule | None = taken(rule_from, written)
    if found is not None:
        shown = json.loads(json.dumps(found.to_mapping()))
        assert rule_from(shown) == found
        assert rule_from(shown).to_mapping() == shown
    taken(rules_from, written)
    taken(rules_from, [written])
    taken(check_rules, written)
    taken(check_rules, [written])


@given(st.one_of(st.text(), st.text("[]rules=\"'\n#{}.", max_size=60), NEARLY.map(repr)))
def test_whatever_text_is_read_is_rules_or_refused(text: str) -> None:
    taken(parse_rules, text)
    taken(parse_rules, "[[rules]]\n" + text)
    taken(parse_rules, TABLE.format(id="a") + text)


@given(st.lists(NEARLY, max_size=3))
def test_whatever_toml_says_is_rules_or_refused(written: list[dict[str, Any]]) -> None:
    lines: list[str] = []
    for fields in written:
        lines.append("[[rules]]")
        for key, value in fields.items():
            line = f'"{key}" = {json.dumps(value, default=str)}'
            try:
                tomllib.loads(line)
            except (ValueError, RecursionError):
                continue  # null, NaN, half of a surrogate pair
            lines.append(line)
    taken(parse_rules, "\n".join(lines))


@settings(max_examples=50)
@given(content=st.binary(max_size=200))
def test_whatever_bytes_a_file_has(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    taken(read_rules, path)


QUOTA = st.dictionaries(st.sampled_from([*Quota.__struct_fields__, "x"]), st.one_of(WORDS, VALUES))


@given(st.one_of(QUOTA, QUOTA.map(lambda found: {"id": "q", "subject": "everyone", **found})))
def test_whatever_is_written_is_a_quota_or_refused(written: dict[str, Any]) -> None:
    found = taken(quota_from, written)
    if found is not None:
        assert all(value >= 0 for value in found.limits()[2:])
