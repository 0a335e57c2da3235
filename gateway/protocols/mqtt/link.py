"""What the parts of a connection may ask of it."""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """The connection, as its parts see it. (One reference; a bound method each would cost 64 bytes.)"""

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""

    def refuse(self, reason: int, why: str) -> None:
        """Say why, and close."""

    def pause(self, pause: bool) -> None:
        """Stop or go on reading from the client."""
