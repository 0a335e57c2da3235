"""What there is, as RabbitMQ's management API shows it: pure functions to JSON's types."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from gateway.core.broker import Broker
from gateway.core.values import to_json
from gateway.version import __version__

from ..consumers import UNLIMITED, Subscription
from ..declared import Declared
from ..definitions import RABBITMQ_VERSION
from ..exchanges import Bound, Exchange
from ..tables import encode_table
from ..vhost import Vhost

if TYPE_CHECKING:
    from ..channel import Channel
    from ..connection import AmqpConnection
    from ..vhosts import Vhosts

NODE: Final = "gateway@localhost"
_STARTED: Final = time.time()


def overview(vhosts: Vhosts, connections: list[AmqpConnection], broker: Broker) -> dict[str, Any]:
    """GET /api/overview"""
    queues = [declared.queue for vhost in vhosts.all.values() for declared in vhost.all_queues()]
    ready = sum(queue.length() for queue in queues)
    unacked = sum(len(queue.held()) for queue in queues)
    channels = sum(len(connection.channels) for connection in connections)
    metrics = broker.metrics
    return {
        "management_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "gateway",
        "product_version": __version__,
        "erlang_version": f"Python {platform.python_version()}",
        "cluster_name": NODE,
        "node": NODE,
        "rates_mode": "none",
        "exchange_types": [
            {"name": name, "enabled": True}
            for name in ("direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message")
        ],
        "message_stats": {
            "publish": metrics.published,
            "deliver_get": metrics.delivered,
            "redeliver": metrics.redelivered,
        },
        "queue_totals": {
            "messages": ready + unacked,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
        },
        "object_totals": {
            "channels": channels,
            "connections": len(connections),
            "consumers": sum(len(group.consumers) for queue in queues for group in queue.active),
            "exchanges": sum(len(vhost.exchanges) for vhost in vhosts.all.values()),
            "queues": len(queues),
        },
        "listeners": [],
        "contexts": [],
    }


def node() -> dict[str, Any]:
    """One of GET /api/nodes: there is one."""
    return {
        "name": NODE,
        "type": "disc",
        "running": True,
        "uptime": int((time.time() - _STARTED) * 1000),
        "mem_alarm": False,
        "disk_free_alarm": False,
        "partitions": [],
        "applications": [],
        "enabled_plugins": ["rabbitmq_management"],
    }


def vhost(found: Vhost) -> dict[str, Any]:
    """One of GET /api/vhosts"""
    queues = [declared.queue for declared in found.all_queues()]
    ready = sum(queue.length() for queue in queues)
    unacked = sum(len(queue.held()) for queue in queues)
    return {
        "name": found.name,
        "description": "",
        "tags": [],
        "tracing": False,
        "cluster_state": {NODE: "running"},
        "messages": ready + unacked,
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    }


def connection(found: AmqpConnection) -> dict[str, Any]:
    """One of GET /api/connections"""
    host, _, port = found.transport.peer.rpartition(":")
    return {
        "name": found.name,
        "node": NODE,
        "state": "running",
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "user": found.session.principal.name,
        "user_who_performed_action": found.session.principal.name,
        "vhost": found.vhost.name,
        "peer_host": host,
        "peer_port": int(port) if port.isdigit() else 0,
        "channels": len(found.channels),
        "channel_max": found.channels_max,
        "frame_max": found.frame_max,
        "timeout": found.heartbeat_seconds,
        "connected_at": found.connected_ms,
        "auth_mechanism": found.mechanism,
        "client_properties": to_json(found.client_properties),
    }


def channel(found: Channel) -> dict[str, Any]:
    """One of GET /api/channels"""
    receiving = found.receiving
    return {
        "name": f"{found.connection.name} ({found.number})",
        "node": NODE,
        "number": found.number,
        "state": "flow" if found.stopped else "running",
        "user": found.connection.session.principal.name,
        "vhost": found.vhost.name,
        "confirm": found.publisher.confirming,
        "transactional": found.transaction is not None,
        "prefetch_count": receiving.prefetch,
        "global_prefetch_count": receiving.prefetch_all,
        "consumer_count": len(receiving.subscriptions),
        "messages_unacknowledged": len(receiving.unacked),
        "connection_details": {"name": found.connection.name, "peer_host": found.connection.transport.peer},
    }


def consumer(of: Channel, found: Subscription) -> dict[str, Any]:
    """One of GET /api/consumers"""
    window = found.consumer.window
    return {
        "consumer_tag": found.tag,
        "queue": {"name": found.declared.name, "vhost": of.vhost.name},
        "ack_required": not found.no_ack,
        "exclusive": found.declared.sole is found,
        "prefetch_count": 0 if window >= UNLIMITED else window,
        "priority": found.consumer.priority,
        "active": found.consumer.attached,
        "activity_status": "up",
        "arguments": {},
        "channel_details": {
            "name": f"{of.connection.name} ({of.number})",
            "number": of.number,
            "connection_name": of.connection.name,
            "user": of.connection.session.principal.name,
        },
    }


def exchange(found: Exchange) -> dict[str, Any]:
    """One of GET /api/exchanges"""
    return {
        "name": found.name,
        "vhost": found.vhost,
        "type": found.kind,
        "durable": found.durable,
        "auto_delete": found.auto_delete,
        "internal": found.internal,
        "arguments": to_json(found.arguments),
        "policy": found.policy.name if found.policy is not None else None,
        "user_who_performed_action": "",
    }


def queue(of: Vhost, found: Declared) -> dict[str, Any]:
    """One of GET /api/queues"""
    core = found.queue
    ready, unacked = core.length(), len(core.held())
    arguments = found.arguments or {}
    return {
        "name": found.name,
        "vhost": of.name,
        "node": NODE,
        "state": "running",
        "type": arguments.get("x-queue-type", core.kind),
        "durable": found.durable,
        "auto_delete": found.auto_delete,
        "exclusive": found.exclusive,
        "arguments": to_json(arguments),
        "policy": found.policy.name if found.policy is not None else None,
        "effective_policy_definition": dict(found.policy.definition) if found.policy is not None else {},
        "consumers": sum(len(group.consumers) for group in core.active),
        "messages": ready + unacked,
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
        "message_bytes_ready": core.bytes_waiting,
        "message_stats": {},
    }


def binding(found: Bound) -> dict[str, Any]:
    """One of GET /api/bindings"""
    return {
        "source": found.source.name,
        "vhost": found.source.vhost,
        "destination": found.destination_name,
        "destination_type": found.destination_kind,
        "routing_key": found.key,
        "arguments": to_json(found.arguments),
        "properties_key": properties_key(found),
    }


def default_binding(of: Vhost, found: Declared) -> dict[str, Any]:
    """The binding that every queue has to the default exchange."""
    return {
        "source": "",
        "vhost": of.name,
        "destination": found.name,
        "destination_type": "queue",
        "routing_key": found.name,
        "arguments": {},
        "properties_key": found.name,
    }


def properties_key(found: Bound) -> str:
    """Return what names a binding among those of its two ends."""
    mark = f"~{hash_of(found)}" if found.arguments else ""
    return (found.key or ("~" if not mark else "")) + mark


def hash_of(found: Bound) -> str:
    """Return a short name of a binding's arguments."""
    return f"{crc32(encode_table(found.arguments)):08x}"
