"""Requests of RocketMQ's protocol with anything in them: each has an answer with a code; none is a bug."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from google.protobuf.descriptor import FieldDescriptor

from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.tables import PROCEDURES, Procedure
from tests.process import RocketGateway
from tests.rocketmq_raw import RawRocket

ROUNDS: Final = 150  # of requests by each procedure
SKIPPED: Final = 0.2  # of fields
DEPTH_MAX: Final = 6
NAMES: Final = (
    *("t", "t", "t", "g", "g", "%24queue%2Fq", "%24queue%2Fs", "%DLQ%g", "%RETRY%g", "a%2F%23", ""),
    *("%24sys%2Fx", "%24dead%2Fq", "%24delayed%2F1%2Ft", "%24transaction%2Fx%2Fcommit", "%24share%2Fg%2Ft"),
    *("%24reply%2Fx", "%24session%2Fx", "%24queue%2F", "%%", "%2B", "a%00", "x" * 130, "é"),
)
TEXTS: Final = ("a", "b", "", "$ttl", "$delay", "$type:a", "TAGS", "CE_id", "€", "\x00", "1", "x" * 300)
EXPRESSIONS: Final = ("*", "a", "a || b", "x > 1", "x >", "'", "((", "")
SECONDS: Final = (0, 1, -1, 10, 1 << 40, -(1 << 40), (1 << 63) - 1, -(1 << 63))
NANOS: Final = (0, 1, -1, 999_999_999, (1 << 31) - 1, -(1 << 31))
NUMBERS: Final = {
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_BYTES: (b"", b"x", b"\x1f\x8b", b"y" * 100),
    FieldDescriptor.TYPE_ENUM: (1, 1, 1, 2, 3, 4, 6, 0, 99, -1),
    FieldDescriptor.TYPE_FLOAT: (0.0, 2.0),
    FieldDescriptor.TYPE_INT32: (0, 1, 32, -1, (1 << 31) - 1, -(1 << 31)),
    FieldDescriptor.TYPE_INT64: (0, 1, 5, -1, (1 << 63) - 1, -(1 << 63)),
}


class Monkey:
    """Makes requests. What it was given as handles it says again."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.handles = [""]

    def value(self, field: FieldDescriptor) -> Any:
        """Return something for a field that is no message."""
        pick = self.chance.choice
        if field.type != FieldDescriptor.TYPE_STRING:
            return pick(NUMBERS[field.type])
        if "handle" in field.name or field.name == "transaction_id":
            return pick(self.handles)
        if field.name == "name":
            return pick(NAMES)
        return pick(EXPRESSIONS if field.name == "expression" else TEXTS)

    def fill(self, message: Any, depth: int = 0) -> Any:
        """Fill in a message; return it."""
        for field in message.DESCRIPTOR.fields:
            if self.chance.random() < SKIPPED and field.name != "long_polling_timeout":
                continue
            inner = field.message_type
            if inner is not None and inner.GetOptions().map_entry:
                for _ in range(self.chance.randrange(3)):
                    getattr(message, field.name)[self.chance.choice(TEXTS)] = self.chance.choice(TEXTS)
            elif field.is_repeated:
                for _ in range(self.chance.choice((0, 1, 1, 2))):
                    many = getattr(message, field.name)
                    if inner is not None:
                        self.fill(many.add(), depth + 1)
                    else:
                        many.append(self.value(field))
            elif inner is None:
                setattr(message, field.name, self.value(field))
            elif inner.name in ("Timestamp", "Duration"):
                self._time(field.name, getattr(message, field.name))
            elif depth < DEPTH_MAX:
                self.fill(getattr(message, field.name), depth + 1)
        return message

    def _time(self, name: str, time_of: Any) -> None:
        if name == "long_polling_timeout":
            time_of.nanos = self.chance.choice((0, 1, -1))  # more would be waited for
        else:
            time_of.seconds = self.chance.choice((*SECONDS, int(time.time()) + 5))
            time_of.nanos = self.chance.choice(NANOS)

    def ask(self, client: RawRocket, procedure: Procedure) -> list[int]:
        """Make a request; return the codes that it is told."""
        request = self.fill(CLASSES[procedure.request]())
        if not procedure.streams_responses:
            answer = client.request(procedure.name, request)
            for entry in getattr(answer, "entries", ()):
                self.handles += filter(None, (getattr(entry, "recall_handle", ""),))
            return [answer.status.code]
        codes = []
        for answer in client.request(procedure.name, request):
            if answer.HasField("status"):
                codes.append(answer.status.code)
            elif answer.HasField("message"):
                self.handles.append(answer.message.system_properties.receipt_handle)
        return codes


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("monkey") / "data")
    process.start()
    for name, kind in (("q", "classic"), ("s", "stream")):
        made = httpx.put(f"{process.url}/v1/queues/{name}", json={"kind": kind, "bindings": ["t"]})
        made.raise_for_status()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def test_whatever_is_asked_is_answered(gateway: RocketGateway) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it when this fails
    monkey, codes = Monkey(seed), Counter[int]()
    asked = [procedure for procedure in PROCEDURES if not procedure.streams_requests]
    with RawRocket(gateway.endpoints, "monkey") as client:
        for _ in range(ROUNDS):
            for procedure in asked:
                told = monkey.ask(client, procedure)
                assert len(told) == 1, f"{procedure.name}: one status is expected, not {told}"
                codes.update(told)
        assert client.code("Heartbeat", client_type=1) == Code.OK
    assert codes.keys() <= set(Code), "each has a name"
    assert Code.INTERNAL_SERVER_ERROR not in codes
    assert codes[Code.OK] > ROUNDS
