"""What has something to hand out: receivers with an inbox, groups with messages and room.

Publishing and settling only put sources here; the broker's dispatch, at the end of a turn,
takes them all. Putting in the first one asks the shell for a turn.
"""

from __future__ import annotations

from collections.abc import Callable

from .delivery import Group
from .receiver import Receiver
from .stream import StreamQueue


class Ready:
    """The sources of the next dispatch. `wake` asks the shell for a turn."""

    __slots__ = ("groups", "moved", "overfull", "receivers", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.receivers: list[Receiver] = []
        self.groups: list[Group] = []
        self.overfull: list[StreamQueue] = []  # that may keep more than their retention allows
        self.moved: list[Group] = []  # of streams, whose cursor is to be journalled

    def add_receiver(self, receiver: Receiver) -> None:
        """A receiver's inbox has its first message."""
        if not self.receivers:
            self.wake()
        self.receivers.append(receiver)

    def add_group(self, group: Group) -> None:
        """A group that is not in the list may have something to hand out."""
        group.ready = True
        if not self.groups:
            self.wake()
        self.groups.append(group)

    def look(self, group: Group) -> None:
        """Something has changed for a group: add it if it has both messages and room."""
        if not group.ready and group.wants():
            self.add_group(group)

    def take_receivers(self) -> list[Receiver]:
        """Return the receivers and start a new list."""
        taken, self.receivers = self.receivers, []
        return taken

    def take_groups(self) -> list[Group]:
        """Return the groups and start a new list."""
        taken, self.groups = self.groups, []
        return taken

    def trim(self, stream: StreamQueue) -> None:
        """A stream has got a message: see what it need not keep any more."""
        if not self.overfull:
            self.wake()
        if not self.overfull or self.overfull[-1] is not stream:
            self.overfull.append(stream)

    def take_overfull(self) -> list[StreamQueue]:
        """Return the streams to trim and start a new list."""
        taken, self.overfull = self.overfull, []
        return taken

    def take_moved(self) -> list[Group]:
        """Return the groups whose cursor has moved and start a new list."""
        taken, self.moved = self.moved, []
        return taken
