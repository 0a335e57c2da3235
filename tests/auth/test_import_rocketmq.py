"""RocketMQ's access control taken over: plain_acl.yml of 4.x, users and acls of 5.3."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import InvalidValue
from gateway.auth.importers.addresses import networks
from gateway.auth.importers.rocketmq import YAML_BYTES_MAX, read

#: conf/plain_acl.yml as it comes with RocketMQ 4.9, and its documentation's first account.
SHIPPED = """
globalWhiteRemoteAddresses:
  - 10.10.103.*
  - 192.168.0.*

accounts:
  - accessKey: RocketMQ
    secretKey: 12345678
    whiteRemoteAddress:
    admin: false
    defaultTopicPerm: DENY
    defaultGroupPerm: SUB
    topicPerms:
      - topicA=DENY
      - topicB=PUB|SUB
      - topicC=SUB
    groupPerms:
      # the group should convert to retry topic
      - groupA=DENY
      - groupB=PUB|SUB
      - groupC=SUB

  - accessKey: rocketmq2
    secretKey: 12345678
    whiteRemoteAddress: 192.168.1.*
    # if it is admin, it could access all resources
    admin: true
"""


def account(**fields: Any) -> str:
    """Return a file with one account."""
    return json.dumps({"accounts": [{"accessKey": "ann", "secretKey": "0123", **fields}]})


def rules(text: str) -> dict[str, tuple[str, list[str], list[str]]]:
    """Return id -> (decision, actions, resources)."""
    return {rule["id"]: (rule["decision"], rule["actions"], rule["resources"]) for rule in read(text).rules}


def test_the_file_that_rocketmq_comes_with() -> None:
    found = read(SHIPPED)
    assert found.users == [
        {"name": "RocketMQ", "plain": "12345678", "admin": False, "groups": [], "disabled": False},
        {"name": "rocketmq2", "plain": "12345678", "admin": True, "groups": [], "disabled": False},
    ]
    assert rules(SHIPPED) == {
        "rocketmq.RocketMQ.publish": ("allow", ["publish"], ["topic:topicB"]),
        "rocketmq.RocketMQ.subscribe": ("allow", ["subscribe"], ["topic:topicB", "topic:topicC"]),
        "rocketmq.RocketMQ.consume": ("allow", ["consume"], ["group:topicB/*", "group:topicC/*"]),
        "rocketmq.RocketMQ.consume.not": (
            "deny",
            ["consume"],
            ["group:topicB/groupA", "group:topicC/groupA"],
        ),
    }
    assert {rule["subject"] for rule in found.rules} == {"user:RocketMQ"}
    named = "\n".join(found.remarks)
    for text in (
        "globalWhiteRemoteAddresses[0]",
        "10.10.103.*",
        "accounts[1].whiteRemoteAddress",
        "every address",
    ):
        assert text in named


def test_a_secret_keeps_its_zeros_and_a_word_stays_a_word() -> None:
    text = "accounts:\n- {accessKey: 0x1F, secretKey: 0123}\n- {accessKey: yes, secretKey: 1_000}"
    assert [(user["name"], user["plain"]) for user in read(text).users] == [
        ("0x1F", "0123"),
        ("yes", "1_000"),
    ]


#: fields of an account -> rules without "rocketmq.ann."
CASES: list[tuple[dict[str, Any], dict[str, tuple[str, list[str]]]]] = [
    ({}, {}),
    ({"defaultTopicPerm": "DENY", "defaultGroupPerm": None}, {}),
    ({"defaultTopicPerm": "PUB"}, {"publish": ("allow", ["topic:+"])}),
    (
        {"defaultTopicPerm": "SUB|PUB", "topicPerms": ["a=SUB", "b=DENY"]},
        {
            "publish": ("allow", ["topic:+"]),
            "publish.not": ("deny", ["topic:a", "topic:b"]),
            "subscribe": ("allow", ["topic:+"]),
            "subscribe.not": ("deny", ["topic:b"]),
        },
    ),
    (
        {"defaultTopicPerm": "SUB", "defaultGroupPerm": "SUB", "topicPerms": ["b=PUB"]},
        {
            "publish": ("allow", ["topic:b"]),
            "subscribe": ("allow", ["topic:+"]),
            "subscribe.not": ("deny", ["topic:b"]),
            "consume": ("allow", ["group:*"]),
            "consume.not": ("deny", ["group:b/*"]),
        },
    ),
    (
        {"topicPerms": ["a=SUB", " t = SUB "], "groupPerms": ["g=SUB", "h=DENY", "i=PUB"]},
        {"subscribe": ("allow", ["topic:a", "topic:t"]), "consume": ("allow", ["group:a/g", "group:t/g"])},
    ),
    (
        {"topicPerms": ["a=SUB", "%RETRY%g=SUB"]},
        {"subscribe": ("allow", ["topic:a"]), "consume": ("allow", ["group:a/g"])},
    ),
    ({"topicPerms": ["a=ANY"]}, {}),
    (
        {"topicPerms": ["a=DENY"], "admin": "true"},
        {"manage": ("allow", ["queue:*", "group:*"])},
    ),
]


@pytest.mark.parametrize(("fields", "expected"), CASES, ids=lambda value: str(value)[:60])
def test_permissions_become_rules(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = {
        rule_id.removeprefix("rocketmq.ann."): (decision, resources)
        for rule_id, (decision, _, resources) in rules(account(**fields)).items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"topicPerms": ["a=ANY"]}, "ANY allows nothing"),
        ({"topicPerms": ["a=DENY"], "admin": True}, "no administrator"),
        ({"defaultTopicPerm": "SUB", "groupPerms": ["g=SUB"]}, "cannot be said"),
        ({"defaultTopicPerm": "SUB", "defaultGroupPerm": "SUB", "groupPerms": ["g=DENY"]}, "cannot be said"),
        ({"colour": "red"}, "'colour'"),
        ({"whiteRemoteAddress": "*"}, "logs in like anybody"),
        ({"accessKey": "a*", "defaultTopicPerm": "SUB"}, "every user of that prefix"),
        (
            {
                "topicPerms": [f"t{n}=SUB" for n in range(200)],
                "groupPerms": [f"g{n}=SUB" for n in range(200)],
            },
            "pairs",
        ),
    ],
)
def test_what_is_not_taken_over_is_named(fields: dict[str, Any], text: str) -> None:
    found = read(account(**fields))
    assert any(text in remark for remark in found.remarks), found.remarks
    assert all(len(rule["resources"]) < 300 for rule in found.rules)
    if "accessKey" in fields:
        assert found.rules == []


def test_rules_are_for_the_addresses_of_the_white_list_and_denials_for_all() -> None:
    text = account(whiteRemoteAddress="10.0.0.*", defaultTopicPerm="PUB", topicPerms=["a=SUB"])
    assert [(rule["decision"], rule.get("from")) for rule in read(text).rules] == [
        ("allow", ["10.0.0.0/24"]),
        ("deny", None),
        ("allow", ["10.0.0.0/24"]),
    ]


ADDRESSES = [
    ("192.168.0.1", ["192.168.0.1/32"]),
    ("192.168.0.*", ["192.168.0.0/24"]),
    ("192.168.*.*", ["192.168.0.0/16"]),
    ("10.10.103.1-3", ["10.10.103.1/32", "10.10.103.2/31"]),
    ("10.10.1-2.*", ["10.10.1.0/24", "10.10.2.0/24"]),
    ("10.10.103.{1,2}", ["10.10.103.1/32", "10.10.103.2/32"]),
    ("10.0.0.1, 10.0.0.2,10.0.0.1", ["10.0.0.1/32", "10.0.0.2/32"]),
    ("1050:0:0:0:5:600:300c:1", ["1050::5:600:300c:1/128"]),
    ("1050::5:600:300c:*", ["1050::5:600:300c:0/112"]),
    ("1050:0:0:0:5:600:300c:1-3", ["1050::5:600:300c:1/128", "1050::5:600:300c:2/127"]),
    ("1050::5:600:300c:{1,2}", ["1050::5:600:300c:1/128", "1050::5:600:300c:2/128"]),
    ("*", []),
    ("*.*.*.*", []),
    ("*:*:*:*:*:*:*:*", []),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_a_range_of_addresses_becomes_networks(text: str, expected: list[str]) -> None:
    assert networks(text, "x") == expected


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0", "10.0.0.256", "10.0.0.5-1", "10.0.0.1-256", "10.*.0.1", "10.0.0.{1,2", "10.0.{1,2}.1",
     "10.0.0.{}", "host", "1:2:3", "10.0.0.-1", ",", "{1}", "10.0.0.1}", "*.1", "1.1.1.1-a", "," * 300,
     "1" * 5000, "10.0.0.1/8"],
)  # fmt: skip
def test_what_is_no_range_of_addresses_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="here: "):
        networks(text, "here")


@given(st.text(st.sampled_from("0123456789.*-,{}:af /"), max_size=24) | st.text(max_size=10))
def test_any_address_is_taken_or_refused(text: str) -> None:
    try:
        assert isinstance(networks(text, "here"), list)
    except InvalidValue:
        pass


MALFORMED = {
    "nothing": ("", "an object is expected"),
    "a list": ("- a", "an object is expected"),
    "accounts": ("accounts: 5", "accounts: a list"),
    "an account": ("accounts: [5]", r"accounts\[0\]"),
    "no key": ("accounts:\n- secretKey: x", "accessKey"),
    "empty key": ("accounts:\n- {accessKey: '', secretKey: x}", "accessKey"),
    "no secret": ("accounts:\n- accessKey: x", "secretKey"),
    "admin": (account(admin="maybe"), "admin"),
    "a permission": (account(defaultTopicPerm="PUBLISH"), "defaultTopicPerm"),
    "spaces in one": (account(topicPerms=["a=PUB | SUB"]), r"topicPerms\[0\]"),
    "no permission": (account(topicPerms=["a=PUB", "a"]), r"topicPerms\[1\]"),
    "a topic": (account(topicPerms=["a/+=PUB"]), r"topicPerms\[0\]"),
    "a prefix": (account(topicPerms=["a*=PUB"]), r"topicPerms\[0\]"),
    "no text": (account(groupPerms=[5]), r"groupPerms\[0\]"),
    "an address": (account(whiteRemoteAddress="1.2.3"), "whiteRemoteAddress"),
    "twice": ("accounts: [{accessKey: a, secretKey: b}, {accessKey: a, secretKey: b}]", "twice"),
    "YAML": ("accounts:\n- {", "line 2"),
    "a tab": ("accounts:\n\t- a", "line 2"),
    "an alias": ("a: &x [1]\nb: *x", "line 1: anchors"),
    "a bomb": ("a: &a [x]\n" + "\n".join(f"k{n}: [*a,*a]" for n in range(9)), "anchors"),
    "a tag": ("accounts: !!python/object/apply:os.system [ls]", r"accounts"),
    "nested flow": ("[" * 100_000, "deep"),
    "nested blocks": ("\n".join(" " * n + "a:" for n in range(20)), "line 11"),
    "nested JSON": ('{"a":' * 100_000, "acl"),
    "a wide character": ('a: "\\U99999999"', "plain_acl.yml"),
    "too long": ("#" * (YAML_BYTES_MAX + 1), "longer"),
    "no UTF-8": (b"a: b\n\xff", "line 2"),
    "a surrogate": ('{"accounts": [{"accessKey": "\\ud800", "secretKey": "b"}]}', "accessKey"),
    "JSON": ('{"users": [}', "line 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_with_its_place(case: str) -> None:
    text, place = MALFORMED[case]
    with pytest.raises(InvalidValue, match=place):
        read(text)


# -- 5.3 ----------------------------------------------------------------------------------------------


def entry(resource: str, actions: str, decision: str = "Allow", *sources: str) -> dict[str, Any]:
    return {
        "resource": resource,
        "actions": actions.split(","),
        "sourceIps": list(sources),
        "decision": decision,
    }


def acl2(*custom: dict[str, Any], default: tuple[dict[str, Any], ...] = ()) -> str:
    policies = [{"policyType": "Custom", "entries": custom}, {"policyType": "Default", "entries": default}]
    return json.dumps({"acls": [{"subject": "User:ann", "policies": policies}]})


def said(text: str) -> list[tuple[str, list[str], list[str]]]:
    return [(rule["decision"], rule["actions"], rule["resources"]) for rule in read(text).rules]


def test_users_of_5_3() -> None:
    rows = [
        {"username": "root", "password": "p", "userType": "Super", "userStatus": "enable"},
        {"username": "ann", "password": "q", "userType": "Normal", "userStatus": "disable"},
    ]
    assert read(json.dumps({"users": rows})).users == [
        {"name": "root", "plain": "p", "admin": True, "groups": [], "disabled": False},
        {"name": "ann", "plain": "q", "admin": False, "groups": [], "disabled": True},
    ]


ENTRIES: list[tuple[str, list[tuple[str, list[str], list[str]]]]] = [
    (acl2(entry("Topic:a", "Pub,Sub")), [("allow", ["publish", "subscribe"], ["topic:a"])]),
    (acl2(entry("Topic:a*", "PUB")), [("allow", ["publish"], ["topic:a*"])]),
    (acl2(entry("Topic:*", "Sub")), [("allow", ["subscribe"], ["topic:+"])]),
    (acl2(entry("Topic:a", "Create,Update,Delete,Get,List")), [("allow", ["manage", "view"], ["queue:a"])]),
    (acl2(entry("Topic:a", "Create,Get")), []),
    (
        acl2(entry("Topic:a", "Sub"), entry("Group:g*", "Sub"), entry("Group:h", "Sub")),
        [
            ("allow", ["subscribe"], ["topic:a"]),
            ("allow", ["consume"], ["group:a/g*", "group:a/h"]),
        ],
    ),
    (
        acl2(entry("*", "All")),
        [
            ("allow", ["publish", "subscribe"], ["topic:+"]),
            ("allow", ["manage", "view"], ["queue:*"]),
            ("allow", ["consume"], ["group:*"]),
        ],
    ),
    # A denial that takes nothing is dropped: RocketMQ prefers the name, and silence denies the rest.
    (
        acl2(entry("Topic:a", "Pub"), default=(entry("Topic:*", "All", "Deny"),)),
        [("allow", ["publish"], ["topic:a"])],
    ),
    (
        acl2(entry("Topic:a*", "Pub"), entry("Topic:ab", "Pub", "Deny")),
        [("allow", ["publish"], ["topic:a*"]), ("deny", ["publish"], ["topic:ab"])],
    ),
    (
        acl2(entry("Topic:a", "Pub"), entry("Topic:a", "Pub", "Deny")),
        [("allow", ["publish"], ["topic:a"]), ("deny", ["publish"], ["topic:a"])],
    ),
    (
        acl2(entry("Topic:*", "Pub", "Deny"), default=(entry("Topic:a", "Pub"),)),
        [("allow", ["publish"], ["topic:a"]), ("deny", ["publish"], ["topic:+"])],
    ),
    (
        acl2(entry("Topic:t", "Sub"), entry("Group:*", "Sub"), entry("Group:g", "Sub", "Deny")),
        [
            ("allow", ["subscribe"], ["topic:t"]),
            ("allow", ["consume"], ["group:t/*"]),
            ("deny", ["consume"], ["group:t/g"]),
        ],
    ),
    (
        acl2(entry("Topic:*", "Sub"), entry("Group:*", "Sub"), entry("Topic:t", "Sub", "Deny")),
        [
            ("allow", ["subscribe"], ["topic:+"]),
            ("deny", ["subscribe"], ["topic:t"]),
            ("allow", ["consume"], ["group:*"]),
            ("deny", ["consume"], ["group:t/*"]),
        ],
    ),
    (
        acl2(entry("Topic:*", "Sub"), entry("Group:*", "Sub"), entry("Group:g", "Sub", "Deny")),
        [("allow", ["subscribe"], ["topic:+"])],
    ),
    (acl2(entry("Topic:a", "Any")), []),
    (acl2(entry("Cluster:c", "All"), entry("Namespace:n", "All", "Deny")), []),
]


@pytest.mark.parametrize(("text", "expected"), ENTRIES)
def test_entries_of_5_3_become_rules(text: str, expected: list[tuple[str, list[str], list[str]]]) -> None:
    assert said(text) == expected


def test_a_denial_that_wins_here_and_not_there_is_named() -> None:
    text = acl2(entry("Topic:a", "Pub"), entry("Topic:*", "Pub", "Deny"), default=(entry("Topic:b*", "Pub"),))
    assert ("deny", ["publish"], ["topic:+"]) in said(text)
    assert any("more specific" in remark for remark in read(text).remarks)


def test_addresses_of_5_3() -> None:
    text = acl2(
        entry("Topic:a", "Sub", "Allow", "10.0.0.1", "10.1.0.0/16"),
        entry("Group:g", "Sub"),
        entry("Group:h", "Sub", "Allow", "10.2.0.0/16"),
    )
    found = read(text)
    assert [rule["from"] for rule in found.rules] == [["10.0.0.1/32", "10.1.0.0/16"]] * 2
    assert found.rules[1]["resources"] == ["group:a/g"]
    assert any("other addresses" in remark for remark in found.remarks)


MALFORMED_2 = {
    "users": '{"users": 5}',
    "a user": '{"users": [5]}',
    "its password": '{"users": [{"username": "a"}]}',
    "its type": '{"users": [{"username": "a", "password": "b", "userType": "God"}]}',
    "twice": '{"users": [{"username": "a", "password": "b"}, {"username": "a", "password": "b"}]}',
    "subject": '{"acls": [{"subject": "Group:a"}]}',
    "subject twice": '{"acls": [{"subject": "User:a"}, {"subject": "User:a"}]}',
    "nobody": '{"acls": [{"subject": "User:"}]}',
    "policies": '{"acls": [{"subject": "User:a", "policies": {}}]}',
    "resource": acl2(entry("Thing:a", "Pub")),
    "resource alone": acl2(entry("Topic", "Pub")),
    "a name": acl2(entry("Topic:a/b", "Pub")),
    "a star": acl2(entry("Topic:a*b", "Pub")),
    "no name": acl2(entry("Topic:", "Pub")),
    "action": acl2(entry("Topic:a", "Fly")),
    "decision": acl2(entry("Topic:a", "Pub", "Perhaps")),
    "address": acl2(entry("Topic:a", "Pub", "Allow", "10.0.0.*")),
    "too many": acl2(*[entry("Topic:a", "Pub")] * 1001),
}


@pytest.mark.parametrize("case", MALFORMED_2)
def test_malformed_json_of_5_3_is_refused(case: str) -> None:
    with pytest.raises(InvalidValue):
        read(MALFORMED_2[case])


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(
    ["a=PUB", "PUB|SUB", "10.0.0.*", "User:a", "Topic:a*", "Group:*", "Allow", "Deny", "Pub", "All", "Super"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["accounts", "accessKey", "secretKey", "topicPerms", "groupPerms", "defaultTopicPerm", "admin", "users",
     "acls", "username", "password", "subject", "policies", "entries", "resource", "actions", "decision",
     "sourceIps", "whiteRemoteAddress", "globalWhiteRemoteAddresses"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(
    DOCUMENTS.map(json.dumps)
    | st.text(st.sampled_from("ab:-[]{}&*!|>'\"\\#%@\n \t,?~0U"), max_size=40)
    | st.binary(max_size=40)
)
def test_any_text_is_taken_or_refused(data: bytes | str) -> None:
    try:
        found = read(data)
    except InvalidValue:
        return
    assert len({rule["id"] for rule in found.rules}) == len(found.rules)
    assert all("\n" not in remark for remark in found.remarks)
