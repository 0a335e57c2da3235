"""The books' last term: copies of messages that are still on their way (see `metrics`)."""

from __future__ import annotations

from itertools import chain

from .catalog import Catalog
from .classic import ClassicQueue
from .ready import Ready
from .receiver import Receiver
from .router import Router


def copies_waiting(catalog: Catalog, router: Router, ready: Ready) -> int:
    """Return how many copies queues and inboxes hold, those in consumers' hands included."""
    count = sum(len(receiver.inbox) for receiver in _open_receivers(router, ready))
    for queue in catalog.queues.values():
        if isinstance(queue, ClassicQueue):
            count += queue.length() + len(queue.held())
    return count


def _open_receivers(router: Router, ready: Ready) -> list[Receiver]:
    found = {id(receiver): receiver for receiver in ready.receivers}
    for route in router.routes.values():
        for binding in chain(route.receivers_lossy, *route.selective):
            if binding.receiver is not None and binding.receiver.inbox:
                found[id(binding.receiver)] = binding.receiver
    return list(found.values())
