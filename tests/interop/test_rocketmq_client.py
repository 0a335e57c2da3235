"""RocketMQ's own Python client, unmodified: all kinds of messages, and both kinds of consumers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.rocketmq_client import RocketPeer
from tests.process import RocketGateway

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("rocketmq") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def peer() -> Iterator[RocketPeer]:
    with RocketPeer() as process:
        yield process


def test_clients_start_and_leave(gateway: RocketGateway, peer: RocketPeer) -> None:
    with (
        peer.producer(gateway, topics=["starts"]) as producer,
        peer.simple(gateway, "starters", "starts") as one,
    ):
        assert producer.client_id != one.client_id
    with peer.push(gateway, "starters", "starts") as push:
        assert push.client_id
