"""What is known of consumer groups, kept over restarts: clients say it again only after minutes.

Whether a group is for messages in order, one by one: its push consumers are told, and try again by themselves
what fails. `openmessaging.fifo_groups` says so, or a consumer that may subscribe does.
"""

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


_ORDINARY: Final = Known()
_FIFO: Final = Known(True)


class Groups:
    """All groups, by their name of ours."""

    def __init__(self, gateway: Gateway, settings: Any) -> None:
        self._engine = gateway.broker.engine
        self._configured: list[str] = settings.fifo_groups
        self._known: dict[str, Known] = {}
        for key, value in self._engine.scan(KEY):
            self._known[key[len(KEY) :]] = Known(**json.loads(value))

    def configured(self, name: str) -> bool:
        """Tell whether `openmessaging.fifo_groups` names a group; `orders-*` names all that begin so."""
        return any(
            name == wanted or (wanted.endswith("*") and name.startswith(wanted[:-1]))
            for wanted in self._configured
        )

    def get(self, name: str) -> Known:
        """Return what is known of a group."""
        if self.configured(name):
            return _FIFO
        return self._known.get(name, _ORDINARY)

    def note(self, name: str, fifo: bool) -> None:
        """A consumer says what its group is."""
        if self.get(name).fifo == fifo or self.configured(name):
            return
        if name not in self._known and len(self._known) >= GROUPS_MAX:
            return
        self._known[name] = Known(fifo)
        self._engine.put(KEY + name, json.dumps({"fifo": fifo}).encode())
