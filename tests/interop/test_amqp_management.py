"""RabbitMQ's management API and definitions, as tools and people use them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from pika.exceptions import AMQPError

from tests.cli.test_commands import run
from tests.peers import executable
from tests.process import GatewayProcess, wait_for

V = "%2F"


@pytest.fixture
def api(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url + "/api", timeout=10, auth=("guest", "guest")) as client:
        yield client


@pytest.fixture
def channel(gateway: GatewayProcess) -> Iterator[Any]:
    properties = {"connection_name": "app-7"}
    parameters = pika.ConnectionParameters("127.0.0.1", gateway.amqp_port, client_properties=properties)
    connection = pika.BlockingConnection(parameters)
    found = connection.channel()
    found.confirm_delivery()
    yield found
    if connection.is_open:
        with suppress(AMQPError):  # the gateway may have been stopped
            connection.process_data_events(0.1)
            connection.close()


def test_it_shows_what_there_is(api: httpx.Client, channel: Any) -> None:
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_declare("work", durable=True, arguments={"x-max-length": 7})
    channel.queue_bind("work", "orders", "eu.#", {"note": "x"})
    channel.basic_publish("orders", "eu.1", b"one")
    channel.basic_consume("work", lambda *_: None, consumer_tag="me")
    channel.connection.process_data_events(0.2)
    overview = api.get("/overview").json()
    assert overview["object_totals"]["queues"] == 1
    assert overview["queue_totals"]["messages_unacknowledged"] == 1
    assert [node["running"] for node in api.get("/nodes").json()] == [True]
    (connection,) = api.get("/connections").json()
    assert (connection["user"], connection["vhost"], connection["protocol"]) == ("guest", "/", "AMQP 0-9-1")
    assert connection["client_properties"]["connection_name"] == "app-7"
    (shown,) = api.get("/channels").json()
    assert (shown["confirm"], shown["messages_unacknowledged"], shown["consumer_count"]) == (True, 1, 1)
    (consumer,) = api.get(f"/consumers/{V}").json()
    assert (consumer["consumer_tag"], consumer["queue"]["name"]) == ("me", "work")
    (queue,) = api.get(f"/queues/{V}").json()
    assert (queue["name"], queue["messages"], queue["arguments"]) == ("work", 1, {"x-max-length": 7})
    names = {exchange["name"] for exchange in api.get(f"/exchanges/{V}").json()}
    assert names == {"", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic", "orders"}
    bindings = api.get(f"/bindings/{V}/e/orders/q/work").json()
    assert [(b["routing_key"], b["arguments"]) for b in bindings] == [("eu.#", {"note": "x"})]
    assert [b["source"] for b in api.get(f"/queues/{V}/work/bindings").json()] == ["", "orders"]
    assert api.get("/whoami").json()["name"] == "guest"
    assert api.get(f"/aliveness-test/{V}").json() == {"status": "ok"}
    assert api.get(f"/queues/{V}/nothing").status_code == 404
    assert api.get("/no-such-thing").status_code == 404
    assert api.request("PATCH", "/overview").status_code == 405


def test_it_makes_changes_and_deletes(api: httpx.Client, channel: Any) -> None:
    assert api.put(f"/exchanges/{V}/x", json={"type": "direct", "durable": True}).status_code == 201
    assert api.put(f"/exchanges/{V}/x", json={"type": "direct", "durable": True}).status_code == 204
    refused = api.put(f"/exchanges/{V}/x", json={"type": "topic", "durable": True})
    assert (refused.status_code, "inequivalent arg 'type'" in refused.json()["reason"]) == (400, True)
    assert (
        api.put(f"/queues/{V}/q%2F1", json={"durable": True, "arguments": {"x-max-length": 2}}).status_code
        == 201
    )
    assert api.post(f"/bindings/{V}/e/x/q/q%2F1", json={"routing_key": "k"}).status_code == 201
    message = {"routing_key": "k", "payload": "hi", "payload_encoding": "string"}
    message["properties"] = {"headers": {"a": [1, "b"]}, "delivery_mode": 2, "message_id": "m"}  # type: ignore[assignment]
    assert api.post(f"/exchanges/{V}/x/publish", json=message).json() == {"routed": True}
    assert api.post(f"/exchanges/{V}/x/publish", json={**message, "routing_key": "n"}).json() == {
        "routed": False
    }
    wanted = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}
    (got,) = api.post(f"/queues/{V}/q%2F1/get", json=wanted).json()
    assert (got["payload"], got["exchange"], got["routing_key"], got["redelivered"]) == (
        "hi",
        "x",
        "k",
        False,
    )
    assert got["properties"]["headers"] == {"a": [1, "b"]}
    wanted["ackmode"] = "ack_requeue_false"
    (got,) = api.post(f"/queues/{V}/q%2F1/get", json=wanted).json()
    assert got["redelivered"]
    (binding,) = api.get(f"/bindings/{V}/e/x/q/q%2F1").json()
    assert api.delete(f"/bindings/{V}/e/x/q/q%2F1/{binding['properties_key']}").status_code == 204
    assert api.get(f"/bindings/{V}/e/x/q/q%2F1").json() == []
    assert api.delete(f"/queues/{V}/q%2F1/contents").status_code == 204
    assert api.delete(f"/queues/{V}/q%2F1").status_code == 204
    assert api.delete(f"/exchanges/{V}/x").status_code == 204
    assert api.get(f"/exchanges/{V}/x").status_code == 404
    (connection,) = api.get("/connections").json()
    assert api.delete(f"/connections/{connection['name']}").status_code == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="320"):
        channel.connection.process_data_events(5)
    wait_for(lambda: api.get("/connections").json() == [])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"durable": 5}',
        b'{"durable": "maybe"}',
        b'{"arguments": []}',
        b'{"arguments": {"x-max-length": "5"}}',
        b'{"arguments": {"x-queue-type": {"a": 1}}}',
        b'{"arguments": {"x-overflow": ["a"]}}',
        b'{"arguments": {"n": 99999999999999999999}}',
    ],
)
def test_what_makes_no_sense_is_refused(api: httpx.Client, body: bytes) -> None:
    answer = api.put(f"/queues/{V}/q", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["reason"]
    assert api.get(f"/queues/{V}/q").status_code == 404


def test_arguments_of_any_type_are_shown_and_taken(api: httpx.Client, channel: Any) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    channel.exchange_declare("h", "headers", durable=True)
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "h", "", {"x-match": "any", "when": when, "raw": b"\xff"})
    exported = api.get("/definitions").json()
    assert api.delete(f"/queues/{V}/q").status_code == 204
    assert api.post("/definitions", json=exported).json()["imported"]["bindings"] == 1
    channel.basic_publish("h", "", b"x", pika.BasicProperties(headers={"raw": b"\xff"}), mandatory=True)
    channel.basic_publish("h", "", b"x", pika.BasicProperties(headers={"when": when}), mandatory=True)


def test_policies_take_effect_at_once(api: httpx.Client, channel: Any) -> None:
    channel.exchange_declare("dlx", "fanout", durable=True)
    channel.exchange_declare("short", "direct", durable=True)
    channel.queue_declare("dead", durable=True)
    channel.queue_bind("dead", "dlx")
    channel.queue_declare("short.lived", durable=True, arguments={"x-max-length": 3})
    for n in range(3):
        channel.basic_publish("", "short.lived", b"%d" % n)
    policy = {
        "pattern": "^short",
        "apply-to": "queues",
        "priority": 5,
        "definition": {"max-length": 10, "message-ttl": 1, "dead-letter-exchange": "dlx"},
    }
    assert api.put(f"/policies/{V}/short", json=policy).status_code == 201
    channel.basic_publish("", "short.lived", b"3")
    wait_for(lambda: api.get(f"/queues/{V}/short.lived").json()["messages"] == 0, what="the policy's ttl")
    assert api.get(f"/queues/{V}/short.lived").json()["policy"] == "short"
    assert api.get(f"/queues/{V}/dead").json()["messages"] >= 1
    weaker = {**policy, "priority": 1, "definition": {"max-length": 1}}
    assert api.put(f"/policies/{V}/weaker", json=weaker).status_code == 201
    assert api.get(f"/queues/{V}/short.lived").json()["policy"] == "short"
    assert api.delete(f"/policies/{V}/short").status_code == 204
    assert api.get(f"/queues/{V}/short.lived").json()["policy"] == "weaker"
    for n in range(3):
        channel.basic_publish("", "short.lived", b"%d" % n)
    assert api.get(f"/queues/{V}/short.lived").json()["messages"] == 1  # the lower of two limits holds
    channel.queue_declare("short.lived", durable=True, arguments={"x-max-length": 3})  # still its own
    other = {"pattern": "^short$", "apply-to": "exchanges", "definition": {"alternate-exchange": "dlx"}}
    assert api.put(f"/policies/{V}/rest", json=other).status_code == 201
    before = api.get(f"/queues/{V}/dead").json()["messages"]
    channel.basic_publish("short", "nobody", b"to the alternate")
    assert api.get(f"/queues/{V}/dead").json()["messages"] == before + 1
    for wrong in ({"pattern": "("}, {"definition": {}}, {"definition": {"no-such": 1}}, {"apply-to": "x"}):
        assert api.put(f"/policies/{V}/wrong", json={**policy, **wrong}).status_code == 400


def test_virtual_hosts_are_apart(gateway: GatewayProcess, api: httpx.Client, channel: Any) -> None:
    assert api.put("/vhosts/dev").status_code == 201
    other = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port, "dev"))
    theirs = other.channel()
    for found in (channel, theirs):
        found.exchange_declare("x", "topic", durable=True)
        found.queue_declare("q", durable=True)
        found.queue_bind("q", "x", "#")
        found.queue_bind("q", "amq.topic", "t.#")
    theirs.basic_publish("x", "k", b"theirs")
    wait_for(lambda: api.get("/queues/dev/q").json()["messages"] == 1)
    assert api.get(f"/queues/{V}/q").json()["messages"] == 0
    published = httpx.post(f"{gateway.url}/v1/topics/$vhost/dev/t/1", content=b"by http")
    assert published.status_code == 200
    wait_for(lambda: api.get("/queues/dev/q").json()["messages"] == 2)
    method, _, _ = theirs.basic_get("q", auto_ack=True)
    assert (method.exchange, method.routing_key) == ("x", "k")
    method, _, body = theirs.basic_get("q", auto_ack=True)
    assert (method.exchange, method.routing_key, body) == ("amq.topic", "t.1", b"by http")
    other.close()
    gateway.stop()
    gateway.start()
    wait_for(lambda: httpx.get(f"{gateway.url}/api/queues/dev/q").json()["durable"])
    assert httpx.delete(f"{gateway.url}/api/vhosts/dev").status_code == 204
    assert httpx.get(f"{gateway.url}/api/queues/dev/q").status_code == 404


DEFINITIONS: dict[str, Any] = {
    "rabbit_version": "3.12.1",
    "users": [{"name": "guest", "password_hash": "x", "hashing_algorithm": "y", "tags": ["administrator"]}],
    "vhosts": [{"name": "/"}, {"name": "shop"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "parameters": [],
    "global_parameters": [{"name": "cluster_name", "value": "rabbit@x"}],
    "policies": [
        {
            "vhost": "shop",
            "name": "ttl",
            "pattern": ".*",
            "apply-to": "queues",
            "definition": {"message-ttl": 60000, "ha-mode": "all"},
            "priority": 0,
        }
    ],
    "queues": [
        {
            "name": "q",
            "vhost": "shop",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-max-length": 9},
        },
        {
            "name": "s",
            "vhost": "/",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-queue-type": "stream"},
        },
    ],
    "exchanges": [
        {
            "name": "in",
            "vhost": "shop",
            "type": "topic",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {},
        },
        {
            "name": "hash",
            "vhost": "shop",
            "type": "x-consistent-hash",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {"hash-header": "k"},
        },
    ],
    "bindings": [
        {
            "source": "in",
            "vhost": "shop",
            "destination": "hash",
            "destination_type": "exchange",
            "routing_key": "a.#",
            "arguments": {},
        },
        {
            "source": "hash",
            "vhost": "shop",
            "destination": "q",
            "destination_type": "queue",
            "routing_key": "10",
            "arguments": {},
        },
    ],
}


def _topology(document: dict[str, Any]) -> dict[str, list[str]]:
    sections = ("vhosts", "policies", "queues", "exchanges", "bindings")
    return {name: sorted(json.dumps(row, sort_keys=True) for row in document[name]) for name in sections}


def test_a_topology_moves_over_in_one_command(
    gateway: GatewayProcess, api: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "rabbit.json"
    file.write_text(json.dumps(DEFINITIONS))
    done = run("definitions", "import", str(file), "--url", gateway.url)
    assert done.returncode == 0, done.stderr
    assert "queues: 2" in done.stdout
    assert "users (1): take them over with" in done.stdout
    exported = api.get("/definitions").json()
    assert _topology(exported) == _topology(DEFINITIONS)
    assert api.get("/queues/shop/q").json()["effective_policy_definition"]["message-ttl"] == 60000
    again = run("definitions", "import", str(file), "--url", gateway.url)
    assert again.returncode == 0, again.stderr
    out = tmp_path / "out.json"
    assert run("definitions", "export", str(out), "--url", gateway.url).returncode == 0
    assert _topology(json.loads(out.read_text())) == _topology(DEFINITIONS)
    gateway.kill()
    gateway.start()
    assert _topology(httpx.get(f"{gateway.url}/api/definitions").json()) == _topology(DEFINITIONS)
    other = {**DEFINITIONS, "queues": [{"name": "q", "vhost": "shop", "durable": True, "arguments": {}}]}
    file.write_text(json.dumps(other))
    refused = run("definitions", "import", str(file), "--url", gateway.url)
    assert refused.returncode != 0
    assert "x-max-length" in refused.stderr


def test_only_managers_may_look(make_gateway: Any, tmp_path: Path) -> None:
    from gateway.auth.hashes import hash_password

    config = tmp_path / "gateway.toml"
    users = f'[users.boss]\npassword = "{hash_password("b")}"\nadmin = true\n'
    users += f'[users.app]\npassword = "{hash_password("a")}"\npublish = ["#"]\n'
    config.write_text(users)
    gateway = make_gateway(dev=False, config=config).start()
    assert httpx.get(f"{gateway.url}/api/overview").status_code == 401
    assert httpx.get(f"{gateway.url}/api/overview", auth=("app", "a")).status_code == 403
    assert httpx.put(f"{gateway.url}/api/queues/{V}/q", auth=("app", "a"), json={}).status_code == 403
    assert httpx.get(f"{gateway.url}/api/overview", auth=("boss", "b")).status_code == 200
    assert httpx.get(f"{gateway.url}/api/users", auth=("boss", "b")).json()[0]["tags"] == ["administrator"]


def _admin(gateway: GatewayProcess, *arguments: str) -> str:
    command = [
        sys.executable,
        executable("rabbitmqadmin"),
        "-H",
        "127.0.0.1",
        "-P",
        str(gateway.http_port),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rabbitmqadmin(gateway: GatewayProcess, tmp_path: Path) -> None:
    assert "exchange declared" in _admin(gateway, "declare", "exchange", "name=x", "type=topic")
    assert "queue declared" in _admin(gateway, "declare", "queue", "name=q", "durable=true")
    assert "binding declared" in _admin(
        gateway, "declare", "binding", "source=x", "destination=q", "routing_key=a.#"
    )
    policy = 'definition={"max-length": 5}'
    assert "policy declared" in _admin(gateway, "declare", "policy", "name=p", "pattern=.*", policy)
    assert "Message published" in _admin(gateway, "publish", "exchange=x", "routing_key=a.b", "payload=hello")
    assert "hello" in _admin(gateway, "get", "queue=q", "ackmode=ack_requeue_false")
    assert "x" in _admin(gateway, "list", "exchanges", "name", "type")
    assert "a.#" in _admin(gateway, "list", "bindings")
    for what in ("connections", "channels", "consumers", "nodes", "vhosts", "policies"):
        _admin(gateway, "list", what)
    _admin(gateway, "show", "overview")
    file = tmp_path / "definitions.json"
    _admin(gateway, "export", str(file))
    assert [queue["name"] for queue in json.loads(file.read_text())["queues"]] == ["q"]
    assert "queue deleted" in _admin(gateway, "delete", "queue", "name=q")
    _admin(gateway, "import", str(file))
    assert "q" in _admin(gateway, "list", "queues", "name", "messages")
