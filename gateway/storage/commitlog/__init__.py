"""The commit log engine.

    files        every call to the operating system; directory: where they are
    record       what is in the log; segment, segments: the files it is in; reader, loading: reading it back
    journal      a turn's deliveries and settlements; blocks: queue indexes on file
    checkpoint   the index on disk; checkpoints: when; space: what may go
    trail        finding a message in a segment; finder: in the log, with its history
    recovery     files to state; proof: what the log says of itself for it
    sync         the thread that makes writes durable; waiters: who waits; failures: when it could not
    engine       all of it together
    backup       a copy while the gateway runs
    examine      a look at a log without touching it; contents: at what is kept in it

The format is written down in docs/storage-format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.engine import StorageEngine
from gateway.hookspecs import hookimpl

from .engine import CommitLog

__all__ = ["CommitLog"]


@hookimpl
def gateway_storage_engines() -> Mapping[str, Callable[[Any], StorageEngine]]:
    """Offer the engine as `commitlog`."""
    return {"commitlog": _make}


def _make(config: Any) -> StorageEngine:
    storage = config.storage
    return CommitLog(
        config.data_directory,
        storage.segment_bytes,
        kept_ms=int(storage.trace_seconds * 1000),
        kept_bytes_max=storage.trace_bytes_max,
    )
