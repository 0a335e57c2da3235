"""Every administrative change is in the audit log exactly once, and who may read it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from tests.access.guarded import Guarded, wait_for
from tests.mqtt_client import V5

STREAM = "%24sys%2Faudit"
RULE = {"decision": "allow", "subject": "user:ann", "actions": ["publish"], "resources": ["topic:a"]}
A_RULE = "allow user:ann publish topic:a"


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    return shared("ann")


def changes(gateway: Guarded) -> list[tuple[str, str, str]]:
    return [(e["event"], e["resource"], e["detail"]) for e in gateway.audit() if "resource" in e]


#: (method, path, body, what is written of it: event, resource, detail)
HTTP: list[tuple[str, str, Any, list[tuple[str, str, str]]]] = [
    (
        "PUT",
        "/v1/queues/h",
        {"bindings": ["h/#", "h/#"]},
        [("queue.declare", "$queue/h", "classic"), ("queue.bind", "$queue/h", "to 'h/#'")],
    ),
    ("PUT", "/v1/queues/h", {"bindings": ["h/#"]}, []),
    (
        "PUT",
        "/v1/queues/h?update=true",
        {"policy": {"max_length": 7}},
        [("queue.policy", "$queue/h", '{"max_length": 7}')],
    ),
    ("PUT", "/v1/queues/h?update=true", {"policy": {"max_length": 7}}, []),
    ("DELETE", "/v1/queues/h/bindings?filter=h/%23", None, [("queue.unbind", "$queue/h", "from 'h/#'")]),
    ("POST", "/v1/queues/h/messages", None, []),
    ("POST", "/v1/queues/h/messages", None, []),
    ("POST", "/v1/queues/h/purge", None, [("queue.purge", "$queue/h", "2 messages")]),
    ("POST", "/v1/queues/h/messages", None, []),
    ("DELETE", "/v1/queues/h", None, [("queue.delete", "$queue/h", "1 messages")]),
    ("DELETE", "/v1/queues/h", None, []),
    ("PUT", "/v1/queues/s", {"kind": "stream"}, [("queue.declare", "$queue/s", "stream")]),
    (
        "POST",
        "/v1/queues/s/groups/g/seek",
        {"offset": 0},
        [("queue.seek", "$group/s/g", "to offset 0")],
    ),
    ("PUT", "/v1/admin/users/eve", {"password": "12345678"}, [("user.create", "eve", "password")]),
    (
        "PUT",
        "/v1/admin/users/eve",
        {"groups": ["g"], "disabled": True},
        [("user.change", "eve", "disabled, groups")],
    ),
    ("PUT", "/v1/admin/users/eve", {"password": "short"}, []),
    ("POST", "/v1/admin/users/eve/end", {}, [("user.end", "eve", "0 sessions")]),
    (
        "POST",
        "/v1/admin/users",
        {"users": [{"name": "z"}]},
        [("user.import", "users", "1 users, 1 of them new")],
    ),
    ("DELETE", "/v1/admin/users/eve", None, [("user.delete", "eve", "")]),
    ("DELETE", "/v1/admin/users/root", None, []),
    ("PUT", "/v1/admin/rules/r", RULE, [("rule.create", "r", A_RULE)]),
    ("PUT", "/v1/admin/rules/r", RULE, [("rule.change", "r", A_RULE)]),
    (
        "POST",
        "/v1/admin/rules",
        {"rules": [{"id": "r", **RULE}, {"id": "r2", **RULE}]},
        [("rule.import", "rules", "2 rules, 1 of them new")],
    ),
    ("PUT", "/v1/admin/shadow", {"rules": []}, [("shadow.start", "shadow", "2 rules")]),
    ("DELETE", "/v1/admin/shadow", None, [("shadow.stop", "shadow", "")]),
    ("DELETE", "/v1/admin/rules/r", None, [("rule.delete", "r", "")]),
    ("DELETE", "/v1/admin/rules/r", None, []),
    ("PUT", "/v1/admin/quotas/q", {"subject": "everyone"}, [("quota.create", "q", "")]),
    ("PUT", "/v1/admin/quotas/q", {"subject": "everyone"}, [("quota.change", "q", "")]),
    ("DELETE", "/v1/admin/quotas/q", None, [("quota.delete", "q", "")]),
    ("GET", "/v1/admin/users", None, []),
    ("POST", "/v1/admin/explain", {"action": "publish", "topic": "a", "as": "ann"}, []),
]


def test_changes_through_http(gateway: Guarded) -> None:
    for method, path, body, expected in HTTP:
        before = len(changes(gateway))
        gateway.ask(method, path, json=body) if body is not None else gateway.ask(method, path)
        assert changes(gateway)[before:] == expected, (method, path)
    assert {e["user"] for e in gateway.audit()} == {"root"}
    assert {e["door"] for e in gateway.audit()} == {"http"}


C = commands
BOUND = ("exchange.bind", "$vhost", "from 'x' 'z'")
AMQP: list[tuple[Any, type, list[tuple[str, str, str]]]] = [
    (
        C.Exchange.Declare(exchange="x", exchange_type="topic"),
        C.Exchange.DeclareOk,
        [("exchange.declare", "$vhost", "topic")],
    ),
    (C.Exchange.Declare(exchange="x", exchange_type="topic"), C.Exchange.DeclareOk, []),
    (C.Exchange.Declare(exchange="x", passive=True), C.Exchange.DeclareOk, []),
    (C.Exchange.Declare(exchange="y"), C.Exchange.DeclareOk, [("exchange.declare", "$vhost", "direct")]),
    (
        C.Exchange.Bind(destination="y", source="x", routing_key="k"),
        C.Exchange.BindOk,
        [("exchange.bind", "$vhost", "from 'x' 'k'")],
    ),
    (
        C.Exchange.Unbind(destination="y", source="x", routing_key="k"),
        C.Exchange.UnbindOk,
        [("exchange.unbind", "$vhost", "from 'x' 'k'")],
    ),
    (C.Exchange.Bind(destination="y", source="x", routing_key="z"), C.Exchange.BindOk, [BOUND]),
    (C.Exchange.Bind(destination="y", source="x", routing_key="z"), C.Exchange.BindOk, []),
    (C.Exchange.Unbind(destination="y", source="x", routing_key="none"), C.Exchange.UnbindOk, []),
    (C.Queue.Declare(queue="a"), C.Queue.DeclareOk, [("queue.declare", "$queue/a", "")]),
    (C.Queue.Declare(queue="a"), C.Queue.DeclareOk, []),
    (C.Queue.Declare(queue="a", passive=True), C.Queue.DeclareOk, []),
    (
        C.Queue.Bind(queue="a", exchange="x", routing_key="k"),
        C.Queue.BindOk,
        [("queue.bind", "$queue/a", "to 'x' 'k'")],
    ),
    (C.Queue.Bind(queue="a", exchange="x", routing_key="k"), C.Queue.BindOk, []),
    (
        C.Queue.Unbind(queue="a", exchange="x", routing_key="k"),
        C.Queue.UnbindOk,
        [("queue.unbind", "$queue/a", "from 'x' 'k'")],
    ),
    (C.Queue.Unbind(queue="a", exchange="x", routing_key="k"), C.Queue.UnbindOk, []),
    (C.Queue.Purge(queue="a"), C.Queue.PurgeOk, [("queue.purge", "$queue/a", "0 messages")]),
    (C.Queue.Delete(queue="a"), C.Queue.DeleteOk, [("queue.delete", "$queue/a", "0 messages")]),
    (C.Queue.Delete(queue="a"), C.Queue.DeleteOk, []),
    (C.Exchange.Delete(exchange="x"), C.Exchange.DeleteOk, [("exchange.delete", "$vhost", "")]),
    (C.Exchange.Delete(exchange="x"), C.Exchange.DeleteOk, []),
]


def test_changes_through_amqp(gateway: Guarded) -> None:
    amqp = gateway.amqp()
    for method, answer, expected in AMQP:
        before = len(changes(gateway))
        amqp.call(method, answer)
        found = [
            (event, "$vhost" if event.startswith("exchange") else resource, detail)
            for event, resource, detail in changes(gateway)[before:]
        ]
        assert found == expected, method.name
    assert {e["door"] for e in gateway.audit("exchange.bind")} == {"amqp"}
    amqp.close()


#: (method, path, body, whether it is a change)
MANAGEMENT: list[tuple[str, str, Any, bool]] = [
    ("PUT", "exchanges/%2F/mx", {"type": "topic"}, True),
    ("PUT", "queues/%2F/mq", {}, True),
    ("POST", "bindings/%2F/e/mx/q/mq", {"routing_key": "k"}, True),
    ("GET", "bindings/%2F", None, False),
    (
        "POST",
        "exchanges/%2F/mx/publish",
        {"routing_key": "k", "payload": "x", "payload_encoding": "string", "properties": {}},
        False,
    ),
    (
        "POST",
        "queues/%2F/mq/get",
        {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"},
        False,
    ),
    ("DELETE", "bindings/%2F/e/mx/q/mq/k", None, True),
    ("DELETE", "queues/%2F/mq/contents", None, True),
    ("PUT", "policies/%2F/p", {"pattern": "^m", "definition": {"max-length": 1}}, True),
    ("DELETE", "policies/%2F/p", None, True),
    ("DELETE", "queues/%2F/mq", None, True),
    ("DELETE", "queues/%2F/mq", None, False),
    ("DELETE", "exchanges/%2F/mx", None, True),
    ("PUT", "vhosts/other", {}, True),
    ("DELETE", "vhosts/other", None, True),
]


def test_changes_through_the_management_api(gateway: Guarded) -> None:
    for method, path, body, change in MANAGEMENT:
        before = len(changes(gateway))
        answer = (
            gateway.ask(method, "/api/" + path, json=body)
            if body is not None
            else gateway.ask(method, "/api/" + path)
        )
        assert answer.is_success == (change or method != "DELETE"), answer.text
        expected = [(f"management.{method.lower()}", "/api/" + path, "")] if change else []
        assert changes(gateway)[before:] == expected, (method, path)


# -- who may read it -------------------------------------------------------------------------------


def test_the_stream_is_for_administrators(gateway: Guarded) -> None:
    gateway.rule("much", "user:ann", "all", "topic:#", "queue:*", "group:*", "topic:+/+")
    mark = gateway.ask("PUT", "/v1/queues/marked", json={})
    assert mark.status_code == 201
    found = gateway.get(f"/v1/queues/{STREAM}/browse?limit=1000")
    bodies = [json.loads(message["body"]) for message in found["messages"]]
    assert [body["resource"] for body in bodies if body["event"] == "queue.declare"][-1] == "$queue/marked"
    assert gateway.ask("GET", f"/v1/queues/{STREAM}/browse", "ann").status_code == 403
    assert gateway.ask("GET", f"/v1/queues/{STREAM}", "ann").status_code in (403, 404)
    assert "$sys/audit" not in gateway.ask("GET", "/v1/queues", "ann").text
    for method, path in (("DELETE", ""), ("POST", "/purge"), ("POST", "/messages")):
        assert gateway.ask(method, f"/v1/queues/{STREAM}{path}", "ann").status_code in (403, 404)


def test_the_stream_over_mqtt(gateway: Guarded) -> None:
    gateway.rule("much", "user:ann", "all", "topic:#", "queue:*", "group:*")
    ann = gateway.mqtt("ann", "ann")
    assert ann.subscribe("$queue/$sys/audit", "$sys/audit", "$sys/#", "$share/g/$sys/audit") == [0x87] * 4
    assert ann.publish_stored("$sys/audit", b"forged") == 0x87
    assert ann.publish_stored("$queue/$sys/audit", b"forged") == 0x87
    root = gateway.mqtt("root", version=V5)
    assert root.subscribe("$queue/$sys/audit") == [1]
    gateway.ask("PUT", "/v1/queues/live", json={})
    entry = json.loads(root.receive().payload)
    while entry.get("resource") != "$queue/live":
        entry = json.loads(root.receive().payload)
    assert (entry["event"], entry["user"], entry["door"]) == ("queue.declare", "root", "http")
    for client in (ann, root):
        client.close()


def test_not_even_an_administrator_writes_to_it(gateway: Guarded) -> None:
    root = gateway.mqtt("root2")
    before = gateway.get(f"/v1/queues/{STREAM}")["depth"]
    assert root.publish_stored("$sys/audit", b"forged") == 0x87
    root.publish_stored("$queue/$sys/audit", b"forged")
    gateway.ask("POST", f"/v1/queues/{STREAM}/messages", content=b"forged")
    found = gateway.get(f"/v1/queues/{STREAM}/browse?limit=1000")["messages"]
    assert gateway.get(f"/v1/queues/{STREAM}")["depth"] >= before
    assert "forged" not in [message["body"] for message in found]
    root.close()


def test_refusals_are_written_with_their_rule_and_summed_up_at_the_end(guard: Callable[..., Guarded]) -> None:
    gateway = guard("ann")
    gateway.rule("no-b", "user:ann", "publish", "topic:b", decision="deny")
    client = gateway.mqtt("ann", "ann")
    for number in range(25):
        assert client.publish_stored("b", b"x", number + 1) == 0x87
    found = wait_for(lambda: len(gateway.audit("refused")) == 10 and gateway.audit("refused"))
    assert {(e["user"], e["client_id"], e["resource"], e["rule"]) for e in found} == {
        ("ann", "ann", "b", "no-b")
    }
    assert gateway.metric('gateway_refused_total{action="publish",door="mqtt"}') == 25
    client.close()
    gateway.stop()
    assert [e["repeated"] for e in gateway.audit("refused") if "repeated" in e] == [15]
    assert stat.S_IMODE((gateway.data / "audit.log").stat().st_mode) == 0o600
