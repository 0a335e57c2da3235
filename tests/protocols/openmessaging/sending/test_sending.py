"""SendMessage at a real gateway: what is stored, what is refused, and what comes out."""

from __future__ import annotations

import gzip
import resource
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.protocols.openmessaging.sending.sending import MESSAGES_MAX, REQUEST_BYTES_MAX
from gateway.rocketmq.numbers import Code, Encoding, MessageType
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, new_id

SECRET = "a secret that signs"
_numbers = count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    sets = (
        "storage.segment_bytes=65536",
        "openmessaging.body_bytes_max=20000",
    )
    process = RocketGateway(tmp_path_factory.mktemp("sending") / "data", sets)
    process.start()
    for name in ("ann", "bob"):
        url = f"{process.url}/v1/admin/users/{name}"
        httpx.put(url, json={"secret": SECRET}).raise_for_status()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def raw(gateway: RocketGateway, request: pytest.FixtureRequest) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints, request.node.name) as client:
        yield client


@pytest.fixture
def topic(raw: RawRocket) -> str:
    """Return a topic that the group `g` waits for."""
    name = f"t{next(_numbers)}"
    raw.receive("g", name)
    return name


def bodies(raw: RawRocket, topic: str, wait: float = 0) -> list[bytes]:
    return [message.body for message in raw.receive("g", topic, wait=wait)]


def later(seconds: float) -> dict[str, int]:
    whole, rest = divmod(int((time.time() + seconds) * 1000), 1000)
    return {"seconds": whole, "nanos": rest * 1_000_000}


def test_what_is_sent_comes_as_it_was(raw: RawRocket, topic: str) -> None:
    fields: dict[str, Any] = {
        "message_type": MessageType.FIFO,
        "message_group": "customer",
        "tag": "red",
        "keys": ["k1", "k2"],
        "trace_context": "00-1-2-01",
        "born_timestamp": {"seconds": 1_700_000_000, "nanos": 5_000_000},
    }
    message = {
        "topic": {"name": topic},
        "body": b"\0\xff",
        "user_properties": {"a": "1", "$content-type": "text/plain"},
        "system_properties": {"message_id": new_id(), **fields},
    }
    answer = raw.call("SendMessage", messages=[message])
    (entry,) = answer.entries
    assert (answer.status.code, entry.status.code) == (Code.OK, Code.OK)
    (found,) = raw.receive("g", topic)
    system = found.system_properties
    assert found.body == b"\0\xff"
    assert dict(found.user_properties) == message["user_properties"]
    assert (system.message_id, system.delivery_attempt) == (entry.message_id, 1)
    assert (system.message_group, system.tag, list(system.keys)) == ("customer", "red", ["k1", "k2"])
    assert (system.message_type, system.trace_context) == (MessageType.FIFO, "00-1-2-01")
    assert system.born_timestamp.ToMilliseconds() == 1_700_000_000_005


def test_many_in_one_request_have_results_of_their_own(raw: RawRocket, topic: str) -> None:
    answer = raw.send(topic, b"1", b"", b"3")
    assert answer.status.code == Code.MULTIPLE_RESULTS
    codes = [entry.status.code for entry in answer.entries]
    assert codes == [Code.OK, Code.MESSAGE_BODY_EMPTY, Code.OK]
    assert all(entry.message_id for entry in answer.entries)
    assert bodies(raw, topic) == [b"1", b"3"]
    good = raw.send(topic, b"4", b"5")
    assert good.status.code == Code.OK
    assert good.entries[0].offset < good.entries[1].offset
    bad = raw.send(topic, b"", b"")
    assert (bad.status.code, len(bad.entries)) == (Code.MESSAGE_BODY_EMPTY, 2)
    assert "empty" in bad.status.message


@pytest.mark.parametrize("number", [0, MESSAGES_MAX + 1])
def test_a_request_has_some_messages_and_not_too_many(raw: RawRocket, number: int) -> None:
    assert raw.send("t", *[b"x"] * number).status.code == Code.BAD_REQUEST


def test_a_batch_as_large_as_may_be(raw: RawRocket, topic: str) -> None:
    answer = raw.send(topic, *[b"x"] * MESSAGES_MAX)
    assert (answer.status.code, len(answer.entries)) == (Code.OK, MESSAGES_MAX)


def test_a_few_bytes_are_not_unpacked_to_more_than_a_turn_can_hold(raw: RawRocket, topic: str) -> None:
    packed = gzip.compress(b"\0" * 20_000)
    answer = raw.send(topic, *[packed] * MESSAGES_MAX, body_encoding=Encoding.GZIP)
    codes = [entry.status.code for entry in answer.entries]
    taken = -(-REQUEST_BYTES_MAX // 20_000)
    assert codes == [Code.OK] * taken + [Code.PAYLOAD_TOO_LARGE] * (MESSAGES_MAX - taken)


def test_what_a_client_sends_again_is_published_once(
    gateway: RocketGateway, raw: RawRocket, topic: str
) -> None:
    first = raw.send(topic, b"1", message_id="same")
    again = raw.send(topic, b"1", message_id="same")
    assert again == first
    batch = raw.send(topic, b"1", b"1", message_id="same")
    assert [entry.offset for entry in batch.entries] == [first.entries[0].offset] * 2
    with RawRocket(gateway.endpoints, "another") as other:
        other.send(topic, b"2", message_id="same")
    assert bodies(raw, topic) == [b"1", b"2"]


def test_a_duplicate_is_known_after_a_kill(tmp_path: Path) -> None:
    process = RocketGateway(tmp_path / "data").start()
    with RawRocket(process.endpoints) as raw:
        raw.receive("g", "t")
        first = raw.send("t", b"1", message_id="same")
    process.kill()
    process.start()
    with RawRocket(process.endpoints) as raw:
        assert raw.send("t", b"1", message_id="same").entries[0].offset == first.entries[0].offset
        assert bodies(raw, "t") == [b"1"]
    process.stop()


def test_a_compressed_body_is_stored_without_its_compression(raw: RawRocket, topic: str) -> None:
    raw.send(topic, gzip.compress(b"plain" * 100), body_encoding=Encoding.GZIP)
    (found,) = raw.receive("g", topic)
    assert (found.body, found.system_properties.body_encoding) == (b"plain" * 100, Encoding.IDENTITY)


def test_a_body_that_is_too_large_with_or_without_its_compression(raw: RawRocket, topic: str) -> None:
    assert raw.send(topic, b"x" * 20_001).status.code == Code.MESSAGE_BODY_TOO_LARGE
    packed = gzip.compress(b"\0" * 100_000)
    assert raw.send(topic, packed, body_encoding=Encoding.GZIP).status.code == Code.MESSAGE_BODY_TOO_LARGE
    assert bodies(raw, topic) == []


TOPICS = [
    ("", Code.ILLEGAL_TOPIC),
    ("a/b", Code.ILLEGAL_TOPIC),
    ("%2f", Code.ILLEGAL_TOPIC),
    ("a%23", Code.ILLEGAL_TOPIC),
    ("x" * 128, Code.ILLEGAL_TOPIC),
    ("%DLQ%g", Code.ILLEGAL_TOPIC),
    ("%RETRY%g", Code.ILLEGAL_TOPIC),
    ("TBW102", Code.ILLEGAL_TOPIC),
    ("%24dead%2Fq", Code.FORBIDDEN),
    ("%24queue%2Fnone", Code.TOPIC_NOT_FOUND),
    ("%24queue%2F%24dead%2Fq", Code.FORBIDDEN),
]


@pytest.mark.parametrize(("name", "code"), TOPICS)
def test_a_topic_that_nobody_sends_to(raw: RawRocket, name: str, code: Code) -> None:
    assert raw.send(name, b"x").status.code == code


def test_a_topic_that_is_a_queue(gateway: RocketGateway, raw: RawRocket) -> None:
    httpx.put(f"{gateway.url}/v1/queues/jobs", json={}).raise_for_status()
    assert raw.send("%24queue%2Fjobs", b"job").status.code == Code.OK
    assert bodies(raw, "%24queue%2Fjobs") == [b"job"]


def test_a_topic_that_has_a_stream_says_where_a_message_is_in_it(
    gateway: RocketGateway, raw: RawRocket
) -> None:
    wanted = {"kind": "stream", "bindings": ["streamed"]}
    httpx.put(f"{gateway.url}/v1/queues/streamed", json=wanted).raise_for_status()
    assert [entry.offset for entry in raw.send("streamed", b"1", b"2").entries] == [0, 1]
    assert raw.send("streamed", b"3", message_id="third").entries[0].offset == 2
    raw.send("streamed", b"4")
    assert raw.send("streamed", b"3", message_id="third").entries[0].offset == 2


def test_a_full_queue_takes_nothing(gateway: RocketGateway, raw: RawRocket) -> None:
    policy = {"max_length": 1, "overflow": "reject"}
    name = f"full{next(_numbers)}"
    httpx.put(f"{gateway.url}/v1/queues/{name}", json={"policy": policy}).raise_for_status()
    answer = raw.send(f"%24queue%2F{name}", b"1", b"2")
    assert [entry.status.code for entry in answer.entries] == [Code.OK, Code.TOO_MANY_REQUESTS]
    assert bodies(raw, f"%24queue%2F{name}") == [b"1"]


LIMITED = """
[anonymous]
networks = ["127.0.0.0/8"]
publish = ["open/#"]
[quotas.slow]
subject = "anonymous"
publish_rate = 2
"""


def test_who_may_not_send_and_who_sends_faster_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(LIMITED)
    process = RocketGateway(tmp_path / "data", dev=False, config=tmp_path / "gateway.toml").start()
    with RawRocket(process.endpoints) as raw:
        assert raw.send("closed", b"x").status.code == Code.FORBIDDEN
        codes = [entry.status.code for entry in raw.send("open%2Ft", *[b"x"] * 10).entries]
        assert (codes[0], codes[-1]) == (Code.OK, Code.TOO_MANY_REQUESTS)
    process.stop()


def test_nothing_is_ok_that_is_not_stored(gateway: RocketGateway, raw: RawRocket, topic: str) -> None:
    limits = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        one = raw.send(topic, b"1" * 19_000, message_id="one")
        many = raw.send(topic, b"2" * 19_000, b"3")
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, limits)
    assert one.status.code == Code.MASTER_PERSISTENCE_TIMEOUT
    codes = {many.status.code, *(entry.status.code for entry in many.entries)}
    assert codes == {Code.MASTER_PERSISTENCE_TIMEOUT}
    assert raw.send(topic, b"1", message_id="one").status.code == Code.OK  # the first was none
    assert bodies(raw, topic) == [b"1"]


def test_what_is_refused_has_a_line_that_names_the_client(gateway: RocketGateway, raw: RawRocket) -> None:
    raw.send("t", b"x", b"")
    name = raw.metadata["x-mq-client-id"]
    wait_for(
        lambda: [line for line in gateway.errors if name in line and "MESSAGE_BODY_EMPTY" in line],
        what="the line",
    )


# -- later ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("milliseconds", [False, True], ids=["seconds", "milliseconds"])
def test_a_message_for_later(raw: RawRocket, topic: str, milliseconds: bool) -> None:
    at = later(0.3)
    if milliseconds:  # as the Python client's documentation has it
        at = {"seconds": at["seconds"] * 1000 + at["nanos"] // 1_000_000}
    (entry,) = raw.send(topic, b"1", message_type=MessageType.DELAY, delivery_timestamp=at).entries
    assert entry.recall_handle
    assert bodies(raw, topic) == []
    (found,) = raw.receive("g", topic, wait=10)
    assert found.system_properties.message_type == MessageType.DELAY
    assert found.system_properties.delivery_timestamp.ToMilliseconds() < time.time() * 1000 + 1


def test_a_time_that_is_over_is_now(raw: RawRocket, topic: str) -> None:
    (entry,) = raw.send(topic, b"1", message_type=MessageType.DELAY, delivery_timestamp=later(-60)).entries
    assert not entry.recall_handle
    assert bodies(raw, topic, 10) == [b"1"]


def test_a_time_that_nobody_waits_for(raw: RawRocket, topic: str) -> None:
    at = later(11 * 366 * 86_400)
    answer = raw.send(topic, b"1", message_type=MessageType.DELAY, delivery_timestamp=at)
    assert answer.status.code == Code.ILLEGAL_DELIVERY_TIME


def send_later(raw: RawRocket, topic: str, seconds: float = 600, message_id: str = "") -> str:
    """Return the handle by which a message can be recalled."""
    sent = raw.send(
        topic, b"1", message_type=MessageType.DELAY, delivery_timestamp=later(seconds), message_id=message_id
    )
    assert sent.status.code == Code.OK
    handle: str = sent.entries[0].recall_handle
    return handle


def recall(raw: RawRocket, topic: str, handle: str) -> Any:
    return raw.call("RecallMessage", topic={"name": topic}, recall_handle=handle)


def test_a_message_that_waits_is_recalled_once(raw: RawRocket, topic: str) -> None:
    handle = send_later(raw, topic, message_id="mine")
    assert send_later(raw, topic, message_id="mine") == handle  # it was sent again
    answer = recall(raw, topic, handle)
    assert (answer.status.code, answer.message_id) == (Code.OK, "mine")
    assert recall(raw, topic, handle).status.code == Code.NOT_FOUND


def test_what_was_delivered_is_not_recalled(raw: RawRocket, topic: str) -> None:
    handle = send_later(raw, topic, 0.2)
    assert bodies(raw, topic, 10) == [b"1"]
    assert recall(raw, topic, handle).status.code == Code.NOT_FOUND


def test_a_handle_is_not_made_up_nor_anothers(gateway: RocketGateway, raw: RawRocket, topic: str) -> None:
    with RawRocket(gateway.endpoints, "ann") as ann, RawRocket(gateway.endpoints, "bob") as bob:
        ann.log_in("ann", SECRET)
        bob.log_in("bob", SECRET)
        handle = send_later(ann, topic)
        assert recall(bob, topic, handle).status.code == Code.FORBIDDEN
        assert recall(ann, "other", handle).status.code == Code.BAD_REQUEST
        forged = ("B" if handle[0] == "A" else "A") + handle[1:]
        for bad in ("", "x", "é", handle[:-2], handle + "AA", forged):
            assert recall(ann, topic, bad).status.code == Code.BAD_REQUEST
        assert recall(ann, topic, handle).status.code == Code.OK


def test_a_handle_holds_over_a_restart(tmp_path: Path) -> None:
    process = RocketGateway(tmp_path / "data").start()
    with RawRocket(process.endpoints) as raw:
        handle = send_later(raw, "t")
    process.kill()
    process.start()
    with RawRocket(process.endpoints) as raw:
        assert recall(raw, "t", handle).status.code == Code.OK
    process.stop()
