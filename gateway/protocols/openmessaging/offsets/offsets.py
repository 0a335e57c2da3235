"""PullMessage, UpdateOffset, GetOffset, QueryOffset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway
from gateway.core.stream import StreamQueue
from gateway.rocketmq.numbers import Code, QueryOffsetPolicy
from gateway.rocketmq.payload import to_ms
from gateway.rocketmq.schema import CLASSES, Status

from ..call import Call, Handler
from ..errors import Refused
from ..existence import Existence
from ..names import group_of
from ..receiving.consuming import Consumers
from ..receiving.receiving import BATCH_MAX, wait_seconds
from ..receiving.sources import selector_for
from .pull import Pull
from .streams import Reader, Streams

OK: Final = Status(code=Code.OK)

GetOffsetResponse: Final = CLASSES["GetOffsetResponse"]
PullMessageResponse: Final = CLASSES["PullMessageResponse"]
QueryOffsetResponse: Final = CLASSES["QueryOffsetResponse"]
UpdateOffsetResponse: Final = CLASSES["UpdateOffsetResponse"]


class Offsets:
    """A `Part`."""

    def __init__(self, gateway: Gateway, consumers: Consumers, existence: Existence, settings: Any) -> None:
        self._gateway = gateway
        self._consumers = consumers
        self._streams = Streams(settings.retention_hours, existence)
        self._wait_seconds_max = float(settings.long_poll_seconds_max)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {
            "PullMessage": self.pull,
            "UpdateOffset": self.update,
            "GetOffset": self.get,
            "QueryOffset": self.query,
        }

    async def pull(self, call: Call, request: Any) -> None:
        """Send what there is from an offset on, and the offset that is next. No position is moved."""
        client, queue = call.client, request.message_queue
        group = group_of(request.group)
        stream = self._streams.find(client, queue.topic, group)
        selector = selector_for(self._gateway.broker.selectors, request.filter_expression)
        refused = _beyond(stream, request.offset)
        if refused:
            status = Status(code=Code.ILLEGAL_OFFSET, message=refused)
            await call.write(PullMessageResponse(status=status))
            await call.write(PullMessageResponse(next_offset=stream.clamp(request.offset)))
            return
        reader = Reader(client.session, group, stream.name, stream, request.offset, selector)
        pull = Pull(self._gateway, reader)
        polls = self._consumers.of(client).polls
        polls.add(pull)
        try:
            count = max(1, min(request.batch_size, BATCH_MAX))
            await pull.run(
                call, queue.topic, queue.id, count, wait_seconds(call, request, self._wait_seconds_max)
            )
        finally:
            polls.discard(pull)

    async def update(self, call: Call, request: Any) -> Any:
        """Have a group go on at an offset."""
        group = group_of(request.group)
        stream = self._streams.find(call.client, request.message_queue.topic, group)
        refused = _beyond(stream, request.offset)
        if refused:
            raise Refused(Code.ILLEGAL_OFFSET, refused)
        self._gateway.broker.queues.seek(stream, group, request.offset)
        return UpdateOffsetResponse(status=OK)

    async def get(self, call: Call, request: Any) -> Any:
        """Return the offset below which a group is done with everything."""
        group = group_of(request.group)
        stream = self._streams.find(call.client, request.message_queue.topic, group)
        found = stream.find_group(group)
        if found is None:
            raise Refused(Code.OFFSET_NOT_FOUND, f"group {group!r} has no offset in {stream.name!r} yet")
        return GetOffsetResponse(status=OK, offset=stream.floor(found))

    async def query(self, call: Call, request: Any) -> Any:
        """Return the first offset, the one that comes next, or the one of a time."""
        stream = self._streams.find(call.client, request.message_queue.topic)
        return QueryOffsetResponse(status=OK, offset=self._at(stream, request))

    def _at(self, stream: StreamQueue, request: Any) -> int:
        policy = request.query_offset_policy
        if policy == QueryOffsetPolicy.BEGINNING:
            return stream.first_offset
        if policy == QueryOffsetPolicy.END:
            return stream.next_offset
        if policy != QueryOffsetPolicy.TIMESTAMP:
            raise Refused(Code.BAD_REQUEST, f"an offset is of BEGINNING, END or TIMESTAMP, not {policy}")
        if not request.HasField("timestamp"):
            raise Refused(Code.BAD_REQUEST, "timestamp: missing, and TIMESTAMP is what was asked for")
        return stream.clamp(stream.offset_at(self._gateway.clock.own(to_ms(request.timestamp))))


def _beyond(stream: StreamQueue, offset: int) -> str:
    """Return what is wrong with an offset, if the stream has none such."""
    if stream.first_offset <= offset <= stream.next_offset:
        return ""
    return f"{stream.name!r} has offsets {stream.first_offset} to {stream.next_offset}, not {offset}"
