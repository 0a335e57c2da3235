"""QueryRoute and QueryAssignment at a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.rocketmq.numbers import AddressScheme, Code, MessageType, Permission
from tests.process import RocketGateway, free_port
from tests.rocketmq_raw import RawRocket

DIALLED = {"scheme": AddressScheme.IPv4, "addresses": [{"host": "192.0.2.7", "port": 9876}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    found = RocketGateway(tmp_path_factory.mktemp("data")).start()
    yield found
    assert found.bugs() == []
    assert found.stop() == 0


@pytest.fixture
def raw(gateway: RocketGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints) as found:
        yield found


def route(raw: RawRocket, topic: str, **more: Any) -> Any:
    found = raw.call("QueryRoute", topic={"name": topic}, **more)
    assert found.status.code == Code.OK, found.status
    assert len(found.message_queues) == 1
    return found.message_queues[0]


def test_a_topic_has_one_queue_where_the_client_has_dialled(raw: RawRocket) -> None:
    queue = route(raw, "orders", endpoints=DIALLED)
    assert (queue.topic.name, queue.id, queue.permission) == ("orders", 0, Permission.READ_WRITE)
    assert (queue.broker.name, queue.broker.id) == ("gateway", 0)
    assert queue.broker.endpoints.scheme == AddressScheme.IPv4
    assert [(address.host, address.port) for address in queue.broker.endpoints.addresses] == [
        ("192.0.2.7", 9876)
    ]
    assert set(queue.accept_message_types) == {
        MessageType.NORMAL,
        MessageType.FIFO,
        MessageType.DELAY,
        MessageType.TRANSACTION,
        MessageType.PRIORITY,
    }


def test_who_says_nothing_is_told_the_doors_own_address(gateway: RocketGateway, raw: RawRocket) -> None:
    endpoints = route(raw, "orders").broker.endpoints
    assert endpoints.scheme == AddressScheme.IPv4
    assert [(address.host, address.port) for address in endpoints.addresses] == [
        ("127.0.0.1", gateway.rocketmq_port)
    ]


def test_the_scheme_is_found_where_it_is_not_said(raw: RawRocket) -> None:
    for host, scheme in (
        ("10.0.0.1", AddressScheme.IPv4),
        ("[2001:db8::1]", AddressScheme.IPv6),
        ("2001:db8::1", AddressScheme.IPv6),
        ("broker.example", AddressScheme.DOMAIN_NAME),
    ):
        found = route(raw, "t", endpoints={"addresses": [{"host": host, "port": 1}]}).broker.endpoints
        assert (found.scheme, found.addresses[0].host) == (scheme, host)


@pytest.mark.parametrize(
    "addresses",
    [
        [{"host": "", "port": 1}],
        [{"host": "a", "port": 0}],
        [{"host": "a", "port": 65_536}],
        [{"host": "a", "port": 1}] * 33,
    ],
)
def test_what_nobody_could_dial_is_no_access_point(
    raw: RawRocket, addresses: list[dict[str, object]]
) -> None:
    fields = {"topic": {"name": "t"}, "endpoints": {"addresses": addresses}}
    assert raw.code("QueryRoute", **fields) == Code.ILLEGAL_ACCESS_POINT
    assert raw.code("QueryAssignment", group={"name": "g"}, **fields) == Code.ILLEGAL_ACCESS_POINT


@pytest.mark.parametrize("topic", ["", "a/b", "%2f", "x" * 128, "TBW102", "%DLQ%", "%RETRY%a%2Fb"])
def test_names_that_are_none(raw: RawRocket, topic: str) -> None:
    assert raw.code("QueryRoute", topic={"name": topic}) == Code.ILLEGAL_TOPIC


def test_an_assignment_is_the_route_byte_for_byte(raw: RawRocket) -> None:
    queue = route(raw, "orders", endpoints=DIALLED)
    for _ in range(2):
        found = raw.call("QueryAssignment", topic={"name": "orders"}, group={"name": "g"}, endpoints=DIALLED)
        assert found.status.code == Code.OK
        assert [one.message_queue.SerializeToString(deterministic=True) for one in found.assignments] == [
            queue.SerializeToString(deterministic=True)
        ]


@pytest.mark.parametrize("group", ["", "a%2Fb", "%2B", "x" * 121])
def test_groups_that_are_none(raw: RawRocket, group: str) -> None:
    found = raw.code("QueryAssignment", topic={"name": "t"}, group={"name": group})
    assert found == Code.ILLEGAL_CONSUMER_GROUP


def test_what_a_group_has_besides_is_only_read(raw: RawRocket) -> None:
    for name in ("%DLQ%workers", "%RETRY%workers"):
        assert route(raw, name).permission == Permission.READ
        assert raw.code("QueryAssignment", topic={"name": name}, group={"name": "reader"}) == Code.OK


def test_a_queue_is_there_or_not(gateway: RocketGateway, raw: RawRocket) -> None:
    assert raw.code("QueryRoute", topic={"name": "%24queue%2Fjobs-7"}) == Code.TOPIC_NOT_FOUND


def test_the_gateways_own_topics_are_no_clients(raw: RawRocket) -> None:
    assert raw.code("QueryRoute", topic={"name": "%24sys%2Faudit"}) == Code.FORBIDDEN
    assert raw.code("QueryRoute", topic={"name": "%24delayed%2F5%2Ft"}) == Code.OK


def test_an_address_of_ipv6(tmp_path: Path) -> None:
    port = free_port()
    gateway = RocketGateway(tmp_path, (f"listeners.openmessaging=[::1]:{port}",)).start()
    try:
        with RawRocket(f"ipv6:[::1]:{port}") as raw:
            found = route(raw, "t").broker.endpoints
            address = found.addresses[0]
            assert (found.scheme, address.host, address.port) == (AddressScheme.IPv6, "[::1]", port)
    finally:
        gateway.stop()


def test_only_what_there_is(tmp_path: Path) -> None:
    sets = (
        "openmessaging.auto_create=false",
        "openmessaging.topics=['known/#']",
        "openmessaging.fifo_groups=['orders-*']",
        "openmessaging.advertise=[2001:db8::1]:8081",
    )
    gateway = RocketGateway(tmp_path, sets).start()
    try:
        with RawRocket(gateway.endpoints) as raw:
            assert raw.code("QueryRoute", topic={"name": "other"}) == Code.TOPIC_NOT_FOUND
            address = route(raw, "known%2Fa", endpoints=DIALLED).broker.endpoints
            assert (address.scheme, address.addresses[0].host, address.addresses[0].port) == (
                AddressScheme.IPv6,
                "[2001:db8::1]",
                8081,
            )
            for group, code in (("orders-1", Code.OK), ("workers", Code.CONSUMER_GROUP_NOT_FOUND)):
                found = raw.code("QueryAssignment", topic={"name": "known"}, group={"name": group})
                assert found == code
            assert raw.code("QueryRoute", topic={"name": "%DLQ%workers"}) == Code.CONSUMER_GROUP_NOT_FOUND
        assert gateway.bugs() == []
    finally:
        gateway.stop()
