"""ReceiveMessage and what settles: over gRPC, in a gateway of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest

from gateway.rocketmq.numbers import ClientType, Code, MessageType
from tests.process import RocketGateway, wait_for
from tests.protocols.openmessaging.receiving.pop import attempts, bodies, change, forward, handle, waiting
from tests.rocketmq_raw import RawRocket, RefusedRaw, duration, subscription

# -- receiving ------------------------------------------------------------------------------------


def test_an_answer_is_a_status_then_messages_then_the_time(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1", b"2", b"3")
    answer = list(raw.begin_receive("g", topic, 2))
    assert [one.WhichOneof("content") for one in answer] == [
        "status",
        "message",
        "message",
        "delivery_timestamp",
    ]
    assert answer[0].status.code == Code.OK
    first, second = answer[1].message, answer[2].message
    assert bodies([first, second]) == [b"1", b"2"]
    assert first.topic.name == topic
    assert attempts([first, second]) == [1, 1]
    assert first.system_properties.invisible_duration.seconds == 60
    assert handle(first) != handle(second)
    assert raw.ack("g", topic, first, second).status.code == Code.OK
    assert bodies(raw.receive("g", topic)) == [b"3"]


def test_nothing_is_a_status_of_its_own(raw: RawRocket, topic: str) -> None:
    (only,) = raw.begin_receive("g", topic)
    assert only.status.code == Code.MESSAGE_NOT_FOUND


def test_a_long_poll_is_answered_when_there_is_something(
    gateway: RocketGateway, raw: RawRocket, other: RawRocket, topic: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(raw.receive, "g", topic, wait=30)
        wait_for(lambda: waiting(gateway, topic), what="the poll")
        other.send(topic, b"late")
        assert bodies(found.result(10)) == [b"late"]
    assert waiting(gateway, topic) == 0


def test_a_poll_is_answered_before_its_clients_deadline(raw: RawRocket, topic: str) -> None:
    answer = raw.stream(
        "ReceiveMessage",
        1.0,
        group={"name": "g"},
        message_queue={"topic": {"name": topic}},
        batch_size=1,
        long_polling_timeout=duration(30),
    )
    assert [one.status.code for one in answer] == [Code.MESSAGE_NOT_FOUND]


def test_the_bytes_of_an_answer_are_bounded(raw: RawRocket, topic: str) -> None:
    large = [bytes([number]) * 1_500_000 for number in range(4)]
    for body in large:
        raw.send(topic, body)
    first = raw.receive("g", topic, 4)
    rest = raw.receive("g", topic, 4)
    assert bodies(first + rest) == large
    assert len(first) == 2
    assert attempts(rest) == [1, 1], "what did not fit was not an attempt"


def test_a_client_that_hangs_up_loses_nothing(
    gateway: RocketGateway, raw: RawRocket, other: RawRocket, topic: str
) -> None:
    answer = raw.begin_receive("g", topic, wait=30)
    wait_for(lambda: waiting(gateway, topic), what="the poll")
    answer.cancel()
    wait_for(lambda: not waiting(gateway, topic), what="its end")
    other.send(topic, b"1")
    (message,) = other.receive("g", topic, wait=10)
    assert (message.body, attempts([message])) == (b"1", [1])


def test_members_share_what_there_is(raw: RawRocket, other: RawRocket, topic: str) -> None:
    raw.send(topic, *(b"%d" % number for number in range(10)))
    first, second = raw.receive("g", topic, 5), other.receive("g", topic, 32)
    assert sorted(bodies(first + second)) == [b"%d" % number for number in range(10)]
    assert raw.receive("g", topic) == []
    assert other.receive("another", topic) == [], "a group begins with what comes from now on"


# -- visible again --------------------------------------------------------------------------------


def test_what_is_not_acknowledged_comes_again(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1")
    first = raw.receive("g", topic, invisible=0.05)
    again = raw.receive("g", topic, wait=10)
    assert (bodies(again), attempts(first + again)) == ([b"1"], [1, 2])
    assert raw.ack("g", topic, *first).status.code == Code.INVALID_RECEIPT_HANDLE
    assert raw.ack("g", topic, *again).status.code == Code.OK


@pytest.mark.parametrize("seconds", [-1, 0, 12 * 3600 + 1])
def test_times_to_be_invisible_that_are_none(raw: RawRocket, topic: str, seconds: float) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("g", topic, invisible=seconds)
    assert caught.value.code == Code.ILLEGAL_INVISIBLE_TIME


def test_a_change_makes_another_handle(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1")
    (message,) = raw.receive("g", topic, invisible=60)
    changed = change(raw, topic, handle(message), 60)
    assert changed.status.code == Code.OK
    assert raw.ack("g", topic, handle(message)).status.code == Code.INVALID_RECEIPT_HANDLE
    changed = change(raw, topic, changed.receipt_handle, 0.05)
    again = raw.receive("g", topic, wait=10)
    assert attempts(again) == [2]
    assert raw.ack("g", topic, changed.receipt_handle).status.code == Code.INVALID_RECEIPT_HANDLE
    changed = change(raw, topic, handle(again[0]), 60)
    assert raw.ack("g", topic, changed.receipt_handle).status.code == Code.OK


@pytest.mark.parametrize(("seconds", "code"), [(-1, Code.ILLEGAL_INVISIBLE_TIME), (50_000, 40011), (1, None)])
def test_changes_that_are_refused(raw: RawRocket, topic: str, seconds: float, code: Code | None) -> None:
    expected = Code.INVALID_RECEIPT_HANDLE if code is None else code
    assert change(raw, topic, "unknown", seconds).status.code == expected


def test_who_suspends_has_not_tried(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1")
    (message,) = raw.receive("g", topic)
    assert change(raw, topic, handle(message), 0.05, suspend=True).status.code == Code.OK
    assert attempts(raw.receive("g", topic, wait=10)) == [1]


def test_a_push_consumer_gives_back_by_a_change(raw: RawRocket, topic: str) -> None:
    raw.tell(**subscription("g", topic, ClientType.PUSH_CONSUMER))
    raw.send(topic, b"1")
    (message,) = raw.receive("g", topic, auto_renew=True)
    assert change(raw, topic, handle(message), 0.05).status.code == Code.OK
    assert raw.ack("g", topic, message).status.code == Code.INVALID_RECEIPT_HANDLE
    assert attempts(raw.receive("g", topic, wait=10)) == [2]


def test_what_is_renewed_comes_back_with_its_client_gone(
    raw: RawRocket, other: RawRocket, topic: str
) -> None:
    raw.send(topic, b"renewed")
    assert bodies(raw.receive("g", topic, invisible=0.01, auto_renew=True)) == [b"renewed"]
    raw.send(topic, b"timed")
    assert bodies(raw.receive("g", topic, invisible=60)) == [b"timed"]
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(other.receive, "g", topic, wait=30)
        assert raw.code("NotifyClientTermination", group={"name": "g"}) == Code.OK
        again = found.result(10)
    assert (bodies(again), attempts(again)) == ([b"renewed"], [2])
    assert other.receive("g", topic) == [], "who said for how long may come back for it"


def test_the_same_attempt_gets_the_same_answer(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1", b"2", b"3")
    first = raw.receive("g", topic, 2, attempt_id="one")
    again = raw.receive("g", topic, 2, attempt_id="one")
    assert (bodies(again), attempts(again)) == ([b"1", b"2"], [1, 1])
    assert [handle(message) for message in again] == [handle(message) for message in first]
    assert bodies(raw.receive("g", topic, attempt_id="two")) == [b"3"]
    raw.ack("g", topic, again[0])
    assert bodies(raw.receive("g", topic, attempt_id="one")) == [b"2"]
    assert raw.receive("another", topic, attempt_id="one") == [], (
        "it is an attempt at one topic, in one group"
    )
    raw.ack("g", topic, again[1])
    assert raw.receive("g", topic, attempt_id="one") == []


def test_an_attempt_that_is_repeated_ends_the_one_that_waits(
    gateway: RocketGateway, raw: RawRocket, topic: str
) -> None:
    lost = raw.begin_receive("g", topic, wait=30, attempt_id="one")
    wait_for(lambda: waiting(gateway, topic), what="the poll")
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(raw.receive, "g", topic, wait=30, attempt_id="one")
        assert [one.status.code for one in lost] == [Code.MESSAGE_NOT_FOUND]
        raw.send(topic, b"1")
        assert bodies(found.result(10)) == [b"1"]


# -- handles --------------------------------------------------------------------------------------


def test_entries_are_settled_each_for_itself(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1", b"2")
    one, two = raw.receive("g", topic)
    answer = raw.ack("g", topic, one, "made-up", two)
    assert answer.status.code == Code.MULTIPLE_RESULTS
    assert [entry.status.code for entry in answer.entries] == [
        Code.OK,
        Code.INVALID_RECEIPT_HANDLE,
        Code.OK,
    ]
    assert [entry.receipt_handle for entry in answer.entries] == [handle(one), "made-up", handle(two)]
    answer = raw.ack("g", topic, one, two)
    assert answer.status.code == Code.INVALID_RECEIPT_HANDLE, "once"


def test_entries_are_not_without_end(raw: RawRocket, topic: str) -> None:
    assert raw.ack("g", topic, *["made-up"] * 5000).status.code == Code.BAD_REQUEST


def test_a_bad_handle_has_its_line_in_the_log(gateway: RocketGateway, topic: str) -> None:
    with RawRocket(gateway.endpoints, "forgetful") as client:
        client.ack("g", topic, "made-up")
    wait_for(lambda: [line for line in gateway.errors if "forgetful" in line and "40013" in line])


def test_a_handle_is_of_its_group(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1")
    (message,) = raw.receive("g", topic)
    assert raw.ack("another", topic, message).status.code == Code.INVALID_RECEIPT_HANDLE
    assert raw.ack("g", topic, message).status.code == Code.OK


def test_a_handle_of_a_queue_that_is_gone(gateway: RocketGateway, raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1")
    (message,) = raw.receive("g", topic)
    assert httpx.delete(f"{gateway.url}/v1/queues/%24share%2Fg%2F{topic}").status_code == 204
    assert raw.ack("g", topic, message).status.code == Code.INVALID_RECEIPT_HANDLE


# -- dead letters ---------------------------------------------------------------------------------


def test_forwarding_is_to_the_dead_letters_of_the_group(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"1", tag="t")
    (message,) = raw.receive("g", topic)
    assert forward(raw, topic, handle(message)) == Code.OK
    assert forward(raw, topic, handle(message)) == Code.INVALID_RECEIPT_HANDLE
    letters = raw.receive("undertakers", "%DLQ%g")
    (letter,) = [found for found in letters if found.system_properties.dead_letter_queue.topic == topic]
    assert (letter.body, letter.system_properties.tag, letter.topic.name) == (b"1", "t", "%DLQ%g")
    assert letter.user_properties["dead-letter-reason"] == "forwarded by its consumer"
    assert raw.ack("undertakers", "%DLQ%g", *letters).status.code == Code.OK


def test_the_last_attempt_is_the_last(raw: RawRocket, topic: str) -> None:
    raw.tell(**subscription("g", topic, ClientType.PUSH_CONSUMER))
    raw.send(topic, b"poison")
    for attempt in range(1, 18):
        (message,) = raw.receive("g", topic, wait=10)
        assert attempts([message]) == [attempt]
        assert change(raw, topic, handle(message), 0).status.code == Code.OK
    (letter,) = raw.receive("g", "%DLQ%g")
    assert letter.body == b"poison"
    assert letter.user_properties["dead-letter-attempts"] == "17"
    raw.ack("g", "%DLQ%g", letter)


def test_the_first_letter_of_a_group_is_waited_for(raw: RawRocket, other: RawRocket) -> None:
    group, topic = "mourners", "mourned"
    raw.receive(group, topic)
    raw.send(topic, b"1")
    (message,) = raw.receive(group, topic)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(other.receive, group, "%DLQ%" + group, wait=30)
        code = raw.code(
            "ForwardMessageToDeadLetterQueue",
            group={"name": group},
            topic={"name": topic},
            receipt_handle=handle(message),
        )
        assert code == Code.OK
        assert bodies(found.result(10)) == [b"1"]


def test_what_is_retried_waits_in_its_own_queue(raw: RawRocket) -> None:
    assert raw.receive("g", "%RETRY%g") == []


# -- queues ---------------------------------------------------------------------------------------


def test_a_queue_is_received_from_by_its_own_name(gateway: RocketGateway, raw: RawRocket) -> None:
    httpx.put(f"{gateway.url}/v1/queues/jobs", json={"bindings": ["work/#"]})
    httpx.post(f"{gateway.url}/v1/topics/work/a", content=b"1")
    (message,) = raw.receive("any", "%24queue%2Fjobs")
    assert (message.body, message.user_properties["$topic"]) == (b"1", "work/a")
    assert raw.ack("any", "%24queue%2Fjobs", message).status.code == Code.OK


def test_a_streams_group_has_its_position(gateway: RocketGateway, raw: RawRocket) -> None:
    httpx.put(f"{gateway.url}/v1/queues/events", json={"kind": "stream", "bindings": ["e"]})
    queue = "%24queue%2Fevents"
    assert raw.receive("one", queue) == []
    httpx.post(f"{gateway.url}/v1/topics/e", content=b"1")
    (message,) = raw.receive("one", queue)
    assert raw.ack("two", queue, message).status.code == Code.INVALID_RECEIPT_HANDLE
    assert raw.ack("one", queue, message).status.code == Code.OK
    (shown,) = httpx.get(f"{gateway.url}/v1/queues/events").json()["groups"]
    assert (shown["name"], shown["cursor"], shown["unsettled"]) == ("one", 1, 0)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("%24queue%2Fnone", Code.TOPIC_NOT_FOUND),
        ("%24sys%2Fx", Code.FORBIDDEN),
        ("a%2F%2F%23%2Fb", Code.ILLEGAL_TOPIC),
    ],
)
def test_topics_that_cannot_be_received_from(raw: RawRocket, topic: str, code: Code) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("g", topic)
    assert caught.value.code == code


def test_a_groups_queue_is_received_from_by_its_topic_alone(raw: RawRocket, topic: str) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("strangers", f"%24queue%2F%24share%2Fg%2F{topic}")
    assert caught.value.code == Code.ILLEGAL_TOPIC


def test_a_filter_of_topics_is_subscribed_to_as_one(gateway: RocketGateway, raw: RawRocket) -> None:
    wild = "sensors%2F%2B%2Ftemperature"
    raw.receive("g", wild)
    httpx.post(f"{gateway.url}/v1/topics/sensors/1/temperature", content=b"20")
    (message,) = raw.receive("g", wild)
    assert (message.body, message.user_properties["$topic"]) == (b"20", "sensors/1/temperature")
    assert raw.ack("g", wild, message).status.code == Code.OK


def test_a_namespace_is_a_first_level(gateway: RocketGateway, raw: RawRocket) -> None:
    with RawRocket(gateway.endpoints, "tenant", x_mq_namespace="shop") as tenant:
        assert tenant.receive("till", "orders") == []
        assert raw.receive("till", "orders") == []
        httpx.post(f"{gateway.url}/v1/topics/shop/orders", content=b"theirs")
        httpx.post(f"{gateway.url}/v1/topics/orders", content=b"nobody's")
        (message,) = tenant.receive("till", "orders")
        assert message.body == b"theirs"
        settled = {"group": {"name": "till"}, "topic": {"name": "orders"}}
        code = tenant.code("ForwardMessageToDeadLetterQueue", **settled, receipt_handle=handle(message))
        assert code == Code.OK
        (other,) = raw.receive("till", "orders")
        code = raw.code("ForwardMessageToDeadLetterQueue", **settled, receipt_handle=handle(other))
        assert code == Code.OK
        letters = tenant.receive("till", "%DLQ%till")
        assert bodies(letters) == [b"theirs"]
        assert bodies(raw.receive("till", "%DLQ%till")) == [b"nobody's"], "the other one is in hands"


# -- order ----------------------------------------------------------------------------------------


def test_a_message_group_is_in_order_one_by_one(raw: RawRocket, topic: str) -> None:
    for number in range(3):
        for group in ("a", "b"):
            raw.send(
                topic, b"%s%d" % (group.encode(), number), message_type=MessageType.FIFO, message_group=group
            )
    raw.send(topic, b"none")
    first = raw.receive("g", topic)
    assert bodies(first) == [b"a0", b"b0", b"none"]
    assert raw.receive("g", topic) == []
    raw.ack("g", topic, first[0])
    second = raw.receive("g", topic, wait=10)
    assert bodies(second) == [b"a1"], "b waits for its first one"
    assert change(raw, topic, handle(first[1]), 0.05).status.code == Code.OK
    (b0,) = raw.receive("g", topic, wait=10)
    assert (b0.body, attempts([b0])) == (b"b0", [2])
    assert forward(raw, topic, handle(b0)) == Code.OK
    assert bodies(raw.receive("g", topic, wait=10)) == [b"b1"], "given up is done with"
    raw.ack("g", "%DLQ%g", *raw.receive("g", "%DLQ%g"))


# -- a crash --------------------------------------------------------------------------------------


def test_after_a_crash_attempts_are_counted_and_letters_are_there(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    process = RocketGateway(tmp_path_factory.mktemp("crash") / "data")
    process.start()
    try:
        with RawRocket(process.endpoints) as raw:
            raw.receive("g", "t")
            raw.send("t", b"dead", b"1", b"2", b"3")
            (dead,) = raw.receive("g", "t", 1)
            assert forward(raw, "t", handle(dead)) == Code.OK
            (letter,) = raw.receive("g", "%DLQ%g")
            assert forward(raw, "%DLQ%g", handle(letter)) == Code.OK, "it has nowhere to go, and waits"
            assert raw.receive("g", "%DLQ%g") == []
            one, two = raw.receive("g", "t", 2)
            assert raw.ack("g", "t", two).status.code == Code.OK
        process.kill()
        process.start()
        with RawRocket(process.endpoints) as raw:
            assert raw.ack("g", "t", one).status.code == Code.INVALID_RECEIPT_HANDLE
            again = raw.receive("g", "t", wait=10)
            assert (bodies(again), attempts(again)) == ([b"1", b"3"], [2, 1])
            assert bodies(raw.receive("g", "%DLQ%g")) == [b"dead"]
    finally:
        process.stop()


def test_a_gateway_that_stops_answers_who_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = RocketGateway(tmp_path_factory.mktemp("stop") / "data")
    process.start()
    try:
        with RawRocket(process.endpoints) as raw:
            answer = raw.begin_receive("g", "t", wait=30)
            seen: list[Any] = []
            reader = threading.Thread(target=_read, args=(answer, seen.append))
            reader.start()
            wait_for(lambda: waiting(process, "t"), what="the poll")
            assert process.stop() == 0
            reader.join(10)
        assert seen == [Code.MESSAGE_NOT_FOUND]
    finally:
        process.stop()


def _read(answer: Any, seen: Callable[[int], None]) -> None:
    try:
        for one in answer:
            seen(one.status.code)
    except grpc.RpcError as error:
        seen(error.code().value[0])
