"""The commit log after restarts: clean, torn, damaged, from a newer version, in use."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from gateway.core.engine import Recovery
from gateway.core.errors import NotFound, NotStored, StorageError
from gateway.core.message import Message
from gateway.storage.commitlog import CommitLog
from gateway.storage.commitlog.files import Files
from tests.storage.commitlog.faulty_files import SlowDisk
from tests.storage.commitlog.logs import NOW_MS, ORIGIN, bodies, waiting


def message(body: bytes) -> Message:
    return Message("t", body, 1, origin=ORIGIN)


def opened(path: Path, **options: object) -> tuple[CommitLog, Recovery]:
    log = CommitLog(path, **options)  # type: ignore[arg-type]
    return log, log.open(lambda: None)


def synced(log: CommitLog) -> bool:
    said: list[bool] = []
    log.when_durable(log.position(), said.append)
    log.flush()
    deadline = time.monotonic() + 10
    while not said:
        assert time.monotonic() < deadline
        log.completed()
    return said[0]


def crash(log: CommitLog, source: Path, target: Path) -> None:
    """Copy the files as they are now, as a kill -9 would leave them."""
    shutil.copytree(source, target)


def test_a_clean_restart_keeps_messages_keys_cursors_and_attempts(tmp_path: Path) -> None:
    log, _ = opened(tmp_path, segment_bytes=500)
    positions = [log.append(message(b"%d" % n), (2, 3), NOW_MS) for n in range(50)]
    for position in positions[:20]:
        log.settle(2, [position], 1, NOW_MS)
    log.delivered(2, [positions[30]], [77], ORIGIN, "", NOW_MS)
    log.delivered(2, [positions[30]], [78], ORIGIN, "", NOW_MS)
    log.cursor(3, "group", 12, NOW_MS)
    log.put("key", b"value")
    log.put("gone", b"")
    log.delete("gone")
    log.close()
    log, recovery = opened(tmp_path, segment_bytes=500)
    assert bodies(log) == [b"%d" % n for n in range(20, 50)]
    assert bodies(log, 3) == [b"%d" % n for n in range(50)]
    entry = waiting(log)[10]
    assert (entry.attempts, entry.tag, entry.size) == (2, 78, 2)
    assert recovery.cursors == {(3, "group"): 12}
    assert log.get("key") == b"value"
    assert log.get("gone") is None
    assert recovery.remarks == []
    log.close()


@pytest.mark.parametrize("cut", [1, 7, 15, 40])
def test_a_torn_tail_is_cut_off_and_reported(tmp_path: Path, cut: int) -> None:
    log, _ = opened(tmp_path / "a")
    for n in range(10):
        log.append(message(b"%d" % n), (2,), NOW_MS)
    log.flush()
    crash(log, tmp_path / "a", tmp_path / "b")
    end = log._segments.last.end
    log.close()
    shutil.rmtree(tmp_path / "b" / "index", ignore_errors=True)
    segment = next((tmp_path / "b" / "log").iterdir())
    with segment.open("r+b") as file:
        file.truncate(end - cut)
    log, recovery = opened(tmp_path / "b")
    assert bodies(log) == [b"%d" % n for n in range(9)]
    assert len(recovery.remarks) == 1
    assert "torn tail" in recovery.remarks[0]
    position = log.append(message(b"after"), (2,), NOW_MS)
    assert synced(log)
    assert log.read(position).body == b"after"
    log.close()


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def test_damage_in_the_middle_costs_one_record_and_is_reported(tmp_path: Path) -> None:
    log, _ = opened(tmp_path / "a")
    positions = [log.append(message(b"message %d" % n), (2,), NOW_MS) for n in range(10)]
    assert synced(log)
    log.sweep(NOW_MS)  # a gateway that has nothing to do says what is on the disk
    log.flush()
    crash(log, tmp_path / "a", tmp_path / "b")
    log.close()
    shutil.rmtree(tmp_path / "b" / "index", ignore_errors=True)
    segment = next((tmp_path / "b" / "log").iterdir())
    flip(segment, positions[4] - 1 + 20)
    log, recovery = opened(tmp_path / "b")
    assert bodies(log) == [b"message %d" % n for n in range(10) if n != 4]
    assert len(recovery.remarks) == 1
    assert segment.name in recovery.remarks[0]
    assert f"offset {positions[4] - 1}" in recovery.remarks[0]
    log.close()


def test_what_comes_after_a_hole_that_may_never_have_been_on_disk_is_cut_off(tmp_path: Path) -> None:
    """A page that a power loss has taken: nobody was promised anything of what comes after it."""
    disk = SlowDisk()
    log, _ = opened(tmp_path / "a", segment_bytes=400, files=disk)
    first = log.append(message(b"first"), (2,), NOW_MS)
    assert synced(log)
    disk.may_sync.clear()
    positions = [log.append(message(b"message %d" % n), (2,), NOW_MS) for n in range(20)]
    log.flush()
    log.settle(2, [first], 1, NOW_MS)  # the last record: nothing says that it, or those before, were synced
    log.flush()
    crash(log, tmp_path / "a", tmp_path / "b")
    disk.may_sync.set()
    log.close()
    shutil.rmtree(tmp_path / "b" / "index", ignore_errors=True)
    segments = sorted((tmp_path / "b" / "log").iterdir())
    hole = next(path for path in reversed(segments) if int(path.stem) <= positions[4])
    flip(hole, positions[4] - int(hole.stem) + 20)
    for _ in range(2):
        log, recovery = opened(tmp_path / "b", segment_bytes=400)
        assert bodies(log) == [b"first", *(b"message %d" % n for n in range(4))], "not settled, either"
        log.close()
    later = segments[segments.index(hole) + 1 :]
    assert later
    assert all(path.with_name(path.name + ".unsafe").exists() and not path.exists() for path in later)
    assert recovery.remarks == []


def test_a_log_whose_beginning_was_never_on_disk_begins_anew(tmp_path: Path) -> None:
    """It had the queues' definitions: what comes later would turn up in others that get their numbers."""
    disk = SlowDisk()
    disk.may_sync.clear()
    log, _ = opened(tmp_path / "a", segment_bytes=400, files=disk)
    for n in range(20):
        log.append(message(b"message %d" % n), (2,), NOW_MS)
        log.flush()
    crash(log, tmp_path / "a", tmp_path / "b")
    disk.may_sync.set()
    log.close()
    shutil.rmtree(tmp_path / "b" / "index", ignore_errors=True)
    first, *later = sorted((tmp_path / "b" / "log").iterdir())
    first.unlink()
    log, recovery = opened(tmp_path / "b", segment_bytes=400)
    assert bodies(log) == []
    assert len(recovery.remarks) == len(later)
    assert all("was never on disk; set aside" in remark for remark in recovery.remarks)
    assert log.append(message(b"new"), (2,), NOW_MS) > 0
    log.close()


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(message(b"x"), (2,), NOW_MS)
    log.put("k", b"v")
    log.close()
    for path in (tmp_path / "index").iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    log, recovery = opened(tmp_path)
    assert bodies(log) == [b"x"]
    assert log.get("k") == b"v"
    assert "checkpoint" in recovery.remarks[0]
    log.close()


def test_a_newer_format_is_refused_with_the_files_name(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(message(b"x"), (2,), NOW_MS)
    log.close()
    segment = next((tmp_path / "log").iterdir())
    with segment.open("r+b") as file:
        file.seek(6)
        file.write(b"\x09\x00")
    with pytest.raises(StorageError, match=r"newer version.*format 9"):
        opened(tmp_path)


def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    with pytest.raises(StorageError, match="another gateway"):
        opened(tmp_path)
    log.close()
    opened(tmp_path)[0].close()


def test_settled_segments_are_deleted(tmp_path: Path) -> None:
    log, _ = opened(tmp_path, segment_bytes=1000, kept_ms=0)
    positions = [log.append(message(b"x" * 100), (2,), NOW_MS) for _ in range(100)]
    log.flush()
    before = len(list((tmp_path / "log").iterdir()))
    for position in positions:
        log.settle(2, [position], 1, NOW_MS)
    for _ in range(3):  # two checkpoints are kept: segments go once both are past them
        log.close()
        log, _ = opened(tmp_path, segment_bytes=1000, kept_ms=0)
        log.put("k", b"v")
        log.sweep(NOW_MS)
    after = len(list((tmp_path / "log").iterdir()))
    assert before > 10
    assert after <= 2
    log.close()


class NoRoom(Files):
    """A disk that is full while `full` is set; `short` bytes still fit."""

    full = False
    short = 0

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if not self.full:
            return super().write(descriptor, data, offset)
        if self.short:
            count, self.short = min(self.short, len(data)), 0
            return super().write(descriptor, data[:count], offset)
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("short", [0, 1, 30])
def test_a_full_disk_refuses_and_recovers(tmp_path: Path, short: int) -> None:
    files = NoRoom()
    log, _ = opened(tmp_path, files=files)
    kept = log.append(message(b"kept"), (2,), NOW_MS)
    assert synced(log)
    files.full, files.short = True, short
    said: list[bool] = []
    lost = log.append(message(b"lost"), (2,), NOW_MS)
    log.settle(2, [kept], 1, NOW_MS)
    log.settle(2, [lost], 1, NOW_MS)  # of a message that will not be written: must settle nothing later
    log.put("key", b"survives the failure")
    log.when_durable(lost, said.append)
    with pytest.raises(NotStored, match=r"No space|nothing more"):
        log.flush()
    assert log.failed_from() <= lost
    log.completed()
    assert said == [False]
    files.full = False
    after = log.append(message(b"after"), (2,), NOW_MS)
    assert synced(log)
    assert log.read(after).body == b"after"
    log.close()
    log, recovery = opened(tmp_path)
    assert bodies(log) == [b"after"]
    assert log.get("key") == b"survives the failure"
    assert recovery.remarks == []
    log.close()


class NoSync(Files):
    """A disk whose sync fails once."""

    failures = 0

    def sync(self, descriptor: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(5, "Input/output error")
        super().sync(descriptor)


def test_a_failed_sync_is_told_and_not_retried_on_the_same_segment(tmp_path: Path) -> None:
    files = NoSync()
    log, _ = opened(tmp_path, files=files)
    log.append(message(b"first"), (2,), NOW_MS)
    assert synced(log)
    files.failures = 1
    log.append(message(b"unsure"), (2,), NOW_MS)
    assert not synced(log)
    segments = len(log._segments)
    log.append(message(b"more"), (2,), NOW_MS)
    log.flush()
    log.append(message(b"elsewhere"), (2,), NOW_MS)
    assert synced(log)
    assert len(log._segments) == segments + 1
    log.close()


def test_random_crashes_lose_nothing_that_was_durable(tmp_path: Path) -> None:
    """Seeded rounds: work, crash at a random byte of what was not yet synced, compare with a model."""
    for seed in range(40):
        chance = random.Random(seed)
        here = tmp_path / f"r{seed}"
        log, _ = opened(here, segment_bytes=chance.choice([300, 1000, 100_000]))
        durable: dict[int, bytes] = {}
        settled: set[int] = set()
        fresh: dict[int, bytes] = {}
        for step in range(chance.randrange(1, 60)):
            body = b"%d-%d" % (seed, step)
            fresh[log.append(message(body), (2,), NOW_MS)] = body
            if durable and chance.random() < 0.3:
                position = chance.choice(list(durable))
                log.settle(2, [position], 1, NOW_MS)
                settled.add(position)
            if chance.random() < 0.4:
                log.flush()
            if chance.random() < 0.3:
                assert synced(log)
                durable.update(fresh)
                fresh = {}
        log.flush()
        crash(log, here, tmp_path / f"c{seed}")
        tail = log._segments.last
        end, synced_end = tail.end, log._syncer.synced - tail.base
        log.close()
        copy = tmp_path / f"c{seed}" / "log" / tail.path.name
        with copy.open("r+b") as file:
            file.truncate(chance.randrange(max(24, min(synced_end, end)), end + 1))
        log, _ = opened(tmp_path / f"c{seed}")
        found = {entry.position: entry.message.body for entry in waiting(log) if entry.message}
        for position, body in durable.items():
            assert position in settled or found.get(position) == body, f"seed {seed}: lost {body!r}"
        assert set(found.values()) <= set(durable.values()) | set(fresh.values()), f"seed {seed}"
        log.close()


def test_reading_a_freed_position_is_not_found(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    with pytest.raises(NotFound):
        log.read(3)
    log.close()
