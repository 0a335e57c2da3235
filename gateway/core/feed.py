"""Feed a queue that outlives sessions in a session's name, as a webhook's is."""

from __future__ import annotations

from collections.abc import Sequence

from .access import Action
from .queue import Queue
from .router import Binding
from .selector import Selector
from .session import Session
from .topic import check_filter


def feed(session: Session, queue: Queue, filters: Sequence[str], selector: Selector | None = None) -> None:
    """Have a queue get what filters (and a selector) match, all of it, as the session's own queue.

    `Session.review` takes a filter away again that may not be read any more; closing the session with
    `keep` leaves all as it is. Raise InvalidTopic, NotAuthorized or QuotaExceeded, having bound nothing.
    """
    for topic_filter in filters:
        check_filter(topic_filter)
        session.check(Action.SUBSCRIBE, topic_filter)
        session.check_use()
    session.queue = queue
    catalog = session.broker.catalog
    for topic_filter in filters:
        binding = catalog.bindings.get(queue.name, {}).get(topic_filter)
        if binding is None or binding.selector != selector:
            binding = Binding(topic_filter, queue, selector=selector)
            catalog.bind(queue, binding)
        session.subscriptions[topic_filter] = binding
    session.recount()
