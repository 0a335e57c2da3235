"""Ids, addresses, statuses, options, routes: the small parts of the driver."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.oms import OMSDestinationError, OMSError, OMSTimeoutError, OMSUnsupportedError, get_access_point
from gateway.oms.drivers.rocketmq import ids
from gateway.oms.drivers.rocketmq.endpoints import Endpoint, from_hosts, from_message
from gateway.oms.drivers.rocketmq.options import Account
from gateway.oms.drivers.rocketmq.routes import Routes
from gateway.oms.drivers.rocketmq.statuses import check, is_passing, of_status, of_transport
from gateway.oms.errors import ResponseStatus
from gateway.oms.key_value import KeyValue
from gateway.rocketmq.numbers import AddressScheme, Code, Permission
from gateway.rocketmq.schema import Endpoints, MessageQueue, Resource, Status
from gateway.rocketmq.signature import parse_authorization, sign


def test_ids_are_rocketmqs() -> None:
    made = [ids.message_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(len(one) == 34 and one.startswith("01") for one in made)
    assert bytes.fromhex(made[0])
    assert ids.client_id().count("@") == 3
    assert [ids.base36(n) for n in (0, 35, 36)] == ["0", "z", "10"]


@pytest.mark.parametrize(
    ("hosts", "targets"),
    [
        ([("10.0.0.2", 1), ("10.0.0.1", 2)], ["ipv4:10.0.0.1:2,10.0.0.2:1"]),
        ([("[::1]", 1)], ["ipv6:[::1]:1"]),
        ([("a.example", 1), ("b.example", 2)], ["dns:a.example:1", "dns:b.example:2"]),
        ([("a.example", 1), ("10.0.0.1", 2)], ["ipv4:10.0.0.1:2", "dns:a.example:1"]),
    ],
)
def test_addresses(hosts: list[tuple[str, int]], targets: list[str]) -> None:
    found = from_hosts(hosts)
    assert [one.target for one in found] == targets
    assert [from_message(one.message()) for one in found] == found


def test_a_scheme_that_is_not_said_is_seen() -> None:
    message = Endpoints(addresses=[{"host": "::1", "port": 1}])
    assert from_message(message) == Endpoint(AddressScheme.IPv6, (("::1", 1),))


def test_every_code_has_a_meaning() -> None:
    check(Status(code=Code.OK), "x")
    for code in Code:
        if code is Code.OK:
            continue
        error = of_status(Status(code=code, message="why"), "what")
        assert error.code in set(ResponseStatus)
        assert "why" in error.reason
        assert code.name in error.reason


@pytest.mark.parametrize(
    ("code", "kind", "meaning", "passing"),
    [
        (Code.TOPIC_NOT_FOUND, OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND, False),
        (Code.PROXY_TIMEOUT, OMSTimeoutError, ResponseStatus.REQUEST_TIMEOUT, True),
        (Code.NOT_IMPLEMENTED, OMSUnsupportedError, ResponseStatus.BAD_REQUEST, False),
        (Code.INTERNAL_SERVER_ERROR, OMSError, ResponseStatus.SERVER_ERROR, True),
        (Code.TOO_MANY_REQUESTS, OMSError, ResponseStatus.STORAGE_BUSY, False),
        (49_999, OMSError, ResponseStatus.BAD_REQUEST, False),
        (59_999, OMSError, ResponseStatus.SERVER_ERROR, True),
    ],
)
def test_codes(code: int, kind: type[OMSError], meaning: int, passing: bool) -> None:
    error = of_status(Status(code=code), "what")
    assert (type(error), error.code, is_passing(error)) == (kind, meaning, passing)


def test_what_grpc_says() -> None:
    assert of_transport("UNAVAILABLE", "", "x").code == ResponseStatus.SERVICE_UNAVAILABLE
    assert isinstance(of_transport("DEADLINE_EXCEEDED", "", "x"), OMSTimeoutError)
    assert of_transport("DATA_LOSS", "", "x").code == ResponseStatus.SERVER_ERROR


def test_signatures_are_of_the_second() -> None:
    account = Account.of(KeyValue(ACCOUNT_ID="ann", ACCOUNT_KEY="secret"))
    (_, date), (name, value) = account.headers()
    assert name == "authorization"
    found = parse_authorization(value)
    assert found is not None
    assert (found.access_key, found.signature) == ("ann", sign(b"secret", date.encode()))
    assert [name for name, _ in Account.of(KeyValue()).headers()] == ["x-mq-date-time"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"ACCOUNT_KEY": "secret"},
        {"ACCOUNT_ID": "ann"},
        {"TLS_SERVER_NAME": "x"},
        {"TLS": True, "TLS_CA": "/nowhere"},
        {"TLS": True, "TLS_KEY": str(Path(__file__))},
    ],
)
def test_attributes_that_cannot_be(attributes: dict[str, Any]) -> None:
    with pytest.raises(OMSError) as raised:
        get_access_point("oms:rocketmq://127.0.0.1/r", attributes)
    assert raised.value.code == ResponseStatus.BAD_PARAMETER


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [known for known in sys.modules if known.startswith("gateway.oms.drivers.rocketmq")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(OMSError, match=r"gateway\[openmessaging\]") as raised:
        get_access_point("oms:rocketmq://127.0.0.1/r")
    assert raised.value.code == ResponseStatus.DRIVER_UNAVAILABLE


def queue(number: int, broker: str = "b", id: int = 0, permission: int = Permission.READ_WRITE) -> Any:
    made = MessageQueue(id=number, permission=permission)
    made.broker.name, made.broker.id = broker, id
    made.broker.endpoints.CopyFrom(Endpoint(AddressScheme.IPv4, (("127.0.0.1", 1 + len(broker)),)).message())
    return made


async def test_routes() -> None:
    asked = 0
    answer: list[Any] = []

    async def ask(topic: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if not answer:
            raise OMSDestinationError("there is none")
        return answer

    routes, topic = Routes(ask), Resource(name="t")
    for _ in range(2):
        with pytest.raises(OMSDestinationError):
            await routes.of(topic)
    answer = [queue(0), queue(1), queue(0, "bb", permission=Permission.READ), queue(0, "bb", id=1)]
    first, second = await asyncio.gather(routes.of(topic), routes.of(topic))
    assert first is second
    assert asked == 3
    assert [first.to_write(n).message.id for n in range(3)] == [0, 1, 0]
    assert [one.message.broker.name for one in first.to_read()] == ["bb", "b"]
    assert len(first.endpoints) == 2
    answer = []
    await routes.refresh()
    assert (await routes.of(topic)) is first
    answer = [queue(0, permission=Permission.NONE)]
    await routes.refresh()
    changed = await routes.of(topic)
    with pytest.raises(OMSDestinationError):
        changed.to_write(0)
    with pytest.raises(OMSDestinationError):
        changed.to_read()
