"""Groups: what is published is kept for one before it pulls; one that is for a while goes by itself."""

from __future__ import annotations

from typing import Final

from gateway.api import (
    Action,
    Conflict,
    HttpAnswer,
    NotAuthorized,
    NotFound,
    Selector,
    Session,
    queue_resource,
)
from gateway.core.policy import WORK, QueuePolicy
from gateway.core.queue import Queue
from gateway.core.shares import is_share, join, reselect, shared_filter

from .call import Call, nothing

EXPIRES_MS_MIN: Final = 1000
EXPIRES_MS_MAX: Final = 7 * 86_400_000  # longer is for good
EXPIRES: Final = "x-oms-expiresMills"


async def make(call: Call) -> HttpAnswer:
    """Make a group, unless it is there. Another selector replaces one that no member is there for."""
    name, group = call.source()
    selector = call.selector()
    policy = WORK
    if EXPIRES.lower() in call.headers:
        expires_ms = call.number(EXPIRES, 0, EXPIRES_MS_MIN, EXPIRES_MS_MAX)
        policy = QueuePolicy.from_mapping({**WORK.to_mapping(), "expires_ms": expires_ms})
    if not is_share(name):
        call.session.check_consume(name, group)
        return nothing()
    made = name not in call.gateway.broker.catalog.queues
    if made:
        call.session.check(Action.SUBSCRIBE, shared_filter(name))
        call.session.check_queues()
    joined(call.session, name, selector, policy)
    if made:
        await call.stored(call.gateway.broker.engine.position())
    return nothing()


def joined(session: Session, name: str, selector: Selector | None, policy: QueuePolicy = WORK) -> Queue:
    """Return the queue of a group, made if need be. Raise Conflict if members want something else."""
    try:
        return join(session, name, True, selector, policy)
    except Conflict:
        if not reselect(session, name, selector):
            raise
    return session.broker.catalog.get(name)


async def leave(call: Call) -> HttpAnswer:
    """Delete a group that is for a while: its member has left. Any other is a matter of who manages it."""
    name, _ = call.source()
    if not is_share(name):
        raise NotAuthorized(f"queue {name!r} is no group's; delete it at /v1/queues")
    call.session.check(Action.SUBSCRIBE, shared_filter(name))
    queue = call.gateway.broker.catalog.queues.get(name)
    if queue is None:
        raise NotFound(f"there is no {name!r}")
    if not queue.policy.expires_ms:
        call.session.check(Action.MANAGE, queue_resource(name))
    call.gateway.broker.queues.delete(queue)
    call.session.changed("queue.delete", queue_resource(name), "its member has left")
    await call.stored(call.gateway.broker.engine.position())
    return nothing()
