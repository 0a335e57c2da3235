"""Pushing: `x-oms-callbackURL` makes a webhook of the gateway's for a group and a queue; empty, it ends it.

The webhook is one as any other at `/v1/webhooks`, and is made through that API in the caller's name: so it
needs the right to manage webhooks, may call what the operator allows, signs what it sends, goes on after a
restart, and is looked at, paused and changed there. It competes for the group's messages with whoever pulls.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec

from gateway.api import Gateway, HttpAnswer, HttpPart, HttpRequest, NotFound, Session
from gateway.core.shares import is_share

from .call import Call, nothing
from .groups import joined

URL: Final = "x-oms-callbackURL"
FORMAT: Final = "openmessaging"  # of the webhook: headers as this binding has them
PATH: Final = "/v1/webhooks"
NAME_CHARACTERS: Final = 24  # of a name that stands for a group and a queue: 96 bits
OK_MAX: Final = 299


async def push(call: Call) -> HttpAnswer:
    """Make the webhook, or change it; an empty URL ends it. The answer is that of `/v1/webhooks`."""
    queue, group = call.source()
    path = f"{PATH}/{_name(queue, group)}"
    part = _webhooks(call.gateway)
    url = call.text(URL)
    if not url:
        answer = await _ask(part, call.session, "DELETE", path)
        return answer if answer.status > OK_MAX else nothing()
    selector = call.selector()
    wanted: dict[str, Any] = {"url": url, "queue": queue, "format": FORMAT}
    if group:
        wanted["group"] = group
    if selector is not None:
        wanted |= {"selector": selector.text, "selector_language": selector.language}
    if is_share(queue):
        joined(call.session, queue, selector)
    return await _ask(part, call.session, "PUT", path, msgspec.json.encode(wanted))


def _name(queue: str, group: str) -> str:
    """Return the name of a webhook: the same each time, whatever characters a queue's has."""
    return "oms-" + sha256(f"{queue}\0{group}".encode()).hexdigest()[:NAME_CHARACTERS]


async def _ask(part: HttpPart, session: Session, method: str, path: str, body: bytes = b"") -> HttpAnswer:
    return await part.answer_http(HttpRequest(method, path, "", body, session))


def _webhooks(gateway: Gateway) -> HttpPart:
    for part in gateway.http_parts:
        if PATH in part.http_prefixes:
            return part
    raise NotFound("this gateway has no webhooks: the plugin `webhooks` is disabled; pull instead")
