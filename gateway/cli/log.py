"""`gateway log ...`: look at a commit log on disk, and repair it. No running gateway is needed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from ..core.errors import StorageError
from ..storage.commitlog import CommitLog, examine
from .faults import fault

EXIT_DAMAGED = 1  # there are places that are no records


def check(data: Path, as_json: bool) -> int:
    """Read every record and verify its checksum; print each damaged place with file and offset."""
    try:
        records, holes = examine.survey(data)
    except StorageError as error:
        return fault(error.detail)
    if as_json:
        shown = [{"file": str(h.path), "offset": h.offset, "bytes": h.size, "what": h.what} for h in holes]
        print(json.dumps({"records": records, "damage": shown}))
    else:
        for hole in holes:
            print(f"{hole.path}: {hole.what}, {hole.size} bytes at offset {hole.offset}")
        print(f"{records} records, {len(holes)} damaged places")
    return EXIT_DAMAGED if holes else 0


def stats(data: Path, as_json: bool) -> int:
    """Count records and bytes by kind and by segment."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    segments: Counter[str] = Counter()
    damaged = 0
    try:
        for found in examine.walk(data):
            if isinstance(found, examine.Hole):
                damaged += found.size
                continue
            kind = examine.KIND_NAMES[found.payload[0]]
            counts[kind] += 1
            sizes[kind] += len(found.payload)
            segments[found.path.name] += len(found.payload)
    except StorageError as error:
        return fault(error.detail)
    if as_json:
        records = {kind: {"records": counts[kind], "bytes": sizes[kind]} for kind in counts}
        print(json.dumps({"kinds": records, "segments": segments, "damaged_bytes": damaged}))
        return 0
    for kind in counts:
        print(f"{kind:12} {counts[kind]:>12} records {sizes[kind]:>15} bytes")
    print(f"{len(segments)} segments, {sum(segments.values())} bytes of payload, {damaged} damaged")
    return 0


def dump(data: Path, start: int, limit: int) -> int:
    """Print every record as a line of JSON, from a position on."""
    shown = 0
    try:
        for found in examine.walk(data):
            if isinstance(found, examine.Hole) or found.position < start:
                continue
            print(json.dumps(examine.describe(found), ensure_ascii=False))
            shown += 1
            if shown == limit:
                break
    except StorageError as error:
        return fault(error.detail)
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
    return 0


def repair(data: Path) -> int:
    """Do what the next start would do, and say exactly what was given up. Nobody else may use the log."""
    if not (data / "log").is_dir():
        return fault(f"{data}: there is no log here")
    log = CommitLog(data)
    try:
        remarks = log.open(lambda: None).remarks
    except StorageError as error:
        return fault(error.detail)
    log.close()
    for remark in remarks:
        print(remark)
    print("nothing was damaged" if not remarks else f"{len(remarks)} repairs")
    return 0
