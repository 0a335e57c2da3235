"""What is known of consumer groups, kept over restarts: clients say it again only after minutes."""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.api import Gateway

KEY: Final = "openmessaging/group/"  # and the group's name, in the metadata store
GROUPS_MAX: Final = 100_000  # whoever makes more has made names up


class Known:
    """One group. `fifo`: its consumers want messages of one message group in order, one batch at a time."""

    __slots__ = ("fifo",)

    def __init__(self, fifo: bool = False) -> None:
        self.fifo = fifo


class Groups:
    """All groups, by their name of ours."""

    def __init__(self, gateway: Gateway) -> None:
        self._engine = gateway.broker.engine
        self._known: dict[str, Known] = {}
        for key, value in self._engine.scan(KEY):
            self._known[key[len(KEY) :]] = Known(**json.loads(value))

    def get(self, name: str) -> Known | None:
        """Return what is known of a group; None: nobody has said anything of it."""
        return self._known.get(name)

    def note(self, name: str, fifo: bool) -> None:
        """A consumer says what its group is."""
        known = self._known.get(name)
        if known is not None and known.fifo == fifo:
            return
        if known is None and len(self._known) >= GROUPS_MAX:
            return
        self._known[name] = Known(fifo)
        value: dict[str, Any] = {"fifo": fifo}
        self._engine.put(KEY + name, json.dumps(value).encode())
