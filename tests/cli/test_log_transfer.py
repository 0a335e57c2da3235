"""`gateway log export` and `import`: there and back, cut off anywhere, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.message import Message, Origin, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.selectors import LANGUAGES
from gateway.storage.commitlog import CommitLog, checkpoints
from tests.cli.test_commands import run
from tests.interop.paho_client import PahoClient
from tests.process import GatewayProcess, wait_for

NOW_MS = 1_700_000_000_000
ORIGIN = Origin("mqtt", "ada", "sensor-1", "127.0.0.1:4711")
EVERYTHING = Properties(
    content_type="text/plain",
    content_encoding="gzip",
    correlation=b"\xff\x00",
    reply_to="answers/1",
    message_id="m-1",
    timestamp_ms=NOW_MS - 5,
    priority=9,
    key="k",
    tag="t",
    keys=("a", "b"),
    deliver_at_ms=NOW_MS + 5,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    text=True,
    headers=(
        ("text", "ä"),
        ("bytes", b"\xff"),
        ("nested", {"list": [1, 2.5, None, True, b"x", {"$base64": "no"}]}),
        ("inf", math.inf),
        ("text", "again"),
    ),
)


class Data:
    """A data directory, seen through a broker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = CommitLog(path, segment_bytes=3000, kept_ms=0)
        self.broker = Broker(self.engine, Clock(NOW_MS))
        for language, compiler in LANGUAGES.items():
            self.broker.selectors.add(language, compiler)
        self.broker.restore(lambda: None)

    def fill(self, count: int = 60) -> None:
        catalog, engine = self.broker.catalog, self.engine
        jobs, _ = catalog.declare("jobs", policy=QueuePolicy(max_length=1000))
        selectors = self.broker.selectors
        catalog.bind(jobs, Binding("jobs/#", jobs, selector=selectors.find("a || b", "tags")))
        stream, _ = catalog.declare("all", "stream")
        catalog.bind(stream, Binding("#", stream))
        session, _ = catalog.declare("$session/phone")
        catalog.bind(session, Binding("jobs/+", session, None, 1, True, True, (3, 4)))
        engine.put("mqtt/session/phone", b'{"expiry": 100}')
        engine.put("binary", b"\xff\x00")
        positions = []
        for n in range(count):
            properties = EVERYTHING if n % 7 == 0 else Properties()
            message = Message(
                f"jobs/{n}", b"\xff%d" % n if n % 5 == 0 else b"%d" % n, n % 3, False, properties, ORIGIN
            )
            message.timestamp_ms, message.expires_at_ms = NOW_MS + n, NOW_MS * 2 if n % 4 == 0 else 0
            ids = tuple(sorted(queue.queue_id for queue in (jobs, stream, session)))
            positions.append(engine.append(message, ids, NOW_MS + n))
            engine.flush()
        for n in (0, 1, 2, 5, 50):
            engine.settle(jobs.queue_id, [positions[n]], 1, NOW_MS)
        for _ in range(3):
            engine.delivered(jobs.queue_id, [positions[7]], [0], ORIGIN, "", NOW_MS)
        engine.trim(stream.queue_id, 4)
        for name, offset in (("at the head", 4), ("in the middle", 30), ("at the end", count)):
            engine.cursor(stream.queue_id, name, offset, NOW_MS)
        assert isinstance(stream, StreamQueue)
        catalog.select(stream.group("in the middle"), selectors.find("price > 5"))
        self.broker.publish(Message("value", b"old", 1, True, origin=ORIGIN))
        self.broker.publish(Message("value", b"new", 1, True, origin=ORIGIN))
        engine.flush()
        wait_for(lambda: engine.stored(engine._written - 1), what="the sync")
        self.broker.flushed()  # what was replaced goes now
        engine.flush()

    def seen(self) -> dict[str, Any]:
        """Return all that counts; offsets of streams from their first message on."""
        catalog = self.broker.catalog
        found: dict[str, Any] = {"keys": {k: v for k, v in self.engine.scan("") if k in ("binary",)}}
        found["keys"] |= dict(self.engine.scan("mqtt/"))
        for name, queue in sorted(catalog.queues.items()):
            extent = self.engine.extent(queue.queue_id)
            entries = self.engine.at(queue.queue_id, 0, 10_000)
            first = extent.first if queue.kind == "stream" else 0
            found[name] = {
                "kind": queue.kind,
                "policy": queue.policy.to_mapping(),
                "bindings": [
                    (b.filter, b.qos, b.no_local, b.retain_as_published, b.ids, b.selector)
                    for b in catalog.bindings.get(name, {}).values()
                ],
                "messages": [(_fields(e.message), e.attempts, e.stored_at_ms) for e in entries],
                "groups": {g.name: (g.cursor - first, g.selector) for g in queue.groups() if g.name},
            }
        found["retained"] = [(m.topic, m.body) for m in self.broker.retained.all()]
        return found

    def close(self) -> None:
        self.engine.close()


def _fields(message: Message | None) -> tuple[Any, ...]:
    assert message is not None
    names = ("topic", "body", "qos", "retain", "properties", "origin", "timestamp_ms", "expires_at_ms")
    return tuple(repr(getattr(message, name)) for name in names)


def _seen(path: Path) -> dict[str, Any]:
    data = Data(path)
    seen = data.seen()
    data.close()
    return seen


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log in which all kinds of things have happened; some messages were moved."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 2000)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    data = Data(tmp_path / "source")
    data.fill()
    data.close()
    return tmp_path / "source"


def _export(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    result = run("log", "export", str(target), "--data", str(source))
    assert result.returncode == 0, result.stderr
    return result


def _import(file: Path, data: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = run("log", "import", str(file), "--data", str(data))
    assert result.returncode == code, result.stderr
    return result


def test_there_and_back_all_is_as_it_was(source: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    file = tmp_path / "export.ndjson"
    assert _export(source, file).stdout == f"{file}: 62 messages\n"
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert _import(file, tmp_path / "copy").stdout == f"{tmp_path / 'copy'}: 62 messages imported\n"
    expected = _seen(source)
    assert [m[1] for m in expected["jobs"]["messages"] if m[1]] == [3], "attempts are kept"
    assert _seen(tmp_path / "copy") == expected
    piped = run("log", "export", "-", "--data", str(source)).stdout
    assert piped.splitlines()[1:] == file.read_text().splitlines()[1:]


@pytest.mark.parametrize("command", ["export", "import"])
def test_on_a_terminal_there_is_a_progress_bar(source: Path, tmp_path: Path, command: str) -> None:
    _export(source, tmp_path / "file")
    data, file = (
        (tmp_path / "new", tmp_path / "file") if command == "import" else (source, tmp_path / "other")
    )
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "gateway", "log", command, str(file), "--data", str(data)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    shown = bytearray()
    reader = threading.Thread(target=_read_terminal, args=(ours, shown))
    reader.start()
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True, timeout=60
    )
    os.close(theirs)
    reader.join(20)
    os.close(ours)
    assert b"62 messages" in done.stdout
    assert command in shown.decode()
    assert "━━━" in shown.decode()


def _read_terminal(terminal: int, shown: bytearray) -> None:
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(terminal, 1 << 16):
            shown.extend(data)


def test_it_is_added_to_what_is_there(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "export.ndjson"
    _export(source, file)
    other = Data(tmp_path / "other")
    queue, _ = other.broker.catalog.declare("jobs", policy=QueuePolicy(max_length=1000))
    other.engine.append(Message("t", b"was there", 1), (queue.queue_id,), NOW_MS)
    other.close()
    _import(file, tmp_path / "other")
    messages = _seen(tmp_path / "other")["jobs"]["messages"]
    assert messages[0][0][1] == repr(b"was there")
    assert messages[1:] == _seen(source)["jobs"]["messages"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.1, 0.5, 0.77, 0.999, 1.0])
def test_an_export_that_was_cut_off_goes_on(source: Path, tmp_path: Path, share: float) -> None:
    file = tmp_path / "export.ndjson"
    _export(source, file)
    whole = file.read_bytes().split(b"\n", 1)
    cut = tmp_path / "cut.ndjson"
    cut.write_bytes(file.read_bytes()[: int(len(file.read_bytes()) * share)])
    _export(source, cut)
    assert cut.read_bytes().split(b"\n", 1)[1] == whole[1], "but for its name it is the same"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_an_import_of_a_part_goes_on_with_the_rest(source: Path, tmp_path: Path, share: float) -> None:
    file, copy = tmp_path / "export.ndjson", tmp_path / "copy"
    _export(source, file)
    part = tmp_path / "part.ndjson"
    part.write_bytes(file.read_bytes()[: int(len(file.read_bytes()) * share)])
    result = _import(part, copy, 1)
    assert "the export was cut off; this is not all of it" in result.stderr
    assert "0 messages" in _import(part, copy, 1).stdout
    _import(file, copy)
    assert _seen(copy) == _seen(source)
    assert "0 messages imported" in _import(file, copy).stdout, "once is enough"
    assert _seen(copy) == _seen(source)


def test_a_file_of_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    for content in (b"notes\n", b"notes", b'{"gateway_export": 1}\n', b"[]\n{}\n"):
        file = tmp_path / "file"
        file.write_bytes(content)
        result = run("log", "export", str(file), "--data", str(source))
        assert (result.returncode, file.read_bytes()) == (2, content)
        assert "there is something else in this file" in result.stderr
    _export(source, tmp_path / "export")
    other = Data(tmp_path / "other")
    other.fill()
    other.close()
    result = run("log", "export", str(tmp_path / "export"), "--data", str(tmp_path / "other"))
    assert result.returncode == 2
    assert "an export of another log, or the log has gone on since" in result.stderr


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"nonsense", "line 2 is none of an export"),
        (b"[]", "line 2 is none of an export"),
        (b'{"position": 1}', "line 2 is none of an export"),
        (b'{"position": 1, "queues": {"missing": {}}}', "there is no queue 'missing'"),
        (b'{"queue": "jobs", "kind": "stream", "bindings": []}', "line 2: queue 'jobs' exists as classic"),
        (b'{"queue": "x", "kind": "odd", "bindings": []}', "line 2: queue kind 'odd'"),
        (
            b'{"queue": "x", "policy": {"ttl_ms": -1}, "bindings": []}',
            "line 2: policy.ttl_ms: ",
        ),
        (b'{"group": "g", "of": "missing"}', "there is no queue 'missing'"),
        (b'{"key": "k"}', "line 2 is none of an export"),
        (b'{"key": "k", "value_base64": "?"}', "line 2 is none of an export"),
    ],
)
def test_a_line_that_does_not_fit_is_named(source: Path, tmp_path: Path, line: bytes, fault: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b'{"gateway_export": 1, "id": "x"}\n' + line + b'\n{"end": true}\n')
    before = _seen(source)
    result = _import(file, source, 2)
    assert result.stderr.startswith(f"gateway: {file}: line 2")
    assert fault in result.stderr
    assert "Traceback" not in result.stderr
    assert _seen(source) == before


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "this is no export"),
        (b"{}\n", "this is no export"),
        (b'{"gateway_export": 2, "id": "x"}\n', "made by a newer version (format 2; this reads 1)"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert fault in _import(file, tmp_path / "data", 2).stderr
    assert not (tmp_path / "data").exists()
    missing = _import(tmp_path / "missing", tmp_path / "data", 2)
    assert missing.stderr == f"gateway: {tmp_path / 'missing'}: No such file or directory\n"


def test_a_log_in_use_is_left_alone_and_its_backup_read(gateway: GatewayProcess, tmp_path: Path) -> None:
    httpx.put(f"{gateway.url}/v1/queues/q", json={"bindings": ["a/#"]})
    with PahoClient("phone", clean=False, expiry=1000).open(gateway.mqtt_port) as phone:
        phone.subscribe("a/#", 1)
    httpx.post(f"{gateway.url}/v1/topics/a/b", content=b"hello")
    file = tmp_path / "export"
    result = run("log", "export", str(file), "--data", str(gateway.data))
    assert result.returncode == 2
    assert "a gateway is using it; take a backup and read that" in result.stderr
    assert "another gateway is using" in _import_head(gateway.data, tmp_path).stderr
    assert run("backup", str(tmp_path / "copy"), "--url", gateway.url).returncode == 0
    _export(tmp_path / "copy", file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (message,) = (line for line in lines if line.get("topic") == "a/b")
    assert (message["body"], set(message["queues"])) == ("hello", {"q", "$session/phone"})
    _import(file, tmp_path / "elsewhere")
    moved = GatewayProcess(tmp_path / "elsewhere").start()
    try:
        with PahoClient("phone", clean=False, expiry=1000).open(moved.mqtt_port) as phone:
            assert phone.session_present
            assert phone.bodies(1) == [b"hello"]
            httpx.post(f"{moved.url}/v1/topics/a/c", content=b"again")
            assert phone.bodies(1) == [b"again"], "its subscription has come along"
        wait_for(lambda: httpx.get(f"{moved.url}/v1/queues/q").json()["depth"] == 2, what="the queue")
        assert moved.bugs() == []
    finally:
        moved.stop()


def _import_head(data: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "empty"
    file.write_bytes(b'{"gateway_export": 1, "id": "x"}\n{"end": true}\n')
    return _import(file, data, 2)
