"""A history: what clients asked and were answered, and when faults began and ended. Lines of openchaos'
format.

    client  op  REQUEST   value  shardingKey  time_ms  extra
    client  op  RESPONSE  SUCCESS|FAILURE|UNKNOWN  value  shardingKey  time_ms  latency_ms  extra  e2e_ms
    fault   name  start|end  time_ms

Fields are parted by tabs; what is not said is `null`. UNKNOWN is a request without an answer: it may have
been done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, TextIO

from .errors import ChaosError

ENQUEUE, DEQUEUE = "enqueue", "dequeue"
NOTHING = "null"
FAULT = "fault"
REQUEST, RESPONSE = "REQUEST", "RESPONSE"
START, END = "start", "end"
FIELDS = {REQUEST: 7, RESPONSE: 10}
FAULT_FIELDS = 4


class Outcome(Enum):
    """How an operation ended."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Request:
    """A client begins an operation."""

    client: int
    op: str
    value: str | None
    key: str | None
    time_ms: int
    extra: str | None = None

    def fields(self) -> list[object]:
        """Return what is written of it."""
        return [self.client, self.op, REQUEST, self.value, self.key, self.time_ms, self.extra]


@dataclass(frozen=True, slots=True)
class Response:
    """And this came of it."""

    client: int
    op: str
    outcome: Outcome
    value: str | None
    key: str | None
    time_ms: int
    latency_ms: int
    extra: str | None = None
    end_to_end_ms: int = 0

    def fields(self) -> list[object]:
        """Return what is written of it."""
        said = [self.client, self.op, RESPONSE, self.outcome.value, self.value, self.key, self.time_ms]
        return [*said, self.latency_ms, self.extra, self.end_to_end_ms]


@dataclass(frozen=True, slots=True)
class FaultMark:
    """A fault began or ended."""

    name: str
    mark: Literal["start", "end"]
    time_ms: int

    def fields(self) -> list[object]:
        """Return what is written of it."""
        return [FAULT, self.name, self.mark, self.time_ms]


Entry = Request | Response | FaultMark


class Recorder:
    """Writes a history, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: TextIO = path.open("x")
        except OSError as error:
            raise ChaosError(f"the history {path} cannot be written: {error.strerror}") from error

    def record(self, entry: Entry) -> None:
        """Write an entry."""
        fields = [NOTHING if field is None else _clean(str(field)) for field in entry.fields()]
        self._file.write("\t".join(fields) + "\n")

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def _clean(text: str) -> str:
    """Return it without what parts fields and lines."""
    return " ".join(text.split()) if any(mark in text for mark in "\t\r\n") else text


def read_history(path: Path) -> list[Entry]:
    """Return the entries of a file. Raise ChaosError naming the line that is none."""
    try:
        with path.open() as file:
            return list(_entries(file, path))
    except (OSError, UnicodeDecodeError) as error:
        raise ChaosError(f"the history {path} cannot be read: {error}") from error


def _entries(lines: TextIO, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        fields = line.rstrip("\n").split("\t")
        try:
            yield _fault(fields) if fields[0] == FAULT else _operation(fields)
        except (ValueError, KeyError, IndexError) as error:
            raise ChaosError(f"{path}:{number} is no line of a history: {line.strip()!r}") from error


def _fault(fields: list[str]) -> FaultMark:
    if fields[2] == START:
        return FaultMark(fields[1], "start", int(fields[3]))
    if fields[2] == END:
        return FaultMark(fields[1], "end", int(fields[3]))
    raise ValueError(fields[2])


def _operation(fields: list[str]) -> Request | Response:
    if len(fields) != FIELDS[fields[2]]:
        raise ValueError(f"{len(fields)} fields")
    said = [None if field == NOTHING else field for field in fields]
    client, op = int(fields[0]), fields[1]
    if fields[2] == REQUEST:
        return Request(client, op, said[3], said[4], int(fields[5]), said[6])
    return Response(
        client,
        op,
        Outcome(fields[3]),
        said[4],
        said[5],
        int(fields[6]),
        int(fields[7]),
        said[8],
        int(fields[9].strip()),
    )
