"""How exchanges, bindings and queues' arguments survive a restart: keys of the metadata store.

    amqp/exchange/<vhost>NUL<name>                                   kind, flags, arguments
    amqp/binding/<vhost>NUL<source>NUL<kind>NUL<destination>NUL<key>NUL<hash>   arguments
    amqp/queue/<name, as the gateway has it>                         arguments, flags
    amqp/vhost/<name>                                                nothing yet
    amqp/policy/<vhost>NUL<name>                                     as the management API shows it

Values are MessagePack: arguments have types that JSON has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from zlib import crc32

import msgspec

from gateway.core.engine import StorageEngine

from .exchanges import Bound, Exchange
from .policies import Policy
from .tables import Table, encode_table

EXCHANGE_KEY: Final = "amqp/exchange/"
BINDING_KEY: Final = "amqp/binding/"
QUEUE_KEY: Final = "amqp/queue/"
VHOST_KEY: Final = "amqp/vhost/"
POLICY_KEY: Final = "amqp/policy/"

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


class Store:
    """Writes to the engine's keys; a turn's changes are one write with its messages."""

    def __init__(self, engine: StorageEngine) -> None:
        self._engine = engine

    def save_exchange(self, exchange: Exchange) -> None:
        """Keep a durable exchange."""
        fields = {
            "kind": exchange.kind,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": exchange.arguments,
        }
        self._engine.put(f"{EXCHANGE_KEY}{exchange.vhost}\0{exchange.name}", _pack(fields))

    def drop_exchange(self, exchange: Exchange) -> None:
        """Forget one."""
        self._engine.delete(f"{EXCHANGE_KEY}{exchange.vhost}\0{exchange.name}")

    def exchanges(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (vhost, name, fields)."""
        for key, value in list(self._engine.scan(EXCHANGE_KEY)):
            vhost, name = key[len(EXCHANGE_KEY) :].split("\0", 1)
            yield vhost, name, _unpack(value)

    def save_binding(self, bound: Bound) -> None:
        """Keep a durable binding."""
        self._engine.put(_binding_key(bound), _pack(bound.arguments))

    def drop_binding(self, bound: Bound) -> None:
        """Forget one."""
        self._engine.delete(_binding_key(bound))

    def bindings(self) -> Iterator[tuple[str, str, str, str, str, Table, str]]:
        """Yield (vhost, source, kind, destination, routing key, arguments, key in the store)."""
        for key, value in list(self._engine.scan(BINDING_KEY)):
            vhost, source, kind, destination, rest = key[len(BINDING_KEY) :].split("\0", 4)
            routing_key = rest.rpartition("\0")[0]
            yield vhost, source, kind, destination, routing_key, _unpack(value), key

    def save_queue(self, name: str, fields: dict[str, Any]) -> None:
        """Keep what AMQP knows of a durable queue; `name` is the gateway's."""
        self._engine.put(QUEUE_KEY + name, _pack(fields))

    def drop_queue(self, name: str) -> None:
        """Forget it."""
        self._engine.delete(QUEUE_KEY + name)

    def queues(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, fields)."""
        for key, value in list(self._engine.scan(QUEUE_KEY)):
            yield key[len(QUEUE_KEY) :], _unpack(value)

    def save_policy(self, vhost: str, policy: Policy) -> None:
        """Keep a policy."""
        self._engine.put(f"{POLICY_KEY}{vhost}\0{policy.name}", _pack(policy.to_mapping(vhost)))

    def drop_policy(self, vhost: str, name: str) -> None:
        """Forget it."""
        self._engine.delete(f"{POLICY_KEY}{vhost}\0{name}")

    def policies(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (vhost, name, fields)."""
        for key, value in list(self._engine.scan(POLICY_KEY)):
            vhost, name = key[len(POLICY_KEY) :].split("\0", 1)
            yield vhost, name, _unpack(value)

    def drop(self, key: str) -> None:
        """Forget a key whose exchange or queue is gone."""
        self._engine.delete(key)

    def save_vhost(self, name: str, fields: dict[str, Any]) -> None:
        """Keep a virtual host."""
        self._engine.put(VHOST_KEY + name, _pack(fields))

    def drop_vhost(self, name: str) -> None:
        """Forget it."""
        self._engine.delete(VHOST_KEY + name)

    def vhosts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, fields)."""
        for key, value in list(self._engine.scan(VHOST_KEY)):
            yield key[len(VHOST_KEY) :], _unpack(value)


def _binding_key(bound: Bound) -> str:
    source = bound.source
    destination = bound.queue.name if bound.queue is not None else bound.destination_name
    kind = bound.destination_kind
    mark = crc32(encode_table(bound.arguments)) if bound.arguments else 0
    return f"{BINDING_KEY}{source.vhost}\0{source.name}\0{kind}\0{destination}\0{bound.key}\0{mark:08x}"
