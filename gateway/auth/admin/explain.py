"""`/v1/admin/explain`: what would happen, and why; nothing is published and nothing is counted."""

from __future__ import annotations

from typing import Any, Final

from ...api import (
    Action,
    Certificate,
    GatewayError,
    InvalidValue,
    NotAuthorized,
    Origin,
    Principal,
    Ruling,
)
from ...core.access import GROUP_PREFIX, SILENCE, check_declared, check_open, refusal
from ...core.message import Message
from ...core.router import Binding
from ...core.topic import QUEUE_PREFIX, SESSION_PREFIX, SHARE_PREFIX, check_filter
from ...http_api import Route
from ..acl.rule import ACTIONS, GENERAL, KINDS
from ..acl.subject import Subject
from .call import Call

SHOWN_MAX: Final = 1000  # receivers, and rules: an answer is for people
_FIELDS: Final = (
    "action",
    "topic",
    "queue",
    "group",
    "admin",
    "as",
    "groups",
    "certificate",
    "door",
    "client_id",
    "address",
)


async def _explain(call: Call) -> Any:
    fields = call.fields(*_FIELDS)
    action, resource = _wanted(fields)
    principal, remark = _principal(call, fields)
    address = _text(fields, "address") or "127.0.0.1"
    origin = Origin(_text(fields, "door") or "mqtt", principal.name, _text(fields, "client_id"), address)
    call.gateway.begin_turn()
    with call.directory.acl.unobserved():
        error, ruling = _refusal(call, principal, origin, action, resource)
    subject = Subject(principal, origin)
    steps = list(call.directory.acl.rules.steps(subject, action, resource))
    applied = [{"rule": s.rule.id, "decision": s.rule.decision} for s in steps if s.applies]
    others = [
        {"rule": s.rule.id, "decision": s.rule.decision, "because": s.reason} for s in steps if s.reason
    ]
    found: dict[str, Any] = {
        "allowed": error is None,
        "rule": ruling.rule,
        "why": error.detail if error is not None else "allowed",
        "as": _described(principal, origin),
        "action": action.value,
        "resource": resource,
        "applied": applied[:SHOWN_MAX],
        "not_applied": others[:SHOWN_MAX],
        "remarks": [remark] if remark else [],
    }
    if action is Action.PUBLISH:
        found["receivers"] = _receivers(call, resource) if error is None else []
    return found


def _wanted(fields: dict[str, Any]) -> tuple[Action, str]:
    """Return what is asked for. Raise InvalidValue."""
    action = ACTIONS.get(_text(fields, "action"))
    if action is None:
        raise InvalidValue(f"action: one of {', '.join(ACTIONS)} is expected")
    named = [kind for kind in KINDS if fields.get(kind)]
    if len(named) != 1:
        raise InvalidValue(f"name one of {', '.join(KINDS)}")
    return action, KINDS[named[0]] + _text(fields, named[0])


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise InvalidValue(f"{name}: a string is expected")
    return value


def _principal(call: Call, fields: dict[str, Any]) -> tuple[Principal, str]:
    """Return who is meant, and a remark."""
    name, groups = _text(fields, "as"), fields.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidValue("groups: a list of names is expected")
    subject = _text(fields, "certificate")
    common_name = next((p[3:] for p in subject.split(",") if p.startswith("CN=")), "")
    certificate = Certificate(subject, common_name) if subject else None
    if not name or name in GENERAL:
        return Principal("", anonymous=True), ""
    user = call.directory.user(name)
    if user is None:
        remark = f"there is no user {name!r}: it could come with a token or a certificate, or not log in"
        return Principal(name, groups=frozenset(groups), certificate=certificate), remark
    known = frozenset([*user.groups, *groups])
    remark = f"user {name!r} is disabled and cannot log in" if user.disabled else ""
    return Principal(name, user.admin, groups=known, certificate=certificate), remark


def _refusal(
    call: Call, principal: Principal, origin: Origin, action: Action, resource: str
) -> tuple[GatewayError | None, Ruling]:
    """Return the error that a client would get, None if it would get none, and what rules say."""
    try:
        if principal.anonymous and not call.directory.acl.welcomes(origin):
            raise NotAuthorized("no rule lets clients without a login in from there")
        _check_name(action, resource)
    except GatewayError as error:
        return error, SILENCE
    ruling = call.gateway.authority.decide(principal, origin, action, resource)
    return (None if ruling.allowed else refusal(principal, action, resource, ruling)), ruling


def _check_name(action: Action, resource: str) -> None:
    """Raise what a client is refused with whatever rules say."""
    if action is Action.PUBLISH:
        check_open(resource)
    elif action is Action.SUBSCRIBE:
        check_filter(resource)
        if resource.startswith((QUEUE_PREFIX, SESSION_PREFIX, SHARE_PREFIX)):
            raise NotAuthorized(f"{resource!r} names a queue; ask about consuming it instead")
    elif action is Action.CONSUME:
        check_declared(resource.removeprefix(QUEUE_PREFIX).removeprefix(GROUP_PREFIX))


def _described(principal: Principal, origin: Origin) -> dict[str, Any]:
    return {
        "user": principal.name,
        "anonymous": principal.anonymous,
        "admin": principal.admin,
        "groups": sorted(principal.groups),
        "door": origin.protocol,
        "client_id": origin.client_id,
        "address": origin.peer,
    }


def _receivers(call: Call, topic: str) -> list[dict[str, Any]]:
    """Return who would get a message, by which subscription."""
    router = call.gateway.broker.router
    found = [_receiver(binding) for binding in router.match(topic)]
    for relay in router.route(topic).relays:
        queues = relay.queues(topic, Message(topic, b""))
        found += [{"queue": queue.name, "by": "a binding of an exchange"} for queue in queues or ()]
    return found[:SHOWN_MAX]


def _receiver(binding: Binding) -> dict[str, Any]:
    found: dict[str, Any] = {"by": binding.filter}
    if binding.queue is not None:
        found |= {"queue": binding.queue.name, "kind": binding.queue.kind, "depth": binding.queue.length()}
    if binding.receiver is not None:
        origin = binding.receiver.origin
        found |= {"door": origin.protocol, "client_id": origin.client_id, "user": origin.principal}
        found["connected"] = binding.receiver.open
    return found


_QUESTION: Final = {"action": "publish", "topic": "a/b", "as": "device7", "door": "coap"}
ROUTES: Final = (
    Route(
        "POST",
        "/v1/admin/explain",
        "explain",
        Action.VIEW,
        _explain,
        "What would happen, and why",
        _QUESTION,
    ),
)
