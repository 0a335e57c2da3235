"""Fixtures that several test packages use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.mqtt_client import OPENED
from tests.process import GatewayProcess

OPEN_FILES_MORE_MAX = 32  # a client's thread may close its sockets a little later

# The machine's speed is no property of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def close_sockets(no_file_stays_open: None) -> Iterator[None]:
    """Close what a test left open: a socket that is forgotten is a warning, and warnings are errors."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(autouse=True)
def no_file_stays_open() -> Iterator[None]:
    """A test that leaves files open lets others fail: a client that uses select() cannot go beyond 1,023."""
    before = _open_files()
    yield
    if len(_open_files()) > len(before) + OPEN_FILES_MORE_MAX:
        gc.collect()  # what only a cycle holds is no leak
    left = {number: name for number, name in _open_files().items() if number not in before}
    assert len(left) <= OPEN_FILES_MORE_MAX, f"left open: {sorted(left.values())}"


def _open_files() -> dict[int, str]:
    """Return the process's descriptors, and what they lead to."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the list's own
    return found


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
