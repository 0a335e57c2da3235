"""What runs: the node, connections, channels, consumers, users; and whether it works."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.message import Outcome

from ..errors import AmqpFault, Reply
from . import views
from .call import Call
from .messages import publish_message

ALIVENESS_QUEUE: Final = "aliveness-test"


def overview(call: Call) -> Any:
    """GET overview"""
    call.look()
    return views.overview(call.amqp.vhosts, list(call.amqp.connections), call.gateway.broker)


def nodes(call: Call) -> Any:
    """GET nodes"""
    call.look()
    return [views.node()]


def node(call: Call) -> Any:
    """GET nodes/<name>"""
    call.look()
    return views.node()


def cluster_name(call: Call) -> Any:
    """GET cluster-name"""
    return {"name": views.NODE}


def whoami(call: Call) -> Any:
    """GET whoami"""
    principal = call.session.principal
    return {"name": principal.name, "tags": ["administrator"] if principal.admin else []}


def users(call: Call) -> Any:
    """GET users"""
    call.look()
    return [
        {"name": name, "tags": ["administrator"] if admin else [], "limits": {}}
        for name, admin in call.gateway.users()
    ]


def permissions(call: Call) -> Any:
    """GET (permissions|vhosts/<vhost>/permissions)"""
    call.look()
    return [
        {"user": name, "vhost": vhost.name, "configure": ".*", "write": ".*", "read": ".*"}
        for name, admin in call.gateway.users()
        for vhost in call.vhosts
        if admin
    ]


def nothing(call: Call) -> Any:
    """GET (topic-permissions|parameters|global-parameters|extensions|operator-policies)"""
    call.look()
    return []


def connections(call: Call) -> Any:
    """GET (connections|vhosts/<vhost>/connections)"""
    call.look()
    return [views.connection(found) for found in call.connections()]


def connection(call: Call) -> Any:
    """GET connections/<name>"""
    call.look()
    return views.connection(_find_connection(call))


def _find_connection(call: Call) -> Any:
    for found in call.amqp.connections:
        if found.name == call.parts["name"]:
            return found
    raise AmqpFault(Reply.NOT_FOUND, f"no connection '{call.parts['name']}'")


def close_connection(call: Call) -> None:
    """DELETE connections/<name>"""
    call.change()
    call.gateway.begin_turn()
    _find_connection(call).refuse(0, AmqpFault(Reply.CONNECTION_FORCED, "Closed via management plugin"))


def channels(call: Call) -> Any:
    """GET channels"""
    call.look()
    return [views.channel(channel) for found in call.connections() for channel in found.channels.values()]


def connection_channels(call: Call) -> Any:
    """GET connections/<name>/channels"""
    call.look()
    return [views.channel(channel) for channel in _find_connection(call).channels.values()]


def consumers(call: Call) -> Any:
    """GET consumers(/<vhost>)?"""
    call.look()
    return [
        views.consumer(channel, subscription)
        for found in call.connections()
        for channel in found.channels.values()
        for subscription in channel.receiving.subscriptions.values()
    ]


def aliveness(call: Call) -> Any:
    """Publish a message and get it back."""
    call.look()
    call.gateway.begin_turn()
    vhost = call.vhost
    declared = vhost.declare_queue(ALIVENESS_QUEUE, False, False, None, call, {})
    sent = {"routing_key": ALIVENESS_QUEUE, "payload": "test", "payload_encoding": "string", "properties": {}}
    publish_message(vhost, vhost.exchange(""), call.session, sent)
    fetcher = call.session.fetcher()
    delivery = call.session.fetch(fetcher, declared.queue.name)
    if delivery is None or delivery.message.body != b"test":
        raise AmqpFault(Reply.INTERNAL_ERROR, "what was published did not come back")
    call.session.settle(delivery, Outcome.ACK)
    return {"status": "ok"}


def healthy(call: Call) -> Any:
    """GET health/checks/..."""
    return {"status": "ok"}
