"""RabbitMQ's definitions: a topology as one JSON document, out and in.

What cannot be taken over is skipped and named: users and permissions have an import of
their own, and runtime parameters belong to plugins of RabbitMQ's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.core.errors import GatewayError
from gateway.core.values import to_json
from gateway.version import __version__

from .errors import AmqpFault, Reply
from .fields import flag, table, text
from .policies import read_policy
from .vhost import RESERVED, Vhost

if TYPE_CHECKING:
    from .vhosts import Vhosts

RABBITMQ_VERSION: Final = "3.13.0"  # whose format this is; tools look at it

#: Sections of the document that are for others.
SKIPPED: Final = {
    "users": "take them over with `gateway acl import --from rabbitmq FILE`",
    "permissions": "take them over with `gateway acl import --from rabbitmq FILE`",
    "topic_permissions": "rights are in the configuration",
    "parameters": "runtime parameters belong to plugins of RabbitMQ's",
    "global_parameters": "runtime parameters belong to plugins of RabbitMQ's",
}


def export_all(vhosts: Vhosts, only: Vhost | None = None) -> dict[str, Any]:
    """Return the document: of everything, or of one virtual host (then without its name)."""
    chosen = [only] if only is not None else list(vhosts.all.values())
    document: dict[str, Any] = {
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "gateway",
        "product_version": __version__,
    }
    if only is None:
        document |= {
            "users": [],
            "vhosts": [{"name": vhost.name} for vhost in chosen],
            "permissions": [],
            "topic_permissions": [],
            "global_parameters": [],
        }
    document["parameters"] = []
    sections: dict[str, Callable[[Vhost], list[dict[str, Any]]]] = {
        "policies": _policies,
        "queues": _queues,
        "exchanges": _exchanges,
        "bindings": _bindings,
    }
    for name, export in sections.items():
        rows = [row for vhost in chosen for row in export(vhost)]
        if only is not None:
            rows = [{key: value for key, value in row.items() if key != "vhost"} for row in rows]
        document[name] = rows
    return document


def _policies(vhost: Vhost) -> list[dict[str, Any]]:
    return [policy.to_mapping(vhost.name) for policy in vhost.policies.values()]


def _queues(vhost: Vhost) -> list[dict[str, Any]]:
    return [
        {
            "name": declared.name,
            "vhost": vhost.name,
            "durable": declared.durable,
            "auto_delete": declared.auto_delete,
            "arguments": to_json(declared.arguments or {}),
        }
        for declared in vhost.all_queues()
        if declared.queue.durable and not declared.exclusive
    ]


def _exchanges(vhost: Vhost) -> list[dict[str, Any]]:
    return [
        {
            "name": exchange.name,
            "vhost": vhost.name,
            "type": exchange.kind,
            "durable": True,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": to_json(exchange.arguments),
        }
        for exchange in vhost.exchanges.values()
        if exchange.durable and exchange.name and not exchange.name.startswith(RESERVED)
    ]


def _bindings(vhost: Vhost) -> list[dict[str, Any]]:
    return [
        {
            "source": bound.source.name,
            "vhost": vhost.name,
            "destination": bound.destination_name,
            "destination_type": bound.destination_kind,
            "routing_key": bound.key,
            "arguments": to_json(bound.arguments),
        }
        for bound in vhost.bindings()
        if bound.durable
    ]


class Import:
    """Takes a document over. What is there already has to be the same, or the import ends there."""

    def __init__(self, vhosts: Vhosts, only: Vhost | None = None) -> None:
        self._vhosts = vhosts
        self._only = only
        self.done: dict[str, int] = {}
        self.skipped: list[str] = []

    def run(self, document: Any) -> None:
        """Raise AmqpFault naming the row that is wrong; what came before it stays."""
        if not isinstance(document, dict):
            raise AmqpFault(Reply.PRECONDITION_FAILED, "definitions: a JSON object is expected")
        for section, why in SKIPPED.items():
            if rows := document.get(section):
                self.skipped.append(f"{section} ({len(rows)}): {why}")
        for section, take in _SECTIONS.items():
            rows = document.get(section, [])
            if not isinstance(rows, list):
                raise AmqpFault(Reply.PRECONDITION_FAILED, f"{section}: a list is expected")
            for row in rows:
                try:
                    take(self, row)
                except (KeyError, TypeError, AttributeError) as error:
                    why = f"{section}: {str(row)[:200]}: {type(error).__name__} {error}"
                    raise AmqpFault(Reply.PRECONDITION_FAILED, why) from error
                except GatewayError as error:
                    why = f"{section}: {str(row)[:200]}: {error.detail}"
                    raise AmqpFault(Reply.PRECONDITION_FAILED, why) from error
                self.done[section] = self.done.get(section, 0) + 1

    def _vhost(self, row: dict[str, Any]) -> Vhost:
        if self._only is not None:
            return self._only
        name = text(row, "vhost")
        found = self._vhosts.get(name)
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no vhost '{name}'")
        return found

    def _take_vhost(self, row: dict[str, Any]) -> None:
        if self._only is None:
            self._vhosts.declare(text(row, "name"))

    def _take_exchange(self, row: dict[str, Any]) -> None:
        if text(row, "name") and not text(row, "name").startswith(RESERVED):
            self._vhost(row).declare_exchange(
                text(row, "name"),
                text(row, "type"),
                flag(row, "durable", True),
                flag(row, "auto_delete", False),
                flag(row, "internal", False),
                table(row, "arguments"),
            )

    def _take_queue(self, row: dict[str, Any]) -> None:
        self._vhost(row).declare_queue(
            text(row, "name"),
            flag(row, "durable", True),
            flag(row, "auto_delete", False),
            None,
            self,
            table(row, "arguments"),
        )

    def _take_binding(self, row: dict[str, Any]) -> None:
        vhost = self._vhost(row)
        if not text(row, "source"):
            return  # of the default exchange: it is there by itself
        source = vhost.exchange(text(row, "source"))
        to: Any
        if text(row, "destination_type") == "queue":
            to = vhost.queue(text(row, "destination"), self)
        else:
            to = vhost.exchange(text(row, "destination"))
        vhost.bind(source, to, text(row, "routing_key", ""), table(row, "arguments"))

    def _take_policy(self, row: dict[str, Any]) -> None:
        self._vhost(row).set_policy(read_policy(text(row, "name"), row))


#: In the order in which they need each other.
_SECTIONS: Final[dict[str, Callable[[Import, Any], None]]] = {
    "vhosts": Import._take_vhost,
    "exchanges": Import._take_exchange,
    "queues": Import._take_queue,
    "bindings": Import._take_binding,
    "policies": Import._take_policy,
}
