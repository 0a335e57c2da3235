"""Virtual hosts and exchanges."""

from __future__ import annotations

from typing import Any

from ..errors import AmqpFault, Reply
from ..fields import flag, table, text
from ..rights import check_alternate
from . import views
from .call import CREATED, Call
from .messages import publish_message


def vhosts(call: Call) -> Any:
    """GET vhosts"""
    call.look()
    return [views.vhost(found) for found in call.vhosts]


def vhost(call: Call) -> Any:
    """GET vhosts/<vhost>"""
    call.look()
    return views.vhost(call.vhost)


def put_vhost(call: Call) -> Any:
    """PUT vhosts/<vhost>"""
    call.change()
    call.gateway.begin_turn()
    known = call.amqp.vhosts.get(call.parts["vhost"]) is not None
    call.amqp.vhosts.declare(call.parts["vhost"])
    return None if known else CREATED


def delete_vhost(call: Call) -> None:
    """DELETE vhosts/<vhost>"""
    call.change()
    call.gateway.begin_turn()
    for found in call.connections():
        found.refuse(0, AmqpFault(Reply.CONNECTION_FORCED, f"vhost '{call.parts['vhost']}' is down"))
    call.amqp.vhosts.delete(call.parts["vhost"])


def exchanges(call: Call) -> Any:
    """GET exchanges(/<vhost>)?"""
    call.look()
    return [views.exchange(found) for vhost in call.vhosts for found in vhost.exchanges.values()]


def exchange(call: Call) -> Any:
    """GET exchanges/<vhost>/<exchange>"""
    call.look()
    return views.exchange(call.exchange)


def put_exchange(call: Call) -> Any:
    """PUT exchanges/<vhost>/<exchange>"""
    name, fields = call.parts["exchange"], call.json()
    call.manage_exchange(name)
    call.gateway.begin_turn()
    known = name in call.vhost.exchanges
    if not known:
        check_alternate(call.session, call.vhost.name, table(fields, "arguments"))
    call.vhost.declare_exchange(
        name,
        text(fields, "type", "direct"),
        flag(fields, "durable", True),
        flag(fields, "auto_delete", False),
        flag(fields, "internal", False),
        table(fields, "arguments"),
    )
    return None if known else CREATED


def delete_exchange(call: Call) -> None:
    """DELETE exchanges/<vhost>/<exchange>"""
    call.manage_exchange(call.exchange.name)
    call.gateway.begin_turn()
    call.vhost.delete_exchange(call.exchange.name, call.asked("if-unused") == "true")


def from_exchange(call: Call) -> Any:
    """GET exchanges/<vhost>/<exchange>/bindings/source"""
    call.look()
    if not call.exchange.name:
        return [views.default_binding(call.vhost, found) for found in call.vhost.all_queues()]
    return [views.binding(found) for found in call.exchange.bound]


def to_exchange(call: Call) -> Any:
    """GET exchanges/<vhost>/<exchange>/bindings/destination"""
    call.look()
    to = call.exchange
    return [views.binding(bound) for bound in call.vhost.bindings() if bound.exchange is to]


def publish(call: Call) -> Any:
    """POST exchanges/<vhost>/<exchange>/publish"""
    call.gateway.begin_turn()
    return publish_message(call.vhost, call.exchange, call.session, call.json())
