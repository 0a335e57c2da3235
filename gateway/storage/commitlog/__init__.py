"""The commit log engine: segments, records, index, checkpoints, recovery, group commit.

    files       every call to the operating system
    record      what is in the log; segment: the files it is in
    index       what is not settled; checkpoint: the index on disk
    recovery    files to state; sync: the thread that makes writes durable
    engine      all of it together
    examine     a look at a log without touching it

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
    return {"commitlog": lambda config: CommitLog(config.data_directory, config.storage.segment_bytes)}
