"""What was published with `x-delay`: how it goes out when it is due.

It waits in the core's calendar, as it came: then it goes through its exchange as if it were
published at that moment, and `x-delay` is negated, as RabbitMQ's plugin for delays does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.core.message import Message, Properties
from gateway.core.router import Route, Router

from . import names
from .letters import read_address
from .properties import decode_list, encode_list
from .tables import Table, decode_table, encode_table
from .translate import EXPIRATION_MS_MAX, address_end, to_properties

if TYPE_CHECKING:
    from .vhosts import Vhosts

DELAY: Final = "x-delay"
DELAY_BYTES: Final = DELAY.encode()
DELAY_MS_MAX: Final = EXPIRATION_MS_MAX  # 49 days, as RabbitMQ has it; `$deliver-at-ms` reaches further


def delay_of(table: Table) -> int:
    """Return for how long to wait (ms); 0 if the headers do not say, or say less than nothing."""
    delay = table.get(DELAY)
    if not isinstance(delay, int) or isinstance(delay, bool):
        return 0
    return min(max(0, delay), DELAY_MS_MAX)


class Delays:
    """A `core.schedules.Release`."""

    def __init__(self, vhosts: Vhosts, router: Router) -> None:
        self._vhosts = vhosts
        self._router = router

    def release(self, message: Message) -> tuple[Message, Route | None]:
        """Return a message as it is delivered, and its way; to nobody if its exchange was deleted."""
        native = message.properties.native or b"\0\0\0\0"
        end = address_end(native)
        exchange_name, key = read_address(native[:end])
        name = names.vhost_of(message.topic)
        properties, copies = _released(name, native, end)
        released = message.changed(message.topic, properties, message.expires_at_ms)
        vhost = self._vhosts.get(name)
        exchange = vhost.exchanges.get(exchange_name) if vhost is not None else None
        if vhost is None or exchange is None:
            return released, self._router.through(message.topic, ("nobody",), ())
        if not exchange.name and not copies:
            return released, None  # its topic is the queue's
        return released, vhost.way(exchange, message.topic, [key, *copies], released)


def _released(vhost: str, native: bytes, end: int) -> tuple[Properties, list[str]]:
    """Return the properties as they are delivered, and more routing keys that they name."""
    basic = decode_list(native, end)
    copies: list[str] = []
    if basic.headers is not None:
        table = decode_table(basic.headers)[0]
        if isinstance(table.get(DELAY), int):
            table[DELAY] = -table[DELAY]
        for found in (table.get("CC"), table.pop("BCC", None)):  # nobody sees the latter
            copies += [key for key in found if isinstance(key, str)] if isinstance(found, list) else []
        basic.headers = encode_table(table)
    return to_properties(vhost, native[:end], encode_list(basic), basic), copies
