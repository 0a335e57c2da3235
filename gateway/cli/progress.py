"""A progress bar for people: on a terminal, on standard error, else nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Bar:
    """How far something is."""

    def __init__(self, shown: Progress | None, task: TaskID) -> None:
        self._shown = shown
        self._task = task

    def advance(self, amount: int) -> None:
        """So much more is done."""
        if self._shown is not None:
            self._shown.advance(self._task, amount)


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Bar]:
    """Show a bar for as long as it takes; `unit` is "bytes" or what is counted."""
    if not sys.stderr.isatty():
        yield Bar(None, TaskID(0))
        return
    counted: Any = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn(what), BarColumn(), counted, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        yield Bar(shown, shown.add_task(what, total=total))
