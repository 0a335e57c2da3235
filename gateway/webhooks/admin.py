"""`/v1/webhooks`: make, look at, pause, resume, try, rotate, remove."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, Final

from .. import http_api
from ..api import Action, Gateway, HttpRequest, InvalidValue
from ..core.message import Message, Properties
from ..core.topic import DEAD_PREFIX
from ..http_api import CREATED, Api, Route, answer
from ..outgoing.client import CONNECT_SECONDS_MAX
from .pusher import Pusher
from .reading import maker_of
from .registry import Hook, Webhooks
from .webhook import FIELDS, policy_of, webhook_from

AREA: Final = "webhooks"
OVERLAP_SECONDS: Final = 86_400.0  # a day to tell a receiver its new secret
OVERLAP_SECONDS_MAX: Final = 30 * 86_400.0
PAUSED: Final = "paused by an operator"
REASON_MAX: Final = 200
TEST_TOPIC: Final = "gateway/webhook/test"
TEST_BODY: Final = b'{"type":"gateway.webhook.test"}'


class Call(http_api.Call):
    """One request."""

    def __init__(
        self, webhooks: Webhooks, gateway: Gateway, request: HttpRequest, parts: dict[str, str]
    ) -> None:
        super().__init__(gateway, request, parts)
        self.webhooks = webhooks

    def hook(self) -> Hook:
        """Return what the path names. Raise NotFound."""
        return self.webhooks.get(self.parts["name"])


def api(webhooks: Webhooks, gateway: Gateway) -> Api:
    """Return the part of the HTTP door."""
    return Api(ROUTES, partial(Call, webhooks, gateway))


def show(hook: Hook) -> dict[str, Any]:
    """Return what is shown of a webhook: nothing of its secrets."""
    webhook, attempts = hook.webhook, hook.attempts
    last = attempts.last_error
    return {
        "name": webhook.name,
        "url": webhook.url,
        "filters": list(webhook.filters),
        "queue": webhook.queue_name,
        "group": webhook.group,
        "selector": webhook.selector,
        "selector_language": webhook.selector_language,
        "format": webhook.format,
        "concurrency": webhook.concurrency,
        "rate": webhook.rate,
        "timeout": webhook.timeout,
        "policy": None if webhook.queue else policy_of(webhook).to_mapping(),
        "authorization": bool(webhook.authorization),
        "secrets": len(webhook.secrets),
        "maker": webhook.maker.name,
        "state": hook.state,
        "reason": hook.refused or webhook.paused,
        "breaker": hook.breaker.value,
        "in_flight": 0 if hook.pusher is None else hook.pusher.in_flight,
        "delivered": attempts.delivered,
        "failed": attempts.failed,
        "postponed": attempts.postponed,
        "last_error": None if last is None else last._asdict(),
    }


async def _list(call: Call) -> Any:
    return {"webhooks": [show(hook) for hook in call.webhooks.all()]}


async def _get(call: Call) -> Any:
    return show(call.hook())


async def _put(call: Call) -> Any:
    name, fields, session = call.parts["name"], call.fields(*FIELDS), call.session
    webhook = webhook_from(name, fields, maker_of(session))
    for topic_filter in webhook.filters:
        session.check(Action.SUBSCRIBE, topic_filter)
    if webhook.queue:
        session.check_consume(webhook.queue, webhook.group)
    address = policy_of(webhook).dead_letter
    if webhook.policy and address and not f"{address}/".startswith(DEAD_PREFIX):
        session.check(Action.PUBLISH, address)  # the queue does so in its maker's name
    await _check_addresses(call, webhook.url)
    call.gateway.begin_turn()
    created, secret = call.webhooks.put(webhook, fields)
    hook = call.webhooks.get(name)
    # The host alone: paths and queries are what many endpoints go by instead of a password.
    host = call.webhooks.shell.destinations.check(webhook.url).authority
    call.changed("webhook.create" if created else "webhook.change", name, f"to {host}")
    await call.stored()
    shown = {**show(hook), "secret": secret} if secret else show(hook)
    return answer(CREATED if created else 200, shown)


async def _check_addresses(call: Call, url: str) -> None:
    """Raise NotAuthorized if a host has an address that nothing may be sent to; it may be unknown yet."""
    destinations = call.webhooks.shell.destinations
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await destinations.resolve(destinations.check(url))
    except OSError:  # TimeoutError is one
        return  # looked at again for each connection


async def _delete(call: Call) -> Any:
    name = call.parts["name"]
    call.gateway.begin_turn()
    count = call.webhooks.remove(name)
    call.changed("webhook.delete", name, f"with {count} messages")
    await call.stored()


async def _pause(call: Call) -> Any:
    name = call.parts["name"]
    reason = call.fields("reason").get("reason", PAUSED)
    if not isinstance(reason, str) or not reason.isprintable() or not 0 < len(reason) <= REASON_MAX:
        raise InvalidValue(f"reason: 1 to {REASON_MAX} printable characters are expected")
    call.gateway.begin_turn()
    call.webhooks.pause(name, reason)
    call.changed("webhook.pause", name, reason)
    await call.stored()
    return show(call.hook())


async def _resume(call: Call) -> Any:
    name = call.parts["name"]
    call.fields()
    call.gateway.begin_turn()
    call.webhooks.resume(name)
    call.changed("webhook.resume", name)
    await call.stored()
    return show(call.hook())


async def _rotate(call: Call) -> Any:
    name, fields = call.parts["name"], call.fields("secret", "overlap_seconds")
    overlap = fields.get("overlap_seconds", OVERLAP_SECONDS)
    if isinstance(overlap, bool) or not isinstance(overlap, int | float):
        raise InvalidValue("overlap_seconds: a number is expected")
    if not 0 <= overlap <= OVERLAP_SECONDS_MAX:
        raise InvalidValue(f"overlap_seconds: 0 to {OVERLAP_SECONDS_MAX:g} are possible")
    call.gateway.begin_turn()
    secret = call.webhooks.rotate(name, fields.get("secret"), overlap)
    call.changed("webhook.rotate", name)
    await call.stored()
    shown = show(call.hook())
    return {**shown, "secret": secret} if secret else shown


async def _attempts(call: Call) -> Any:
    return {"attempts": call.hook().attempts.latest()}


async def _test(call: Call) -> Any:
    """Make one request now, whatever the webhook's state; the answer says what came of it."""
    call.fields()
    hook, webhooks = call.hook(), call.webhooks
    opened = webhooks.vault.open(hook.webhook)
    pusher = Pusher(webhooks.shell, hook.webhook, opened, hook.attempts, lambda why: None)
    properties = Properties(content_type="application/json")
    message = Message(TEST_TOPIC, TEST_BODY, properties=properties, timestamp_ms=call.gateway.clock.wall_ms)
    verdict = await pusher.ask(message, f"msg_test_{os.urandom(8).hex()}", 1)
    call.changed("webhook.test", hook.webhook.name, verdict.reason or "delivered")
    return hook.attempts.latest()[0]


_EXAMPLE: Final = {"url": "https://hooks.example.com/orders", "filters": ["orders/#"]}
_REASON: Final = {"reason": "the endpoint moves"}
_OVERLAP: Final = {"overlap_seconds": OVERLAP_SECONDS}
_ONE: Final = "/v1/webhooks/{name}"
ROUTES: Final = (
    Route("GET", "/v1/webhooks", AREA, Action.VIEW, _list, "List webhooks"),
    Route("GET", _ONE, AREA, Action.VIEW, _get, "Look at a webhook"),
    Route("PUT", _ONE, AREA, Action.MANAGE, _put, "Make or change a webhook", _EXAMPLE),
    Route("DELETE", _ONE, AREA, Action.MANAGE, _delete, "Remove a webhook, and its queue"),
    Route("GET", f"{_ONE}/attempts", AREA, Action.VIEW, _attempts, "The latest requests, the latest first"),
    Route("POST", f"{_ONE}/pause", AREA, Action.MANAGE, _pause, "Make no requests for now", _REASON),
    Route("POST", f"{_ONE}/resume", AREA, Action.MANAGE, _resume, "Go on", {}),
    Route("POST", f"{_ONE}/test", AREA, Action.MANAGE, _test, "Make one request now", {}),
    Route("POST", f"{_ONE}/rotate", AREA, Action.MANAGE, _rotate, "Sign with a new secret", _OVERLAP),
)
