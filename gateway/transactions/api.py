"""`/v1/transactions`: producers begin, look at and end their own; operators list and end anybody's.

Messages are added at `/v1/transactions/{id}/topics/{topic}`, which is the HTTP door's own: a publish like
any other.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from ..api import Action, Gateway, HttpAnswer, HttpPart, HttpRequest, InvalidValue, NotFound
from ..core.clock import Clock
from ..core.half import AREA, Half, State, half_size, options_of, topic_of
from ..http_api import CREATED, Api, Call, Route, answer

PATH: Final = "/v1/transactions"
PAGE_DEFAULT, PAGE_MAX = 100, 1000
NUMBER_MAX: Final = 20  # digits of where a page begins

_STATES: Final = {state.value: state for state in State}


def show(half: Half, clock: Clock) -> dict[str, Any]:
    """Return what is shown of a transaction. Times are Unix milliseconds."""
    options = half.options
    return {
        "id": half.id,
        "principal": half.origin.principal,
        "client": half.origin.client_id,
        "protocol": half.origin.protocol,
        "state": half.state.value,
        "cause": half.cause or None,
        "messages": half.messages,
        "bytes": half.size,
        "begun_ms": clock.shown(half.begun_ms),
        "ended_ms": clock.shown(half.ended_ms) or None,
        "checks": half.checks,
        "next_check_ms": clock.shown(half.next_check_ms) or None,
        "reply_to": options.reply_to or None,
        "check_url": options.check_url or None,
        "damaged": half.damaged,
    }


def _principal(call: Call) -> str | None:
    """Return whose transaction is meant, None for the caller's."""
    found = call.asked().get("principal")
    return found[-1] if found else None


def _asked(call: Call, name: str, default: int, greatest: int) -> int:
    text = call.asked().get(name, [str(default)])[-1]
    if not text.isascii() or not text.isdigit() or len(text) > NUMBER_MAX or int(text) > greatest:
        raise InvalidValue(f"{name} is {text[:40]!r}; a number up to {greatest} is expected")
    return int(text)


async def _list(call: Call) -> Any:
    """List by beginning: the caller's own, or all for whoever may view the area."""
    text = call.asked().get("state", [""])[-1]
    if text and text not in _STATES:
        raise InvalidValue(f"state is {text[:40]!r}; one of {', '.join(_STATES)} is expected")
    limit = _asked(call, "limit", PAGE_DEFAULT, PAGE_MAX)
    after = _asked(call, "after", 0, 10**NUMBER_MAX)
    principal, mine = _principal(call), call.session.principal.name
    if principal is None and not call.session.may(Action.VIEW, AREA):
        principal = mine
    elif principal is not None and principal != mine:
        call.session.check(Action.VIEW, AREA)
    call.gateway.begin_turn()
    found = sorted(call.gateway.broker.halves.all(_STATES.get(text)), key=lambda half: half.number)
    wanted = [half for half in found if half.number > after and principal in (None, half.origin.principal)]
    page = wanted[:limit]
    following = page[-1].number if len(wanted) > len(page) and page else None
    return {"transactions": [show(half, call.gateway.clock) for half in page], "next": following}


async def _begin(call: Call) -> Any:
    fields = call.fields("id", "immunity", "reply_to", "check_url")
    id = fields.pop("id", None)
    if id is None:
        id = secrets.token_hex(16)
    if not isinstance(id, str):
        raise InvalidValue("id: a string is expected")
    call.gateway.begin_turn()
    half = call.gateway.broker.halves.begin(call.session, id, options_of(fields))
    await call.gateway.durable(half.number)
    return answer(CREATED, show(half, call.gateway.clock))


async def _look(call: Call) -> Any:
    call.gateway.begin_turn()
    broker = call.gateway.broker
    half = broker.halves.find(call.session, call.parts["id"], _principal(call), Action.VIEW)
    found = []
    for position in half.positions:
        try:
            message = broker.engine.read(position)
        except NotFound:  # `damaged` says so
            continue
        found.append(
            {
                "topic": topic_of(message),
                "message_id": message.properties.message_id,
                "key": message.properties.key,
                "bytes": half_size(message),
                "position": position,
            }
        )
    return {**show(half, call.gateway.clock), "contents": found}


async def _commit(call: Call) -> Any:
    return await _end(call, True)


async def _rollback(call: Call) -> Any:
    return await _end(call, False)


async def _end(call: Call, commit: bool) -> HttpAnswer:
    call.fields()
    call.gateway.begin_turn()
    halves, principal = call.gateway.broker.halves, _principal(call)
    half = halves.find(call.session, call.parts["id"], principal, Action.MANAGE)
    was_open = half.state is State.OPEN
    position = halves.resolve(call.session, half.id, commit, principal)
    if was_open and half.cause == "operator":
        what = "transaction.commit" if commit else "transaction.rollback"
        call.changed(what, half.id, f"of {half.origin.principal!r}, with {half.messages} messages")
    await call.gateway.durable(position)
    return answer(200, show(half, call.gateway.clock))


_BEGIN: Final = {"id": "order-4711", "immunity": 60, "reply_to": "checks/orders"}
ROUTES: Final = (
    Route("GET", PATH, "", Action.VIEW, _list, "List transactions"),
    Route("POST", PATH, "", Action.PUBLISH, _begin, "Begin a transaction", _BEGIN),
    Route("GET", PATH + "/{id}", "", Action.VIEW, _look, "Look at a transaction"),
    Route("POST", PATH + "/{id}/commit", "", Action.PUBLISH, _commit, "Commit a transaction"),
    Route("POST", PATH + "/{id}/rollback", "", Action.PUBLISH, _rollback, "Roll a transaction back"),
)


def api(gateway: Gateway) -> HttpPart:
    """Return the part of the HTTP door."""

    def call(request: HttpRequest, parts: dict[str, str]) -> Call:
        return Call(gateway, request, parts)

    return Api(ROUTES, call)
