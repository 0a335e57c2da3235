"""Transactions from every door, with stock clients: unseen before the commit, whole after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError

from gateway.rocketmq.numbers import Code, MessageType, TransactionResolution
from tests.interop.paho_client import V5, V311, PahoClient, publish_properties
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket

QUEUES = {"orders": "orders/#", "bills": "bills/#"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    sets = ("transactions.check_interval_seconds=0.2", "transactions.checks_max=3")
    process = RocketGateway(tmp_path_factory.mktemp("transactions") / "data", sets)
    process.start()
    for name, topic_filter in QUEUES.items():
        httpx.put(f"{process.url}/v1/queues/{name}", json={"bindings": [topic_filter]}).raise_for_status()
    small = {"policy": {"max_length": 1, "overflow": "reject"}, "bindings": ["small/#"]}
    httpx.put(f"{process.url}/v1/queues/small", json=small).raise_for_status()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def amqp(gateway: RocketGateway) -> Iterator[Any]:
    connection = pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", gateway.amqp_port, socket_timeout=10)
    )
    yield connection
    with suppress(AMQPError):
        connection.close()


def taken(gateway: RocketGateway, queue: str) -> list[str]:
    """Consume what waits in a queue by HTTP; return the bodies."""
    found = httpx.post(f"{gateway.url}/v1/queues/{queue}/receive?max=100&wait=0").json()["deliveries"]
    for delivery in found:
        httpx.post(f"{gateway.url}/v1/deliveries/{delivery['id']}/ack").raise_for_status()
    return [delivery["body"] for delivery in found]


def taken_by_amqp(connection: Any, queue: str) -> list[bytes]:
    """The same by basic.get."""
    channel, found = connection.channel(), []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            channel.close()
            return found
        found.append(body)


def state(gateway: RocketGateway, id: str, principal: str = "") -> Any:
    found = httpx.get(f"{gateway.url}/v1/transactions/{id}", params={"principal": principal})
    return found.json().get("state")


@pytest.mark.parametrize("version", [V311, V5])
def test_mqtt_commits_to_amqp_and_http(gateway: RocketGateway, amqp: Any, version: int) -> None:
    id = f"mqtt-{version}"
    with PahoClient(id, version).open(gateway.mqtt_port) as client:
        assert client.publish(f"$transaction/{id}/publish/orders/eu", b"an order") == 0
        assert client.publish(f"$transaction/{id}/publish/bills/eu", b"a bill", qos=2) == 0
        assert (taken(gateway, "orders"), taken_by_amqp(amqp, "bills")) == ([], [])
        assert client.publish(f"$transaction/{id}/commit", b"") == 0
        assert (taken(gateway, "orders"), taken_by_amqp(amqp, "bills")) == (["an order"], [b"a bill"])
        assert client.publish(f"$transaction/{id}/commit", b"") == 0
        assert taken(gateway, "orders") == []


def test_mqtt_5_is_told_what_was_refused(gateway: RocketGateway) -> None:
    with PahoClient("refused").open(gateway.mqtt_port) as client:
        assert client.publish("$transaction/never/commit", b"") == 0x83
        assert client.publish("$transaction/a b/commit", b"") == 0x83
        assert client.publish("$transaction/x/publish", b"") == 0x90
        assert client.publish("$transaction/x/publish/$sys/a", b"") == 0x87
        for topic in ("small/1", "small/2"):
            client.publish(f"$transaction/full/publish/{topic}", b"")
        assert client.publish("$transaction/full/commit", b"") == 0x97
        assert state(gateway, "full") == "open"
        assert client.publish("$transaction/full/rollback", b"") == 0
        assert client.publish("$transaction/full/commit", b"") == 0x83


def test_mqtt_3_is_never_told_that_a_refused_commit_is_done(gateway: RocketGateway) -> None:
    client = PahoClient("old", V311).open(gateway.mqtt_port)
    client.client.publish("$transaction/never-begun/commit", b"", 1)
    client.disconnected.get(timeout=10)
    assert not client._published
    client.close()


def test_amqp_commits_through_the_topic_exchange(gateway: RocketGateway, amqp: Any) -> None:
    channel = amqp.channel()
    channel.confirm_delivery()
    for key, body in (("orders.eu", b"1"), ("bills.eu", b"2"), ("$queue.orders", b"3")):
        channel.basic_publish(
            "amq.topic",
            f"$transaction.amqp.publish.{key}",
            body,
            pika.BasicProperties(headers={"a": 1}, delivery_mode=2),
            mandatory=True,
        )
    assert taken(gateway, "orders") == []
    channel.basic_publish("amq.topic", "$transaction.amqp.commit", b"", mandatory=True)
    method, about, body = channel.basic_get("bills", auto_ack=True)
    assert (method.exchange, method.routing_key) == ("amq.topic", "bills.eu")
    assert (about.headers, body) == ({"a": 1}, b"2")
    assert taken(gateway, "orders") == ["1", "3"]


def test_amqp_is_told_what_was_refused(gateway: RocketGateway, amqp: Any) -> None:
    channel = amqp.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "$transaction.full-2.publish.small.1", b"")
    channel.basic_publish("amq.topic", "$transaction.full-2.publish.small.2", b"")
    with pytest.raises(NackError):
        channel.basic_publish("amq.topic", "$transaction.full-2.commit", b"")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("amq.topic", "$transaction.nothing.commit", b"")
    assert closed.value.reply_code == 404
    channel = amqp.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "$transaction.full-2.rollback", b"")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("amq.topic", "$transaction.full-2.commit", b"")
    assert closed.value.reply_code == 406


def test_amqps_own_transactions_do_not_mix_with_these(gateway: RocketGateway, amqp: Any) -> None:
    channel = amqp.channel()
    channel.tx_select()
    channel.basic_publish("amq.topic", "$transaction.mixed.publish.orders.a", b"")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.tx_commit()  # or before
    assert closed.value.reply_code == 403


def test_http_begins_adds_looks_and_commits(gateway: RocketGateway) -> None:
    url = f"{gateway.url}/v1/transactions"
    made = httpx.post(url, json={"immunity": 100})
    assert made.status_code == 201
    id = made.json()["id"]
    assert made.json()["next_check_ms"] - made.json()["begun_ms"] == 100_000
    sent = httpx.post(f"{url}/{id}/topics/orders/a%20b?key=k", content=b"web", headers={"X-Message-Id": "m"})
    assert (sent.status_code, sent.json()["id"]) == (200, "m")
    found = httpx.get(f"{url}/{id}").json()
    (content,) = found["contents"]
    assert {name: content[name] for name in ("topic", "message_id", "key", "bytes")} == {
        "topic": "orders/a b",
        "message_id": "m",
        "key": "k",
        "bytes": 3,
    }
    listed = httpx.get(url, params={"state": "open", "limit": 1000}).json()["transactions"]
    assert id in [each["id"] for each in listed]
    assert taken(gateway, "orders") == []
    for _ in range(2):
        ended = httpx.post(f"{url}/{id}/commit")
        assert (ended.status_code, ended.json()["state"]) == (200, "committed")
    assert taken(gateway, "orders") == ["web"]
    assert httpx.post(f"{url}/{id}/rollback").status_code == 409
    assert httpx.post(f"{url}/{id}/topics/orders/a", content=b"late").status_code == 409


def ended_by_rocketmq(client: RawRocket, id: str, resolution: TransactionResolution) -> int:
    fields = {"topic": {"name": "orders%2Feu"}, "transaction_id": id, "resolution": resolution, "source": 1}
    return client.code("EndTransaction", **fields)


def test_rocketmq_begins_what_http_commits(gateway: RocketGateway) -> None:
    with RawRocket(gateway.endpoints) as client:
        (entry,) = client.send("orders%2Feu", b"half", message_type=MessageType.TRANSACTION).entries
        id = entry.transaction_id
        assert (entry.status.code, taken(gateway, "orders")) == (Code.OK, [])
        (content,) = httpx.get(f"{gateway.url}/v1/transactions/{id}").json()["contents"]
        assert (content["topic"], content["message_id"]) == ("orders/eu", entry.message_id)
        assert httpx.post(f"{gateway.url}/v1/transactions/{id}/commit").status_code == 200
        assert taken(gateway, "orders") == ["half"]
        assert ended_by_rocketmq(client, id, TransactionResolution.COMMIT) == Code.OK
        assert ended_by_rocketmq(client, id, TransactionResolution.ROLLBACK) == Code.PRECONDITION_FAILED


@pytest.mark.parametrize("resolution", [TransactionResolution.COMMIT, TransactionResolution.ROLLBACK])
def test_mqtt_begins_what_rocketmq_ends(gateway: RocketGateway, resolution: TransactionResolution) -> None:
    id = f"to-rocketmq-{resolution}"
    with RawRocket(gateway.endpoints) as client, PahoClient(id).open(gateway.mqtt_port) as device:
        assert device.publish(f"$transaction/{id}/publish/orders/eu", b"from mqtt") == 0
        assert ended_by_rocketmq(client, id, resolution) == Code.OK
        wanted = ["from mqtt"] if resolution == TransactionResolution.COMMIT else []
        assert taken(gateway, "orders") == wanted


BAD = [
    ("POST", "", b"{", 422),
    ("POST", "", b"[]", 422),
    ("POST", "", b'{"id": "a/b"}', 422),
    ("POST", "", b'{"id": 1}', 422),
    ("POST", "", b'{"id": ""}', 422),
    ("POST", "", b'{"immunity": -1}', 422),
    ("POST", "", b'{"reply_to": "a/#"}', 400),
    ("POST", "", b'{"reply_to": "$sys/a"}', 403),
    ("POST", "", b'{"what": 1}', 422),
    ("POST", "/unknown/commit", b"", 404),
    ("POST", "/unknown/rollback", b"", 404),
    ("POST", "/unknown/commit", b'{"x": 1}', 422),
    ("POST", "/unknown/explode", b"", 404),
    ("GET", "/unknown", b"", 404),
    ("GET", "/unknown?principal=somebody", b"", 404),
    ("GET", "/%2e%2e", b"", 422),
    ("GET", "?state=half", b"", 422),
    ("GET", "?limit=x", b"", 422),
    ("GET", "?limit=1001", b"", 422),
    ("GET", "?after=-1", b"", 422),
    ("GET", "?after=" + "9" * 5000, b"", 422),
    ("POST", "/a%2Fb/topics/orders/x", b"", 422),
    ("POST", "/a+b/topics/orders/x", b"", 422),
    ("POST", "/a/topics/", b"", 400),
    ("POST", "/a/topics/a%00b", b"", 400),
    ("POST", "/a/topics/$transaction/b/commit", b"", 403),
    ("DELETE", "/unknown", b"", 405),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_bad_requests(gateway: RocketGateway, method: str, path: str, body: bytes, status: int) -> None:
    answer = httpx.request(method, f"{gateway.url}/v1/transactions{path}", content=body)
    assert answer.status_code == status, answer.text


def test_listings_have_pages(gateway: RocketGateway) -> None:
    url = f"{gateway.url}/v1/transactions"
    ids = [f"page-{number}" for number in range(5)]
    for id in ids:
        httpx.post(url, json={"id": id}).raise_for_status()
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        answer = httpx.get(url, params={"limit": 2, "after": after, "state": "open"}).json()
        assert len(answer["transactions"]) <= 2
        found += [each["id"] for each in answer["transactions"]]
        after = answer["next"]
    assert [id for id in found if id in ids] == ids
    for id in ids:
        httpx.post(f"{url}/{id}/rollback").raise_for_status()


def test_a_question_reaches_an_mqtt_producer_which_answers(gateway: RocketGateway) -> None:
    with PahoClient("asked").open(gateway.mqtt_port) as client:
        client.subscribe("asked/checks", 1)
        begin = json.dumps({"immunity": 0.05, "reply_to": "asked/checks"})
        assert client.publish("$transaction/asked/begin", begin) == 0
        assert client.publish("$transaction/asked/publish/orders/asked", b"asked for") == 0
        question = client.receive()
        about = dict(question.properties.UserProperty)  # type: ignore[union-attr]
        assert (about["transaction-id"], json.loads(question.payload)["id"]) == ("asked", "asked")
        assert client.publish(f"$transaction/{about['transaction-id']}/commit", b"") == 0
    assert taken(gateway, "orders") == ["asked for"]


def test_a_question_reaches_an_amqp_producer_which_answers(gateway: RocketGateway, amqp: Any) -> None:
    channel = amqp.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish(
        "amq.topic", "$transaction.amqp-asked.begin", b'{"immunity": 0.05}', _reply_to(queue)
    )
    channel.basic_publish("amq.topic", "$transaction.amqp-asked.publish.orders.x", b"asked by amqp")
    for _, about, body in channel.consume(queue, inactivity_timeout=10):
        assert about is not None, "no question came"
        assert (about.headers["transaction-id"], about.headers["transaction-check"]) == ("amqp-asked", 1)
        assert json.loads(body)["check"] == 1
        break
    channel.cancel()
    channel.basic_publish("amq.topic", "$transaction.amqp-asked.rollback", b"")
    assert taken(gateway, "orders") == []
    assert state(gateway, "amqp-asked", "guest") == "rolled-back"


def _reply_to(queue: str) -> pika.BasicProperties:
    return pika.BasicProperties(reply_to=queue)


def test_the_response_topic_of_the_first_message_is_asked(gateway: RocketGateway) -> None:
    with PahoClient("first").open(gateway.mqtt_port) as client:
        client.subscribe("first/checks", 1)
        props = publish_properties(ResponseTopic="first/checks")
        client.publish("$transaction/first/publish/orders/a", b"", properties=props)
        found = httpx.get(f"{gateway.url}/v1/transactions/first").json()
        assert found["reply_to"] == "first/checks"
        client.publish("$transaction/first/rollback", b"")


def test_who_never_answers_is_given_up_and_the_messages_are_kept(gateway: RocketGateway) -> None:
    httpx.post(f"{gateway.url}/v1/transactions", json={"id": "silent", "immunity": 0.05}).raise_for_status()
    httpx.post(f"{gateway.url}/v1/transactions/silent/topics/orders/s", content=b"silent").raise_for_status()
    wait_for(lambda: state(gateway, "silent") == "rolled-back", what="the end")
    letters = taken(gateway, "%24dead%2F%24half")
    assert "silent" in letters
    assert taken(gateway, "orders") == []


def test_metrics_count(gateway: RocketGateway) -> None:
    def metric(name: str) -> float:
        lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))

    before = metric("gateway_transactions_begun_total"), metric("gateway_transactions_open")
    committed = 'gateway_transactions_ended_total{state="committed"}'
    ended = metric(committed)
    httpx.post(f"{gateway.url}/v1/transactions", json={"id": "counted"}).raise_for_status()
    assert metric("gateway_transactions_open") == before[1] + 1
    httpx.post(f"{gateway.url}/v1/transactions/counted/commit").raise_for_status()
    assert metric("gateway_transactions_begun_total") == before[0] + 1
    assert (metric("gateway_transactions_open"), metric(committed)) == (before[1], ended + 1)


def test_kill_9_shows_nothing_and_loses_nothing(tmp_path: Path) -> None:
    process = RocketGateway(tmp_path / "data").start()
    try:
        for name, topic_filter in QUEUES.items():
            httpx.put(f"{process.url}/v1/queues/{name}", json={"bindings": [topic_filter]})
        client = PahoClient("killed", clean=False, expiry=600).open(process.mqtt_port)
        for number in range(20):
            assert client.publish(f"$transaction/kept/publish/orders/{number}", b"%d" % number) == 0
            assert client.publish(f"$transaction/back/publish/bills/{number}", b"no") == 0
        process.kill()
        client.client.loop_stop()
        process.start()
        assert (taken(process, "orders"), taken(process, "bills")) == ([], [])
        with PahoClient("killed", clean=False).open(process.mqtt_port) as again:
            assert again.publish("$transaction/kept/commit", b"") == 0
            assert again.publish("$transaction/back/rollback", b"") == 0
        process.kill()
        process.start()
        assert taken(process, "orders") == [str(number) for number in range(20)]
        assert taken(process, "bills") == []
        assert (state(process, "kept"), state(process, "back")) == ("committed", "rolled-back")
        with PahoClient("killed").open(process.mqtt_port) as again:
            assert again.publish("$transaction/kept/commit", b"") == 0
            assert again.publish("$transaction/kept/rollback", b"") == 0x83
        assert taken(process, "orders") == []
    finally:
        process.stop()
    assert not process.bugs(), "\n".join(process.errors)
