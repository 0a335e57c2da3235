"""All webhooks: made, changed, paused, taken up again after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog

from ..api import Conflict, GatewayError, InvalidValue, NotFound, Series
from ..outgoing.signing import make_secret
from . import store
from .attempts import Attempts
from .breaker import State
from .pusher import Pusher, Shell
from .reading import Reading, check_rights
from .secrets import Vault
from .webhook import Sealed, Webhook, check_authorization

log = structlog.get_logger("gateway")

WEBHOOKS_MAX: Final = 1000  # each is up to seven time series, a session and a queue
#: Requests at a time, of all webhooks: each may be a connection, and no slow endpoint takes another's.
REQUESTS_MAX: Final = 1000


class Hook:
    """One webhook, and what there is of it at the moment."""

    __slots__ = ("attempts", "pusher", "reading", "refused", "webhook")

    def __init__(self, webhook: Webhook) -> None:
        self.webhook = webhook
        self.attempts = Attempts()
        self.reading: Reading | None = None
        self.pusher: Pusher | None = None
        self.refused = ""  # why it is not at work, though it is not paused

    @property
    def state(self) -> str:
        """What people are shown: `running`, `paused`, `refused`."""
        if self.refused:
            return "refused"
        return "paused" if self.webhook.paused else "running"

    @property
    def breaker(self) -> State:
        """The state of its breaker."""
        return State.CLOSED if self.pusher is None else self.pusher.breaker.state


class Webhooks:
    """One for each gateway."""

    def __init__(self, shell: Shell, vault: Vault) -> None:
        self.shell = shell
        self.vault = vault
        self._hooks: dict[str, Hook] = {}
        self._gateway = shell.gateway

    # -- life -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Read what is kept. Raise StorageError."""
        for webhook in store.load(self._gateway.broker.engine):
            self._hooks[webhook.name] = Hook(webhook)

    def start(self) -> None:
        """Begin the work."""
        for hook in self._hooks.values():
            self._begin(hook)

    def stop(self) -> None:
        """End it; what is in hand goes back."""
        for hook in self._hooks.values():
            self._halt(hook)
        self.shell.client.close()

    def _begin(self, hook: Hook) -> None:
        """Have a webhook work, if it may and is to; note why not."""
        webhook = hook.webhook
        hook.refused = ""
        self._gateway.begin_turn()
        try:
            hook.reading = Reading(self._gateway, webhook, lambda: self._again(hook))
            if not webhook.paused:
                opened = self.vault.open(webhook)
                pusher = Pusher(self.shell, webhook, opened, hook.attempts, lambda why: self._gone(hook, why))
                pusher.start(hook.reading)
                hook.pusher = pusher
        except GatewayError as error:
            hook.refused = error.detail
            log.warning("a webhook does not work", webhook=webhook.name, reason=error.detail)

    def _halt(self, hook: Hook) -> None:
        self._gateway.begin_turn()
        pusher, reading = hook.pusher, hook.reading
        hook.pusher = hook.reading = None
        if pusher is not None:
            pusher.stop()
        if reading is not None:
            reading.close()

    def _again(self, hook: Hook) -> None:
        """Something has changed: look at it anew."""
        if self._hooks.get(hook.webhook.name) is hook:
            self._halt(hook)
            self._begin(hook)

    def _gone(self, hook: Hook, reason: str) -> None:
        log.warning("a webhook is paused", webhook=hook.webhook.name, reason=reason)
        self.pause(hook.webhook.name, reason)

    # -- asked ------------------------------------------------------------------------------------

    def all(self) -> list[Hook]:
        """Return all, by name."""
        return [self._hooks[name] for name in sorted(self._hooks)]

    def get(self, name: str) -> Hook:
        """Return one. Raise NotFound."""
        hook = self._hooks.get(name)
        if hook is None:
            raise NotFound(f"there is no webhook {name!r}; make it with PUT /v1/webhooks/<name>")
        return hook

    def series(self) -> Iterable[Series]:
        """Return the numbers for /metrics."""
        hooks = self.all()
        label = ("webhook",)
        for name, text, numbers, counter in (
            ("delivered", "Messages that an endpoint has taken", _delivered, True),
            ("failed", "Requests that failed, and count as attempts", _failed, True),
            ("postponed", "Requests that an endpoint wants later", _postponed, True),
            ("in_flight", "Messages in hand", _in_flight, False),
            ("breaker_open", "Whether requests are held back, 0.5 while one is tried", _open, False),
            ("running", "Whether it is at work", _running, False),
        ):
            values = [((hook.webhook.name,), numbers(hook)) for hook in hooks]
            yield Series(f"gateway_webhook_{name}", text, values, label, counter)

    # -- changed ------------------------------------------------------------------------------------

    def put(self, webhook: Webhook, fields: dict[str, Any]) -> tuple[bool, str]:
        """Make or replace one; return (whether it is new, its secret if it was made here).

        A secret that is not given stays. Raise a GatewayError, and leave all as it was.
        """
        name = webhook.name
        known = self._hooks.get(name)
        self._check_limits(webhook, known)
        if known is not None and known.webhook.queue_name != webhook.queue_name:
            raise Conflict(f"webhook {name!r} reads another queue; remove it and make it anew to change that")
        secrets, made = self._secrets(webhook, known, fields)
        value = fields.get("authorization")
        kept = known.webhook.authorization if known is not None and value is None else ""
        authorization = kept or self.vault.seal_authorization(name, check_authorization(value or ""))
        webhook = msgspec.structs.replace(webhook, secrets=secrets, authorization=authorization)
        self._try(webhook)
        hook = known or Hook(webhook)
        self._halt(hook)
        hook.webhook = webhook
        self._hooks[name] = hook
        store.put(self._gateway.broker.engine, webhook)
        self._begin(hook)
        return known is None, made

    def _check_limits(self, webhook: Webhook, known: Hook | None) -> None:
        others = [hook.webhook for hook in self._hooks.values() if hook is not known]
        if len(others) >= WEBHOOKS_MAX:
            raise Conflict(f"there are {len(others)} webhooks, as many as there may be")
        taken = sum(other.concurrency for other in others)
        if taken + webhook.concurrency > REQUESTS_MAX:
            raise Conflict(
                f"concurrency: all webhooks together may make {REQUESTS_MAX} requests at a time; the others "
                f"make {taken}"
            )

    def _secrets(
        self, webhook: Webhook, known: Hook | None, fields: dict[str, Any]
    ) -> tuple[tuple[Sealed, ...], str]:
        """Return (what signs, sealed, and the secret if it was made here)."""
        if "secret" not in fields and known is not None:
            return known.webhook.secrets, ""
        secret, made = self._given(fields.get("secret"))
        return (self.vault.seal_secret(webhook.name, secret),), made

    def _given(self, secret: object) -> tuple[str, str]:
        """Return (a secret, the same if it was made here)."""
        if secret is None:
            secret = make_secret()
            return secret, secret
        if not isinstance(secret, str):
            raise InvalidValue("secret: text is expected")
        return secret, ""

    def _try(self, webhook: Webhook) -> None:
        """Raise a GatewayError if a webhook could not work as things are."""
        self.shell.destinations.check(webhook.url)
        check_rights(self._gateway, webhook)

    def rotate(self, name: str, secret: object, overlap_seconds: float) -> str:
        """Sign with another secret, and with the one before for a while; return it if it was made here."""
        hook = self.get(name)
        given, made = self._given(secret)
        fresh = self.vault.seal_secret(name, given)
        until_ms = int((time.time() + overlap_seconds) * 1000)
        before = hook.webhook.secrets[:1] if overlap_seconds else ()
        ending = tuple(msgspec.structs.replace(sealed, until_ms=until_ms) for sealed in before)
        self._change(hook, secrets=(fresh, *ending))
        return made

    def pause(self, name: str, reason: str) -> None:
        """Make no requests until `resume`; messages wait."""
        self._change(self.get(name), paused=reason)

    def resume(self, name: str) -> None:
        """Go on."""
        self._change(self.get(name), paused="")

    def _change(self, hook: Hook, **fields: Any) -> None:
        self._halt(hook)
        hook.webhook = msgspec.structs.replace(hook.webhook, **fields)
        store.put(self._gateway.broker.engine, hook.webhook)
        self._begin(hook)

    def remove(self, name: str) -> int:
        """Forget a webhook, and its own queue; return how many messages were in that."""
        hook = self.get(name)
        self._halt(hook)
        del self._hooks[name]
        broker = self._gateway.broker
        store.delete(broker.engine, name)
        queue = broker.catalog.queues.get(hook.webhook.queue_name)
        return broker.queues.delete(queue) if queue is not None and not hook.webhook.queue else 0


def _delivered(hook: Hook) -> float:
    return hook.attempts.delivered


def _failed(hook: Hook) -> float:
    return hook.attempts.failed


def _postponed(hook: Hook) -> float:
    return hook.attempts.postponed


def _in_flight(hook: Hook) -> float:
    return 0 if hook.pusher is None else hook.pusher.in_flight


_BREAKER: Final = {State.CLOSED: 0.0, State.PROBING: 0.5, State.OPEN: 1.0}


def _open(hook: Hook) -> float:
    return _BREAKER[hook.breaker]


def _running(hook: Hook) -> float:
    return float(hook.state == "running")
