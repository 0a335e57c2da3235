"""`x-filter` by AMQP: on bindings of every type of exchange, and on consumers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker

from tests.process import GatewayProcess, wait_for

FILTER = {"x-filter": "n > 5"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("selectors") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def channel(gateway: GatewayProcess) -> Iterator[Any]:
    with opened(gateway) as connection:
        yield connection.channel()


def opened(gateway: GatewayProcess) -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))


def publish(channel: Any, exchange: str, *numbers: int, key: str = "k", **headers: Any) -> None:
    for number in numbers:
        made = pika.BasicProperties(headers={"n": number, **headers}, message_id=f"m{number}")
        channel.basic_publish(exchange, key, b"%d" % number, made)


def drained(channel: Any, queue: str) -> list[int]:
    """Return everything that is in a queue; what was published on this channel is there by now."""
    got: list[int] = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append(int(body))


def consumed(channel: Any, queue: str, count: int, **arguments: Any) -> list[int]:
    """Consume so many; then cancel."""
    got: list[int] = []

    def take(channel: Any, method: Any, made: Any, body: bytes) -> None:
        got.append(int(body))
        channel.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=10)
    names = {name.replace("_", "-"): value for name, value in arguments.items()}
    tag = channel.basic_consume(queue, take, arguments=names)
    wait_for(
        lambda: channel.connection.process_data_events(0.05) or len(got) >= count, what=f"{count}: {got}"
    )
    channel.basic_cancel(tag)
    return got


def refused(gateway: GatewayProcess, act: Any) -> str:
    """Return why a channel was closed with 406."""
    connection = opened(gateway)
    try:
        with pytest.raises(ChannelClosedByBroker) as caught:
            act(connection.channel())
        assert caught.value.reply_code == 406
        return str(caught.value.reply_text)
    finally:
        with suppress(AMQPError):
            connection.close()


@pytest.mark.parametrize(
    ("kind", "key", "arguments"),
    [
        ("direct", "k", {}),
        ("fanout", "", {}),
        ("topic", "#", {}),
        ("headers", "", {"x-match": "all", "color": "red"}),
        ("headers", "", {"x-match": "any-with-x", "color": "red"}),
        ("headers", "", {"x-match": "all-with-x", "color": "red"}),
        ("x-consistent-hash", "1", {}),
    ],
)
def test_every_type_of_exchange(channel: Any, kind: str, key: str, arguments: dict[str, Any]) -> None:
    exchange = "x-" + kind + arguments.get("x-match", "")
    channel.exchange_declare(exchange, kind)
    mine, others = (channel.queue_declare("").method.queue for _ in range(2))
    channel.queue_bind(mine, exchange, key, {**arguments, **FILTER})
    publish(channel, exchange, 1, 6, color="red")
    assert drained(channel, mine) == [6]
    channel.queue_bind(others, exchange, key, {**arguments, "x-filter": "n <= 5"})
    publish(channel, exchange, 2, 7, color="red")
    assert (drained(channel, mine), drained(channel, others)) == ([7], [2])
    channel.queue_unbind(mine, exchange, key, {**arguments, "x-filter": "n > 4"})  # there is none such
    channel.queue_unbind(others, exchange, key, {**arguments, "x-filter": "n <= 5"})
    publish(channel, exchange, 3, 8, color="red")
    assert (drained(channel, mine), drained(channel, others)) == ([8], [])


def test_bindings_that_differ_in_their_selector_are_two(channel: Any) -> None:
    queue = channel.queue_declare("").method.queue
    for text in ("n < 3", "n > 5", "n > 7"):
        channel.queue_bind(queue, "amq.direct", "two", {"x-filter": text})
    channel.queue_bind(queue, "amq.direct", "two", {"x-filter": "T1 || T2", "x-filter-language": "tags"})
    publish(channel, "amq.direct", 1, 4, 6, 8, key="two")
    assert drained(channel, queue) == [1, 6, 8], "each once"
    publish(channel, "amq.direct", 5, key="two", **{"$tag": "T2"})
    assert drained(channel, queue) == [5]
    channel.queue_unbind(queue, "amq.direct", "two", {"x-filter": "n > 5"})
    publish(channel, "amq.direct", 6, 8, key="two")
    assert drained(channel, queue) == [8]


def test_between_exchanges_and_to_the_alternate_exchange(channel: Any) -> None:
    channel.exchange_declare("alternate", "fanout")
    channel.exchange_declare("first", "fanout", arguments={"alternate-exchange": "alternate"})
    channel.exchange_declare("second", "fanout")
    wanted, rest = (channel.queue_declare("").method.queue for _ in range(2))
    channel.exchange_bind("second", "first", "", FILTER)
    channel.queue_bind(wanted, "second", "", {"x-filter": "n < 8"})
    channel.queue_bind(rest, "alternate", "")
    publish(channel, "first", 1, 6, 9)
    assert (drained(channel, wanted), drained(channel, rest)) == ([6], [1])


def test_what_nobody_takes_is_returned(gateway: GatewayProcess) -> None:
    with opened(gateway) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("").method.queue
        channel.queue_bind(queue, "amq.direct", "mandatory", FILTER)
        for number in (1, 6):
            made = pika.BasicProperties(headers={"n": number})
            if number > 5:
                channel.basic_publish("amq.direct", "mandatory", b"6", made, mandatory=True)
                continue
            with pytest.raises(pika.exceptions.UnroutableError):
                channel.basic_publish("amq.direct", "mandatory", b"1", made, mandatory=True)
        assert drained(channel, queue) == [6]


def test_a_stream_s_consumers(channel: Any, gateway: GatewayProcess) -> None:
    channel.queue_declare("s", durable=True, arguments={"x-queue-type": "stream"})
    publish(channel, "", 1, 6, 2, 7, key="s")
    assert consumed(channel, "s", 2, x_stream_offset="first", **FILTER) == [6, 7]
    assert consumed(channel, "s", 2, x_stream_offset="first", x_group="g", **FILTER) == [6, 7]
    publish(channel, "", 3, 8, key="s")
    assert consumed(channel, "s", 1, x_group="g", **FILTER) == [8]
    for arguments in ({}, {"x-filter": "n > 6"}):
        why = refused(
            gateway,
            lambda other, arguments=arguments: (
                other.basic_qos(prefetch_count=1),
                other.basic_consume("s", print, arguments={"x-group": "g", **arguments}),
            ),
        )
        assert "has the sql selector 'n > 5'" in why
    assert consumed(channel, "s", 6, x_stream_offset="first") == [1, 6, 2, 7, 3, 8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x-filter": "n >"}, "selector, column 4: it ends where a name or value is expected"),
        ({"x-filter": 5}, "invalid arg 'x-filter': expected a string, got 5"),
        ({"x-filter": "n", "x-filter-language": "xpath"}, "known: sql, tags"),
        ({"x-filter": "n", "x-filter-language": 1}, "invalid arg 'x-filter-language'"),
        ({"x-filter": "a | b", "x-filter-language": "tags"}, "column 3"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    gateway: GatewayProcess, channel: Any, arguments: dict[str, Any], words: str
) -> None:
    queue = channel.queue_declare("refused").method.queue
    assert words in refused(gateway, lambda other: other.queue_bind(queue, "amq.topic", "#", arguments))
    assert words in refused(
        gateway, lambda other: other.exchange_bind("amq.fanout", "amq.topic", "#", arguments)
    )
    assert words in refused(gateway, lambda other: other.basic_consume(queue, print, arguments=arguments))
    share = "$share/refused/x/#"
    assert words in refused(gateway, lambda other: other.basic_consume(share, print, arguments=arguments))
    channel.queue_delete(queue)


def test_a_classic_queue_s_consumer_has_no_filter(gateway: GatewayProcess, channel: Any) -> None:
    queue = channel.queue_declare("classic").method.queue
    why = refused(gateway, lambda other: other.basic_consume(queue, print, arguments=FILTER))
    assert "have the selector on its binding, or consume a stream" in why


def test_a_shared_subscription_is_joined_by_who_wants_the_same(gateway: GatewayProcess, channel: Any) -> None:
    share = "$share/g/shared/#"
    channel.queue_declare(share, arguments=FILTER)
    publish(channel, "amq.topic", 1, 6, key="shared.a")
    assert consumed(channel, share, 1, **FILTER) == [6]
    publish(channel, "amq.topic", 2, 7, key="shared.a")
    assert drained(channel, share) == [7], "what gets one message has nothing to say"
    assert "not no selector" in refused(gateway, lambda other: other.basic_consume(share, print))
    assert "not no selector" in refused(gateway, lambda other: other.queue_declare(share))
    channel.queue_declare(share, passive=True)


def test_durable_bindings_have_their_selector_after_a_kill(tmp_path: Any) -> None:
    gateway = GatewayProcess(tmp_path / "data").start()
    try:
        with opened(gateway) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("kept", durable=True)
            channel.queue_bind("kept", "amq.topic", "kept.#", FILTER)
            body = {"bindings": [{"filter": "web/#", "selector": "n < 5"}]}
            httpx.put(f"{gateway.url}/v1/queues/web", json=body).raise_for_status()
        gateway.kill()
        gateway.start()
        with opened(gateway) as connection:
            channel = connection.channel()
            for queue in ("kept", "web"):
                publish(channel, "amq.topic", 1, 6, key=f"{queue}.a")
            assert (drained(channel, "kept"), drained(channel, "web")) == ([6], [1])
        exported = httpx.get(f"{gateway.url}/api/definitions", auth=("guest", "guest")).json()
        assert [row["arguments"] for row in exported["bindings"]] == [FILTER]
    finally:
        gateway.stop()
    assert not gateway.bugs(), "\n".join(gateway.errors)
