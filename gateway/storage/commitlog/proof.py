"""What has been on disk, said in the log itself, for recovery to tell two kinds of holes apart.

After a power loss any page that was not synced may be missing, also one before others that are
there: such a hole is where the log ends, and what comes after it was never promised to anybody.
Damage to what had been synced costs the records it hit, and no more. A record in the log says up
to where it had been synced; a hole before that is damage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import record

RECORD_BYTES: Final = record.HEADER_BYTES + len(record.encode_synced(0))


class Proof:
    """Decides when another such record is due."""

    __slots__ = ("_content", "_said")

    def __init__(self, end: int) -> None:
        self._said = end
        self._content = end  # where the last other record ends

    def due(self, synced: int) -> bool:
        """Tell whether more has been synced than was said."""
        return min(synced, self._content) > self._said

    def add(self, synced: int, end: int, room_end: int, write: Callable[[bytes], int]) -> None:
        """With a batch, which ends here: say what is new, if there is room left in its segment."""
        self._content = end
        if synced > self._said and end + RECORD_BYTES <= room_end:
            self._said = synced
            write(record.encode_synced(synced))

    def alone(self, synced: int, write: Callable[[bytes], int]) -> None:
        """The same without a batch, so that a gateway that rests has said all."""
        if self.due(synced):
            self._said = synced
            write(record.encode_synced(synced))
