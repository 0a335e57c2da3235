"""`/v1/schedules`: what waits for its time. Whoever published it may see, edit and cancel it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.api import Action, Gateway, HttpRequest, InvalidValue
from gateway.core.access import ADMIN_PREFIX
from gateway.core.agenda import Agenda, Place
from gateway.core.due import NEVER_MS
from gateway.core.message import Message
from gateway.core.schedules import Scheduled
from gateway.core.topic import check_filter, matches
from gateway.http_api import Api, Call, Route

from .shown import BODY_FIELDS, TIME_FIELDS, read_body, read_due, read_headers, read_time, show, show_all

AREA: Final = "schedules"
RESOURCE: Final = ADMIN_PREFIX + AREA
PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000  # some 400 KB
PAUSE_SECONDS: Final = 0.005  # between parts of a list, which take as long: others have half of the time
ID_CHARS_MAX: Final = 19  # of a position in the log


class ScheduleCall(Call):
    """A request about what waits. `listing` is for one at a time."""

    def __init__(
        self, gateway: Gateway, request: HttpRequest, parts: dict[str, str], listing: asyncio.Semaphore
    ) -> None:
        super().__init__(gateway, request, parts)
        self.listing = listing

    def own(self, found: Scheduled) -> bool:
        """Tell whether the caller has published it."""
        name = self.session.principal.name
        return bool(name) and not self.session.principal.anonymous and found.message.origin.principal == name

    def found(self, action: Action) -> Scheduled:
        """Return the schedule that the path names. Raise NotFound or NotAuthorized."""
        text = self.parts["id"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= ID_CHARS_MAX else 0
        found = self.gateway.broker.schedules.find(number)
        if not self.own(found):
            self.session.check(action, RESOURCE)
        return found

    def number(self, name: str, default: int, most: int) -> int:
        """Return a parameter. Raise InvalidValue."""
        text = self.asked().get(name, [str(default)])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
            raise InvalidValue(f"{name} is {text[:40]!r}; 1 to {most} is expected")
        return int(text)

    def time(self, name: str, default: int) -> int:
        """Return a time as a parameter has it (the gateway's own). Raise InvalidValue."""
        given = self.asked().get(name)
        return default if given is None else self.gateway.clock.own(read_time(given[-1], name))


def _place(text: str) -> Place:
    """Return after which place a page begins."""
    due, _, position = text.partition("-")
    if not (due.isascii() and position.isascii() and due.isdigit() and position.isdigit() and len(text) < 40):
        raise InvalidValue(f"after is {text[:40]!r}; `next` of the page before is expected")
    return int(due), int(position)


async def _list(call: ScheduleCall) -> Any:
    asked = call.asked()
    for name in asked:
        if name not in ("topic", "from", "to", "after", "limit"):
            raise InvalidValue(f"{name[:40]!r}: no such parameter; known: topic, from, to, after, limit")
    topic = asked.get("topic", [""])[-1]
    if topic:
        check_filter(topic)
    everything = call.session.may(Action.VIEW, RESOURCE)

    def wanted(found: Scheduled) -> bool:
        return (everything or call.own(found)) and (not topic or matches(topic, found.message.topic))

    after = _place(asked["after"][-1]) if "after" in asked else (call.time("from", 0), 0)
    limit = call.number("limit", PAGE_DEFAULT, PAGE_MAX)
    schedules = call.gateway.broker.schedules
    agenda = Agenda(
        schedules, after, call.time("to", NEVER_MS), limit, wanted if topic or not everything else None
    )
    async with call.listing:
        for _ in agenda.parts():
            await asyncio.sleep(PAUSE_SECONDS)
    found, following = agenda.page()
    shown = [show(each, call.gateway.clock) for each in found]
    return {"schedules": shown, "next": f"{following[0]}-{following[1]}" if following else None}


async def _show(call: ScheduleCall) -> Any:
    return show_all(call.found(Action.VIEW), call.gateway.clock)


async def _edit(call: ScheduleCall) -> Any:
    fields = call.fields(*TIME_FIELDS, *BODY_FIELDS, "headers")
    call.gateway.begin_turn()
    clock, schedules = call.gateway.clock, call.gateway.broker.schedules
    found = call.found(Action.MANAGE)
    due_ms, body, headers = read_due(fields, clock), read_body(fields), read_headers(fields)
    message = found.message
    if body is not None or headers is not None:
        call.session.check_publish(message.topic)  # it is the caller's message now, in another's name
    due_ms = found.due_ms if due_ms is None else due_ms
    edited = _edited(message, body, headers, due_ms - found.due_ms)
    position = schedules.replace(found.position, edited, due_ms)
    call.changed("schedule.edit", call.parts["id"], f"to {message.topic}; now {position}")
    shown = show_all(schedules.find(position), clock)
    await call.stored()
    return shown


def _edited(message: Message, body: bytes | None, headers: Any, later_ms: int) -> Message:
    """Return a message with another body or other headers; it expires as long after it is due as before."""
    properties = message.properties
    if headers is not None or body is not None:
        properties = properties.copy()
        if headers is not None:
            properties.headers = headers
        if body is not None:
            properties.text = False
    expires_at_ms = message.expires_at_ms + later_ms if message.expires_at_ms else 0
    return message.changed(message.topic, properties, expires_at_ms, body)


async def _cancel(call: ScheduleCall) -> Any:
    call.gateway.begin_turn()
    found = call.found(Action.MANAGE)
    call.gateway.broker.schedules.cancel(found.position)
    call.changed("schedule.cancel", call.parts["id"], f"to {found.message.topic}")
    await call.stored()


async def _publish(call: ScheduleCall) -> Any:
    call.gateway.begin_turn()
    found = call.found(Action.MANAGE)
    if call.own(found):
        call.session.check_publish(found.message.topic)  # that it once might is not that it may
    call.gateway.broker.schedules.publish_now(found.position)
    call.changed("schedule.publish", call.parts["id"], f"to {found.message.topic}")
    await call.stored()
    return {"published": call.parts["id"]}


_OWN: Final = ""  # no area: each handler looks whose it is
ROUTES: Final = (
    Route("GET", "/v1/schedules", _OWN, Action.VIEW, _list, "List what waits for its time"),
    Route("GET", "/v1/schedules/{id}", _OWN, Action.VIEW, _show, "Show a message that waits"),
    Route(
        "PUT",
        "/v1/schedules/{id}",
        _OWN,
        Action.MANAGE,
        _edit,
        "Change its time, body or headers",
        {"delay": 60},
    ),
    Route("DELETE", "/v1/schedules/{id}", _OWN, Action.MANAGE, _cancel, "Cancel it: it is never published"),
    Route("POST", "/v1/schedules/{id}/publish", _OWN, Action.MANAGE, _publish, "Publish it now"),
)


class SchedulesApi(Api):
    """Implements `gateway.api.HttpPart`."""

    def __init__(self, gateway: Gateway) -> None:
        def call(request: HttpRequest, parts: dict[str, str]) -> ScheduleCall:
            return ScheduleCall(gateway, request, parts, listing)

        listing = asyncio.Semaphore()

        super().__init__(ROUTES, call)
