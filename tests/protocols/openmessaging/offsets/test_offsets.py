"""PullMessage, UpdateOffset, GetOffset, QueryOffset: over gRPC, in a gateway of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc")

from gateway.rocketmq.numbers import Code, FilterType, QueryOffsetPolicy
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, duration

_names = itertools.count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("offsets") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def raw(gateway: RocketGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints) as client:
        yield client


@pytest.fixture
def topic(raw: RawRocket) -> str:
    """A topic whose offsets have been asked for."""
    name = f"topic-{next(_names)}"
    assert query(raw, name, QueryOffsetPolicy.END) == 0
    return name


def query(raw: RawRocket, topic: str, policy: int, **more: Any) -> int:
    found = raw.call(
        "QueryOffset", message_queue={"topic": {"name": topic}}, query_offset_policy=policy, **more
    )
    assert found.status.code == Code.OK, found.status
    return int(found.offset)


def pull(
    raw: RawRocket,
    topic: str,
    offset: int,
    count: int = 32,
    wait: float = 0,
    tags: str = "*",
    group: str = "g",
) -> tuple[int, list[bytes], int]:
    """Return (code, bodies, the next offset)."""
    answer = list(
        raw.stream(
            "PullMessage",
            15 + wait,
            group={"name": group},
            message_queue={"topic": {"name": topic}},
            offset=offset,
            batch_size=count,
            filter_expression={"type": FilterType.TAG, "expression": tags},
            long_polling_timeout=duration(wait),
        )
    )
    assert [one.WhichOneof("content") for one in (answer[0], answer[-1])] == ["status", "next_offset"]
    messages = [one.message for one in answer[1:-1]]
    assert all(not message.system_properties.receipt_handle for message in messages)
    assert [m.system_properties.queue_offset for m in messages] == sorted(
        m.system_properties.queue_offset for m in messages
    )
    return answer[0].status.code, [message.body for message in messages], answer[-1].next_offset


def committed(raw: RawRocket, topic: str, group: str = "g") -> tuple[int, int]:
    """Return (code, offset)."""
    found = raw.call("GetOffset", group={"name": group}, message_queue={"topic": {"name": topic}})
    return found.status.code, found.offset


def commit(raw: RawRocket, topic: str, offset: int, group: str = "g") -> int:
    return raw.code(
        "UpdateOffset", group={"name": group}, message_queue={"topic": {"name": topic}}, offset=offset
    )


def test_what_is_pulled_can_be_pulled_again(raw: RawRocket, topic: str) -> None:
    raw.send(topic, *(b"%d" % number for number in range(5)))
    assert pull(raw, topic, 0, 2) == (Code.OK, [b"0", b"1"], 2)
    assert pull(raw, topic, 2) == (Code.OK, [b"2", b"3", b"4"], 5)
    assert pull(raw, topic, 1, 1) == (Code.OK, [b"1"], 2)
    assert pull(raw, topic, 5) == (Code.MESSAGE_NOT_FOUND, [], 5)
    assert committed(raw, topic)[0] == Code.OFFSET_NOT_FOUND, "nothing was committed"


def test_a_pull_waits_for_what_comes(gateway: RocketGateway, raw: RawRocket, topic: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(pull, raw, topic, 0, wait=30)
        url = f"{gateway.url}/v1/queues/{topic}"
        wait_for(lambda: httpx.get(url).json()["consumers"], what="the pull")
        raw.send(topic, b"late")
        assert found.result(10) == (Code.OK, [b"late"], 1)
        assert httpx.get(url).json()["groups"] == [], "a pull leaves no group behind"


def test_a_filter_passes_over_and_says_how_far(raw: RawRocket, topic: str) -> None:
    for tag in "ABBAB":
        raw.send(topic, tag.encode(), tag=tag)
    assert pull(raw, topic, 0, 1, tags="B") == (Code.OK, [b"B"], 2)
    assert pull(raw, topic, 2, tags="B") == (Code.OK, [b"B", b"B"], 5)
    assert pull(raw, topic, 0, tags="C") == (Code.MESSAGE_NOT_FOUND, [], 5)


def test_the_bytes_of_an_answer_are_bounded(raw: RawRocket, topic: str) -> None:
    for _ in range(4):
        raw.send(topic, bytes(1_500_000))
    code, found, after = pull(raw, topic, 0)
    assert (code, len(found), after) == (Code.OK, 2, 2)
    assert pull(raw, topic, after)[2] == 4


@pytest.mark.parametrize("offset", [-1, 3])
def test_offsets_that_there_are_not(raw: RawRocket, topic: str, offset: int) -> None:
    raw.send(topic, b"0", b"1")
    assert pull(raw, topic, offset) == (Code.ILLEGAL_OFFSET, [], 0 if offset < 0 else 2)
    assert commit(raw, topic, offset) == Code.ILLEGAL_OFFSET


def test_a_groups_offset_is_its_position_at_all_doors(
    gateway: RocketGateway, raw: RawRocket, topic: str
) -> None:
    raw.send(topic, *(b"%d" % number for number in range(5)))
    assert commit(raw, topic, 2) == Code.OK
    assert committed(raw, topic) == (Code.OK, 2)
    url = f"{gateway.url}/v1/queues/{topic}/receive"
    answer = httpx.post(url, params={"group": "g", "max": 2, "wait": 5}).json()
    assert [one["body"] for one in answer["deliveries"]] == ["2", "3"]
    assert committed(raw, topic) == (Code.OK, 2), "not done with them yet"
    for one in answer["deliveries"]:
        httpx.post(f"{gateway.url}/v1/deliveries/{one['id']}/ack")
    assert committed(raw, topic) == (Code.OK, 4)
    (message,) = raw.receive("g", f"%24queue%2F{topic}")
    assert message.body == b"4"


def test_offsets_by_time(raw: RawRocket, topic: str) -> None:
    raw.send(topic, b"before")
    wait_for(lambda: pull(raw, topic, 0)[0] == Code.OK)
    now_ms = round(time.time() * 1000) + 5
    wait_for(lambda: time.time() * 1000 > now_ms + 5)
    raw.send(topic, b"after")
    at = {"seconds": now_ms // 1000, "nanos": now_ms % 1000 * 1_000_000}
    assert query(raw, topic, QueryOffsetPolicy.TIMESTAMP, timestamp=at) == 1
    assert query(raw, topic, QueryOffsetPolicy.TIMESTAMP, timestamp={"seconds": 1}) == 0
    assert query(raw, topic, QueryOffsetPolicy.TIMESTAMP, timestamp={"seconds": 9_999_999_999}) == 2
    assert query(raw, topic, QueryOffsetPolicy.BEGINNING) == 0
    assert query(raw, topic, QueryOffsetPolicy.END) == 2


def test_a_stream_by_its_own_name_and_what_it_keeps_no_longer(gateway: RocketGateway, raw: RawRocket) -> None:
    wanted = {"kind": "stream", "bindings": ["short/#"], "policy": {"max_length": 3}}
    httpx.put(f"{gateway.url}/v1/queues/short", json=wanted).raise_for_status()
    for number in range(5):
        httpx.post(f"{gateway.url}/v1/topics/short/{number}", content=b"%d" % number)
    queue = "%24queue%2Fshort"
    assert wait_for(lambda: query(raw, queue, QueryOffsetPolicy.BEGINNING)) == 2
    assert pull(raw, queue, 0) == (Code.ILLEGAL_OFFSET, [], 2)
    assert pull(raw, queue, 2) == (Code.OK, [b"2", b"3", b"4"], 5)
    assert commit(raw, queue, 4) == Code.OK
    assert bodies_left(raw, queue) == [b"4"]


def bodies_left(raw: RawRocket, topic: str) -> list[bytes]:
    return [message.body for message in raw.receive("g", topic)]


@pytest.mark.parametrize("policy", [QueryOffsetPolicy.TIMESTAMP, 9])
def test_questions_that_are_none(raw: RawRocket, topic: str, policy: int) -> None:
    asked = {"message_queue": {"topic": {"name": topic}}, "query_offset_policy": policy}
    assert raw.code("QueryOffset", **asked) == Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("%DLQ%g", Code.ILLEGAL_TOPIC),
        ("a%2F%23", Code.ILLEGAL_TOPIC),
        ("%24queue%2Fclassic", Code.ILLEGAL_TOPIC),
        ("classic", Code.ILLEGAL_TOPIC),
        ("%24queue%2Fnone", Code.TOPIC_NOT_FOUND),
        ("%24share%2Fg%2Ft", Code.FORBIDDEN),
    ],
)
def test_topics_without_offsets(gateway: RocketGateway, raw: RawRocket, topic: str, code: Code) -> None:
    httpx.put(f"{gateway.url}/v1/queues/classic", json={})
    assert raw.code("QueryOffset", message_queue={"topic": {"name": topic}}) == code
