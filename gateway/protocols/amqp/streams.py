"""Reading streams by AMQP: where a consumer begins, and what its messages say of where they are.

A consumer has a position of its own, from `x-stream-offset` on; with `x-group` it shares one that
is kept, as HTTP's and MQTT's groups are.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

from gateway.core.clock import Clock
from gateway.core.stream import StreamQueue

from .arguments import age_ms
from .errors import AmqpFault, Reply
from .properties import decode_list, encode_list
from .tables import Table, decode_table, encode_table

OFFSET: Final = "x-stream-offset"
GROUP: Final = "x-group"
OWN_PREFIX: Final = "$amqp-"  # groups of one consumer; the broker does not write down their cursor


def begin(queue: StreamQueue, arguments: Table, clock: Clock) -> str:
    """Return the group that a consumer reads in, made where its arguments say. Raise AmqpFault."""
    name = arguments.get(GROUP, "")
    if not isinstance(name, str) or name.startswith("$"):
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"invalid arg '{GROUP}': {name!r} is no name of a group")
    start = _offset(queue, arguments.get(OFFSET, "next"), clock)
    name = name or OWN_PREFIX + secrets.token_hex(8)
    queue.group(name, start)
    return name


def _offset(queue: StreamQueue, value: Any, clock: Clock) -> int:
    if value == "first":
        return queue.first_offset
    if value == "last":
        return max(queue.first_offset, queue.next_offset - 1)
    if value == "next":
        return queue.next_offset
    if isinstance(value, datetime):
        return queue.offset_at(clock.own(int(value.timestamp() * 1000)))
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    interval_ms = age_ms(value)
    if interval_ms is not None:
        return queue.offset_at(clock.now_ms - interval_ms)
    expected = "first, last, next, an offset, a timestamp or an interval as 5m"
    raise AmqpFault(Reply.PRECONDITION_FAILED, f"invalid arg '{OFFSET}': {value!r}; {expected}")


def leave(queue: StreamQueue, group: str) -> None:
    """A consumer has gone, and its position with it if it was its own."""
    if group.startswith(OWN_PREFIX):
        queue.remove_group(group)


def with_header(raw: bytes, name: str, value: int) -> bytes:
    """Return a property list with one header more."""
    basic = decode_list(raw)
    table = decode_table(basic.headers)[0] if basic.headers is not None else {}
    table[name] = value
    basic.headers = encode_table(table)
    return encode_list(basic)
