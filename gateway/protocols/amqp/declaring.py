"""Methods that say what is to exist: exchanges, queues and bindings. Their table is at the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.core.shares import is_share
from gateway.core.shares import selector_of as share_selector

from .arguments import selector_of
from .declared import Declared, shared
from .errors import AmqpFault, Reply
from .exchanges import Exchange
from .methods import make
from .names import DEFAULT_VHOST
from .publisher import DIRECT_REPLY
from .rights import check_alternate, check_dead_letters
from .vhost import RESERVED

if TYPE_CHECKING:
    from .channel import Channel

GENERATED: Final = "amq.gen-"


def _exchange_declare(channel: Channel, method: Any) -> None:
    vhost = channel.vhost
    if method.passive:
        vhost.exchange(method.exchange)
    else:
        if not method.exchange:
            raise AmqpFault(Reply.ACCESS_REFUSED, "operation not permitted on the default exchange")
        channel.manage_exchange(method.exchange)
        known = method.exchange in vhost.exchanges
        if not known:
            check_alternate(channel.connection.session, vhost.name, method.arguments)
        vhost.declare_exchange(
            method.exchange,
            method.exchange_type,
            method.durable,
            method.auto_delete,
            method.internal,
            method.arguments,
        )
        if not known:
            channel.exchange_changed("exchange.declare", method.exchange, method.exchange_type)
    channel.done(method, make(commands.Exchange.DeclareOk), method.durable and not method.passive)


def _exchange_delete(channel: Channel, method: Any) -> None:
    channel.manage_exchange(method.exchange)
    known = method.exchange in channel.vhost.exchanges
    channel.vhost.delete_exchange(method.exchange, method.if_unused)
    if known:
        channel.exchange_changed("exchange.delete", method.exchange)
    channel.done(method, make(commands.Exchange.DeleteOk))


def _exchange_bind(channel: Channel, method: Any) -> None:
    source, destination = _ends(channel, method)
    if channel.vhost.bind(source, destination, method.routing_key, method.arguments):
        channel.exchange_changed("exchange.bind", destination.name, _from(source, method))
    channel.done(method, make(commands.Exchange.BindOk))


def _exchange_unbind(channel: Channel, method: Any) -> None:
    source, destination = _ends(channel, method)
    if channel.vhost.unbind(source, destination, method.routing_key, method.arguments):
        channel.exchange_changed("exchange.unbind", destination.name, _from(source, method))
    channel.done(method, make(commands.Exchange.UnbindOk))


def _from(source: Exchange, method: Any) -> str:
    return f"from {source.name!r} {method.routing_key!r}"


def _ends(channel: Channel, method: Any) -> tuple[Exchange, Exchange]:
    channel.manage_exchange(method.destination)
    source, destination = channel.vhost.exchange(method.source), channel.vhost.exchange(method.destination)
    if not destination.name:
        raise AmqpFault(Reply.ACCESS_REFUSED, "operation not permitted on the default exchange")
    source.check_listener(channel.connection.session, method.routing_key)
    return source, destination


def _queue_declare(channel: Channel, method: Any) -> None:
    name, owner = method.queue, channel.connection if method.exclusive else None
    if not name and not method.passive:
        name = GENERATED + secrets.token_urlsafe(16)
    elif not name:
        name = channel.named("")
    if name == DIRECT_REPLY:
        channel.done(method, make(commands.Queue.DeclareOk, name, 0, len(channel.connection.reply_channels)))
        return
    if is_share(name) and channel.vhost.name == DEFAULT_VHOST:
        broker = channel.connection.session.broker
        selector = selector_of(broker.selectors, method.arguments)
        if selector is None and method.passive:
            selector = share_selector(broker.catalog, name)
        declared = shared(channel.connection.session, name, selector)
    elif method.passive:
        declared = channel.vhost.queue(name, channel.connection)
        channel.connection.session.check_see(declared.queue.name)
    else:
        declared = _declare(channel, name, method, owner)
    channel.last_queue = name
    queue = declared.queue
    consumers = sum(len(group.consumers) for group in queue.active)
    answer = make(commands.Queue.DeclareOk, name, queue.length(), consumers)
    channel.done(method, answer, queue.durable and not method.passive)


def _declare(channel: Channel, name: str, method: Any, owner: object | None) -> Declared:
    if name.startswith(RESERVED) and not name.startswith(GENERATED) and channel.vhost.find(name) is None:
        text = f"queue name '{name}' contains reserved prefix '{RESERVED}*'"
        raise AmqpFault(Reply.ACCESS_REFUSED, text)
    channel.manage(name)
    session, known = channel.connection.session, channel.vhost.find(name) is not None
    if not known:
        session.check_queues()
        check_dead_letters(session, channel.vhost.name, method.arguments)
    declared = channel.vhost.declare_queue(
        name, method.durable, method.auto_delete, owner, channel.connection, method.arguments, session.origin
    )
    if not known:
        channel.changed("queue.declare", name)
    if owner is not None:
        channel.connection.exclusive.add(declared.queue.name)
    return declared


def _queue_bind(channel: Channel, method: Any) -> None:
    declared = channel.queue(method.queue)
    source = channel.vhost.exchange(method.exchange)
    key = method.routing_key
    if not method.queue and not key:
        key = declared.name  # the standard says so [queue.bind, rule 'queue-known']
    channel.manage(declared.name)
    source.check_listener(channel.connection.session, key)
    if channel.vhost.bind(source, declared, key, method.arguments):
        channel.changed("queue.bind", declared.name, f"to {source.name!r} {key!r}")
    channel.done(method, make(commands.Queue.BindOk), declared.queue.durable and source.durable)


def _queue_unbind(channel: Channel, method: Any) -> None:
    declared = channel.queue(method.queue)
    source = channel.vhost.exchange(method.exchange)
    channel.manage(declared.name)
    if channel.vhost.unbind(source, declared, method.routing_key, method.arguments):
        channel.changed("queue.unbind", declared.name, f"from {source.name!r} {method.routing_key!r}")
    channel.answer(make(commands.Queue.UnbindOk))


def _queue_purge(channel: Channel, method: Any) -> None:
    declared = channel.queue(method.queue)
    channel.manage(declared.name)
    count = channel.connection.session.broker.queues.purge(declared.queue)
    channel.changed("queue.purge", declared.name, f"{count} messages")
    channel.done(method, make(commands.Queue.PurgeOk, count))


def _queue_delete(channel: Channel, method: Any) -> None:
    name = channel.named(method.queue)
    declared = channel.vhost.find(name)
    count = 0
    if declared is not None:
        channel.vhost.queue(name, channel.connection)
        channel.manage(name)
        queue = declared.queue
        if method.if_unused and queue.active:
            text = f"queue '{name}' in vhost '{channel.vhost.name}' in use"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)
        if method.if_empty and queue.length():
            text = f"queue '{name}' in vhost '{channel.vhost.name}' not empty"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)
        count = queue.length()
        channel.connection.session.broker.queues.delete(queue)
        channel.changed("queue.delete", name, f"{count} messages")
    channel.done(method, make(commands.Queue.DeleteOk, count))


DECLARING: Final[dict[type, Callable[[Channel, Any], None]]] = {
    commands.Exchange.Declare: _exchange_declare,
    commands.Exchange.Delete: _exchange_delete,
    commands.Exchange.Bind: _exchange_bind,
    commands.Exchange.Unbind: _exchange_unbind,
    commands.Queue.Declare: _queue_declare,
    commands.Queue.Bind: _queue_bind,
    commands.Queue.Unbind: _queue_unbind,
    commands.Queue.Purge: _queue_purge,
    commands.Queue.Delete: _queue_delete,
}
