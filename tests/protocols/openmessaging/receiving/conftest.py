"""A gateway for the tests of receiving, and clients of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.importorskip("grpc")

from tests.process import RocketGateway
from tests.rocketmq_raw import RawRocket

_names = itertools.count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("pop") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def raw(gateway: RocketGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints, "first") as client:
        yield client


@pytest.fixture
def other(gateway: RocketGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints, "other") as client:
        yield client


@pytest.fixture
def topic(raw: RawRocket) -> str:
    """A topic of its own, that the group `g` is subscribed to."""
    name = f"topic-{next(_names)}"
    assert raw.receive("g", name) == []
    return name
