"""Fixtures that several test packages use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mqtt_client import OPENED
from tests.process import GatewayProcess


@pytest.fixture(autouse=True)
def close_sockets() -> Iterator[None]:
    """Close what a test left open: a socket that is forgotten is a warning, and warnings are errors."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A running gateway; the test fails if it logged a bug."""
    process = GatewayProcess(tmp_path / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Make gateways with settings; they are stopped, and must not have logged a bug."""
    made: list[GatewayProcess] = []

    def make(*sets: str, name: str = "data", **options: object) -> GatewayProcess:
        process = GatewayProcess(tmp_path / name, sets, **options)  # type: ignore[arg-type]
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()
        assert not process.bugs(), "\n".join(process.errors)
