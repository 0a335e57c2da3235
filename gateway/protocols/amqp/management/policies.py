"""Policies and definitions."""

from __future__ import annotations

from typing import Any

from ..definitions import Import, export_all
from ..errors import AmqpFault, Reply
from ..policies import read_policy
from .call import CREATED, Call


def policies(call: Call) -> Any:
    """GET policies(/<vhost>)?"""
    call.look()
    return [p.to_mapping(vhost.name) for vhost in call.vhosts for p in vhost.policies.values()]


def policy(call: Call) -> Any:
    """GET policies/<vhost>/<policy>"""
    call.look()
    found = call.vhost.policies.get(call.parts["policy"])
    if found is None:
        raise AmqpFault(Reply.NOT_FOUND, f"no policy '{call.parts['policy']}'")
    return found.to_mapping(call.vhost.name)


def put_policy(call: Call) -> Any:
    """PUT policies/<vhost>/<policy>"""
    call.change()
    call.gateway.begin_turn()
    name = call.parts["policy"]
    known = name in call.vhost.policies
    call.vhost.set_policy(read_policy(name, call.json()))
    return None if known else CREATED


def delete_policy(call: Call) -> None:
    """DELETE policies/<vhost>/<policy>"""
    call.change()
    call.gateway.begin_turn()
    call.vhost.drop_policy(call.parts["policy"])


def definitions(call: Call) -> Any:
    """GET definitions(/<vhost>)?"""
    call.look()
    return export_all(call.amqp.vhosts, call.vhost if "vhost" in call.parts else None)


def post_definitions(call: Call) -> Any:
    """POST definitions(/<vhost>)?"""
    call.change()
    call.gateway.begin_turn()
    taken = Import(call.amqp.vhosts, call.vhost if "vhost" in call.parts else None)
    taken.run(call.json())
    return {"imported": taken.done, "skipped": taken.skipped}
