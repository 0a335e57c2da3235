"""pika, blocking and not, as it would talk to RabbitMQ."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pika
import pika.adapters.blocking_connection
import pytest
from paho.mqtt.packettypes import PacketTypes
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from tests.interop.paho_client import PahoClient, properties
from tests.process import GatewayProcess, wait_for

Channel = Any
OPENED: list[Any] = []  # connections that this test has to close
SOON = 5.0
KEPT = {"x-message-ttl": 3_600_000, "x-dead-letter-exchange": ""}


def connect(gateway: GatewayProcess, vhost: str = "/", **options: Any) -> Any:
    """Return a connection."""
    parameters = pika.ConnectionParameters(
        "127.0.0.1", gateway.amqp_port, vhost, blocked_connection_timeout=10, socket_timeout=10, **options
    )
    made = pika.BlockingConnection(parameters)
    OPENED.append(made)
    return made


@pytest.fixture(autouse=True)
def close_connections() -> Iterator[None]:
    yield
    while OPENED:
        opened = OPENED.pop()
        if opened.is_open:
            with suppress(AMQPError):  # the other side may be gone: it is to notice, and close its socket
                opened.process_data_events(0.1)
        if opened.is_open:
            with suppress(AMQPError):
                opened.close()


@pytest.fixture
def connection(gateway: GatewayProcess) -> Any:
    return connect(gateway)


@pytest.fixture
def channel(connection: Any) -> Channel:
    found = connection.channel()
    found.confirm_delivery()
    return found


def get(channel: Channel, queue: str, seconds: float = SOON) -> tuple[Any, Any, bytes]:
    """Return the next message of a queue."""
    deadline = time.monotonic() + seconds
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=False)
        if method is not None:
            return method, properties, body
        assert time.monotonic() < deadline, f"nothing came to {queue}"
        channel.connection.process_data_events(0.02)


def bodies(channel: Channel, queue: str) -> list[bytes]:
    """Take everything there is."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append(body)


def closing(channel: Channel) -> list[Any]:
    """Return a list that will have the reason why the channel was closed."""
    reasons: list[Any] = []
    channel._impl.add_on_close_callback(lambda _, reason: reasons.append(reason))
    return reasons


# -- exchanges -------------------------------------------------------------------------------------


def test_every_type_of_exchange_routes_as_it_should(channel: Channel) -> None:
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"x-{kind}", kind)
    binds: dict[str, list[tuple[str, str, dict[str, Any] | None]]] = {
        "exact": [("x-direct", "k", None)],
        "all": [("x-fanout", "ignored", None)],
        "stars": [("x-topic", "a.*.c", None)],
        "hashes": [("x-topic", "a.#.z", None)],
        "any": [("x-headers", "", {"x-match": "any", "a": 1, "b": "two"})],
        "every": [("x-headers", "", {"x-match": "all", "a": 1, "b": "two"})],
    }
    for queue, bindings in binds.items():
        channel.queue_declare(queue)
        for exchange, key, arguments in bindings:
            channel.queue_bind(queue, exchange, key, arguments)
    publishes = [
        ("x-direct", "k", None),
        ("x-direct", "other", None),
        ("x-fanout", "whatever", None),
        ("x-topic", "a.b.c", None),
        ("x-topic", "a.b.b.c", None),
        ("x-topic", "a.z", None),
        ("x-topic", "a.b.c.z", None),
        ("x-headers", "", {"a": 1}),
        ("x-headers", "", {"a": 1, "b": "two", "c": 3}),
        ("x-headers", "", {"c": 3}),
    ]
    for exchange, key, headers in publishes:
        body = f"{exchange} {key} {headers}".encode()
        channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers))
    assert {queue: len(bodies(channel, queue)) for queue in binds} == {
        "exact": 1,
        "all": 1,
        "stars": 1,
        "hashes": 2,
        "any": 2,
        "every": 1,
    }


def test_exchanges_are_bound_to_exchanges_and_have_an_alternate(channel: Channel) -> None:
    channel.exchange_declare("rest", "fanout", internal=True)
    channel.exchange_declare("first", "topic", arguments={"alternate-exchange": "rest"})
    channel.exchange_declare("second", "direct")
    channel.exchange_bind("second", "first", "a.#")
    channel.queue_declare("taken")
    channel.queue_declare("left")
    channel.queue_bind("taken", "second", "a.b")
    channel.queue_bind("left", "rest")
    channel.basic_publish("first", "a.b", b"through both")
    channel.basic_publish("first", "b", b"to the alternate")
    channel.basic_publish("first", "a.c", b"lost in the second")
    assert bodies(channel, "taken") == [b"through both"]
    assert bodies(channel, "left") == [b"to the alternate"]
    channel.exchange_unbind("second", "first", "a.#")
    channel.basic_publish("first", "a.b", b"now the alternate")
    assert bodies(channel, "left") == [b"now the alternate"]
    with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED - cannot publish to internal exchange"):
        channel.basic_publish("rest", "", b"no")


def test_consistent_hashing_spreads_and_keeps(channel: Channel) -> None:
    channel.exchange_declare("hash", "x-consistent-hash")
    for queue, weight in (("one", "10"), ("three", "30")):
        channel.queue_declare(queue)
        channel.queue_bind(queue, "hash", weight)
    for n in range(400):
        channel.basic_publish("hash", f"key-{n}", b"%d" % n)
    first = {queue: bodies(channel, queue) for queue in ("one", "three")}
    assert len(first["one"]) + len(first["three"]) == 400
    assert 30 < len(first["one"]) < 200
    for n in range(400):
        channel.basic_publish("hash", f"key-{n}", b"%d" % n)
    assert {queue: bodies(channel, queue) for queue in ("one", "three")} == first


# -- publishing ------------------------------------------------------------------------------------


def test_what_nobody_takes_comes_back_if_that_is_asked(gateway: GatewayProcess, channel: Channel) -> None:
    channel.exchange_declare("x", "direct")
    with pytest.raises(UnroutableError) as returned:
        channel.basic_publish("x", "k", b"body", pika.BasicProperties(message_id="m"), mandatory=True)
    (message,) = returned.value.messages
    assert (message.method.reply_code, message.method.reply_text) == (312, "NO_ROUTE")
    assert (message.method.exchange, message.method.routing_key) == ("x", "k")
    assert (message.properties.message_id, message.body) == ("m", b"body")
    channel.basic_publish("x", "k", b"dropped, and confirmed")
    dropped = httpx.get(f"{gateway.url}/v1/admin/overview").json()["messages"]["dropped"]
    assert dropped["no_subscriber"] == 2  # the one that came back, too


def test_properties_and_headers_arrive_as_they_were_sent(channel: Channel) -> None:
    sent = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={
            "text": "é",
            "bytes": b"\xff\x00",
            "int": -(1 << 40),
            "small": 7,
            "yes": True,
            "nothing": None,
            "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "list": [1, "two", [3]],
            "map": {"deeper": {"still": 1}},
        },
        delivery_mode=2,
        priority=5,
        correlation_id="c",
        reply_to="answers",
        expiration="60000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        app_id="app",
    )
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"body", sent)
    _, received, body = get(channel, "q")
    for name in ("when",):
        assert received.headers.pop(name).replace(tzinfo=UTC) == sent.headers.pop(name)
    assert received.__dict__ == sent.__dict__
    assert body == b"body"


def test_a_large_body_comes_in_several_frames(connection: Any, channel: Channel) -> None:
    body = bytes(range(256)) * 4096
    channel.queue_declare("q")
    channel.basic_publish("", "q", body)
    assert get(channel, "q")[2] == body


def test_copies_go_to_more_keys_and_blind_ones_are_not_shown(channel: Channel) -> None:
    for queue in ("a", "b", "c"):
        channel.queue_declare(queue)
    headers = {"CC": ["b"], "BCC": ["c"]}
    channel.basic_publish("", "a", b"to three", pika.BasicProperties(headers=headers))
    for queue in ("a", "b", "c"):
        _, properties, body = get(channel, queue)
        assert (properties.headers, body) == ({"CC": ["b"]}, b"to three")


# -- queues ----------------------------------------------------------------------------------------


def test_a_difference_says_what_differs(gateway: GatewayProcess, connection: Any) -> None:
    channel = connection.channel()
    channel.queue_declare("q", arguments={"x-max-length": 5})
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"durable": True, "arguments": {"x-max-length": 5}},
            "'durable' for queue 'q' in vhost '/': received 'true' but",
        ),
        (
            {"arguments": {"x-max-length": 6}},
            "'x-max-length' .* received the value '6' of type 'signedint' but current",
        ),
        ({}, "'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5'"),
        ({"arguments": {"x-max-length": -1}}, "x-max-length"),
    ]
    for options, said in cases:
        channel = connection.channel()
        with pytest.raises(ChannelClosedByBroker, match=said) as closed:
            channel.queue_declare("q", **options)
        assert closed.value.reply_code == 406
    channel = connection.channel()
    channel.exchange_declare("x", "direct")
    with pytest.raises(ChannelClosedByBroker, match=r"'type' .* received 'topic' but current is 'direct'"):
        channel.exchange_declare("x", "topic")


def test_names_passive_and_purge(channel: Channel, connection: Any) -> None:
    name = channel.queue_declare("", exclusive=True).method.queue
    assert name.startswith("amq.gen-")
    for n in range(3):
        channel.basic_publish("", name, b"%d" % n)
    assert channel.queue_declare(name, passive=True).method.message_count == 3
    assert channel.queue_purge(name).method.message_count == 3
    channel.basic_publish("", name, b"one")
    with pytest.raises(ChannelClosedByBroker, match="not empty"):
        channel.queue_delete(name, if_empty=True)
    channel = connection.channel()
    assert channel.queue_delete(name).method.message_count == 1
    with pytest.raises(ChannelClosedByBroker, match=r"NOT_FOUND - no queue 'amq.gen-.*' in vhost '/'"):
        channel.queue_declare(name, passive=True)
    channel = connection.channel()
    with pytest.raises(ChannelClosedByBroker, match="reserved prefix"):
        channel.queue_declare("amq.mine")


def test_an_exclusive_queue_is_one_connections(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("mine", exclusive=True)
    other = connect(gateway)
    with pytest.raises(ChannelClosedByBroker, match="RESOURCE_LOCKED"):
        other.channel().queue_declare("mine", exclusive=True)
    channel.connection.close()

    def gone() -> bool:
        try:
            other.channel().queue_declare("mine", passive=True)
        except ChannelClosedByBroker as error:
            return error.reply_code == 404
        return False

    wait_for(gone, what="the end of the queue")
    other.close()


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel: Channel) -> None:
    channel.queue_declare("q", auto_delete=True)
    tag = channel.basic_consume("q", lambda *_: None)
    channel.basic_cancel(tag)
    with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
        channel.queue_declare("q", passive=True)


def test_the_oldest_makes_room_or_the_publisher_is_refused(channel: Channel) -> None:
    channel.queue_declare("ring", arguments={"x-max-length": 2})
    for n in range(4):
        channel.basic_publish("", "ring", b"%d" % n)
    assert bodies(channel, "ring") == [b"2", b"3"]
    channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.basic_publish("", "full", b"fits")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "full", b"does not")
    channel.queue_declare("dead")
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": ""}
    channel.queue_declare("letters", arguments={**arguments, "x-dead-letter-routing-key": "dead"})
    channel.basic_publish("", "letters", b"fits")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "letters", b"refused")
    _, properties, body = get(channel, "dead")
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"refused", "maxlen")


def test_durable_things_survive_kill_9_and_others_do_not(gateway: GatewayProcess) -> None:
    connection = connect(gateway)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("kept", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.exchange_declare("second", "fanout", durable=True)
    channel.exchange_bind("second", "kept", "#")
    channel.exchange_declare("gone", "topic")
    channel.queue_declare("kept", durable=True, arguments=KEPT)
    channel.queue_declare("gone")
    channel.queue_bind("kept", "second")
    channel.basic_publish(
        "kept", "a.b", b"confirmed", pika.BasicProperties(delivery_mode=2, headers={"n": 1}), mandatory=True
    )
    gateway.kill()
    gateway.start()
    connection = connect(gateway)
    channel = connection.channel()
    channel.confirm_delivery()
    method, properties, body = get(channel, "kept")
    assert (method.exchange, method.routing_key, body) == ("kept", "a.b", b"confirmed")
    assert properties.headers == {"n": 1}
    channel.basic_publish("kept", "c", b"still bound", mandatory=True)
    channel.queue_declare("kept", durable=True, arguments=KEPT)
    for name in ("gone",):
        with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
            connection.channel().queue_declare(name, passive=True)
        with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
            connection.channel().exchange_declare(name, passive=True)
    connection.close()


# -- consuming -------------------------------------------------------------------------------------


def test_prefetch_is_kept_and_acknowledging_makes_room(channel: Channel) -> None:
    channel.queue_declare("q")
    for n in range(10):
        channel.basic_publish("", "q", b"%d" % n)
    got: list[tuple[int, bytes]] = []
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume("q", lambda ch, method, props, body: got.append((method.delivery_tag, body)))

    def so_many(count: int) -> bool:
        channel.connection.process_data_events(0.05)
        return len(got) == count

    wait_for(lambda: so_many(3), what="three deliveries")
    channel.connection.process_data_events(0.2)
    assert len(got) == 3
    channel.basic_ack(2, multiple=True)
    wait_for(lambda: so_many(5), what="two more")
    channel.basic_nack(0, multiple=True, requeue=False)
    wait_for(lambda: so_many(8), what="three more")
    assert [body for _, body in got] == [b"%d" % n for n in range(8)]


def test_a_prefetch_for_the_channel_is_shared(channel: Channel) -> None:
    got: list[tuple[str, int]] = []
    channel.basic_qos(prefetch_count=4, global_qos=True)
    for queue in ("a", "b"):
        channel.queue_declare(queue)
        for n in range(5):
            channel.basic_publish("", queue, b"%d" % n)
        channel.basic_consume(queue, lambda ch, method, p, b, q=queue: got.append((q, method.delivery_tag)))

    def so_many(count: int) -> bool:
        channel.connection.process_data_events(0.05)
        return len(got) == count

    wait_for(lambda: so_many(4), what="four deliveries")
    channel.connection.process_data_events(0.2)
    assert len(got) == 4
    channel.basic_ack(4, multiple=True)
    wait_for(lambda: so_many(8), what="four more")


def test_what_is_not_acknowledged_comes_back_in_order(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("q", durable=True)
    for n in range(5):
        channel.basic_publish("", "q", b"%d" % n)
    other = connect(gateway)
    held = other.channel()
    for _ in range(3):
        held.basic_get("q")
    other.close()
    wait_for(lambda: channel.queue_declare("q", passive=True, durable=True).method.message_count == 5)
    found = [get(channel, "q") for _ in range(5)]
    assert [body for _, _, body in found] == [b"%d" % n for n in range(5)]
    assert [method.redelivered for method, _, _ in found] == [True, True, True, False, False]
    channel.basic_recover(requeue=True)
    assert bodies(channel, "q") == [b"%d" % n for n in range(5)]


@pytest.mark.parametrize("how", ["twice", "unknown", "unknown multiple"])
def test_an_unknown_tag_closes_the_channel_and_only_that(connection: Any, channel: Channel, how: str) -> None:
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"x")
    method, _, _ = get(channel, "q")
    bystander = connection.channel()
    closed = closing(channel)
    if how == "twice":
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
    else:
        channel.basic_ack(99, multiple="multiple" in how)
    wait_for(lambda: connection.process_data_events(0.05) or closed, what="the channel's end")
    assert closed[0].reply_code == 406
    assert closed[0].reply_text.startswith("PRECONDITION_FAILED - unknown delivery tag")
    assert bystander.queue_declare("q", passive=True).method.queue == "q"


def test_consumers_have_priorities(channel: Channel) -> None:
    channel.queue_declare("q")
    got: list[str] = []
    channel.basic_qos(prefetch_count=2)
    for name, priority in (("low", -1), ("high", 10)):
        channel.basic_consume("q", lambda *_, name=name: got.append(name), arguments={"x-priority": priority})
    for _ in range(3):
        channel.basic_publish("", "q", b"x")
    wait_for(lambda: channel.connection.process_data_events(0.05) or len(got) == 3)
    assert got.count("high") == 2


def test_an_exclusive_consumer_is_alone(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("q")
    channel.basic_consume("q", lambda *_: None, exclusive=True)
    other = connect(gateway)
    with pytest.raises(ChannelClosedByBroker, match="in exclusive use"):
        other.channel().basic_consume("q", lambda *_: None)
    other.close()


def test_a_consumer_is_told_that_its_queue_is_gone(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("q")
    cancelled: list[Any] = []
    channel.add_on_cancel_callback(cancelled.append)
    tag = channel.basic_consume("q", lambda *_: None)
    other = connect(gateway)
    other.channel().queue_delete("q")
    wait_for(lambda: channel.connection.process_data_events(0.05) or cancelled)
    assert cancelled[0].method.consumer_tag == tag
    other.close()


def test_one_active_consumer(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("q", arguments={"x-single-active-consumer": True})
    got: list[str] = []
    first = channel.basic_consume("q", lambda *_: got.append("first"), auto_ack=True)
    channel.basic_consume("q", lambda *_: got.append("second"), auto_ack=True)
    for _ in range(4):
        channel.basic_publish("", "q", b"x")
    wait_for(lambda: channel.connection.process_data_events(0.05) or len(got) == 4)
    assert got == ["first"] * 4
    channel.basic_cancel(first)
    channel.basic_publish("", "q", b"x")
    wait_for(lambda: channel.connection.process_data_events(0.05) or len(got) == 5)
    assert got[-1] == "second"


def test_direct_reply_to(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("questions")
    answers: list[tuple[str, bytes]] = []
    channel.basic_consume(
        "amq.rabbitmq.reply-to",
        lambda ch, method, properties, body: answers.append((properties.correlation_id, body)),
        auto_ack=True,
    )
    asked = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="c1")
    channel.basic_publish("", "questions", b"6*7", asked)
    server = connect(gateway)
    serving = server.channel()
    _, properties, body = get(serving, "questions")
    assert body == b"6*7"
    assert properties.reply_to.startswith("amq.rabbitmq.reply-to.")
    serving.basic_publish(
        "", properties.reply_to, b"42", pika.BasicProperties(correlation_id=properties.correlation_id)
    )
    wait_for(lambda: channel.connection.process_data_events(0.05) or answers)
    assert answers == [("c1", b"42")]
    server.close()


# -- dead letters ----------------------------------------------------------------------------------


def test_dead_letters_tell_their_story(channel: Channel) -> None:
    channel.exchange_declare("dlx", "direct")
    channel.queue_declare("dead")
    channel.queue_bind("dead", "dlx", "buried")
    channel.queue_declare(
        "q",
        arguments={"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "buried", "x-max-length": 1},
    )
    channel.basic_publish("", "q", b"rejected", pika.BasicProperties(headers={"mine": 1}))
    method, _, _ = get(channel, "q")
    channel.basic_reject(method.delivery_tag, requeue=False)
    _, properties, body = get(channel, "dead")
    headers = properties.headers
    (death,) = headers["x-death"]
    assert body == b"rejected"
    assert headers["mine"] == 1
    assert {name: death[name] for name in ("count", "reason", "queue", "exchange", "routing-keys")} == {
        "count": 1,
        "reason": "rejected",
        "queue": "q",
        "exchange": "",
        "routing-keys": ["q"],
    }
    assert abs(death["time"].replace(tzinfo=UTC).timestamp() - time.time()) < 60
    assert [headers[f"x-first-death-{what}"] for what in ("reason", "queue", "exchange")] == [
        "rejected",
        "q",
        "",
    ]
    channel.basic_publish("", "q", b"oldest")
    channel.basic_publish("", "q", b"expires", pika.BasicProperties(expiration="1"))
    _, properties, body = get(channel, "dead")
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"oldest", "maxlen")
    _, properties, body = get(channel, "dead")
    (death,) = properties.headers["x-death"]
    assert (body, death["reason"], death["original-expiration"]) == (b"expires", "expired", "1")
    assert properties.expiration is None


def test_a_retry_loop_counts_and_an_automatic_one_ends(channel: Channel) -> None:
    channel.queue_declare(
        "work", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}
    )
    channel.queue_declare(
        "wait",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 20},
    )
    channel.basic_publish("", "work", b"again and again")
    for attempt in range(1, 4):
        method, properties, _ = get(channel, "work")
        if attempt > 1:
            counts = {(d["queue"], d["reason"]): d["count"] for d in properties.headers["x-death"]}
            assert counts == {("work", "rejected"): attempt - 1, ("wait", "expired"): attempt - 1}
        channel.basic_reject(method.delivery_tag, requeue=False)
    channel.queue_declare(
        "round",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "round", "x-message-ttl": 10},
    )
    channel.basic_publish("", "round", b"ends")
    wait_for(lambda: channel.queue_declare("round", passive=True).method.message_count == 0)


def test_a_delivery_limit_ends_in_the_dead_letters(channel: Channel) -> None:
    channel.queue_declare("dead")
    channel.queue_declare(
        "q",
        arguments={
            "x-delivery-limit": 2,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
        },
    )
    channel.basic_publish("", "q", b"poison")
    for _ in range(3):
        method, _, _ = get(channel, "q")
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, properties, body = get(channel, "dead")
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"poison", "delivery_limit")


# -- errors ----------------------------------------------------------------------------------------


def test_what_is_wrong_ends_the_channel_and_the_connection_goes_on(connection: Any) -> None:
    def close_to(code: int, act: Any) -> None:
        channel = connection.channel()
        closed = closing(channel)
        with suppress(ChannelClosedByBroker):
            act(channel)
        wait_for(lambda: connection.process_data_events(0.05) or closed, what="the channel's end")
        assert closed[0].reply_code == code, closed

    close_to(404, lambda ch: ch.basic_publish("nowhere", "k", b"x"))
    close_to(404, lambda ch: ch.queue_bind("nothing", "amq.topic", "k"))
    close_to(404, lambda ch: ch.basic_get("nothing"))
    close_to(403, lambda ch: ch.exchange_delete("amq.topic"))
    close_to(403, lambda ch: ch.exchange_declare("amq.mine", "direct"))
    close_to(406, lambda ch: ch.basic_ack(1))
    soon, somebody = pika.BasicProperties(expiration="soon"), pika.BasicProperties(user_id="somebody")
    close_to(406, lambda ch: ch.basic_publish("amq.topic", "k", b"x", soon))
    close_to(406, lambda ch: ch.basic_publish("amq.topic", "k", b"x", somebody))
    close_to(406, lambda ch: ch.exchange_declare("d", "x-delayed-message"))
    assert connection.is_open


@pytest.mark.parametrize(
    ("code", "act"),
    [
        (540, lambda channel: channel.basic_qos(prefetch_size=10)),
        (503, lambda channel: channel.exchange_declare("x", "no-such-type")),
        (540, lambda channel: channel.basic_recover(requeue=False)),
    ],
    ids=["prefetch size", "exchange type", "recover"],
)
def test_what_is_worse_ends_the_connection(gateway: GatewayProcess, code: int, act: Any) -> None:
    connection = connect(gateway)
    with pytest.raises(ConnectionClosedByBroker) as closed:
        act(connection.channel())
    assert closed.value.reply_code == code


def test_who_is_not_let_in_is_told(make_gateway: Any, tmp_path: Any) -> None:
    from gateway.auth.hashes import hash_password

    config = tmp_path / "gateway.toml"
    config.write_text(f'[users.app]\npassword = "{hash_password("right")}"\nadmin = true\n')
    gateway = make_gateway(dev=False, config=config).start()
    good = connect(gateway, credentials=pika.PlainCredentials("app", "right"))
    good.channel().queue_declare("q")
    good.close()
    with pytest.raises(ProbableAuthenticationError, match=r"403.*ACCESS_REFUSED - Login was refused"):
        connect(gateway, credentials=pika.PlainCredentials("app", "wrong"))
    with pytest.raises((ProbableAccessDeniedError, ConnectionClosedByBroker), match="530"):
        connect(gateway, "/nowhere", credentials=pika.PlainCredentials("app", "right"))


def test_heartbeats_keep_a_quiet_connection_open(gateway: GatewayProcess) -> None:
    connection = connect(gateway, heartbeat=1)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:  # longer than two intervals: either side would have given up
        connection.process_data_events(0.2)
    assert connection.channel().queue_declare("").method.queue
    connection.close()


def test_a_client_that_falls_silent_is_cut_off(gateway: GatewayProcess) -> None:
    connection = connect(gateway, heartbeat=1)
    channel = connection.channel()
    channel.queue_declare("mine", exclusive=True)
    other = connect(gateway)

    def gone() -> bool:
        try:
            other.channel().queue_declare("mine", passive=True)
        except ChannelClosedByBroker as error:
            return error.reply_code == 404
        return False

    wait_for(gone, seconds=15, what="the silent client's end")  # nobody reads or writes for it meanwhile
    other.close()


def test_the_other_adapter(gateway: GatewayProcess) -> None:
    """SelectConnection: publish, consume and confirm with callbacks."""
    got: list[bytes] = []
    confirmed: list[int] = []
    parameters = pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)

    def opened(channel: Channel) -> None:
        channel.confirm_delivery(lambda frame: confirmed.append(frame.method.delivery_tag))
        channel.queue_declare("q", callback=lambda _: declared(channel))

    def declared(channel: Channel) -> None:
        channel.basic_consume("q", lambda ch, method, properties, body: received(ch, method, body))
        for n in range(100):
            channel.basic_publish("", "q", b"%d" % n)

    def received(channel: Channel, method: Any, body: bytes) -> None:
        got.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(got) == 100:
            channel.connection.close()

    connection = pika.SelectConnection(
        parameters,
        on_open_callback=lambda made: made.channel(on_open_callback=opened),
        on_close_callback=lambda made, _: made.ioloop.stop(),
    )
    thread = threading.Thread(target=connection.ioloop.start, daemon=True)
    thread.start()
    thread.join(15)
    connection.ioloop.close()
    assert got == [b"%d" % n for n in range(100)]
    assert confirmed[-1] == 100


# -- streams ------------------------------------------------------------------------------------------


def test_streams_are_read_from_where_one_wants(channel: Channel) -> None:
    channel.queue_declare("s", durable=True, arguments={"x-queue-type": "stream", "x-max-age": "7D"})
    for n in range(10):
        channel.basic_publish("", "s", b"%d" % n, pika.BasicProperties(delivery_mode=2))
    connection = channel.connection

    def read(count: int, **arguments: Any) -> list[tuple[int, bytes]]:
        reader = connection.channel()
        reader.basic_qos(prefetch_count=3)
        got: list[tuple[int, bytes]] = []

        def take(ch: Channel, method: Any, properties: Any, body: bytes) -> None:
            got.append((properties.headers["x-stream-offset"], body))
            ch.basic_ack(method.delivery_tag)

        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        reader.basic_consume("s", take, arguments=named)
        wait_for(lambda: connection.process_data_events(0.02) or len(got) >= count, what="the stream")
        reader.close()
        return got

    everything = [(n, b"%d" % n) for n in range(10)]
    assert read(10, stream_offset="first") == everything
    assert read(4, stream_offset=6) == everything[6:]
    assert read(1, stream_offset="last") == everything[9:]
    assert read(10, stream_offset="1h") == everything
    assert read(10, stream_offset="first", group="audit") == everything
    channel.basic_publish("", "s", b"10")
    assert read(1, stream_offset="first", group="audit") == [(10, b"10")]
    for options, code in (({"auto_ack": True}, 540), ({}, 406)):
        other = pika.BlockingConnection(connection._impl.params)
        OPENED.append(other)
        with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as closed:
            other.channel().basic_consume("s", lambda *_: None, **options)
        assert closed.value.reply_code == code


def test_a_quorum_queue_counts_deliveries(channel: Channel) -> None:
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish("", "q", b"x")
    for attempt in range(3):
        got: list[Any] = []
        tag = channel.basic_consume("q", lambda ch, m, p, b, got=got: got.append((m, p)))
        wait_for(lambda got=got: channel.connection.process_data_events(0.02) or got)
        method, properties = got[0]
        assert (properties.headers or {}).get("x-delivery-count") == (attempt or None)
        channel.basic_cancel(tag)
        channel.basic_nack(method.delivery_tag)


# -- transactions -----------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(gateway: GatewayProcess, connection: Any) -> None:
    channel, watcher = connection.channel(), connection.channel()
    for queue in ("in", "a", "b"):
        channel.queue_declare(queue, durable=True)
    watcher.basic_publish("", "in", b"work", pika.BasicProperties(delivery_mode=2))
    channel.tx_select()
    method, _, _ = get(channel, "in")
    for queue in ("a", "b"):
        channel.basic_publish("", queue, b"made of it", pika.BasicProperties(delivery_mode=2))
    channel.basic_ack(method.delivery_tag)
    assert bodies(watcher, "a") == bodies(watcher, "b") == []
    channel.tx_rollback()
    assert bodies(watcher, "a") == bodies(watcher, "b") == []
    channel.basic_publish("", "a", b"for a", pika.BasicProperties(delivery_mode=2))
    channel.basic_publish("", "b", b"for b", pika.BasicProperties(delivery_mode=2))
    channel.basic_ack(method.delivery_tag)  # the rollback has made it unacknowledged again
    channel.tx_commit()
    gateway.kill()
    gateway.start()
    again = connect(gateway).channel()
    assert [bodies(again, queue) for queue in ("in", "a", "b")] == [[], [b"for a"], [b"for b"]]


def test_a_queue_without_room_refuses_the_whole_transaction(connection: Any) -> None:
    channel, watcher = connection.channel(), connection.channel()
    watcher.queue_declare("open")
    watcher.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.tx_select()
    for queue in ("open", "small", "small"):
        channel.basic_publish("", queue, b"x")
    with pytest.raises(ChannelClosedByBroker, match="nothing was committed"):
        channel.tx_commit()
    assert bodies(watcher, "open") == bodies(watcher, "small") == []


def test_a_transaction_may_not_publish_what_its_client_may_not(connection: Any) -> None:
    for _ in range(2):  # once refused, refused again
        channel = connection.channel()
        closed = closing(channel)
        channel.tx_select()
        channel.basic_publish("", "$topic/$sys/x", b"x")
        wait_for(lambda: connection.process_data_events(0.05) or closed, what="the channel's end")  # noqa: B023
        assert closed[0].reply_code == 403


def test_transactions_and_confirms_exclude_each_other(connection: Any) -> None:
    channel = connection.channel()
    channel.tx_select()
    with pytest.raises(ChannelClosedByBroker, match="cannot switch from tx to confirm mode"):
        channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker, match="channel is not transactional"):
        connection.channel().tx_commit()


# -- delays -------------------------------------------------------------------------------------------


def test_delayed_messages_come_when_they_are_due_also_after_kill_9(gateway: GatewayProcess) -> None:
    channel = connect(gateway).channel()
    channel.confirm_delivery()
    channel.exchange_declare(
        "later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"}
    )
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "later", "a.*")
    began = time.monotonic()
    for body, delay in ((b"third", 2500), (b"second", 600), (b"first", 0)):
        sent = pika.BasicProperties(headers={"x-delay": delay}, delivery_mode=2)
        channel.basic_publish("later", "a.b", body, sent)
    _, properties, body = get(channel, "q")
    assert (body, properties.headers) == (b"first", {"x-delay": 0})
    method, properties, body = get(channel, "q")
    assert time.monotonic() - began >= 0.6
    assert (body, properties.headers["x-delay"]) == (b"second", -600)
    assert (method.exchange, method.routing_key) == ("later", "a.b")
    channel.basic_ack(0, multiple=True)
    channel.basic_get("q")  # what was acknowledged is: this has come back after it
    gateway.kill()
    gateway.start()
    channel = connect(gateway).channel()
    _, properties, body = get(channel, "q", 10)
    assert (body, properties.headers["x-delay"]) == (b"third", -2500)
    assert time.monotonic() - began >= 2.5
    channel.basic_ack(0, multiple=True)
    assert bodies(channel, "q") == []


def test_priorities(channel: Channel) -> None:
    channel.queue_declare("q", durable=True, arguments={"x-max-priority": 10})
    for priority in (0, 5, 10, 99, None, 7):
        sent = pika.BasicProperties(priority=priority, delivery_mode=2)
        channel.basic_publish("", "q", str(priority).encode(), sent)
    assert bodies(channel, "q") == [b"10", b"99", b"7", b"5", b"0", b"None"]


# -- names, logins, other doors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["naïve", "a|b", "order{1}", "x%y", "a$b", "$a", "q*", "#", "+", "a/b", "x" * 255]
)
def test_any_name_will_do(channel: Channel, name: str) -> None:
    assert channel.queue_declare(name).method.queue == name
    channel.exchange_declare(name[:120], "direct")
    channel.queue_bind(name, name[:120], f"{name[:100]}.k")
    channel.basic_publish(name[:120], f"{name[:100]}.k", b"x", mandatory=True)
    method, _, _ = get(channel, name)
    assert (method.exchange, method.routing_key) == (name[:120], f"{name[:100]}.k")
    with pytest.raises(UnroutableError):
        channel.basic_publish(name[:120], "nobody", b"x", mandatory=True)


def test_keys_of_the_gateways_own_names_lead_nowhere_else(channel: Channel) -> None:
    for queue in ("target", "listener"):
        channel.queue_declare(queue)
    channel.queue_bind("listener", "amq.topic", "#")
    for key in ("$queue.target", "$sys.x", "", "$dead.x"):
        channel.basic_publish("amq.topic", key, key.encode(), mandatory=True)
    assert bodies(channel, "target") == []
    assert bodies(channel, "listener") == [b"$queue.target", b"$sys.x", b"", b"$dead.x"]


def test_a_queue_of_length_0_keeps_nothing(channel: Channel) -> None:
    channel.queue_declare("none", arguments={"x-max-length": 0})
    channel.basic_publish("", "none", b"x")
    wait_for(lambda: channel.queue_declare("none", passive=True).method.message_count == 0)


def test_unused_queues_expire(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("q", arguments={"x-expires": 100})
    queue = f"{gateway.url}/v1/queues/q"  # to look there is no use of it
    assert httpx.get(queue).status_code == 200
    wait_for(lambda: httpx.get(queue).status_code == 404, what="the queue's end")


class AmqPlain(pika.PlainCredentials):  # type: ignore[misc]
    """The older of two ways to say a name and a password."""

    TYPE = "AMQPLAIN"

    def response_for(self, start: Any) -> tuple[str, bytes]:
        fields = ((b"LOGIN", self.username), (b"PASSWORD", self.password))
        pieces = []
        for name, value in fields:
            raw = value.encode()
            pieces.append(bytes((len(name),)) + name + b"S" + len(raw).to_bytes(4, "big") + raw)
        return "AMQPLAIN", b"".join(pieces)


class External(pika.credentials.ExternalCredentials):  # type: ignore[misc]
    """Who one is, is known from elsewhere: here, nobody knows, and it is not offered."""


def test_amqplain_and_external(make_gateway: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.auth.hashes import hash_password

    monkeypatch.setattr(pika.credentials, "VALID_TYPES", [*pika.credentials.VALID_TYPES, AmqPlain, External])
    config = tmp_path / "gateway.toml"
    config.write_text(f'[users.app]\npassword = "{hash_password("right")}"\nadmin = true\n')
    gateway = make_gateway(dev=False, config=config).start()
    assert (
        connect(gateway, credentials=AmqPlain("app", "right")).channel().queue_declare("q").method.queue
        == "q"
    )
    with pytest.raises(ProbableAuthenticationError):
        connect(gateway, credentials=AmqPlain("app", "wrong"))
    with pytest.raises((AuthenticationError, ProbableAuthenticationError), match="EXTERNAL"):
        connect(gateway, credentials=External())


def test_a_secret_is_renewed(make_gateway: Any, tmp_path: Any) -> None:
    from gateway.auth.hashes import hash_password

    config = tmp_path / "gateway.toml"
    config.write_text(f'[users.app]\npassword = "{hash_password("right")}"\nadmin = true\n')
    gateway = make_gateway(dev=False, config=config).start()
    connection = connect(gateway, credentials=pika.PlainCredentials("app", "right"))
    connection.update_secret("right", "rotated")
    assert connection.channel().queue_declare("q").method.queue == "q"
    with pytest.raises(ConnectionClosedByBroker, match="530"):
        connection.update_secret("wrong", "rotated")


def test_every_exchange_meets_the_other_doors(gateway: GatewayProcess, channel: Channel) -> None:
    channel.exchange_declare("orders", "topic")
    channel.exchange_declare("all", "fanout")
    channel.exchange_declare("by.header", "headers")
    binds = {
        "eu": ("orders", "eu.#", None),
        "plain": ("amq.topic", "orders.#", None),
        "every": ("all", "", None),
    }
    binds["headed"] = ("by.header", "", {"kind": "x"})  # type: ignore[assignment]
    for queue, (exchange, key, arguments) in binds.items():
        channel.queue_declare(queue)
        channel.queue_bind(queue, exchange, key, arguments)
    with PahoClient("watch").open(gateway.mqtt_port) as client:
        client.subscribe("#", 1)
        client.subscribe("orders/eu/+", 1)
        channel.basic_publish("orders", "eu.new", b"by amqp", pika.BasicProperties(delivery_mode=2))
        channel.basic_publish("all", "k", b"to all")
        found = {client.receive().topic for _ in range(2)}
        assert found == {"orders/eu/new", "all/k"}
        assert bodies(channel, "plain") == []  # among AMQP clients an exchange is itself and no other
        assert bodies(channel, "eu") == [b"by amqp"]
        assert bodies(channel, "every") == [b"to all"]
        client.publish("orders/eu/new", b"by mqtt")
        answer = httpx.post(
            f"{gateway.url}/v1/topics/by.header/k", content=b"http", headers={"X-Property-Kind": "x"}
        )
        assert answer.status_code == 200
        client.publish("$queue/plain", b"straight to it")
    method, _, body = get(channel, "eu")
    assert (method.exchange, method.routing_key, body) == ("orders", "eu.new", b"by mqtt")
    method, _, body = get(channel, "plain")
    assert (method.exchange, method.routing_key, body) == ("orders", "eu.new", b"by mqtt")
    method, _, body = get(channel, "plain")
    assert (method.exchange, method.routing_key, body) == ("", "plain", b"straight to it")
    assert bodies(channel, "plain") == []
    assert bodies(channel, "headed") == [b"http"]
    made = httpx.put(f"{gateway.url}/v1/queues/shared", json={"bindings": ["shared/#"]})
    assert made.status_code < 300
    assert channel.queue_declare("shared", durable=True).method.queue == "shared"
    channel.basic_publish("amq.topic", "shared.x", b"amqp to http's queue")
    (delivery,) = httpx.post(f"{gateway.url}/v1/queues/shared/receive").json()["deliveries"]
    assert delivery["body"] == "amqp to http's queue"


def test_an_mqtt_5_request_is_answered_by_an_amqp_service(gateway: GatewayProcess, channel: Channel) -> None:
    channel.queue_declare("service")
    channel.queue_bind("service", "amq.topic", "ask.#")
    with PahoClient("asks").open(gateway.mqtt_port) as client:
        client.subscribe("answers/asks", 1)
        made = properties(PacketTypes.PUBLISH, ResponseTopic="answers/asks", CorrelationData=b"c-1")
        client.publish("ask/sum", b"1+1", properties=made)
        _, asked, _ = get(channel, "service")
        answer = pika.BasicProperties(correlation_id=asked.correlation_id)
        channel.basic_publish("", asked.reply_to, b"2", answer)
        got = client.receive()
    assert (got.payload, got.properties.CorrelationData) == (b"2", b"c-1")
