"""Rules that change while clients are connected: what was allowed is refused next, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pamqp import commands
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.protocols.mqtt.packets import V311, Disconnect
from gateway.protocols.mqtt.reasons import Reason
from tests.access.guarded import Guarded, password_of, wait_for
from tests.mqtt_client import MqttClient

KEPT = {"session_expiry_interval": 600}
DENIED = Reason.NOT_AUTHORIZED


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    made = shared("ann", "bob")
    made.rule("base", "user:*", ["publish", "subscribe", "consume", "manage"], "topic:#", "queue:*")
    for rule in made.get("/v1/admin/rules")["rules"]:
        if rule["id"] != "base":
            made.delete(f"/v1/admin/rules/{rule['id']}")
    return made


def forbid(gateway: Guarded, action: str, resource: str, name: str = "no") -> None:
    gateway.rule(name, "user:ann", action, resource, decision="deny")


def test_a_publish_that_was_allowed_is_refused_next_and_allowed_again(gateway: Guarded) -> None:
    client, old = gateway.mqtt("p", "ann"), gateway.mqtt("p3", "ann", V311)
    watcher = gateway.mqtt("w")
    watcher.subscribe("p/#")
    for turn in range(2):
        assert client.publish_stored("p/t", b"5") == 0
        assert old.publish_stored("p/t", b"3") == 0
        assert gateway.publish("p/t", "h", "ann").status_code == 200
        forbid(gateway, "publish", "topic:p/#")
        assert client.publish_stored("p/t", b"bad") == DENIED
        old.publish("p/t", b"bad", 1, 2)
        old.publish("p/t", b"bad", 0)
        answer = gateway.publish("p/t", "bad", "ann")
        assert (answer.status_code, answer.json()["rule"]) == (403, "no")
        gateway.delete("/v1/admin/rules/no")
        assert [watcher.receive().payload for _ in range(3)] == [b"5", b"3", b"h"], turn
    for each in (client, old, watcher):
        each.close()


def test_a_live_subscription_is_given_up_and_its_client_told_why(gateway: Guarded) -> None:
    five, old, other = gateway.mqtt("s5", "ann"), gateway.mqtt("s3", "ann", V311), gateway.mqtt("sb", "bob")
    for client in (five, old, other):
        client.subscribe("s/#", "t")
    with (
        connect(
            f"ws://ann:{password_of('ann')}@127.0.0.1:{gateway.http_port}/v1/ws", close_timeout=1
        ) as socket,
        httpx.stream(
            "GET",
            f"{gateway.url}/v1/subscribe?filter=s/1",
            auth=("ann", password_of("ann")),
            timeout=10,
        ) as events,
    ):
        socket.send('{"op":"subscribe","filter":"s/1","id":1}')
        assert '"id":1' in str(socket.recv(timeout=10))
        lines = events.iter_lines()
        assert next(lines).startswith("retry")
        forbid(gateway, "subscribe", "topic:s/1")
        goodbye = five.expect(Disconnect)
        assert goodbye.reason == DENIED
        assert goodbye.properties["reason_string"] == "ann may not subscribe 's/#': rule 'no' denies it"
        assert old.closed_by_peer()
        assert "rule 'no' denies it" in str(socket.recv(timeout=10))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert not [line for line in lines if line.startswith("data")], "the stream ends"
    gateway.publish("s/1", "x")
    assert other.receive().payload == b"x"
    other.close()


def test_a_subscription_that_is_still_allowed_stays(gateway: Guarded) -> None:
    client = gateway.mqtt("stay", "ann")
    client.subscribe("stay/#")
    forbid(gateway, "subscribe", "topic:elsewhere/#")
    forbid(gateway, "publish", "topic:stay/#", "no2")
    gateway.publish("stay/1", "x")
    assert client.receive().payload == b"x"
    client.close()


@pytest.mark.parametrize("topic_filter", ["$share/g/m/+", "$queue/jobs"])
def test_shared_and_queue_subscriptions_are_given_up_too(gateway: Guarded, topic_filter: str) -> None:
    gateway.put("/v1/queues/jobs", {})
    client = gateway.mqtt("m", "ann")
    assert client.subscribe(topic_filter) == [1]
    if topic_filter.startswith("$queue"):
        forbid(gateway, "consume", "queue:jobs")
    else:
        forbid(gateway, "subscribe", "topic:m/#")
    goodbye = client.expect(Disconnect)
    assert goodbye.reason == DENIED
    assert "rule 'no' denies it" in str(goodbye.properties["reason_string"])


def test_an_amqp_consumer_is_cancelled_and_its_connection_stays(gateway: Guarded) -> None:
    gateway.put("/v1/queues/work", {})
    amqp = gateway.amqp("ann")
    tag = amqp.call(commands.Basic.Consume(queue="work"), commands.Basic.ConsumeOk).consumer_tag
    amqp.publish("", "work", b"held")
    amqp.expect(commands.Basic.Deliver)
    forbid(gateway, "consume", "queue:work")
    assert amqp.expect(commands.Basic.Cancel).consumer_tag == tag
    amqp.call(commands.Queue.Declare(queue="mine", exclusive=True), commands.Queue.DeclareOk)
    amqp.send(commands.Basic.Consume(queue="work"))
    close = amqp.receive()
    assert isinstance(close, commands.Channel.Close), "not a consume-ok first"
    assert close.reply_code == 403
    assert "rule 'no' denies it" in close.reply_text
    amqp.close()
    wait_for(lambda: gateway.get("/v1/queues/work")["depth"] == 1, what="what it held to be given back")


def test_an_amqp_publish_is_refused_next(gateway: Guarded) -> None:
    amqp = gateway.amqp("ann")
    amqp.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    amqp.publish("amq.topic", "a.b", b"x")
    amqp.expect(commands.Basic.Ack)
    forbid(gateway, "publish", "topic:#")
    amqp.publish("amq.topic", "a.b", b"x")
    close = amqp.expect(commands.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (403, 60, 40)
    assert "rule 'no' denies it" in close.reply_text
    amqp.close()


# -- sessions that are away ------------------------------------------------------------------------


def away(gateway: Guarded, client_id: str, *filters: str) -> None:
    client = gateway.mqtt(client_id, "ann", clean=True, properties=KEPT)
    assert client.subscribe(*filters) == [1] * len(filters)
    client.close()
    wait_for(lambda: not connected(gateway, client_id), what="the gateway to notice")


def connected(gateway: Guarded, client_id: str) -> bool:
    found = gateway.get("/v1/queues/%24session%2F" + client_id)
    return any(group["consumers"] for group in found["groups"])


def back(gateway: Guarded, client_id: str) -> MqttClient:
    return gateway.mqtt(client_id, "ann", clean=False, properties=KEPT)


def test_a_kept_session_whose_filters_are_not_allowed_any_more_is_not_resumed(gateway: Guarded) -> None:
    away(gateway, "kept", "k/secret", "k/open")
    gateway.publish("k/secret", "not for ann", params={"qos": 1})
    forbid(gateway, "subscribe", "topic:k/secret")
    client = back(gateway, "kept")
    assert not client.connack.session_present
    assert client.subscribe("k/open") == [1]
    gateway.publish("k/open", "fresh", params={"qos": 1})
    assert client.receive().payload == b"fresh", "and nothing before"
    client.close()


def test_a_kept_session_that_is_still_allowed_is_resumed(gateway: Guarded) -> None:
    away(gateway, "still", "k/open")
    gateway.publish("k/open", "waits", params={"qos": 1})
    forbid(gateway, "subscribe", "topic:k/secret")
    client = back(gateway, "still")
    assert client.connack.session_present
    assert client.receive().payload == b"waits"
    client.close()


def test_a_kept_shared_subscription_that_is_not_allowed_any_more_is_left_out(gateway: Guarded) -> None:
    away(gateway, "sharer", "$share/g/k/both", "k/own")
    gateway.publish("k/both", "not for ann", params={"qos": 1})
    forbid(gateway, "subscribe", "topic:k/both")
    client = back(gateway, "sharer")
    gateway.publish("k/own", "mine", params={"qos": 1})
    assert client.receive().payload == b"mine"
    client.close()


# -- the file --------------------------------------------------------------------------------------

FILE = '[[rules]]\nid = "filed"\nsubject = "user:ann"\nactions = "publish"\nresources = "topic:{}"\n'


def test_a_file_of_rules_is_read_again_and_what_it_says_is_changed_there_only(
    guard: Callable[..., Guarded], tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(FILE.format("a"))
    gateway = guard("ann", settings=f'[auth]\nrules = "{path}"\n')
    client = gateway.mqtt("c", "ann")
    assert [client.publish_stored(topic, b"x") == DENIED for topic in ("a", "b")] == [False, True]
    path.write_text(FILE.format("b"))
    assert gateway.ask("POST", "/v1/admin/rules-file", json={}).json() == {"rules": 1}
    assert [client.publish_stored(topic, b"x") == DENIED for topic in ("a", "b")] == [True, False]
    path.write_text(FILE.format("a") + "nonsense")
    answer = gateway.ask("POST", "/v1/admin/rules-file", json={})
    assert answer.status_code == 422
    assert "not valid TOML" in answer.json()["detail"]
    assert client.publish_stored("b", b"x") != DENIED, "all is as it was"
    fields: dict[str, Any] = {"subject": "everyone", "actions": "all", "resources": "topic:#"}
    for method, body in (("PUT", fields), ("DELETE", None)):
        answer = gateway.ask(method, "/v1/admin/rules/filed", json=body)
        assert answer.status_code == 409
        assert f"is in {path}; change it there" in answer.json()["detail"]
    many = {"rules": [{"id": "new", **fields}, {"id": "filed", **fields}]}
    assert gateway.ask("POST", "/v1/admin/rules", json=many).status_code == 409
    assert [rule["id"] for rule in gateway.get("/v1/admin/rules")["rules"]] == ["filed"]
    gateway.rule("other", "user:ann", "publish", "topic:c")
    path.write_text(FILE.format("b") + FILE.format("c").replace("filed", "other"))
    answer = gateway.ask("POST", "/v1/admin/rules-file", json={})
    assert answer.status_code == 409
    assert "is in the metadata store, too" in answer.json()["detail"]
    client.close()


def test_without_a_file_there_is_nothing_to_read_again(gateway: Guarded) -> None:
    assert gateway.ask("POST", "/v1/admin/rules-file", json={}).status_code == 404
