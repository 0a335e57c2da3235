"""What is around a handler: limits, errors of both kinds, clients that hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("grpc")

import grpc

from gateway.api import NotAuthorized, QuotaExceeded, StorageError, TooLarge
from gateway.protocols.openmessaging.call import Call
from gateway.protocols.openmessaging.clients.logins import Logins
from gateway.protocols.openmessaging.errors import Refused, code_of
from gateway.protocols.openmessaging.procedures import CALLS_MAX, Procedures
from gateway.protocols.openmessaging.refusals import Refusals
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.tables import SERVICE
from gateway.testing import TestGateway


class Context:
    """gRPC's, as far as it is asked."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.gone = False

    def peer(self) -> str:
        return "ipv4:192.0.2.1:4711"

    def invocation_metadata(self) -> Any:
        return (("x-mq-client-id", "c@1"),)

    def auth_context(self) -> Mapping[str, Any]:
        return {}

    def cancelled(self) -> bool:
        return self.gone

    async def write(self, message: Any) -> None:
        if self.gone:
            raise grpc.aio.UsageError("RPC already finished.")
        self.written.append(message)


class Part:
    """Does what a test says."""

    def __init__(self) -> None:
        self.does: Exception | None = None
        self.calls: list[Call] = []

    def handlers(self) -> Mapping[str, Any]:
        return {"Heartbeat": self.unary, "ReceiveMessage": self.stream}

    async def unary(self, call: Call, request: Any) -> Any:
        self.calls.append(call)
        if self.does is not None:
            raise self.does
        return CLASSES["HeartbeatResponse"](status={"code": Code.OK})

    async def stream(self, call: Call, request: Any) -> None:
        await call.write(CLASSES["ReceiveMessageResponse"](status={"code": Code.OK}))
        if self.does is not None:
            raise self.does


class House:
    """The service over a part."""

    def __init__(self, gateway: TestGateway) -> None:
        self.part = Part()
        self.logins = Logins(gateway, 120)
        self.procedures = Procedures(self.logins, Refusals(gateway.clock), [self.part])

    def call(self, name: str, context: Context | None = None, data: bytes = b"") -> Any:
        """Call a procedure with a request's bytes; return its answers."""
        details: Any = SimpleNamespace(method=f"/{SERVICE}/{name}", invocation_metadata=())
        method: Any = self.procedures.service().service(details)
        request = method.request_deserializer(data)
        context = context or Context()
        if name == "Heartbeat":
            return asyncio.run(method.unary_unary(request, context))
        asyncio.run(method.unary_stream(request, context))
        return context.written


@pytest.fixture
def house() -> Iterator[House]:
    gateway = TestGateway()
    gateway.config = SimpleNamespace(limits=SimpleNamespace(connections_max=100))
    yield House(gateway)
    gateway.close()


def test_a_call_is_answered_and_counted(house: House) -> None:
    assert house.call("Heartbeat").status.code == Code.OK
    assert house.call("ReceiveMessage")[0].status.code == Code.OK
    [first] = house.part.calls
    assert (first.client.id, first.client.calls) == ("c@1", 0)
    series = {one.name: dict(one.values) for one in house.procedures.numbers()}
    assert series["gateway_openmessaging_calls"] == {("Heartbeat",): 1, ("ReceiveMessage",): 1}
    assert series["gateway_openmessaging_refused"] == {}


@pytest.mark.parametrize("name", ["Heartbeat", "ReceiveMessage"])
def test_what_is_wrong_is_the_status_of_an_answer(house: House, name: str) -> None:
    house.part.does = NotAuthorized("you may not")
    found = house.call(name)
    status = found.status if name == "Heartbeat" else found[-1].status
    assert (status.code, status.message) == (Code.FORBIDDEN, "you may not")
    [refused] = [one for one in house.procedures.numbers() if one.name == "gateway_openmessaging_refused"]
    assert list(refused.values) == [(("FORBIDDEN",), 1)]


def test_a_bug_is_ours_and_says_nothing_of_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    log = SimpleNamespace(error=lambda event, **fields: lines.append(f"{event} {fields['rpc']}"))
    monkeypatch.setattr("gateway.protocols.openmessaging.procedures.log", log)
    house.part.does = KeyError("a secret")
    status = house.call("Heartbeat").status
    assert status.code == Code.INTERNAL_SERVER_ERROR
    assert "secret" not in status.message
    assert lines == ["bug: an RPC failed Heartbeat"]
    assert house.part.calls[0].client.calls == 0


def test_who_hangs_up_is_told_nothing(house: House) -> None:
    context = Context()
    context.gone = True
    assert house.call("ReceiveMessage", context) == []
    house.part.does = NotAuthorized("you may not")
    assert house.call("ReceiveMessage", context) == []


def test_a_client_has_so_many_calls_at_once(house: House) -> None:
    assert house.call("Heartbeat").status.code == Code.OK
    [client] = house.logins
    client.calls = CALLS_MAX
    assert house.call("Heartbeat").status.code == Code.TOO_MANY_REQUESTS
    assert house.call("ReceiveMessage")[0].status.code == Code.TOO_MANY_REQUESTS
    assert client.calls == CALLS_MAX


def test_a_request_that_is_none(house: House) -> None:
    assert house.call("Heartbeat", data=b"\xff\xff").status.code == Code.BAD_REQUEST


def test_codes() -> None:
    for error, code in (
        (Refused(Code.ILLEGAL_OFFSET, ""), Code.ILLEGAL_OFFSET),
        (TooLarge(""), Code.MESSAGE_BODY_TOO_LARGE),
        (QuotaExceeded(""), Code.TOO_MANY_REQUESTS),
        (StorageError(""), Code.INTERNAL_ERROR),
    ):
        assert code_of(error) is code
