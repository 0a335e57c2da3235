"""Names of faults: what is done here, and why the rest is not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.chaos.errors import ChaosError
from gateway.chaos.faults import inject, recover, resolve
from gateway.chaos.node import Node
from tests.process import wait_for


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("noop", "noop"),
        ("kill", "kill"),
        ("random-kill", "kill"),
        ("major-suspend", "suspend"),
        ("fixed-suspend", "suspend"),
    ],
)
def test_known(name: str, kind: str) -> None:
    assert resolve(name) == kind


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("random-partition", "several nodes"),
        ("fixed-partition", "several nodes"),
        ("partition-majorities-ring", "several nodes"),
        ("bridge", "several nodes"),
        ("random-loss", "several nodes"),
        ("minor-delay", "several nodes"),
        ("minor-kill", "a minority of one node"),
        ("leader-suspend", "no leader"),
        ("random-disk-error", "a whole machine"),
        ("earthquake", "there is no fault 'earthquake'"),
        ("my-partition", "there is no fault"),
    ],
)
def test_refused_by_name_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ChaosError, match=reason) as caught:
        resolve(name)
    assert name in caught.value.detail


def state(pid: int) -> str:
    """Return the state of a process, a letter."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_node_is_killed_suspended_and_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node("mqtt", tmp_path / "data", tmp_path / "log")
        try:
            await node.start()
            pid = node.pid
            assert pid is not None
            await inject("suspend", node)
            wait_for(lambda: state(pid) == "T", what="a stopped process")
            await recover("suspend", node)
            wait_for(lambda: state(pid) in "SR", what="a process that goes on")
            await inject("kill", node)
            assert node.pid is None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            await recover("kill", node)
            assert node.pid not in (None, pid)
            node.suspend()  # and it must be able to stop even so
        finally:
            await node.stop()
        assert node.pid is None

    asyncio.run(scenario())


def test_a_node_that_does_not_start_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        node = Node("mqtt", tmp_path / "data", tmp_path / "log", ("mqtt.no_such_setting=1",))
        with pytest.raises(ChaosError, match="no_such_setting"):
            await node.start()
        assert node.pid is None

    asyncio.run(scenario())
