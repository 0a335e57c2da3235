"""Transactions: publishes and acknowledgements that happen together or not at all.

Nothing is enqueued before everything may be: a queue that would refuse one message refuses all.
In the log they are one group of records. What is acknowledged stays in its consumer's hands
until the group is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .delivery import Delivery
from .errors import QueueFull
from .message import Message, wants_later
from .metrics import DropCause
from .plan import Plan
from .policy import DROP_HEAD
from .queue import Queue
from .router import Route

if TYPE_CHECKING:
    from .broker import Broker

Publish = tuple[Message, Route | None]  # as `Broker.publish` takes it


def commit(
    broker: Broker, publishes: Sequence[Publish], acknowledged: Sequence[Delivery], at_once: bool = False
) -> list[int]:
    """Do all of it; return what `Broker.publish` would for each message.

    Raise QueueFull, having done nothing; with `at_once` (see `StorageEngine.transact`) NotStored, too. Once
    the engine's position of now is stored, call `Settlement.acknowledged`; should it not be, nothing has
    happened.
    """
    metrics = broker.metrics
    plans = [_planned(broker, message, route) for message, route in publishes]
    try:
        check_room(plans)
    except QueueFull:
        metrics.refuse(DropCause.QUEUE_FULL, len(plans))
        raise
    metrics.published += len(plans)
    broker.ready.wake()
    logged = [plan for plan in plans if plan.ids]
    found: list[int] = []
    settled = _by_queue(acknowledged)
    if logged or settled:
        messages = [(plan.message, plan.ids) for plan in logged]
        found = broker.engine.transact(messages, settled, broker.clock.now_ms, at_once)
    positions = iter(found)
    return [broker.carry_out(plan, next(positions) if plan.ids else 0) for plan in plans]


def _planned(broker: Broker, message: Message, route: Route | None) -> Plan:
    """Return who gets a message: the calendar, if it is to be published later."""
    if wants_later(message.properties):
        plan = broker.schedules.plan(message)
        if plan is not None:
            return plan
    return broker.plan(message, route)


def release(
    broker: Broker, messages: Sequence[Message], record: Message, queue_id: int, positions: Sequence[int]
) -> list[int]:
    """Publish messages in place of what a reserved queue has at positions, and put a record of it there.

    Return what `Broker.publish` would for each, and the record's position. Raise QueueFull or NotStored,
    having done nothing: nobody gets a message before all of it is written.
    """
    plans = [_planned(broker, message, None) for message in messages]
    check_room(plans)
    logged = [(plan.message, plan.ids) for plan in plans if plan.ids]
    broker.ready.wake()
    now_ms = broker.clock.now_ms
    found = broker.engine.transact(
        [*logged, (record, (queue_id,))], [(queue_id, positions)], now_ms, at_once=True
    )
    broker.metrics.published += len(plans)
    at = iter(found)
    results = [broker.carry_out(plan, next(at) if plan.ids else 0) for plan in plans]
    return [*results, found[-1]]


def move_all(
    broker: Broker, publishes: Sequence[Publish], settled: Sequence[tuple[int, Sequence[int]]]
) -> None:
    """Publish messages in place of those that durable queues have (queue id, positions): all, or nothing.

    They do not count as published: they did when they came. Raise QueueFull, having done nothing.
    """
    plans = [broker.plan(message, route) for message, route in publishes]
    check_room(plans)
    broker.ready.wake()
    messages = [(plan.message, plan.ids) for plan in plans if plan.ids]
    positions = iter(broker.engine.transact(messages, settled, broker.clock.now_ms))
    for plan in plans:
        broker.carry_out(plan, next(positions) if plan.ids else 0)


def check_room(plans: Sequence[Plan]) -> None:
    """Raise QueueFull if a queue that rejects cannot take all that is for it."""
    wanted: dict[int, tuple[Queue, int, int]] = {}
    for plan in plans:
        for binding in plan.queues:
            queue = binding.queue
            if queue is not None and queue.limited and queue.policy.overflow != DROP_HEAD:
                _, count, size = wanted.get(id(queue), (queue, 0, 0))
                wanted[id(queue)] = (queue, count + 1, size + len(plan.message.body))
    for queue, count, size in wanted.values():
        policy = queue.policy
        too_many = policy.max_length and queue.length() + count > policy.max_length
        if too_many or (policy.max_bytes and queue.bytes_waiting + size > policy.max_bytes):
            raise QueueFull(f"queue {queue.name!r} has no room for all of it and rejects publishes")


def _by_queue(deliveries: Sequence[Delivery]) -> list[tuple[int, Sequence[int]]]:
    """Return positions of durable classic queues' deliveries; streams have cursors instead."""
    found: dict[int, list[int]] = {}
    for delivery in deliveries:
        queue = delivery.queue
        held = delivery.group.unsettled.get(delivery.offset) is delivery
        if held and delivery.position and queue.queue_id and queue.kind == "classic":
            found.setdefault(queue.queue_id, []).append(delivery.position)
    return list(found.items())
