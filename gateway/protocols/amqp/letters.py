"""Dead letters as RabbitMQ writes them: to an exchange, with their story in `x-death`.

The newest death is first. A queue and a reason have one entry, with a count; the first and the
last death have headers of their own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.core import deadletter
from gateway.core.delivery import Delivery
from gateway.core.message import Message
from gateway.core.metrics import DropCause
from gateway.core.queue import Queue
from gateway.core.router import Route

from . import names
from .methods import shortstr
from .properties import Basic, decode_list, encode_list
from .tables import Table, decode_table, encode_table
from .translate import address_end, to_properties

if TYPE_CHECKING:
    from .vhost import Vhost

REASONS: Final = {
    DropCause.REJECTED: "rejected",
    DropCause.EXPIRED: "expired",
    DropCause.QUEUE_FULL: "maxlen",
    DropCause.DELIVERY_LIMIT: "delivery_limit",
}


class ExchangeLetters:
    """Implements `core.queue.Letters` for one queue."""

    __slots__ = ("_key", "_vhost", "exchange", "queue_name")

    def __init__(self, vhost: Vhost, queue_name: str, exchange: str, key: str | None) -> None:
        self._vhost = vhost
        self.queue_name = queue_name
        self.exchange = exchange
        self._key = key

    def letter(
        self, queue: Queue, delivery: Delivery, cause: DropCause
    ) -> tuple[Message, Route | None] | None:
        """Return a dead letter and its way; None if there is none: no such exchange, or it goes round."""
        reason = REASONS.get(cause)
        vhost = self._vhost
        exchange = vhost.exchanges.get(self.exchange)
        if reason is None or exchange is None:
            return None
        broker, message = vhost.broker, delivery.message
        address, raw = vhost.content_of(message)
        source, key = read_address(address)
        basic = decode_list(raw)
        table = decode_table(basic.headers)[0] if basic.headers is not None else {}
        if reason != "rejected" and _goes_round(table, self.queue_name):
            return None
        keys = [key, *_keys(table.get("CC"))]
        self._write_story(table, basic, reason, source, keys, broker.clock.wall_ms)
        if delivery.position:
            table[deadletter.POSITION] = delivery.position
        if self._key is not None:
            keys = [self._key]
            table.pop("CC", None)
        table.pop("BCC", None)
        basic.headers = encode_table(table)
        letter = self._letter(message, basic, keys[0])
        if not self.exchange:
            return letter, None
        return letter, vhost.route(exchange, letter.topic, keys, letter)

    def _write_story(
        self, table: Table, basic: Basic, reason: str, source: str, keys: list[str], now_ms: int
    ) -> None:
        deaths = [death for death in _deaths(table) if isinstance(death, dict)]
        me = (self.queue_name, reason)
        mine = next((d for d in deaths if (d.get("queue"), d.get("reason")) == me), None)
        if mine is not None:
            deaths.remove(mine)
            mine["count"] = mine["count"] + 1 if isinstance(mine.get("count"), int) else 1
        else:
            mine = {
                "count": 1,
                "reason": reason,
                "queue": self.queue_name,
                "time": datetime.fromtimestamp(now_ms // 1000, UTC),
                "exchange": source,
                "routing-keys": keys,
            }
            if basic.expiration is not None:
                mine["original-expiration"] = basic.expiration.decode("utf-8", "replace")
        basic.expiration = None  # it would expire in the next queue, too
        table["x-death"] = [mine, *deaths]
        told = {"reason": reason, "queue": self.queue_name, "exchange": source}
        for what, value in told.items():
            table.setdefault(f"x-first-death-{what}", value)
            table[f"x-last-death-{what}"] = value

    def _letter(self, message: Message, basic: Basic, key: str) -> Message:
        vhost = self._vhost
        raw = encode_list(basic)
        address = shortstr(self.exchange) + shortstr(key)
        return Message(
            names.to_topic(vhost.name, self.exchange, key),
            message.body,
            max(message.qos, 1),  # it survived so far because it matters
            False,
            to_properties(vhost.name, address, raw, basic),
            message.origin,
            message.timestamp_ms,
        )


def read_address(address: bytes) -> tuple[str, str]:
    """Return exchange and routing key of two short strings."""
    end = 1 + address[0]
    key_end = address_end(address)
    return address[1:end].decode("utf-8", "replace"), address[end + 1 : key_end].decode("utf-8", "replace")


def _deaths(table: Table) -> list[Any]:
    found = table.get("x-death")
    return found if isinstance(found, list) else []


def _keys(value: Any) -> list[str]:
    return [key for key in value if isinstance(key, str)] if isinstance(value, list) else []


def _goes_round(table: Table, queue: str) -> bool:
    """Tell whether a message has died here before, with nobody's doing (a rejection) since."""
    for death in _deaths(table):
        if not isinstance(death, dict) or death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue:
            return True
    return False
