"""`gateway log`: what it says about a log, and that looking changes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gateway.core.message import Message, Origin, Properties
from gateway.storage.commitlog import CommitLog, examine
from gateway.storage.commitlog.segment import SEGMENT_HEADER_BYTES
from tests.cli.test_commands import run
from tests.process import GatewayProcess

NOW_MS = 1_700_000_000_000
MESSAGES = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log with messages of two queues, some settled, a cursor and keys; closed without a checkpoint."""
    log = CommitLog(tmp_path, segment_bytes=1000)
    log.open(lambda: None)
    origin = Origin("mqtt", "ada", "sensor-1", "127.0.0.1:4711")
    properties = Properties(
        content_type="text/plain", correlation=b"\xff", headers=(("h", b"\x00"), ("n", 1))
    )
    positions = [
        log.append(
            Message(f"t/{n}", b"body %d" % n, 1, False, properties, origin, NOW_MS), (2, 3), NOW_MS + n
        )
        for n in range(MESSAGES)
    ]
    log.delivered(2, [positions[0]], [7], Origin("test", "", "client"), "", NOW_MS)
    log.settle(2, [positions[0]], 1, NOW_MS)
    log.cursor(3, "g", 5, NOW_MS)
    log.put("k", b"v")
    log.put("gone", b"\xff")
    log.delete("gone")
    log.drop_queue(9)
    log.close()
    for checkpoint in (tmp_path / "index").glob("*.idx"):
        checkpoint.unlink()
    return tmp_path


def _files(data: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def _damage(data: Path, needle: bytes) -> Path:
    for segment in sorted((data / "log").glob("*.seg")):
        content = bytearray(segment.read_bytes())
        if needle in content:
            content[content.index(needle)] ^= 0x01
            segment.write_bytes(bytes(content))
            return segment
    raise AssertionError("not there")


def test_a_good_log(data: Path) -> None:
    before = _files(data)
    done = run("log", "check", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("records, 0 damaged places\n")
    counted = json.loads(run("log", "stats", "--data", str(data), "--json").stdout)
    kinds = {kind: entry["records"] for kind, entry in counted["kinds"].items()}
    assert kinds == {
        "message": MESSAGES,
        "settle": 1,
        "delivered": 1,
        "cursor": 1,
        "put": 2,
        "delete": 1,
        "drop queue": 1,
        "synced": 1,
    }
    assert len(counted["segments"]) > 1
    assert "20 records" in run("log", "stats", "--data", str(data)).stdout
    assert _files(data) == before


def test_records_as_json(data: Path) -> None:
    before = _files(data)
    lines = [json.loads(line) for line in run("log", "dump", "--data", str(data)).stdout.splitlines()]
    messages = [line for line in lines if line["kind"] == "message"]
    assert [line["body"] for line in messages] == [f"body {n}" for n in range(MESSAGES)]
    first = messages[0]
    assert (first["topic"], first["qos"], first["queues"]) == ("t/0", 1, [2, 3])
    assert (first["published_at_ms"], first["stored_at_ms"]) == (NOW_MS, NOW_MS)
    assert first["origin"]["client_id"] == "sensor-1"
    assert first["properties"] == {
        "content_type": "text/plain",
        "correlation_base64": "/w==",
        "headers": [["h", {"base64": "AA=="}], ["n", 1]],
    }
    settled = next(line for line in lines if line["kind"] == "settle")
    assert (settled["queue"], settled["outcome"], settled["positions"]) == (2, 1, [first["position"]])
    others = {
        line["kind"]: line for line in lines if line["kind"] in ("cursor", "put", "delete", "drop queue")
    }
    assert (others["cursor"]["group"], others["cursor"]["offset"]) == ("g", 5)
    assert (others["put"]["key"], others["put"]["value_base64"]) == ("gone", "/w==")
    assert (others["delete"]["key"], others["drop queue"]["queue"]) == ("gone", 9)
    start = str(messages[5]["position"])
    part = run("log", "dump", "--data", str(data), "--from", start, "--limit", "2").stdout.splitlines()
    assert [json.loads(line)["body"] for line in part] == ["body 5", "body 6"]
    assert _files(data) == before


def test_damage_is_named_with_file_and_offset_and_repaired(data: Path) -> None:
    segment = _damage(data, b"body 3")
    last = sorted((data / "log").glob("*.seg"))[-1]
    with last.open("ab") as file:
        file.write(b"torn")
    before = _files(data)
    done = run("log", "check", "--data", str(data), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["damage"]
    assert [(hole["file"], hole["what"]) for hole in found] == [
        (str(segment), "damaged bytes"),
        (str(last), "torn tail"),
    ]
    assert found[0]["offset"] >= SEGMENT_HEADER_BYTES
    assert found[1]["bytes"] == 4
    assert _files(data) == before, "looking changes nothing"
    repaired = run("log", "repair", "--data", str(data))
    assert repaired.returncode == 0
    assert f"{segment}: {found[0]['bytes']} damaged bytes at offset {found[0]['offset']}" in repaired.stdout
    assert "torn tail of 4 bytes" in repaired.stdout
    assert repaired.stdout.endswith("2 repairs\n")
    assert "nothing was damaged" in run("log", "repair", "--data", str(data)).stdout


def test_any_flipped_bit_costs_one_record_at_most(data: Path) -> None:
    chance = random.Random(5)
    segment = sorted((data / "log").glob("*.seg"))[0]
    content = segment.read_bytes()
    whole = [r for r in _walk(data) if r != "hole"]
    for _ in range(60):
        damaged = bytearray(content)
        damaged[chance.randrange(SEGMENT_HEADER_BYTES, len(content))] ^= 1 << chance.randrange(8)
        segment.write_bytes(bytes(damaged))
        found = _walk(data)
        assert found.count("hole") == 1
        assert len(found) - 1 == len(whole) - 1, "one record is lost, all others are found"


def _walk(data: Path) -> list[str]:
    return ["hole" if isinstance(found, examine.Hole) else "record" for found in examine.walk(data)]


def test_where_there_is_no_log(tmp_path: Path) -> None:
    for command in ("check", "stats", "dump", "repair"):
        done = run("log", command, "--data", str(tmp_path / "nowhere"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no log here" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_newer_log_is_left_alone(data: Path) -> None:
    segment = sorted((data / "log").glob("*.seg"))[0]
    content = bytearray(segment.read_bytes())
    content[6] = 99  # the version, behind the magic
    segment.write_bytes(bytes(content))
    before = _files(data)
    for command in ("check", "stats", "dump", "repair"):
        done = run("log", command, "--data", str(data))
        assert done.returncode == 2
        assert f"{segment}: written by a newer version (format 99" in done.stderr
    assert _files(data) == before


def test_beside_a_running_gateway_one_may_look_but_not_repair(gateway: GatewayProcess) -> None:
    assert run("log", "check", "--data", str(gateway.data)).returncode == 0
    done = run("log", "repair", "--data", str(gateway.data))
    assert done.returncode == 2
    assert "another gateway" in done.stderr
