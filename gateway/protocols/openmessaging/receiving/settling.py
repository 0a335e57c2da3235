"""How what was received is settled: AckMessage, ChangeInvisibleDuration, ForwardMessageToDeadLetterQueue.

A receipt handle is a lease's token: good until its time is over, for the group and the login that received
by it. ChangeInvisibleDuration makes another of it, and the one before is good for nothing any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Delivery, Gateway, NotFound
from gateway.core.message import Outcome
from gateway.core.policy import BACKOFF_MS
from gateway.core.stream import StreamQueue
from gateway.core.topic import DEAD_PREFIX, SHARE_PREFIX
from gateway.rocketmq.numbers import ClientType, Code
from gateway.rocketmq.schema import CLASSES, Status

from ..call import Call, Handler
from ..errors import Refused
from ..names import group_of
from ..refusals import Refusals
from .poll import HANDLE_BYTES
from .receiving import checked_invisible_ms

OK: Final = Status(code=Code.OK)
INVALID: Final = Status(
    code=Code.INVALID_RECEIPT_HANDLE,
    message="no such receipt handle: its message was settled already, or came back when its invisible time "
    "was over, or it is of another group or login",
)
ENTRIES_MAX: Final = 4096  # of one AckMessage: some 20 ms, then others have their turn
FORWARDED: Final = "forwarded by its consumer"
STUCK_MS: Final = BACKOFF_MS[-1]  # a dead letter that fails again has nowhere to go, and stays where it is

AckMessageResponse: Final = CLASSES["AckMessageResponse"]
ChangeInvisibleDurationResponse: Final = CLASSES["ChangeInvisibleDurationResponse"]
ForwardResponse: Final = CLASSES["ForwardMessageToDeadLetterQueueResponse"]


class Settling:
    """A `Part`."""

    def __init__(self, gateway: Gateway, refusals: Refusals) -> None:
        self._refusals = refusals
        self._leases = gateway.broker.leases
        self._settlement = gateway.broker.settlement

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {
            "AckMessage": self.acknowledge,
            "ChangeInvisibleDuration": self.change_invisible_duration,
            "ForwardMessageToDeadLetterQueue": self.forward,
        }

    async def acknowledge(self, call: Call, request: Any) -> Any:
        """Acknowledge messages, each for itself."""
        group = group_of(request.group)
        if len(request.entries) > ENTRIES_MAX:
            raise Refused(Code.BAD_REQUEST, f"{ENTRIES_MAX} entries are allowed, not {len(request.entries)}")
        response = AckMessageResponse()
        settled: list[Delivery] = []
        for entry in request.entries:
            handle = entry.receipt_handle
            delivery = self._find(call, group, handle)
            if delivery is not None:
                self._leases.take(handle)
                settled.append(delivery)
            response.entries.add(
                message_id=entry.message_id, receipt_handle=handle, status=INVALID if delivery is None else OK
            )
        if settled:
            self._settlement.acknowledge(settled)
            await asyncio.sleep(0)  # the turn is over, and it is written
        if len(settled) == len(request.entries):
            response.status.CopyFrom(OK)
            return response
        self._refusals.note("AckMessage", call.context, Code.INVALID_RECEIPT_HANDLE, INVALID.message)
        if settled:
            response.status.code = Code.MULTIPLE_RESULTS
        else:
            response.status.CopyFrom(INVALID)
        return response

    async def change_invisible_duration(self, call: Call, request: Any) -> Any:
        """Have a message come back later, or earlier, than it was to."""
        group, handle = group_of(request.group), str(request.receipt_handle)
        invisible_ms = checked_invisible_ms(request.invisible_duration, 0)
        self._check(call, group, handle)
        if request.suspend:  # later, and it is not its fault
            self._leases.settle(handle, Outcome.RETRY, invisible_ms)
        elif call.client.kind == ClientType.PUSH_CONSUMER:  # by which it says that its listener has failed
            self._leases.settle(handle, Outcome.REQUEUE, invisible_ms)
        else:
            other = secrets.token_urlsafe(HANDLE_BYTES)
            self._leases.replace(handle, other, invisible_ms)
            handle = other
        return ChangeInvisibleDurationResponse(status=OK, receipt_handle=handle)

    async def forward(self, call: Call, request: Any) -> Any:
        """Give a message up: it goes to the dead letters of its queue."""
        group, handle = group_of(request.group), str(request.receipt_handle)
        delivery = self._check(call, group, handle)
        if delivery.queue.name.startswith(DEAD_PREFIX):
            self._leases.settle(handle, Outcome.REQUEUE, STUCK_MS)
        else:
            self._leases.settle(handle, Outcome.REJECT, 0, FORWARDED)
        await asyncio.sleep(0)
        return ForwardResponse(status=OK)

    def _check(self, call: Call, group: str, handle: str) -> Delivery:
        delivery = self._find(call, group, handle)
        if delivery is None:
            raise Refused(Code.INVALID_RECEIPT_HANDLE, INVALID.message)
        return delivery

    def _find(self, call: Call, group: str, handle: str) -> Delivery | None:
        """Return what a handle stands for; None if it is not this client's, or stands for nothing."""
        try:
            delivery = self._leases.find(handle)
        except NotFound:
            return None
        consumer = delivery.consumer
        if consumer is None or consumer.origin.principal != call.session.origin.principal:
            return None
        if delivery.group.unsettled.get(delivery.offset) is not delivery:
            return None  # its queue was deleted or purged
        return delivery if _of_group(delivery, group) else None


def _of_group(delivery: Delivery, group: str) -> bool:
    queue = delivery.queue
    if queue.name.startswith(SHARE_PREFIX):
        return queue.name.startswith(f"{SHARE_PREFIX}{group}/")
    return delivery.group.name == group if isinstance(queue, StreamQueue) else True
