"""Whoever takes more than it may is told so in its protocol's own words, or is made to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pamqp import commands
from websockets.sync.client import connect

from gateway.protocols.coap.numbers import MAX_AGE, POST, uint
from gateway.protocols.mqtt.encoder import PINGREQ, encode_publish
from gateway.protocols.mqtt.packets import V5, V311, Connack, Pingresp, Puback, Pubrec, Suback
from gateway.protocols.mqtt.reasons import Reason
from tests.access.guarded import Guarded, password_of, wait_for
from tests.coap_client import CoapClient

EXCEEDED = 0x97
NAMES = ("fast", "many", "few", "keep", "dec", "old", "rabbit", "plain")
QUOTAS = """
[quotas.slow]
subject = "user:fast"
publish_rate = 2
[quotas.two]
subject = "user:many"
connections = 2
[quotas.subs]
subject = "user:few"
scope = "client"
subscriptions = 1
[quotas.kept]
subject = "user:keep"
retained = 1
[quotas.made]
subject = "user:dec"
queues = 1
[quotas.wait]
subject = "user:old"
publish_rate = 20
[quotas.hold]
subject = "user:rabbit"
publish_rate = 20
[quotas.bytes]
subject = "user:plain"
publish_bytes = 10
"""


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    made = shared(*NAMES, settings=QUOTAS)
    made.rule("all", "authenticated", "all", "topic:#", "queue:*")
    return made


@pytest.fixture(autouse=True)
def told(gateway: Guarded, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test exceeds is seen in the metrics."""
    names = {"quota": "", "limit": "", **getattr(request, "param", {})}
    sample = f'gateway_quota_exceeded_total{{limit="{names["limit"]}",quota="{names["quota"]}"}}'
    before = gateway.metric(sample) if names["quota"] else 0
    yield
    if names["quota"]:
        assert gateway.metric(sample) > before


def exceeds(quota: str, limit: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("told", [{"quota": quota, "limit": limit}], indirect=True)


def connack(gateway: Guarded, client_id: str, user: str, version: int = V5) -> Connack:
    client = gateway.mqtt(client_id, user, version)
    if not client.connack.reason:
        client.close()
    return client.connack


@exceeds("slow", "publish_rate")
def test_mqtt_5_is_told_with_each_message(gateway: Guarded) -> None:
    client = gateway.mqtt("c", "fast")
    for number in range(1, 6):
        client.publish("t", b"x", 1, number)
    acks = [client.expect(Puback) for _ in range(5)]
    assert [ack.packet_id for ack in acks] == [1, 2, 3, 4, 5]
    refused = [ack for ack in acks if ack.reason == EXCEEDED]
    assert len(refused) >= 2
    assert all("(quota 'slow')" in str(ack.properties["reason_string"]) for ack in refused)
    client.publish("t", b"x", 2, 9)
    assert client.expect(Pubrec).reason == EXCEEDED
    answer = gateway.publish("t", "x", "fast")
    assert answer.status_code == 429, "HTTP draws on the same bucket"
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert answer.json()["type"].endswith("quota-exceeded")
    assert "(quota 'slow')" in answer.json()["detail"]
    client.close()


@exceeds("slow", "publish_rate")
def test_coap_is_told_when_to_try_again(gateway: Guarded) -> None:
    login = ["username=fast", f"password={password_of('fast')}"]
    with CoapClient(gateway.coap_port) as client:
        answers = [client.request(POST, "ps/t", b"x", login) for _ in range(6)]
        refused = [answer for answer in answers if answer.code == "4.29"]
        assert len(refused) >= 2
        assert uint(refused[0].option(MAX_AGE) or b"") >= 1
        assert b"(quota 'slow')" in refused[0].payload


@exceeds("subs", "subscriptions")
def test_observations_are_subscriptions_to_a_quota(gateway: Guarded) -> None:
    login = ["username=few", f"password={password_of('few')}"]
    with CoapClient(gateway.coap_port) as client:
        first = client.observe("ps/a", login)
        assert first.code == "2.05"
        assert client.observe("ps/b", login).code == "4.29"
        client.observe("ps/a", login, token=first.token, register=1)
        again = client.observe("ps/b", login)
        assert again.code == "2.05", "there is room again"
        client.observe("ps/b", login, token=again.token, register=1)


@exceeds("two", "connections")
def test_connections(gateway: Guarded) -> None:
    first = gateway.mqtt("c1", "many")
    second = gateway.mqtt("c2", "many", V311)
    refused = connack(gateway, "c3", "many")
    assert refused.reason == EXCEEDED
    assert "has 2 connections" in str(refused.properties["reason_string"])
    assert connack(gateway, "c3", "many", V311).reason == Reason.SERVER_UNAVAILABLE, "3.1.1's code 3"
    assert gateway.publish("t", "x", "many").status_code == 429
    amqp = gateway.amqp("many", open=False)
    close = amqp.expect(commands.Connection.Close)
    assert close.reply_code == 506
    assert "has 2 connections" in close.reply_text
    login = f"many:{password_of('many')}"
    with pytest.raises(Exception, match="429"):
        with connect(f"ws://{login}@127.0.0.1:{gateway.http_port}/v1/ws"):
            pass
    first.close()
    wait_for(lambda: connack(gateway, "c3", "many").reason == 0, what="a free place")
    second.close()


@exceeds("subs", "subscriptions")
def test_subscriptions(gateway: Guarded) -> None:
    client = gateway.mqtt("c", "few")
    assert client.subscribe("a", "b") == [1, EXCEEDED]
    client.subscribe("c")
    kept = gateway.mqtt("kept", "few", clean=False, properties={"session_expiry_interval": 60})
    assert kept.subscribe("a") == [1]
    kept.close()
    kept = gateway.mqtt("kept", "few", clean=False, properties={"session_expiry_interval": 60})
    assert kept.connack.session_present, "as many as it may is not too many"
    old = gateway.mqtt("d", "few", V311)
    assert old.subscribe("a", "b") == [1, 0x80]
    for each in (client, old, kept):
        each.close()
    amqp = gateway.amqp("few")
    for number in range(2):
        amqp.call(commands.Queue.Declare(queue=f"sub{number}"), commands.Queue.DeclareOk)
    amqp.call(commands.Basic.Consume(queue="sub0"), commands.Basic.ConsumeOk)
    close = amqp.call(commands.Basic.Consume(queue="sub1"), commands.Connection.Close)
    assert close.reply_code == 506
    assert "has 1 subscriptions" in close.reply_text


def test_the_suback_says_why(gateway: Guarded) -> None:
    client = gateway.mqtt("e", "few")
    client.subscribe("a")
    assert client.subscribe("b") == [EXCEEDED]
    client.send(bytes.fromhex("8207000200000163") + b"\x01")
    suback = client.expect(Suback)
    assert suback.reasons == [EXCEEDED]
    assert "(quota 'subs')" in str(suback.properties["reason_string"])
    client.close()


@exceeds("kept", "retained")
def test_retained_messages(gateway: Guarded) -> None:
    client = gateway.mqtt("c", "keep")
    for number, (topic, body, reason) in enumerate(
        [("k/1", b"x", 0), ("k/1", b"y", 0), ("k/2", b"x", EXCEEDED), ("k/1", b"", 0), ("k/2", b"x", 0)], 1
    ):
        client.publish(topic, body, 1, number, retain=True)
        assert client.expect(Puback).reason in ((reason,) if reason else (0, 0x10)), topic
    client.close()


@exceeds("made", "queues")
def test_queues(gateway: Guarded) -> None:
    assert gateway.ask("PUT", "/v1/queues/d1", "dec", json={}).status_code == 201
    assert gateway.ask("PUT", "/v1/queues/d1", "dec", json={}).status_code == 200
    assert gateway.ask("PUT", "/v1/queues/d2", "dec", json={}).status_code == 429
    assert gateway.ask("PUT", "/api/queues/%2F/d2", "dec", json={}).status_code in (429, 400)
    amqp = gateway.amqp("dec")
    amqp.call(commands.Queue.Declare(queue="d1", durable=True), commands.Queue.DeclareOk)
    close = amqp.call(commands.Queue.Declare(queue="d2"), commands.Connection.Close)
    assert close.reply_code == 506
    assert "has 1 queues" in close.reply_text
    assert gateway.ask("DELETE", "/v1/queues/d1", "dec").status_code == 204
    assert gateway.ask("PUT", "/v1/queues/d2", "dec", json={}).status_code == 201


# -- those that have no words for it are made to wait ----------------------------------------------


@exceeds("wait", "publish_rate")
def test_mqtt_3_is_slowed_down_and_loses_nothing(gateway: Guarded) -> None:
    """60 messages at 20 a second: it waits for two seconds, longer than its keep alive allows."""
    watcher = gateway.mqtt("watcher")
    watcher.subscribe("old/#")
    client = gateway.mqtt("old", "old", V311, keep_alive=1)
    batch = [encode_publish(V311, b"old/t", b"%d" % n, 1, False, False, n + 1) for n in range(60)]
    client.send(b"".join(batch))
    client.send(PINGREQ)
    acks = [client.expect(Puback, 20) for _ in range(60)]
    assert [ack.packet_id for ack in acks] == list(range(1, 61))
    client.expect(Pingresp)
    client.publish_stored("old/t", b"60", 61)
    assert [watcher.receive().payload for _ in range(61)] == [b"%d" % n for n in range(61)]
    client.close()
    watcher.close()


@exceeds("hold", "publish_rate")
def test_amqp_is_blocked_and_unblocked_and_loses_nothing(gateway: Guarded) -> None:
    amqp = gateway.amqp("rabbit")
    amqp.call(commands.Queue.Declare(queue="held"), commands.Queue.DeclareOk)
    amqp.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    for number in range(40):
        amqp.publish("", "held", b"%d" % number)
    blocked = amqp.expect(commands.Connection.Blocked)
    assert blocked.reason == "this client publishes faster than it may"
    amqp.expect(commands.Connection.Unblocked)
    confirmed = [found for found in amqp.seen if isinstance(found, commands.Basic.Ack)]
    while not any(ack.delivery_tag == 40 for ack in confirmed):
        confirmed.append(amqp.expect(commands.Basic.Ack))
    assert gateway.get("/v1/queues/held")["depth"] == 40
    assert not [found for found in amqp.seen if isinstance(found, commands.Basic.Nack)]
    amqp.close()


def test_amqp_without_the_word_for_it_is_only_held_back(gateway: Guarded) -> None:
    amqp = gateway.amqp("rabbit", capabilities={})
    amqp.call(commands.Queue.Declare(queue="held2"), commands.Queue.DeclareOk)
    for number in range(25):
        amqp.publish("", "held2", b"%d" % number)
    found = amqp.call(commands.Queue.Declare(queue="held2", passive=True), commands.Queue.DeclareOk)
    assert found.message_count == 25
    assert amqp.seen == []
    amqp.close()


@exceeds("bytes", "publish_rate")
def test_bytes(gateway: Guarded) -> None:
    assert gateway.publish("t", "x" * 500, "plain").status_code == 200
    answer = gateway.publish("t", "x", "plain")
    assert answer.status_code == 429
    assert 45 <= int(answer.headers["retry-after"]) <= 50
    with connect(
        f"ws://plain:{password_of('plain')}@127.0.0.1:{gateway.http_port}/v1/ws", close_timeout=1
    ) as socket:
        socket.send('{"op":"publish","topic":"t","body":"x"}')
        assert '"status":429' in str(socket.recv(timeout=10))


# -- while it runs ---------------------------------------------------------------------------------


def test_a_limit_that_is_set_holds_for_who_is_connected_and_one_that_is_removed_does_not(
    gateway: Guarded,
) -> None:
    gateway.user("late")
    client = gateway.mqtt("late", "late")
    assert client.publish_stored("t", b"x") != EXCEEDED
    gateway.quota("now", "user:late", publish_rate=0.001)
    reasons = [client.publish_stored("t", b"x") for _ in range(3)]
    assert EXCEEDED not in reasons[:1]
    assert reasons[1:] == [EXCEEDED, EXCEEDED]
    shown = gateway.get("/v1/admin/quotas")
    assert {"quota": "now", "limit": "publish_rate", "count": 2} in shown["exceeded"]
    gateway.delete("/v1/admin/quotas/now")
    assert client.publish_stored("t", b"x") != EXCEEDED
    client.close()


def test_administrators_are_not_limited(gateway: Guarded) -> None:
    gateway.quota("everybody", "everyone", connections=1, publish_rate=0.001)
    clients = [gateway.mqtt(f"root{number}") for number in range(3)]
    assert EXCEEDED not in [client.publish_stored("t", b"x") for client in clients * 2]
    gateway.delete("/v1/admin/quotas/everybody")
    for client in clients:
        client.close()


def test_a_kept_http_login_that_has_ended_is_not_one_connection_too_many(gateway: Guarded) -> None:
    """A quota of one connection, and the session that HTTP keeps for a login."""
    gateway.user("one")
    gateway.quota("single", "user:one", connections=1)
    assert gateway.publish("t", "x", "one").status_code == 200
    gateway.user("one")  # changed: its sessions end
    assert gateway.publish("t", "x", "one").status_code == 200
    assert isinstance(connack(gateway, "one", "one"), Connack)
