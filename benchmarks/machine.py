"""Where and on what a result was measured: processor, kernel, file system, disk, versions, commit."""

from __future__ import annotations

import datetime
import os
import platform
import runpy
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
SYNC_PROBES = 100
SYNC_PROBE_BYTES = 4096


class NotADisk(Exception):
    """The data directory is in memory, where syncing costs nothing and a durability figure means nothing."""


def file_system(directory: Path) -> str:
    """Return the type of the file system that holds `directory`: the deepest mount point above it."""
    best, kind = "", "unknown"
    path = str(directory.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        # Of two mounts on one point the later covers the earlier.
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def require_disk(directory: Path) -> str:
    kind = file_system(directory)
    if kind in MEMORY_FILE_SYSTEMS:
        raise NotADisk(f"{directory} is on {kind}: choose a directory on a disk with --data")
    return kind


def fdatasync_ms(directory: Path) -> float:
    """Return the median time of a 4 KB append with fdatasync: what a broker that syncs has to live with."""
    path = directory / "sync-probe"
    block = b"\0" * SYNC_PROBE_BYTES
    times = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        for _ in range(SYNC_PROBES):
            began = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - began) * 1e3)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_gigabytes() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def output_of(*command: str) -> str:
    """Run a short command and return what it printed, or nothing if it could not."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """Return the commit of this tree, with a mark when product code has been changed since."""
    short = output_of("git", "rev-parse", "--short=10", "HEAD")
    if not short:
        return "unknown"
    return short + (
        "+changes" if output_of("git", "status", "--porcelain", "--", "gateway", "benchmarks") else ""
    )


def project_version() -> str:
    """Read the gateway's version without importing it: another environment may run it."""
    return str(runpy.run_path(str(ROOT / "gateway" / "version.py"))["__version__"])


def describe(data: Path) -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": memory_gigabytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "data_file_system": require_disk(data),
        "fdatasync_ms": round(fdatasync_ms(data), 3),
        "load_average_before": os.getloadavg()[0],
    }
