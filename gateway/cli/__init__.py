"""The command line: one module a command group, imported when its command runs.

Start-up time and memory count, so nothing here imports the server before `serve` does.
"""

from __future__ import annotations

from .app import main

__all__ = ["main"]
