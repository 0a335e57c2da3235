"""Checkers against histories written by hand: each kind of fault is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.chaos.checkers.latency import check_latency
from gateway.chaos.checkers.order import check_order
from gateway.chaos.checkers.queue import check_queue
from gateway.chaos.checkers.recovery import check_recovery, check_rto
from gateway.chaos.errors import ChaosError
from gateway.chaos.history import (
    Entry,
    FaultMark,
    Outcome,
    Recorder,
    Request,
    Response,
    read_history,
)


def history(text: str) -> list[Entry]:
    """Return a history of short lines.

    `+1` enqueued, `+1!` refused, `+1?` not answered; `-1` dequeued, `-1?` without an answer to its
    acknowledgement, `-` nothing there; `(kill` and `)` a fault. `:k` is a key, `@5` the time in
    milliseconds, `~3`, at the end, how long it took. The time goes on by 1 ms with each.
    """
    entries: list[Entry] = []
    now = 0
    for word in text.split():
        now += 1
        word, _, took = word.partition("~")
        word, _, time = word.partition("@")
        now = int(time) if time else now
        if word[0] in "()":
            entries.append(FaultMark("kill", "start" if word[0] == "(" else "end", now))
            continue
        word, _, key = word.partition(":")
        op = "enqueue" if word[0] == "+" else "dequeue"
        outcome = {"!": Outcome.FAILURE, "?": Outcome.UNKNOWN}.get(word[-1], Outcome.SUCCESS)
        value = word[1:].rstrip("!?") or None
        if op == "dequeue" and value is None:
            outcome = Outcome.FAILURE
        latency = int(took or 0)
        entries.append(Request(0, op, value if op == "enqueue" else None, key or None, now - latency))
        end_to_end = latency if op == "dequeue" else 0
        entries.append(Response(0, op, outcome, value, key or None, now, latency, None, end_to_end))
    return entries


@pytest.mark.parametrize(
    ("text", "faults", "guarantees"),
    [
        ("+1 +2 -1 -2 -", [], (True, True, True)),
        ("+1 +2 -2", ["lost: 1 (info = None)"], (True, False, False)),
        ("+1 -1 -1 -1", ["duplicate: 1 (duplicate count = 2)"], (False, True, False)),
        ("+1 -1 -7", ["unexpected: 7 was never stored"], (False, True, False)),
        ("+1! -1", ["unexpected: 1 was never stored"], (False, True, False)),
        ("+1! -", [], (True, True, True)),
        ("-1 +1", [], (True, True, True)),  # the consumer was faster than the answer
        ("+1? -1", [], (True, True, True)),  # nobody knows of it, and it came
        ("+1? -", [], (True, True, True)),  # or it did not
        ("+1? -1 -1", ["duplicate: 1 (duplicate count = 1)"], (False, True, False)),
        ("+1 -1? -1", [], (True, True, True)),  # handed out, not settled, handed out again
        ("+1 -1?", [], (True, True, True)),  # a client has it
        (
            "+1 +2 -1 -1",
            ["lost: 2 (info = None)", "duplicate: 1 (duplicate count = 1)"],
            (False, False, False),
        ),
        ("(kill +1 ) -1", [], (True, True, True)),
    ],
)
def test_queue(text: str, faults: list[str], guarantees: tuple[bool, bool, bool]) -> None:
    verdict = check_queue(history(text))
    assert verdict.faults == faults
    found = verdict.fields
    assert (found["atMostOnce"], found["atLeastOnce"], found["exactlyOnce"]) == guarantees


def test_queue_counts() -> None:
    found = check_queue(history("+1 +2 +3? +4! +5 -1 -1 -2 -3 -9 -")).fields
    assert found["enqueueInvokeCount"] == 5
    assert found["enqueueSuccessCount"] == 3
    assert found["dequeueSuccessCount"] == 5
    assert (found["lostMessageCount"], list(found["lostMessages"])) == (1, ["5"])
    assert (found["duplicateMessageCount"], list(found["duplicateMessages"])) == (1, ["1"])
    assert (found["unexpectedMessageCount"], found["unexpectedMessages"]) == (1, ["9"])
    assert found["unknownDequeuedCount"] == 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("+1:a +2:a +3:b -3:b -1:a -2:a", {}),
        ("+1:a +2:a -2:a -1:a", {"a": "1"}),
        ("+1:a +2:a -2:a -1:a -2:a", {"a": "1"}),  # that it comes again does not mend it
        ("+1:a +2:a -1:a -2:a -1:a", {}),  # one that comes again may be late
        ("+1:a +2:a +3:a -1:a -3:a", {}),  # 2 is lost, which is not disorder
        ("+1:a +2?:a +3:a -2:a -1:a -3:a", {}),  # nobody knows when 2 was stored
        ("+1:a +2:a +3:b +4:b -2:a -1:a -4:b -3:b", {"a": "1", "b": "3"}),
        ("+1 +2 -2 -1", {}),  # without a key there is no order
    ],
)
def test_order(text: str, wrong: dict[str, str]) -> None:
    verdict = check_order(history(text))
    assert verdict.fields["wrongShardingKeys"] == wrong
    assert verdict.fields["order"] == (not wrong)
    assert verdict.fields["wrongShardingKey"] == next(iter(wrong), None)
    assert verdict.faults == [f"order: {key} from {value} on" for key, value in wrong.items()]


def test_rto_within_and_beyond_a_fault() -> None:
    verdict = check_rto(
        history(
            "+0 (kill@100 +1?@160~50 +2!@170 +3@180 )@200 (kill@300 +4?@360~40 )@400 +5@450 (kill@500 +6 )"
        )
    )
    first, second, third = verdict.fields["results"]
    assert (first["startTimestamp"], first["endTimestamp"], first["rtoTime"]) == (110, 180, 70)
    assert (first["isUnavailableInFaultInterval"], first["isRecoveryInFaultInterval"]) == (True, True)
    assert (second["rtoTime"], second["isRecoveryInFaultInterval"]) == (130, False)
    assert (third["isUnavailableInFaultInterval"], third["rtoTime"]) == (False, 0)
    assert verdict.fields["averageRtoTime"] == 100
    assert (verdict.fields["unexpectedUnavailableInNormalInterval"], verdict.faults) == (False, [])


def test_rto_finds_what_never_recovers_and_what_fails_without_a_fault() -> None:
    verdict = check_rto(history("+0 (kill +1! ) +2! -7"))
    assert verdict.faults == ["rto: fault 1 was never recovered from"]
    assert check_rto(history("+0 +1! +2")).fields["unexpectedUnavailableInNormalInterval"]
    assert not check_rto(history("+0 -")).fields["unexpectedUnavailableInNormalInterval"]


def test_recovery_merges_what_is_near() -> None:
    verdict = check_recovery(history("+0 +1!@1000~10 +2@1500 +3?@3000~5 +4@3600 +5!@9000 +6@9100 -"))
    assert [
        (each["unavailableStartTimestamp"], each["recoveryTime"]) for each in verdict.fields["results"]
    ] == [
        (990, 2610),  # the second was less than two seconds after the first
        (9000, 100),
    ]
    assert verdict.faults == []
    away = check_recovery(history("+0 +1!"))
    assert away.fields["results"][0]["unavailableEndTimestamp"] == 0
    assert away.faults == ["recovery: it was away when the test ended"]


def test_latency_buckets() -> None:
    found = check_latency(history("-1~0 -2~1 -3~2 -4~5 -5~10 -6~11 -7~1000 -8~3000 -9~3001 - -8?~3")).fields
    counts = [int(share.split()[0]) for share in found.values()]
    assert next(iter(found)) == "e2eIn1msLatency"
    assert counts == [2, 2, 1, 1, 1, 1, 1]
    assert found["e2eExceed3000msLatency"] == "1  11.11%"
    assert set(check_latency([]).fields.values()) == {"0"}


#: As openchaos writes them.
LINES = """\
0\tenqueue\tREQUEST\t7\tshardingKey1\t1700000000000\tnull
0\tenqueue\tRESPONSE\tSUCCESS\t7\tshardingKey1\t1700000000005\t5\tmsgId=1\t0
fault\trandom-kill\tstart\t1700000000010
1\tdequeue\tREQUEST\tnull\tnull\t1700000000020\tnull
1\tdequeue\tRESPONSE\tFAILURE\tnull\tnull\t1700000000030\t10\tnull\t0
fault\trandom-kill\tend\t1700000000040
1\tdequeue\tRESPONSE\tUNKNOWN\t7\tshardingKey1\t1700000000050\t0\tnull\t50
"""


def test_lines_are_openchaos_own(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text(LINES)
    entries = read_history(tmp_path / "theirs")
    recorder = Recorder(tmp_path / "ours")
    for entry in entries:
        recorder.record(entry)
    recorder.close()
    assert (tmp_path / "ours").read_text() == LINES
    assert entries[2] == FaultMark("random-kill", "start", 1_700_000_000_010)
    with pytest.raises(ChaosError, match="cannot be written: File exists"):
        Recorder(tmp_path / "ours")


def test_what_would_break_a_line_is_taken_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "h")
    response = Response(0, "enqueue", Outcome.UNKNOWN, "1", None, 5, 1, "no\tanswer\nat all")
    recorder.record(response)
    recorder.close()
    (found,) = read_history(tmp_path / "h")
    assert isinstance(found, Response)
    assert found.extra == "no answer at all"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "0\tenqueue\tREQUEST\t7",
        "0\tenqueue\tRESPONSE\tPERHAPS\t7\tk\t1\t5\tnull\t0",
        "x\tenqueue\tREQUEST\t7\tk\t1\tnull",
        "fault\tkill\tmiddle\t5",
        "fault\tkill",
        "",
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "h").write_text(LINES + line + "\n")
    with pytest.raises(ChaosError, match=":8 is no line of a history"):
        read_history(tmp_path / "h")


def test_a_history_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChaosError, match="cannot be read"):
        read_history(tmp_path / "h")
