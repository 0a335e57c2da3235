"""kill -9 of a process that writes the commit log, again and again on one directory.

The child tells what the engine called durable; the parent kills it at a random moment, opens
the log and looks for all of it. A failing round prints its seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from gateway.core.message import Message, Origin
from gateway.storage.commitlog import CommitLog
from tests.storage.commitlog.logs import NOW_MS
from tests.storage.commitlog.logs import waiting as unsettled

ROUNDS = int(os.environ.get("GATEWAY_TEST_CRASHES", "12"))
QUEUE = 2
SEGMENT_BYTES = 20_000  # so that every round rolls


def work(directory: Path, seed: int) -> None:
    """Be the child: append and settle until killed, and tell what is durable."""
    chance = random.Random(seed)
    log = CommitLog(directory, segment_bytes=SEGMENT_BYTES)
    log.open(lambda: None)
    log._checkpoints._every = 50_000  # several a round
    origin = Origin("test")
    waiting = [entry.position for entry in unsettled(log, QUEUE)]
    number = 0
    while True:
        lines: list[str] = []
        for _ in range(chance.randrange(1, 50)):
            number += 1
            body = b"%d/%d/" % (seed, number) + b"x" * chance.randrange(300)
            position = log.append(Message("t", body, 1, origin=origin), (QUEUE,), NOW_MS)
            waiting.append(position)
            lines.append(f"stored {position} {body.decode()}")
        for _ in range(chance.randrange(50)):
            if len(waiting) > 50:
                position = waiting.pop(chance.randrange(len(waiting)))
                print(f"settling {position}", flush=True)
                log.settle(QUEUE, [position], 1, NOW_MS)
                lines.append(f"settled {position}")
        log.put("seed", b"%d" % seed)
        lines.append(f"key {seed}")
        log.when_durable(log.position(), lambda stored, lines=lines: tell(stored, lines))  # type: ignore[misc]
        log.flush()
        log.completed()


def tell(stored: bool, lines: list[str]) -> None:
    assert stored
    print("\n".join(lines), flush=True)


class Ledger:
    """What the child was told; lines that were cut by its death say nothing."""

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.settling: set[int] = set()
        self.settled: set[int] = set()
        self.seed = b""

    def read(self, lines: list[str]) -> None:
        for line in lines:
            match line.split():
                case ["stored", position, body]:
                    self.stored[int(position)] = body.encode()
                case ["settling", position]:
                    self.settling.add(int(position))
                case ["settled", position]:
                    self.settled.add(int(position))
                case ["key", seed]:
                    self.seed = seed.encode()

    def check(self, log: CommitLog, found: dict[int, bytes], context: str) -> None:
        lost = [p for p in self.stored if p not in self.settling and found.get(p) != self.stored[p]]
        assert not lost, f"{context}: durable messages lost at {lost}"
        back = self.settled & found.keys()
        assert not back, f"{context}: settled messages are back at {sorted(back)}"
        if self.seed:
            assert log.get("seed") is not None
            assert int(log.get("seed") or 0) >= int(self.seed), context


def run_and_kill(directory: Path, seed: int, seconds: float) -> list[str]:
    """Run a child, kill it after a while; return the whole lines it wrote."""
    command = [sys.executable, __file__, str(directory), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        try:
            lines = [child.stdout.readline()]  # it is running
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                lines.append(child.stdout.readline())
        finally:
            child.kill()
        lines.append(child.stdout.read())
    return b"".join(lines).decode().split("\n")[:-1]


def test_what_was_durable_survives_kill_minus_nine(tmp_path: Path) -> None:
    first_seed = random.randrange(1_000_000) * 1000
    ledger = Ledger()
    for seed in range(first_seed, first_seed + ROUNDS):
        chance = random.Random(seed)
        ledger.read(run_and_kill(tmp_path, seed, chance.uniform(0.01, 0.4)))
        log = CommitLog(tmp_path, segment_bytes=SEGMENT_BYTES)
        recovery = log.open(lambda: None)
        found = {e.position: e.message.body for e in unsettled(log, QUEUE) if e.message is not None}
        context = f"seed {seed}, first {first_seed}, remarks {recovery.remarks}"
        ledger.check(log, found, context)
        assert not any("lost" in remark or "skipped" in remark for remark in recovery.remarks), context
        log.close()
        # What is found now is what the next round begins with.
        ledger.stored, ledger.settling, ledger.settled = found, set(), ledger.settled - found.keys()
    assert ledger.seed, "no round got as far as a durable turn"
    assert len(list((tmp_path / "log").iterdir())) > 1, "no segment was rolled"


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
