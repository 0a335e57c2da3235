"""Shared subscriptions: `$share/<group>/<filter>` is a queue of that name, bound to that filter.

Its members compete for what it holds, whatever door each came by. Who may subscribe to the filter
may be one: that is all the group is. It is made by its first member, and kept once one member wants
that: for a session that outlives its connection, or a consumer that comes and goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .access import Action
from .errors import NotAuthorized
from .policy import QueuePolicy
from .queue import Queue
from .router import Binding
from .selector import Selector, check_same
from .topic import SHARE_PREFIX, check_filter, split_share

if TYPE_CHECKING:
    from .caller import Caller
    from .catalog import Catalog


def is_share(name: str) -> bool:
    """Tell whether a name is that of a shared subscription, well-formed or not."""
    return name.startswith(SHARE_PREFIX)


def shared_filter(name: str) -> str:
    """Return what a member has to be allowed to subscribe to. Raise InvalidTopic or NotAuthorized."""
    share = split_share(name)
    assert share is not None, "not a shared subscription"
    check_filter(share[1])
    if share[1].startswith("$"):
        raise NotAuthorized(f"{share[1]!r}: the gateway's own topics cannot be shared")
    return share[1]


def join(
    caller: Caller,
    name: str,
    keep: bool,
    selector: Selector | None = None,
    policy: QueuePolicy | None = None,
) -> Queue:
    """Return the queue of a shared subscription, made if there is none yet; `keep`: durable from now on.

    The first member says which `selector` the queue's binding has, and which policy the queue. Raise
    InvalidTopic, NotAuthorized, or Conflict if another selector was said: a message that one member passes
    over would be missed by the others.
    """
    topic_filter = shared_filter(name)
    caller.check(Action.SUBSCRIBE, topic_filter)
    return _found_or_made(caller.broker.catalog, name, topic_filter, keep, selector, policy)


def reselect(caller: Caller, name: str, selector: Selector | None) -> bool:
    """Have a shared subscription want something else from now on; False while it has members.

    What it has already stays. Raise InvalidTopic or NotAuthorized.
    """
    topic_filter = shared_filter(name)
    caller.check(Action.SUBSCRIBE, topic_filter)
    catalog = caller.broker.catalog
    queue = catalog.get(name)
    if queue.active or any(group.unsettled for group in queue.groups()):
        return False
    catalog.bind(queue, Binding(topic_filter, queue, selector=selector))
    return True


def selector_of(catalog: Catalog, name: str) -> Selector | None:
    """Return what a shared subscription's members want; None as well if it does not exist."""
    bindings = catalog.bindings.get(name)
    return next(iter(bindings.values())).selector if bindings else None


def _found_or_made(
    catalog: Catalog,
    name: str,
    topic_filter: str,
    keep: bool,
    selector: Selector | None,
    policy: QueuePolicy | None,
) -> Queue:
    queue = catalog.queues.get(name)
    if queue is None:
        queue, _ = catalog.declare(name, policy=policy, durable=keep, auto_delete=not keep)
    bound = catalog.bindings.get(name, {}).get(topic_filter)
    if bound is None:  # or of an older queue: a crash came between the two
        catalog.bind(queue, Binding(topic_filter, queue, selector=selector))
    else:
        whose = f"the shared subscription {name!r}"
        check_same(bound.selector, selector, whose, "subscribe to it under another name")
    if keep and not queue.durable:
        queue.auto_delete = False
        catalog.make_durable(queue)
    return queue
