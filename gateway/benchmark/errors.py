"""What can be wrong with what a benchmark is asked to do, or with who it asks."""

from __future__ import annotations

from ..core.errors import GatewayError

#: What `pip install` is told to install when a library is missing.
EXTRA = "gateway[bench]"


class BenchmarkError(GatewayError):
    """A workload or driver file makes no sense, or a broker does not do what is wanted."""


class LibraryMissing(BenchmarkError):
    """A driver needs a library that is not installed."""

    def __init__(self, who: str, library: str) -> None:
        super().__init__(f"{who} needs {library}, which is not installed: pip install '{EXTRA}'")
