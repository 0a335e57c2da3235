"""Telemetry, Heartbeat and who is still there, at a real gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc")

import grpc

from gateway.core.policy import ATTEMPTS, BACKOFF_MS
from gateway.rocketmq.numbers import ClientType, Code
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, subscription

BROKEN_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    sets = (
        "openmessaging.client_idle_seconds=20",
        "openmessaging.fifo_groups=['fifo', 'orders-*']",
        "openmessaging.body_bytes_max=100000",
        "openmessaging.long_poll_seconds_max=7.5",
    )
    found = RocketGateway(tmp_path_factory.mktemp("data"), sets).start()
    yield found
    assert found.bugs() == []
    assert found.stop() == 0


@pytest.fixture
def raw(gateway: RocketGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints) as found:
        yield found


def producer(*topics: str) -> dict[str, Any]:
    """Return a producer's settings."""
    return {
        "client_type": ClientType.PRODUCER,
        "publishing": {"topics": [{"name": topic} for topic in topics]},
    }


def clients(gateway: RocketGateway) -> int:
    text = httpx.get(f"{gateway.url}/metrics", timeout=10).text
    [line] = [line for line in text.splitlines() if line.startswith("gateway_openmessaging_clients ")]
    return int(float(line.rpartition(" ")[2]))


def test_a_producer_is_told_sizes_and_pauses(raw: RawRocket) -> None:
    found = raw.tell(**producer("a", "b"))
    assert found.status.code == Code.OK
    settings = found.settings
    assert settings.client_type == ClientType.PRODUCER
    assert [topic.name for topic in settings.publishing.topics] == ["a", "b"]
    assert settings.publishing.max_body_size == 100_000
    assert not settings.publishing.validate_message_type
    backoff = settings.backoff_policy
    assert backoff.max_attempts == 3
    assert backoff.exponential_backoff.initial.nanos == 10_000_000
    assert backoff.exponential_backoff.max.seconds == 1
    assert backoff.exponential_backoff.multiplier == 2
    assert settings.HasField("metric")
    assert not settings.metric.on


def test_a_producer_may_name_no_topic_yet(raw: RawRocket) -> None:
    assert raw.tell(client_type=ClientType.PRODUCER, publishing={}).status.code == Code.OK


@pytest.mark.parametrize("kind", [ClientType.PUSH_CONSUMER, ClientType.SIMPLE_CONSUMER])
def test_a_consumer_is_told_waits_and_attempts(raw: RawRocket, kind: int) -> None:
    settings = raw.tell(**subscription("g", "t", kind)).settings
    assert settings.subscription.group.name == "g"
    assert not settings.subscription.fifo
    assert settings.subscription.receive_batch_size == 32
    wait = settings.subscription.long_polling_timeout
    assert (wait.seconds, wait.nanos) == (7, 500_000_000)
    assert settings.backoff_policy.max_attempts == ATTEMPTS
    pauses = [step.seconds * 1000 for step in settings.backoff_policy.customized_backoff.next]
    assert pauses == list(BACKOFF_MS)


def test_the_policy_of_the_groups_queue_counts(gateway: RocketGateway, raw: RawRocket) -> None:
    policy = {"delivery_limit": 3, "backoff_ms": [1000, 5000]}
    path = f"{gateway.url}/v1/queues/%24share%2Fpatient%2Ft"
    raw.tell(**subscription("patient", "t"))
    found = httpx.put(path, params={"update": "true"}, json={"policy": policy}, timeout=10)
    assert found.status_code == 200, found.text
    backoff = raw.tell(**subscription("patient", "t")).settings.backoff_policy
    assert backoff.max_attempts == 3
    assert [step.seconds for step in backoff.customized_backoff.next] == [1, 5]


@pytest.mark.parametrize(("group", "fifo"), [("fifo", True), ("orders-7", True), ("fifo-2", False)])
def test_groups_in_order_are_configured(raw: RawRocket, group: str, fifo: bool) -> None:
    assert raw.tell(**subscription(group, "t")).settings.subscription.fifo is fifo


def test_a_group_in_order_stays_one_after_a_restart(tmp_path: Path) -> None:
    gateway = RocketGateway(tmp_path).start()
    try:
        with RawRocket(gateway.endpoints, "first") as first:
            assert first.tell(**subscription("g", "t", fifo=True)).settings.subscription.fifo
            with RawRocket(gateway.endpoints, "second") as second:
                assert second.tell(**subscription("g", "t")).settings.subscription.fifo
                second.tell(**subscription("g", "t", fifo=False))  # one of two cannot take it back
        gateway.kill()
        gateway.start()
        with RawRocket(gateway.endpoints, "third") as third:
            assert third.tell(**subscription("g", "t")).settings.subscription.fifo
            assert not third.tell(**subscription("g", "t", fifo=False)).settings.subscription.fifo
            assert not third.tell(**subscription("g", "t")).settings.subscription.fifo
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (subscription("a%2Fb", "t"), Code.ILLEGAL_CONSUMER_GROUP),
        (subscription("g", "a/b"), Code.ILLEGAL_TOPIC),
        (producer("a/b"), Code.ILLEGAL_TOPIC),
        (producer("%DLQ%g"), Code.ILLEGAL_TOPIC),
        (producer(*(f"t{number}" for number in range(10_001))), Code.BAD_REQUEST),
        (subscription("g", "t", ClientType.LITE_PUSH_CONSUMER), Code.UNSUPPORTED),
        (subscription("g", "t", ClientType.LITE_SIMPLE_CONSUMER), Code.UNSUPPORTED),
        (subscription("g", "t", ClientType.PRODUCER), Code.UNRECOGNIZED_CLIENT_TYPE),
        (subscription("g", "t", 99), Code.UNRECOGNIZED_CLIENT_TYPE),
    ],
    ids=str,
)
def test_what_is_wrong_with_settings_is_an_answer(
    raw: RawRocket, settings: dict[str, Any], code: int
) -> None:
    found = raw.tell(**settings)
    assert found.status.code == code
    assert found.status.message
    assert not found.HasField("settings")
    assert raw.tell(**producer("t")).status.code == Code.OK  # and the stream goes on


def test_who_is_refused_is_named_in_the_log(gateway: RocketGateway) -> None:
    with RawRocket(gateway.endpoints, "wrong@7") as raw:
        raw.tell(**producer("a/b"))
    [line] = wait_for(lambda: [line for line in gateway.errors if "wrong@7" in line], 10, "its line")
    for text in ("Telemetry", "ILLEGAL_TOPIC", "letters, digits"):
        assert text in line


def test_what_no_client_says_ends_the_stream(raw: RawRocket) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw.tell(client_type=ClientType.PRODUCER)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raw.code("Heartbeat") == Code.OK


def test_a_client_that_leaves_is_gone(gateway: RocketGateway) -> None:
    with RawRocket(gateway.endpoints, "leaver") as raw:
        raw.tell(**subscription("g", "t"))
        count = clients(gateway)
        assert raw.code("NotifyClientTermination", group={"name": "g"}) == Code.OK
        wait_for(lambda: clients(gateway) == count - 1, 10, "its end")
        assert raw.tell(**subscription("g", "t")).status.code == Code.OK  # its stream is as it was
        assert clients(gateway) == count


CHILD = """
import sys, time
from tests.rocketmq_raw import RawRocket, subscription
raw = RawRocket(sys.argv[1], "child")
raw.tell(**subscription("g", "child"))
poll = raw.begin_receive("g", "child", wait=200)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_vanishes_is_gone_before_long(gateway: RocketGateway, how: signal.Signals) -> None:
    """Killed, its streams break; stopped, as if unplugged, it leaves pings unanswered."""
    before = clients(gateway)
    child = subprocess.Popen([sys.executable, "-c", CHILD, gateway.endpoints], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert clients(gateway) == before + 1
        os.kill(child.pid, how)
        wait_for(lambda: clients(gateway) <= before, BROKEN_SECONDS_MAX, "its end")
    finally:
        child.kill()
        child.communicate()
