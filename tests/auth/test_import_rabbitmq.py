"""RabbitMQ's definitions taken over: hashes, tags, and what each permission allows here."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import InvalidValue
from gateway.auth.hashes import verify
from gateway.auth.importers import rabbitmq
from gateway.auth.importers.imported import Imported
from gateway.auth.importers.spaces import Names
from gateway.protocols.amqp import names
from tests.auth.evaluator import allows

NAMES = Names(names.queue_to_core, names.to_topic, names.vhost_prefix)
SHA256 = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"  # of RabbitMQ's documentation: "test12"
ALGORITHM = "rabbit_password_hashing_sha256"

EXCHANGES = [
    {"name": "orders", "vhost": "/", "type": "topic"},
    {"name": "orders.eu", "vhost": "/", "type": "direct"},
    {"name": "bills", "vhost": "/", "type": "topic"},
    {"name": "orders", "vhost": "v", "type": "topic"},
]


def read(**sections: Any) -> Imported:
    document = {"vhosts": [{"name": "/"}, {"name": "v"}], "exchanges": EXCHANGES, **sections}
    return rabbitmq.read(json.dumps(document), NAMES)


def permit(configure: str = "", write: str = "", read: str = "", vhost: str = "/") -> dict[str, str]:
    return {"user": "ann", "vhost": vhost, "configure": configure, "write": write, "read": read}


def limit(exchange: str, write: str = "", read: str = "", vhost: str = "/") -> dict[str, str]:
    return {"user": "ann", "vhost": vhost, "exchange": exchange, "write": write, "read": read}


def resources(found: Imported) -> dict[str, list[str]]:
    """Return id -> resources, without the common beginning."""
    return {rule["id"].removeprefix("rabbitmq.ann."): rule["resources"] for rule in found.rules}


# -- users --------------------------------------------------------------------------------------------


def user(**fields: Any) -> dict[str, Any]:
    return {"name": "ann", "password_hash": SHA256, "hashing_algorithm": ALGORITHM, "tags": [], **fields}


def test_a_user_logs_in_with_the_same_password() -> None:
    found = read(users=[user()])
    assert found.users == [
        {
            "name": "ann",
            "password": "$rabbit-sha256$" + SHA256,
            "admin": False,
            "groups": [],
            "disabled": False,
        }
    ]
    assert verify(found.users[0]["password"], b"test12")
    assert found.remarks == []


@pytest.mark.parametrize(
    ("fields", "password", "remark"),
    [
        ({"hashing_algorithm": None}, "$rabbit-sha256$" + SHA256, ""),
        ({"password_hash": ""}, "", "no password"),
        ({"password_hash": None}, "", "no password"),
        ({"hashing_algorithm": "rabbit_password_hashing_md5"}, "", "rabbit_password_hashing_md5"),
        ({"hashing_algorithm": None, "password_hash": "ytUIm8s3AnKsXQjptplKFytfVxI="}, "", "old algorithm"),
        ({"limits": {"max-connections": 5}}, "$rabbit-sha256$" + SHA256, "limits"),
        ({"tags": ["impersonator"]}, "$rabbit-sha256$" + SHA256, "impersonator"),
    ],
)
def test_hashes_limits_and_tags_that_are_not_taken_are_named(
    fields: dict[str, Any], password: str, remark: str
) -> None:
    found = read(users=[user(**fields)])
    assert found.users[0]["password"] == password
    assert [remark in line for line in found.remarks] == ([True] if remark else [])


@pytest.mark.parametrize("tags", ["administrator", "administrator,management", ["administrator"]])
def test_an_administrator_stays_one(tags: Any) -> None:
    assert read(users=[user(tags=tags)]).users[0]["admin"] is True


def test_who_may_look_may_look() -> None:
    rows = [permit(read="^a$"), permit(read="^a$", vhost="v")]
    assert resources(read(users=[user(tags=["monitoring"])]))["monitoring"] == ["queue:*"]
    found = resources(read(users=[user(tags=["management"])], permissions=rows))
    assert found["management"] == ["queue:*", "queue:$vhost/v/*"]
    alone = read(users=[user(tags=["management"])], permissions=rows[:1])
    assert allows(alone.rules, "ann", "", "view", "queue:a")
    assert not allows(alone.rules, "ann", "", "view", "queue:$vhost/v/a")


# -- permissions -----------------------------------------------------------------------------------------

#: (permission, rule -> resources)
PERMISSIONS: list[tuple[dict[str, str], dict[str, list[str]]]] = [
    (permit("", "", ""), {}),
    (permit("^$", "^$", "^$"), {}),
    (
        permit(".*", ".*", ".*"),
        {
            "configure": ["queue:*"],
            "write": ["topic:#", "queue:*"],
            "read.queues": ["queue:*"],
            "read.exchanges": ["topic:#"],
            "other-vhosts": ["queue:$vhost/*"],
        },
    ),
    (
        permit(".*", ".*", ".*", "v"),
        {
            "v.configure": ["queue:$vhost/v/*"],
            "v.write": ["topic:$vhost/v/#", "queue:$vhost/v/*"],
            "v.read.queues": ["queue:$vhost/v/*"],
            "v.read.exchanges": ["topic:$vhost/v/#"],
        },
    ),
    (
        permit("^orders$", "^orders$", "^orders$"),
        {
            "configure": ["queue:orders"],
            "write": ["topic:orders/*"],
            "read.queues": ["queue:orders"],
            "read.exchanges": ["topic:orders/#"],
        },
    ),
    (
        permit("^orders.*", "^orders.*", "^orders.*"),
        {
            "configure": ["queue:orders*"],
            "write": ["topic:orders*"],
            "read.queues": ["queue:orders*"],
            "read.exchanges": ["topic:orders*"],
        },
    ),
    (permit("", "^orders$", "", "v"), {"v.write": ["topic:$vhost/v/orders/*"]}),
    (
        permit("^amq\\.gen.*", "^(amq\\.default|amq\\.gen.*)$", "^amq\\.gen.*"),
        {
            "configure": ["queue:amq.gen*"],
            "write": ["topic:amq.gen*", "queue:*"],
            "read.queues": ["queue:amq.gen*"],
            "read.exchanges": ["topic:amq.gen*"],
            "other-vhosts": ["queue:$vhost/*"],
        },
    ),
    (permit("^a/b$|^c#d$", "^a/b$|^c#d$"), {
        "configure": ["queue:a/b", "queue:c%23d"],
        "write": ["topic:a%2Fb/*", "topic:c%23d/*"],
    }),
    (permit("^x$", "^amq\\.topic$"), {"configure": ["queue:x"]}),
    (permit("orders", "orders.*", "[a-z]"), {}),
    (permit("^a%.*", "^a*b"), {}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), PERMISSIONS, ids=lambda value: str(value)[:90])
def test_permissions_become_rules(row: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert resources(read(permissions=[row])) == expected


@pytest.mark.parametrize(
    ("row", "remark"),
    [
        (permit("orders"), "permissions[0].configure: 'orders' left out"),
        (permit("", "^amq.default$"), "a dot is taken as a dot"),
        (permit("", "^amq\\.topic$"), "amq.topic left out"),
        (permit("", "^a$"), "to bind a queue"),
        (permit("^a\\*$"), "'a*' left out"),
        (permit("^{a}$"), "'{a}' left out"),
        (permit("", "^\uf8ff$"), "'\\uf8ff' left out"),
    ],
)
def test_what_is_not_taken_over_is_named(row: dict[str, str], remark: str) -> None:
    assert any(remark in line for line in read(permissions=[row]).remarks)


def test_a_user_whose_name_is_a_prefix_here_gets_no_rules() -> None:
    found = read(permissions=[{**permit(".*", ".*", ".*"), "user": "ann*"}])
    assert found.rules == []
    assert len(found.remarks) == 1


def test_virtual_hosts_stay_apart() -> None:
    both = read(permissions=[permit(".*", ".*", ".*"), permit("", "", "^q$", "v")])
    alone = read(permissions=[permit(".*", ".*", ".*")])
    other = read(permissions=[permit(".*", ".*", ".*", "v")])
    for action in ("publish", "consume", "manage"):
        assert allows(alone.rules, "ann", "", action, "queue:q")
        assert not allows(alone.rules, "ann", "", action, "queue:$vhost/v/q")
        assert not allows(other.rules, "ann", "", action, "queue:q")
        assert not allows(other.rules, "ann", "", action, "queue:$vhost/w/q")
    assert allows(both.rules, "ann", "", "consume", "queue:$vhost/v/q")
    assert not allows(alone.rules, "ann", "", "publish", "topic:$vhost/v/a/b")
    assert any("made later" in line for line in both.remarks)


# -- topic permissions --------------------------------------------------------------------------------------

#: (permission, topic permission, topics to publish to, topics to subscribe to)
LIMITS: list[tuple[dict[str, str], dict[str, str], list[str], list[str]]] = [
    (
        permit("", "^orders$", "^orders$"),
        limit("orders", "^eu\\.", "^eu\\."),
        ["topic:orders/eu/*"],
        ["topic:orders/eu/#"],
    ),
    (
        permit("", "^orders$", "^orders$"),
        limit("orders", "^eu\\.new$", "^eu"),
        ["topic:orders/eu/new"],
        ["topic:orders/eu*"],
    ),
    (
        permit("", "^orders$", "^orders$"),
        limit("orders", ".*", ".*"),
        ["topic:orders/*"],
        ["topic:orders/#"],
    ),
    (permit("", "^orders$", "^orders$"), limit("orders", "", "^$"), [], []),
    (permit("", "^orders$", "^orders$"), limit("orders", "eu", "^eu\\.\\*$"), [], []),
    (
        permit("", "^orders$", "^orders$"),
        limit("orders", "^{username}\\.{client_id}$", "^{client_id}\\.x\\."),
        ["topic:orders/ann/${clientid}"],
        ["topic:orders/${clientid}/x/#"],
    ),
    (
        permit("", "^orders$", "^orders$"),
        limit("orders", "^{client_id}", "^x{client_id}\\."),
        [],
        [],
    ),
    # Of an exchange that is no topic exchange, RabbitMQ does not look at keys.
    (
        permit("", "^orders\\.eu$", "^orders\\.eu$"),
        limit("orders.eu", "^x$", "^x$"),
        ["topic:orders.eu/*"],
        ["topic:orders.eu/#"],
    ),
    # Only what is known now: a wider right cannot leave out a part.
    (
        permit("", "^orders.*", "^bills$"),
        limit("orders", "^eu\\.", ""),
        ["topic:orders/eu/*", "topic:orders.eu/*"],
        ["topic:bills/#"],
    ),
    # amq.topic shares its topics with exchanges: taken if they are all allowed, or none is met.
    (
        permit("", "^amq\\.topic$", "^amq\\.topic$"),
        limit("amq.topic", "^sensor\\.", "^orders\\."),
        ["topic:sensor/*"],
        [],
    ),
    (
        permit("", "^amq\\.topic$", "^amq\\.topic$"),
        limit("amq.topic", "^{client_id}\\.", "^ord"),
        [],
        [],
    ),
    (
        permit("", "^(amq\\.topic|orders)$", "^amq\\.topic$"),
        limit("amq.topic", "^orders\\.eu\\.", ".*"),
        ["topic:orders/eu/*", "topic:orders/*"],
        [],
    ),
]


@pytest.mark.parametrize(("row", "keys", "publish", "subscribe"), LIMITS, ids=lambda value: str(value)[:60])
def test_topic_permissions_leave_less(
    row: dict[str, str], keys: dict[str, str], publish: list[str], subscribe: list[str]
) -> None:
    found = resources(read(permissions=[row], topic_permissions=[keys]))
    assert (found.get("write", []), found.get("read.exchanges", [])) == (publish, subscribe)


def test_everything_but_some_keys_of_amq_topic_is_what_mqtt_users_have() -> None:
    found = read(
        permissions=[permit(".*", ".*", ".*")],
        topic_permissions=[limit("amq.topic", "^sensor\\.{client_id}\\.", "^cmd\\.{client_id}$")],
    )
    for topic, may in {
        "sensor/c1/x": True,
        "sensor/c2/x": False,
        "orders/eu/new": True,
        "elsewhere/x": False,
        "cmd/c1": False,
    }.items():
        assert allows(found.rules, "ann", "c1", "publish", f"topic:{topic}") is may, topic
    assert allows(found.rules, "ann", "c1", "subscribe", "topic:cmd/c1")
    assert not allows(found.rules, "ann", "c1", "subscribe", "topic:cmd/c2")
    assert allows(found.rules, "ann", "c1", "publish", "queue:q")


def test_topic_permissions_without_permissions_allow_nothing() -> None:
    assert read(topic_permissions=[limit("orders", ".*", ".*")]).rules == []


@pytest.mark.parametrize("name", ["a|b", "a+", "(a", "a[", "a\\"])
def test_a_user_name_that_is_an_expression_is_not_filled_in(name: str) -> None:
    row = {**limit("bills", "^{username}\\.", "^{username}$"), "user": name}
    found = read(permissions=[{**permit("", "^bills$", ""), "user": name}], topic_permissions=[row])
    assert found.rules == []
    assert any("would be an expression" in line for line in found.remarks)


# -- malformed ------------------------------------------------------------------------------------------

MALFORMED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{\n,", "definitions, line 2"),
    "a list": ("[]", "definitions: an object"),
    "no UTF-8": (b'{"users":\n"\xff"}', "line 2"),
    "deep": ("[" * 200_000, "definitions"),
    "a long number": ("9" * 5000, "definitions"),
    "users": ({"users": {}}, "users: a list"),
    "a user": ({"users": [1]}, r"users\[0\]"),
    "a name": ({"users": [user(), user(name=5)]}, r"users\[1\].name"),
    "no name": ({"users": [user(name="")]}, r"users\[0\].name"),
    "a surrogate": ({"users": [user(name="\ud800")]}, r"users\[0\].name"),
    "twice": ({"users": [user(), user()]}, "twice"),
    "tags": ({"users": [user(tags=5)]}, r"users\[0\].tags"),
    "a hash": ({"users": [user(password_hash="c2hvcnQ=")]}, r"users\[0\].password_hash"),
    "no text": ({"users": [user(password_hash=5)]}, r"users\[0\].password_hash"),
    "permissions": ({"permissions": [{"user": "a"}]}, r"permissions\[0\].vhost"),
    "an expression": ({"permissions": [{**permit(), "read": 5}]}, r"permissions\[0\].read"),
    "the same permissions": ({"permissions": [permit(), permit()]}, r"permissions\[1\]"),
    "topic permissions": ({"topic_permissions": [permit()]}, r"topic_permissions\[0\].exchange"),
    "the same topic permissions": (
        {"topic_permissions": [limit("o"), limit("o")]},
        r"topic_permissions\[1\]",
    ),
    "an exchange": ({"exchanges": [{"name": "x", "vhost": "/"}]}, r"exchanges\[0\].type"),
    "a vhost": ({"vhosts": [{}]}, r"vhosts\[0\].name"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_definitions_are_refused_with_their_place(case: str) -> None:
    data, place = MALFORMED[case]
    with pytest.raises(InvalidValue, match=place):
        rabbitmq.read(json.dumps(data) if isinstance(data, dict) else data, NAMES)


WORDS = st.sampled_from(
    ["ann", "ann*", "/", "v", "orders", "amq.topic", "", ".*", "^orders.*", "^(a|b)$", "^{client_id}\\.",
     "topic", "^amq\\.", "administrator", "\ud800", "^%2", "^$"]
)  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            key: WORDS | st.text(max_size=4)
            for key in ("user", "vhost", "configure", "write", "read", "exchange", "name", "type", "tags")
        }
    ),
    max_size=3,
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("users", "permissions", "topic_permissions", "exchanges", "vhosts"), ROWS)
)


@given(DOCUMENTS.map(json.dumps) | st.text(max_size=30) | st.binary(max_size=30))
def test_any_text_is_taken_or_refused(data: bytes | str) -> None:
    try:
        found = rabbitmq.read(data, NAMES)
    except InvalidValue:
        return
    assert len({rule["id"] for rule in found.rules}) == len(found.rules)
    json.dumps([found.users, found.rules]).encode()


@given(
    st.sampled_from(
        ["^a%?.*", "^a.*", "^a%2.*", "^(a|b)$", ".*", "^%24.*", "^a/.*", "^a%$|^b#$", "^amq\\.d.*"]
    ),
    st.text(st.sampled_from("ab%2345#+/$"), min_size=1, max_size=5),
    st.sampled_from(["/", "v"]),
)
def test_no_name_is_allowed_that_rabbitmq_refuses(pattern: str, name: str, vhost: str) -> None:
    """A name is written otherwise here; what is written so must not be another name's beginning."""
    found = read(permissions=[permit(pattern, pattern, pattern, vhost)]).rules
    their = re.search(pattern, name) is not None
    queue = names.queue_to_core(vhost, name)
    topic = names.to_topic(vhost, name, "k.l")
    for action, resource in (
        ("manage", f"queue:{queue}"),
        ("consume", f"queue:{queue}"),
        ("publish", f"topic:{topic}"),
        ("subscribe", f"topic:{topic}"),
    ):
        if allows(found, "ann", "", action, resource):
            assert their, (pattern, name, resource)
