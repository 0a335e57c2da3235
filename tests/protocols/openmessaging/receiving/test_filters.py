"""Filters of consumers: tags and SQL, as RocketMQ has them, and who shares what."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytest.importorskip("grpc")

from gateway.rocketmq.numbers import Code, FilterType
from tests.process import RocketGateway, wait_for
from tests.protocols.openmessaging.receiving.pop import bodies
from tests.rocketmq_raw import RawRocket, RefusedRaw

#: What is published: body, tag, user properties.
MESSAGES = {
    "small": ("A", {"n": "5", "color": "red", "ok": "true"}),
    "large": ("B", {"n": "100", "color": "blue", "ok": "FALSE"}),
    "words": ("C", {"n": "many", "color": "it's", "empty": ""}),
    "nothing": ("", {}),
}


def publish(raw: RawRocket, topic: str) -> None:
    for body, (tag, properties) in MESSAGES.items():
        system = {"message_id": f"{topic}-{body}", "message_type": 1, "body_encoding": 1}
        message = {
            "topic": {"name": topic},
            "body": body.encode(),
            "user_properties": properties,
            "system_properties": {**system, "tag": tag} if tag else system,
        }
        assert raw.call("SendMessage", messages=[message]).status.code == Code.OK


#: RocketMQ's language of conditions (its `SqlFilter`), and which messages each takes.
TABLE = [
    # comparisons: a property is a text, that is read as what it is compared with
    ("n > 5", "large"),
    ("n >= 5", "small large"),
    ("n < 100", "small"),
    ("n <= 100 AND n >= 5", "small large"),
    ("n = 5", "small"),
    ("n = '5'", "small"),
    ("n <> 5", "large words"),  # RocketMQ: `words` is an error, which does not match; see the page
    ("color = 'red'", "small"),
    ("color <> 'red'", "large words"),
    ("color = 'it''s'", "words"),
    ("ok = TRUE", "small"),
    ("ok = FALSE", "large"),
    # what is missing is NULL
    ("n IS NULL", "nothing"),
    ("n IS NOT NULL", "small large words"),
    ("color <> 'red' OR n IS NULL", "large words nothing"),
    ("NOT (color = 'red')", "large words"),
    ("missing = 1 OR color = 'red'", "small"),
    ("missing = 1 AND color = 'red'", ""),
    # ranges and sets
    ("n BETWEEN 5 AND 99", "small"),
    ("n NOT BETWEEN 5 AND 99", "large"),
    ("color IN ('red', 'blue')", "small large"),
    ("color NOT IN ('red', 'blue')", "words"),
    # texts
    ("color CONTAINS 'e'", "small large"),
    ("color NOT CONTAINS 'e'", "words"),
    ("color STARTSWITH 'r'", "small"),
    ("color NOT STARTSWITH 'r'", "large words"),
    ("color ENDSWITH 'e'", "large"),
    ("color NOT ENDSWITH 'e'", "small words"),
    # the tag is a property, as in RocketMQ
    ("TAGS = 'A'", "small"),
    ("TAGS IS NULL", "nothing"),
    ("TAGS IN ('A', 'B') AND n > 5", "large"),
    # how it is written
    ("n > 5L", "large"),
    ("n > 5.5 -- a comment", "large"),
    ("not (n > 5) /* another */ and color is not null", "small"),
    ("(n > 5) AND ((color = 'blue') OR FALSE)", "large"),
    ("TRUE", "small large words nothing"),
]


@pytest.mark.parametrize(("expression", "taken"), TABLE, ids=[row[0] for row in TABLE])
def test_conditions_take_what_they_take_in_rocketmq(raw: RawRocket, expression: str, taken: str) -> None:
    topic = f"sql-{TABLE.index((expression, taken))}"
    assert raw.receive("g", topic, filter=expression, sql=True) == []
    publish(raw, topic)
    found = raw.receive("g", topic, filter=expression, sql=True)
    assert [body.decode() for body in bodies(found)] == taken.split()


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ("*", "small large words nothing"),
        ("", "small large words nothing"),
        (" * ", "small large words nothing"),
        ("A", "small"),
        ("A || C", "small words"),
        ("A||B||D", "small large"),
        ("D", ""),
    ],
)
def test_tags(raw: RawRocket, expression: str, taken: str) -> None:
    topic = "tags-" + "".join(character for character in expression if character.isalnum())
    topic += str(len(expression))
    assert raw.receive("g", topic, filter=expression) == []
    publish(raw, topic)
    found = raw.receive("g", topic, filter=expression)
    assert [body.decode() for body in bodies(found)] == taken.split()


@pytest.mark.parametrize(
    ("kind", "expression"),
    [
        (FilterType.SQL, "n >"),
        (FilterType.SQL, ""),
        (FilterType.SQL, "color = red'"),
        (FilterType.SQL, "'a' > 'b"),
        (FilterType.SQL, " AND ".join(["n = 1"] * 1000)),
        (FilterType.TAG, "A | B"),
        (FilterType.TAG, "A || "),
        (FilterType.TAG, "A || *"),
        (7, "A"),
    ],
)
def test_filters_that_are_none(raw: RawRocket, topic: str, kind: int, expression: str) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("fresh", topic, filter_expression={"type": kind, "expression": expression})
    assert caught.value.code == Code.ILLEGAL_FILTER_EXPRESSION


def test_a_group_has_one_filter_while_others_want_it(raw: RawRocket, other: RawRocket) -> None:
    assert raw.receive("g", "shared", filter="A") == []
    with pytest.raises(RefusedRaw, match=r"'A'.*'B'") as caught:
        other.receive("g", "shared", filter="B")
    assert caught.value.code == Code.ILLEGAL_FILTER_EXPRESSION
    assert other.receive("another", "shared", filter="B") == []
    assert other.receive("g", "shared", filter="A") == [], "the group's own is fine"


def test_a_group_may_change_its_filter_when_nobody_wants_the_old_one(
    gateway: RocketGateway, raw: RawRocket
) -> None:
    with RawRocket(gateway.endpoints, "old version") as old:
        assert old.receive("g", "deployed", filter="A") == []
        raw.send("deployed", b"for the old", tag="A")
        with pytest.raises(RefusedRaw):
            raw.receive("g", "deployed", filter="B")
        assert old.code("NotifyClientTermination", group={"name": "g"}) == Code.OK
    (message,) = when_free(raw, "deployed", "B")
    assert message.body == b"for the old", "what waited is not dropped"
    raw.ack("g", "deployed", message)
    for tag in "AB":
        raw.send("deployed", tag.encode(), tag=tag)
    found = raw.receive("g", "deployed", filter="B")
    assert bodies(found) == [b"B"]
    with pytest.raises(RefusedRaw):  # somebody holds what was received by it
        raw.receive("g", "deployed", filter="*")
    raw.ack("g", "deployed", *found)
    assert raw.receive("g", "deployed", filter="*") == []


def test_who_is_refused_does_not_stand_in_the_way(
    gateway: RocketGateway, raw: RawRocket, other: RawRocket
) -> None:
    with RawRocket(gateway.endpoints, "before") as old:
        assert old.receive("g", "rolled", filter="A") == []
        for client, tag in ((raw, "B"), (other, "C")):
            with pytest.raises(RefusedRaw):
                client.receive("g", "rolled", filter=tag)
        old.code("NotifyClientTermination", group={"name": "g"})
    assert when_free(raw, "rolled", "B") == []
    with pytest.raises(RefusedRaw):
        other.receive("g", "rolled", filter="C")


def when_free(raw: RawRocket, topic: str, tag: str) -> list[Any]:
    """Receive once the filter is taken: who said goodbye is gone a moment later."""
    found: list[Any] = []

    def taken() -> bool:
        try:
            found.extend(raw.receive("g", topic, filter=tag))
        except RefusedRaw:
            return False
        return True

    wait_for(taken, what="the filter")
    return found


def test_another_doors_filter_is_the_same(gateway: RocketGateway, raw: RawRocket) -> None:
    queue = f"{gateway.url}/v1/queues/%24share%2Fg%2Fmixed"
    asked = httpx.post(f"{queue}/receive", params={"selector": "n > 5"})
    assert asked.status_code == 200, asked.text
    assert raw.receive("g", "mixed", filter="n > 5", sql=True) == []
    publish(raw, "mixed")
    answer = httpx.post(f"{queue}/receive", params={"selector": "n > 5", "max": 10}).json()
    assert [one["body"] for one in answer["deliveries"]] == ["large"]


def test_a_queue_has_its_filters_on_its_bindings(gateway: RocketGateway, raw: RawRocket) -> None:
    httpx.put(f"{gateway.url}/v1/queues/plain", json={})
    with pytest.raises(RefusedRaw, match="binding") as caught:
        raw.receive("g", "%24queue%2Fplain", filter="A")
    assert caught.value.code == Code.ILLEGAL_FILTER_EXPRESSION
