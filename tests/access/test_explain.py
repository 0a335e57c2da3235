"""Explain says what a real client experiences, and leaves no trace; a candidate refuses nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from tests.access.guarded import Guarded, run

SETTINGS = '[anonymous]\npublish = ["open/#"]\n'


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    made = shared("ann", "bob", settings=SETTINGS)
    made.rule("own", "user:*", ["publish", "subscribe"], "topic:own/${username}/#", "topic:dev/${clientid}/#")
    made.rule("all-of-bob", "user:bob", "all", "topic:#", "queue:*", "topic:$x/#")
    made.rule("not-here", "user:bob", "publish", "topic:far/#", decision="deny", **{"from": ["10.0.0.0/8"]})
    made.rule("not-so", "user:bob", "publish", "topic:via/#", decision="deny", doors=["http"])
    made.rule("secret", "everyone", "all", "topic:secret/#", "queue:vault", decision="deny")
    made.put("/v1/queues/jobs", {"bindings": ["work/#"]})
    made.put("/v1/queues/vault", {})
    return made


def explain(gateway: Guarded, action: str, **fields: Any) -> dict[str, Any]:
    answer = gateway.ask("POST", "/v1/admin/explain", json={"action": action, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


#: (user, door, action, topic or queue): those that a real client tries as well
CASES = [
    ("ann", "mqtt", "publish", "own/ann/x"),
    ("ann", "mqtt", "publish", "own/bob/x"),
    ("ann", "mqtt", "publish", "dev/c1/x"),
    ("ann", "mqtt", "publish", "dev/c2/x"),
    ("ann", "mqtt", "publish", "$sys/x"),
    ("ann", "mqtt", "publish", "work/1"),
    ("ann", "mqtt", "subscribe", "own/ann/#"),
    ("ann", "mqtt", "subscribe", "own/#"),
    ("ann", "mqtt", "subscribe", "#"),
    ("bob", "mqtt", "publish", "far/x"),
    ("bob", "mqtt", "publish", "via/x"),
    ("bob", "http", "publish", "via/x"),
    ("bob", "mqtt", "publish", "secret/x"),
    ("bob", "mqtt", "publish", "$queue/jobs"),
    ("bob", "mqtt", "publish", "$queue/vault"),
    ("bob", "mqtt", "publish", "$x/1"),
    ("bob", "mqtt", "publish", "$sys/1"),
    ("bob", "mqtt", "subscribe", "#"),
    ("bob", "mqtt", "subscribe", "work/+"),
    ("bob", "mqtt", "consume", "jobs"),
    ("bob", "mqtt", "consume", "vault"),
    ("bob", "mqtt", "consume", "$session/c1"),
    ("bob", "mqtt", "consume", "$sys/audit"),
    ("bob", "amqp", "consume", "jobs"),
    ("bob", "amqp", "consume", "vault"),
    ("bob", "http", "consume", "jobs"),
    ("bob", "http", "consume", "vault"),
    ("root", "mqtt", "publish", "secret/x"),
    ("root", "mqtt", "publish", "$sys/x"),
    ("root", "mqtt", "consume", "$session/c1"),
    ("root", "mqtt", "subscribe", "#"),
    ("", "mqtt", "publish", "open/1"),
    ("", "mqtt", "publish", "shut"),
    ("", "mqtt", "subscribe", "open/1"),
    ("", "http", "publish", "open/1"),
    ("", "http", "publish", "shut"),
]


def experienced(gateway: Guarded, user: str, door: str, action: str, name: str) -> bool:
    """Try it; tell whether it went."""
    if door == "http":
        if action == "publish":
            return gateway.publish(name, "x", user).status_code == 200
        return gateway.ask("GET", f"/v1/queues/{name}/browse", user).status_code == 200
    if door == "amqp":
        amqp = gateway.amqp(user)
        amqp.send(commands.Basic.Consume(queue=name))
        answer = amqp.receive()
        amqp.close()
        return isinstance(answer, commands.Basic.ConsumeOk)
    client = gateway.mqtt("c1", user or None)
    if action == "publish":
        reason = client.publish_stored(name, b"x")
    else:
        (reason,) = client.subscribe(name if action == "subscribe" else f"$queue/{name}")
    client.close()
    return reason < 0x80


@pytest.mark.parametrize(("user", "door", "action", "name"), CASES)
def test_what_is_explained_is_what_happens(
    gateway: Guarded, user: str, door: str, action: str, name: str
) -> None:
    kind = "queue" if action == "consume" else "topic"
    client_id = "c1" if door == "mqtt" else ""
    found = explain(gateway, action, **{"as": user, "door": door, "client_id": client_id, kind: name})
    assert found["allowed"] is experienced(gateway, user, door, action, name), found
    if user != "root" and found["rule"]:
        decisions = {step["rule"]: step["decision"] for step in found["applied"]}
        assert decisions[found["rule"]] == ("allow" if found["allowed"] else "deny")


def test_the_reasons_rule_by_rule(gateway: Guarded) -> None:
    found = explain(gateway, "publish", topic="far/x", **{"as": "bob", "address": "10.1.1.1"})
    assert (found["allowed"], found["rule"]) == (False, "not-here")
    assert found["why"] == "bob may not publish 'far/x': rule 'not-here' denies it"
    assert [step["rule"] for step in found["applied"]] == ["all-of-bob", "not-here"]
    because = {step["rule"]: step["because"] for step in found["not_applied"]}
    assert because == {
        "anonymous.publish": "it is about anonymous",
        "own": "it is about other resources",
        "not-so": "it holds at the doors http",
        "secret": "it is about other resources",
    }
    near = explain(gateway, "publish", topic="far/x", **{"as": "bob"})
    assert near["allowed"]
    assert {s["rule"]: s["because"] for s in near["not_applied"]}["not-here"] == "it holds for 10.0.0.0/8"
    assert explain(gateway, "publish", topic="own/carl/1", **{"as": "carl"})["remarks"]
    gateway.user("sleeper", disabled=True)
    asleep = explain(gateway, "publish", topic="own/sleeper/1", **{"as": "sleeper"})
    assert asleep["remarks"] == ["user 'sleeper' is disabled and cannot log in"]
    gateway.rule("grouped", "group:g", "view", "admin:metrics")
    assert explain(gateway, "view", admin="metrics", groups=["g"], **{"as": "ann"})["rule"] == "grouped"


def test_who_would_get_it_by_which_subscription(gateway: Guarded) -> None:
    client = gateway.mqtt("reader", "bob")
    client.subscribe("work/+", qos=0)
    found = explain(gateway, "publish", topic="work/1", **{"as": "bob"})["receivers"]
    assert {"by": "work/#", "queue": "jobs", "kind": "classic"}.items() <= found[0].items() | found[1].items()
    (live,) = [each for each in found if each.get("client_id")]
    assert (live["by"], live["client_id"], live["user"], live["connected"]) == (
        "work/+",
        "reader",
        "bob",
        True,
    )
    assert explain(gateway, "publish", topic="work/1", **{"as": "ann"})["receivers"] == []
    assert "receivers" not in explain(gateway, "subscribe", topic="work/1", **{"as": "bob"})
    client.close()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"action": "write", "topic": "a"}, "one of publish, subscribe"),
        ({"topic": "a"}, "one of publish, subscribe"),
        ({"action": "publish"}, "name one of topic, queue"),
        ({"action": "publish", "topic": "a", "queue": "q"}, "name one of topic, queue"),
        ({"action": "publish", "topic": 7}, "topic: a string"),
        ({"action": "publish", "topic": "a", "groups": "g"}, "groups: a list of names"),
        ({"action": "publish", "topic": "a", "who": "ann"}, "'who': unknown"),
    ],
)
def test_questions_that_make_no_sense(gateway: Guarded, fields: dict[str, Any], words: str) -> None:
    answer = gateway.ask("POST", "/v1/admin/explain", json=fields)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    gateway.rule("asks", "user:ann", "view", "admin:explain")
    assert gateway.ask("POST", "/v1/admin/explain", "bob", json=fields).status_code == 403
    assert gateway.ask("POST", "/v1/admin/explain", "ann", json=fields).status_code == 422


def test_nothing_is_published_counted_compared_or_written(gateway: Guarded) -> None:
    gateway.put("/v1/admin/shadow", {"rules": [], "beside": False})

    def traces() -> Any:
        overview = gateway.get("/v1/admin/overview")["messages"]
        shadow = gateway.get("/v1/admin/shadow")["differences"]
        mine = [found for found in shadow if found["user"] == "bob"]
        return overview, mine, len(gateway.audit()), gateway.get("/v1/queues/jobs")["depth"]

    before = traces()
    for user, door, action, name in CASES:
        kind = "queue" if action == "consume" else "topic"
        explain(gateway, action, **{"as": user, "door": door, kind: name})
    assert traces() == before
    assert gateway.metric('gateway_refused_total{action="publish",door="coap"}') == 0
    gateway.delete("/v1/admin/shadow")


def test_the_command_line_says_it_in_words_and_in_json(gateway: Guarded) -> None:
    login = ("--url", gateway.url, "--user", "root:marked-secret-of-root")
    text = run("explain", "publish", "--as", "bob", "--topic", "work/1", *login)
    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith("ALLOWED: allowed by rule 'all-of-bob'\n  for bob at the mqtt door")
    assert "rule not-so: does not apply, it holds at the doors http" in text.stdout
    assert "would go to queue 'jobs' by work/#" in text.stdout
    refused = run("explain", "publish", "--as", "bob", "--topic", "secret/1", "--json", *login)
    assert '"rule": "secret"' in refused.stdout
    assert "marked" not in text.stdout + text.stderr + refused.stdout + refused.stderr


# -- candidates ------------------------------------------------------------------------------------


def test_a_candidate_notes_what_it_would_change_and_refuses_nobody(gateway: Guarded) -> None:
    assert gateway.ask("GET", "/v1/admin/shadow").status_code == 404
    client, amqp = gateway.mqtt("shady", "bob"), gateway.amqp("bob")
    assert client.publish_stored("work/1", b"x") == 0, "remembered before the candidate runs"
    candidate = [
        {
            "id": "no-work",
            "decision": "deny",
            "subject": "user:bob",
            "actions": "all",
            "resources": "topic:work/#",
        },
        {
            "id": "no-jobs",
            "decision": "deny",
            "subject": "user:bob",
            "actions": "all",
            "resources": "queue:jobs",
        },
        {"id": "ann-too", "subject": "user:ann", "actions": "publish", "resources": "topic:free"},
    ]
    started = gateway.put("/v1/admin/shadow", {"rules": candidate})
    assert started["differences"] == []
    for _ in range(3):
        assert client.publish_stored("work/1", b"x") == 0
    assert client.subscribe("work/1", "other/#") == [1, 1]
    amqp.call(commands.Basic.Consume(queue="jobs"), commands.Basic.ConsumeOk)
    assert gateway.publish("work/2", "x", "bob").status_code == 200
    assert gateway.publish("free", "x", "ann").status_code == 403
    assert client.publish_stored("secret/1", b"x") >= 0x80, "denied by both: no difference"
    found = gateway.get("/v1/admin/shadow")
    shown = {(d["user"], d["door"], d["action"], d["resource"]): d for d in found["differences"]}
    assert set(shown) == {
        ("bob", "mqtt", "publish", "work/1"),
        ("bob", "mqtt", "subscribe", "work/1"),
        ("bob", "amqp", "consume", "$queue/jobs"),
        ("bob", "http", "publish", "work/2"),
        ("ann", "http", "publish", "free"),
    }
    mine = shown["bob", "mqtt", "publish", "work/1"]
    assert mine["live"] == {"allowed": True, "rule": "all-of-bob"}
    assert mine["candidate"] == {"allowed": False, "rule": "no-work"}
    assert mine["client_id"] == "shady"
    assert shown["ann", "http", "publish", "free"]["candidate"] == {"allowed": True, "rule": "ann-too"}
    assert found["compared"] >= len(shown)
    gateway.delete("/v1/admin/shadow")
    assert client.publish_stored("work/1", b"x") == 0
    gateway.delete("/v1/admin/shadow", 404)
    for each in (client, amqp):
        each.close()


def test_a_candidate_instead_of_all_rules(gateway: Guarded) -> None:
    gateway.put("/v1/admin/shadow", {"rules": [], "beside": False})
    assert gateway.publish("own/ann/1", "x", "ann").status_code == 200
    (found,) = [d for d in gateway.get("/v1/admin/shadow")["differences"] if d["user"] == "ann"]
    assert found["candidate"] == {"allowed": False, "rule": ""}
    assert gateway.ask("PUT", "/v1/admin/shadow", json={"rules": [{"id": "x"}]}).status_code == 422
    gateway.delete("/v1/admin/shadow")
