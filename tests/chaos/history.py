"""What clients did and saw, in the order in which they did: a list of events, and a file of it.

A line of JSON each. The first is the plan, `{"op": "plan", "queues": {name: kind}}`; then

    send     id, to: the queues it must come to, key     the client has sent it
    stored   id                                          was told that it is stored
    refused  id                                          was told that it is not, or nothing: it may have been
    receive  id, queue, who                              a consumer was handed it; `letter`: as a dead letter
                                                         of that queue, which a crash may have doubled
    ack      id, queue                                   and has acknowledged it
    acked    id, queue                                   the gateway has this on disk
    crash    how                                         the gateway died, and started again
    end                                                  everything was drained

`by` is the sender; its messages are numbered by `n`. `text` is a digest of the body.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class History:
    """Grows while a round runs."""

    def __init__(self, queues: dict[str, str]) -> None:
        self.events: list[Event] = [{"op": "plan", "queues": queues}]

    def note(self, op: str, **about: Any) -> None:
        """Add an event."""
        self.events.append({"op": op, **about})

    def write(self, path: Path) -> Path:
        """Write it to a file."""
        path.write_text("".join(json.dumps(event) + "\n" for event in self.events))
        return path


def read(path: Path) -> list[Event]:
    """Read a file that `write` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]
