"""What a command says, and how it exits, when what it was given cannot be used."""

from __future__ import annotations

import sys

EXIT_FAULT = 2  # a configuration, a directory, a file or a port cannot be used as it is


def fault(text: str) -> int:
    """Print why, return the exit status."""
    print(f"gateway: {text}", file=sys.stderr)
    return EXIT_FAULT
