"""Queues and bindings."""

from __future__ import annotations

from typing import Any

from ..declared import Declared
from ..errors import AmqpFault, Reply
from ..fields import flag, table, text
from ..rights import check_dead_letters
from . import views
from .call import CREATED, Call
from .messages import get_messages


def queues(call: Call) -> Any:
    """GET queues(/<vhost>)?"""
    call.look()
    return [views.queue(vhost, found) for vhost in call.vhosts for found in vhost.all_queues()]


def queue(call: Call) -> Any:
    """GET queues/<vhost>/<queue>"""
    call.look()
    return views.queue(call.vhost, call.queue)


def put_queue(call: Call) -> Any:
    """PUT queues/<vhost>/<queue>"""
    name, fields = call.parts["queue"], call.json()
    call.manage(name)
    call.gateway.begin_turn()
    known = call.vhost.find(name) is not None
    durable, auto_delete = flag(fields, "durable", True), flag(fields, "auto_delete", False)
    arguments, creator = table(fields, "arguments"), call.session.origin
    if not known:
        call.session.check_queues()
        check_dead_letters(call.session, call.vhost.name, arguments)
    call.vhost.declare_queue(name, durable, auto_delete, None, call, arguments, creator)
    return None if known else CREATED


def delete_queue(call: Call) -> None:
    """DELETE queues/<vhost>/<queue>"""
    declared = call.queue
    call.manage(declared.name)
    call.gateway.begin_turn()
    if call.asked("if-empty") == "true" and declared.queue.length():
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"queue '{declared.name}' is not empty")
    if call.asked("if-unused") == "true" and declared.queue.active:
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"queue '{declared.name}' is in use")
    call.gateway.broker.queues.delete(declared.queue)


def purge(call: Call) -> None:
    """DELETE queues/<vhost>/<queue>/contents"""
    call.manage(call.queue.name)
    call.gateway.begin_turn()
    call.gateway.broker.queues.purge(call.queue.queue)


def get(call: Call) -> Any:
    """POST queues/<vhost>/<queue>/get"""
    call.gateway.begin_turn()
    return get_messages(call.vhost, call.queue, call.session, call.json())


def to_queue(call: Call) -> Any:
    """GET queues/<vhost>/<queue>/bindings"""
    call.look()
    declared = call.queue
    own = [views.default_binding(call.vhost, declared)]
    return own + [views.binding(found) for found in declared.bound]


def bindings(call: Call) -> Any:
    """GET bindings(/<vhost>)?"""
    call.look()
    found: list[Any] = []
    for vhost in call.vhosts:
        found += [views.default_binding(vhost, declared) for declared in vhost.all_queues()]
        found += [views.binding(bound) for bound in vhost.bindings()]
    return found


def _between(call: Call) -> list[Any]:
    to = call.queue if "queue" in call.parts else call.vhost.exchange(call.parts["to"])
    if isinstance(to, Declared):
        return [bound for bound in to.bound if bound.source is call.exchange]
    return [bound for bound in call.exchange.bound if bound.exchange is to]


def some_bindings(call: Call) -> Any:
    """GET bindings/<vhost>/e/<exchange>/q/<queue>"""
    call.look()
    return [views.binding(found) for found in _between(call)]


def post_binding(call: Call) -> Any:
    """POST bindings/<vhost>/e/<exchange>/q/<queue>"""
    fields = call.json()
    to = call.queue if "queue" in call.parts else call.vhost.exchange(call.parts["to"])
    if "queue" in call.parts:
        call.manage(to.name)
    else:
        call.manage_exchange(to.name)
    call.gateway.begin_turn()
    key, arguments = text(fields, "routing_key", ""), table(fields, "arguments")
    call.exchange.check_listener(call.session, key)
    call.vhost.bind(call.exchange, to, key, arguments)
    return CREATED


def one_binding(call: Call) -> Any:
    """GET bindings/<vhost>/e/<exchange>/q/<queue>/<properties>"""
    call.look()
    return views.binding(_find_binding(call))


def _find_binding(call: Call) -> Any:
    for bound in _between(call):
        if views.properties_key(bound) == call.parts["properties"]:
            return bound
    raise AmqpFault(Reply.NOT_FOUND, "no such binding")


def delete_binding(call: Call) -> None:
    """DELETE bindings/<vhost>/e/<exchange>/q/<queue>/<properties>"""
    bound = _find_binding(call)
    if "queue" in call.parts:
        call.manage(bound.destination_name)
    else:
        call.manage_exchange(bound.destination_name)
    call.gateway.begin_turn()
    to = call.queue if "queue" in call.parts else bound.exchange
    call.vhost.unbind(bound.source, to, bound.key, bound.arguments)
