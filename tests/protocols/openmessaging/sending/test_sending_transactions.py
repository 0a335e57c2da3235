"""Messages of type TRANSACTION: committed, rolled back, and orphans whose producer is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import httpx
import pytest

from gateway.rocketmq.numbers import ClientType, Code, MessageType, TransactionResolution, TransactionSource
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, RefusedRaw, duration, new_id

SECRET = "a secret that signs"
COMMIT, ROLLBACK = TransactionResolution.COMMIT, TransactionResolution.ROLLBACK
CHECK, CLIENT = TransactionSource.SOURCE_SERVER_CHECK, TransactionSource.SOURCE_CLIENT
CHECKS_MAX = 20
SETS = (
    "transactions.check_first_seconds=0.1",
    "transactions.check_interval_seconds=0.1",
    f"transactions.checks_max={CHECKS_MAX}",
)
_numbers = count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("transactions") / "data", SETS)
    process.start()
    for name in ("ann", "bob"):
        url = f"{process.url}/v1/admin/users/{name}"
        httpx.put(url, json={"secret": SECRET}).raise_for_status()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


class Producer(RawRocket):
    """A producer with a Telemetry stream, whose questions are kept."""

    def __init__(self, gateway: RocketGateway, client_id: str, user: str = "", topic: str = "") -> None:
        super().__init__(gateway.endpoints, client_id)
        self.asked: Queue[Any] = Queue()
        if user:
            self.log_in(user, SECRET)
        topics = [{"name": topic}] if topic else []
        self.tell(client_type=ClientType.PRODUCER, publishing={"topics": topics})
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for command in self.commands():
                self.asked.put(command.recover_orphaned_transaction_command)
        except grpc.RpcError:
            pass  # the test is over

    def prepare(self, topic: str, body: bytes = b"x", **more: Any) -> str:
        """Send a half message; return its transaction's id."""
        answer = self.send(topic, body, message_type=MessageType.TRANSACTION, **more)
        assert answer.status.code == Code.OK, answer
        id: str = answer.entries[0].transaction_id
        return id

    def end(self, topic: str, id: str, resolution: int = COMMIT, source: int = CLIENT) -> int:
        return self.code(
            "EndTransaction",
            topic={"name": topic},
            transaction_id=id,
            message_id="another",  # as the Node client says
            resolution=resolution,
            source=source,
        )

    def received(self, topic: str, wait: float = 0) -> list[bytes]:
        return [message.body for message in self.receive("g", topic, wait=wait)]


@pytest.fixture
def raw(gateway: RocketGateway, request: pytest.FixtureRequest) -> Iterator[Producer]:
    with Producer(gateway, request.node.name) as client:
        yield client


@pytest.fixture
def topic(raw: RawRocket) -> str:
    name = f"t{next(_numbers)}"
    raw.receive("g", name)
    return name


def test_nobody_sees_it_before_its_producer_commits(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic, b"1", tag="red", message_group="k")
    assert raw.received(topic) == []
    assert raw.end(topic, id) == Code.OK
    (found,) = raw.receive("g", topic)
    assert (found.body, found.system_properties.tag) == (b"1", "red")
    assert found.system_properties.message_id == id


def test_what_is_rolled_back_never_was(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic)
    assert raw.end(topic, id, ROLLBACK) == Code.OK
    assert raw.received(topic) == []


@pytest.mark.parametrize(("first", "other"), [(COMMIT, ROLLBACK), (ROLLBACK, COMMIT)])
def test_the_same_answer_twice_is_fine_and_the_other_is_not(
    raw: Producer, topic: str, first: int, other: int
) -> None:
    id = raw.prepare(topic)
    assert [raw.end(topic, id, first) for _ in range(2)] == [Code.OK] * 2
    assert raw.end(topic, id, other) == Code.PRECONDITION_FAILED
    assert len(raw.received(topic)) == (first == COMMIT)


def test_what_is_no_answer(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic)
    assert raw.end(topic, id, 0) == Code.BAD_REQUEST
    for unknown in ("", "never", "no id", "x" * 1000):
        assert raw.end(topic, unknown) == Code.INVALID_TRANSACTION_ID
    assert raw.end("a/b", id) == Code.ILLEGAL_TOPIC
    assert raw.end(topic, id, ROLLBACK) == Code.OK


def test_others_transactions_are_not_known(gateway: RocketGateway, topic: str) -> None:
    with Producer(gateway, "c", "ann") as ann, Producer(gateway, "c", "bob") as bob:
        id = ann.prepare(topic)
        assert bob.end(topic, id) == Code.INVALID_TRANSACTION_ID
        assert ann.end(topic, id) == Code.OK


def test_a_half_message_that_is_sent_again_is_the_same(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic, message_id="again")
    assert raw.prepare(topic, message_id="again") == id
    raw.end(topic, id)
    assert len(raw.received(topic)) == 1
    late = raw.send(topic, b"x", message_type=MessageType.TRANSACTION, message_id="again")
    assert late.status.code == Code.PRECONDITION_FAILED


def test_a_message_id_that_is_no_id_of_a_transaction(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic, message_id="a b/c")
    assert raw.prepare(topic, message_id="a b/c") == id
    assert raw.end(topic, id) == Code.OK
    assert raw.receive("g", topic)[0].system_properties.message_id == "a b/c"


def test_in_one_request_with_others(raw: Producer, topic: str) -> None:
    kinds = (MessageType.NORMAL, MessageType.TRANSACTION, MessageType.TRANSACTION)
    messages = [
        {
            "topic": {"name": topic},
            "body": str(int(kind)).encode(),
            "system_properties": {"message_id": new_id(), "message_type": kind},
        }
        for kind in kinds
    ]
    entries = raw.call("SendMessage", messages=messages).entries
    assert [bool(entry.transaction_id) for entry in entries] == [False, True, True]
    assert raw.end(topic, entries[1].transaction_id) == Code.OK
    assert raw.end(topic, entries[2].transaction_id, ROLLBACK) == Code.OK
    assert raw.received(topic) == [b"1", b"4"]


# -- orphans ----------------------------------------------------------------------------------------


def test_who_does_not_decide_is_asked(raw: Producer, topic: str) -> None:
    id = raw.prepare(topic, b"1", keys=["order"])
    question = raw.asked.get(timeout=10)
    assert question.transaction_id == id
    assert (question.message.body, question.message.topic.name) == (b"1", topic)
    system = question.message.system_properties
    assert (list(system.keys), system.message_type) == (["order"], MessageType.TRANSACTION)
    assert raw.asked.get(timeout=10).transaction_id == id  # and is asked again
    assert raw.end(topic, id, COMMIT, CHECK) == Code.OK
    assert raw.received(topic) == [b"1"]


def test_who_wants_time_has_it(raw: Producer, topic: str) -> None:
    patient = raw.prepare(topic, orphaned_transaction_recovery_duration=duration(3600))
    asked = raw.prepare(topic)
    for _ in range(3):
        assert raw.asked.get(timeout=10).transaction_id == asked
    assert raw.end(topic, asked, ROLLBACK) == raw.end(topic, patient, ROLLBACK) == Code.OK


def test_another_producer_of_the_user_is_asked_when_the_first_has_gone(
    gateway: RocketGateway, topic: str
) -> None:
    with Producer(gateway, "first", "ann") as first:
        id = first.prepare(topic)
    with (
        Producer(gateway, "elsewhere", "ann", "elsewhere") as elsewhere,
        Producer(gateway, "bobs", "bob", topic) as bobs,
        Producer(gateway, "second", "ann", topic) as second,
    ):
        assert second.asked.get(timeout=10).transaction_id == id
        assert second.end(topic, id, ROLLBACK, CHECK) == Code.OK
        assert elsewhere.asked.empty()
        assert bobs.asked.empty()


def test_after_a_kill_the_producer_is_asked_again(tmp_path: Path) -> None:
    process = RocketGateway(tmp_path / "data", SETS).start()
    with Producer(process, "c") as producer:
        producer.receive("g", "t")
        id = producer.prepare("t", b"1")
    process.kill()
    process.start()
    with Producer(process, "c") as producer:
        question = producer.asked.get(timeout=10)
        assert (question.transaction_id, question.message.body) == (id, b"1")
        assert producer.end("t", id, COMMIT, CHECK) == Code.OK
        assert producer.received("t") == [b"1"]
    process.stop()


def test_what_nobody_decides_is_a_dead_letter(raw: Producer, topic: str) -> None:
    body = f"orphan of {topic}".encode()
    id = raw.prepare(topic, body)

    def letters() -> list[bytes]:
        try:
            return [message.body for message in raw.receive("g", "%24queue%2F%24dead%2F%24half")]
        except RefusedRaw:
            return []  # it is made with the first letter

    wait_for(lambda: body in letters(), 20, "the letter")
    assert raw.end(topic, id) == Code.PRECONDITION_FAILED
    assert raw.received(topic) == []
