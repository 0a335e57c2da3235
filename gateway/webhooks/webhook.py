"""What a webhook is, as it is asked for and as it is kept.

Secrets are kept sealed and bound to the webhook's name; nothing of them is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..api import Conflict, InvalidValue
from ..core.policy import WORK, QueuePolicy
from ..core.selector import USUAL_LANGUAGE
from ..core.shares import is_share, shared_filter
from ..core.topic import WEBHOOK_PREFIX, check_filter

PLAIN: Final = "plain"  # the body as it is, properties in headers
CLOUDEVENTS: Final = "cloudevents"  # an event as JSON (structured mode)
OPENMESSAGING: Final = "openmessaging"  # the body as it is, headers as OpenMessaging's HTTP binding has them
FORMATS: Final = (PLAIN, CLOUDEVENTS, OPENMESSAGING)
FILTERS_MAX: Final = 100
CONCURRENCY_MAX: Final = 100
CONCURRENCY: Final = 10
TIMEOUT_SECONDS: Final = 15.0  # Standard Webhooks: 15 to 30 seconds
TIMEOUT_SECONDS_MAX: Final = 300.0
RATE_MAX: Final = 1_000_000.0  # requests a second: more than there can be
AUTHORIZATION_MAX: Final = 1000  # characters; with what sealing adds, a kilobyte
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VISIBLE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")

#: What may be asked for.
FIELDS: Final = (
    "url",
    "filters",
    "queue",
    "group",
    "selector",
    "selector_language",
    "format",
    "concurrency",
    "rate",
    "timeout",
    "policy",
    "secret",
    "authorization",
)


class Sealed(msgspec.Struct, frozen=True):
    """A secret that signs, sealed. `until_ms`: Unix time, 0 is without an end."""

    text: str
    until_ms: int = 0

    def __repr__(self) -> str:
        return "Sealed()"


class Maker(msgspec.Struct, frozen=True):
    """In whose name messages are read: never with more rights than the login had that asked for it."""

    name: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    peer: str = ""


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """One webhook. `filters` feed a queue of its own; else it consumes `queue` (a stream's `group`)."""

    name: str
    url: str
    maker: Maker
    filters: tuple[str, ...] = ()
    queue: str = ""
    group: str = ""
    selector: str = ""  # which of these messages
    selector_language: str = USUAL_LANGUAGE
    format: str = PLAIN
    concurrency: int = CONCURRENCY
    rate: float = 0.0  # requests a second at most, 0: as many as there are
    timeout: float = TIMEOUT_SECONDS
    policy: dict[str, Any] = {}  # of its own queue, what was asked for
    secrets: tuple[Sealed, ...] = ()  # that which new receivers are given, then the one before
    authorization: str = ""  # sealed
    paused: str = ""  # why; "": it is at work

    def __repr__(self) -> str:  # never the secrets, of which the URL may be one
        return f"Webhook({self.name!r})"

    @property
    def queue_name(self) -> str:
        """The queue it consumes."""
        return self.queue or WEBHOOK_PREFIX + self.name


def check_name(name: str) -> str:
    """Return a webhook's name. Raise InvalidValue."""
    if not _NAME.fullmatch(name):
        raise InvalidValue("name: 1 to 100 letters, digits, dots, hyphens and underscores are expected")
    return name


def webhook_from(name: str, fields: Mapping[str, Any], maker: Maker) -> Webhook:
    """Return what was asked for, but the secrets. Raise a GatewayError."""
    for field in fields:
        if field not in FIELDS:
            raise InvalidValue(f"{field[:80]!r}: unknown; known: {', '.join(FIELDS)}")
    wanted = {key: value for key, value in fields.items() if key not in ("secret", "authorization")}
    try:
        webhook = msgspec.convert({"maker": maker, **wanted, "name": check_name(name)}, Webhook)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"webhook: {error}") from error
    _check_source(webhook)
    _check_numbers(webhook)
    if webhook.format not in FORMATS:
        raise InvalidValue(f"format: one of {', '.join(FORMATS)} is expected, not {webhook.format[:80]!r}")
    return msgspec.structs.replace(webhook, filters=tuple(dict.fromkeys(webhook.filters)))


def _check_source(webhook: Webhook) -> None:
    if bool(webhook.filters) == bool(webhook.queue):
        raise InvalidValue("filters (of topics) or queue (one that exists) is expected, not both")
    if len(webhook.filters) > FILTERS_MAX:
        raise InvalidValue(f"filters: at most {FILTERS_MAX} are expected")
    for topic_filter in webhook.filters:
        check_filter(topic_filter)
        if topic_filter.startswith("$"):
            raise InvalidValue(f"filters: {topic_filter!r}: what begins with $ cannot be pushed")
    if webhook.queue:
        if webhook.policy:
            raise InvalidValue("policy: the queue has its own; change that")
        if is_share(webhook.queue):
            shared_filter(webhook.queue)
            if webhook.group:
                raise InvalidValue("group: a shared subscription is one itself")
        elif webhook.queue.startswith("$") or webhook.group.startswith("$"):
            raise InvalidValue("queue: names that begin with $ are the gateway's own")
    elif webhook.group:
        raise InvalidValue("group: only a stream, named as queue, has groups")
    policy_of(webhook)


def _check_numbers(webhook: Webhook) -> None:
    if not 1 <= webhook.concurrency <= CONCURRENCY_MAX:
        raise InvalidValue(f"concurrency: 1 to {CONCURRENCY_MAX} requests at a time are possible")
    if not 0.1 <= webhook.timeout <= TIMEOUT_SECONDS_MAX:
        raise InvalidValue(f"timeout: 0.1 to {TIMEOUT_SECONDS_MAX:g} seconds are possible")
    if not (webhook.rate == 0 or 0.001 <= webhook.rate <= RATE_MAX):
        raise InvalidValue(f"rate: 0.001 to {RATE_MAX:g} requests a second are possible; 0 is no limit")


def policy_of(webhook: Webhook) -> QueuePolicy:
    """Return the policy of a webhook's own queue: what was asked for, else what any queue has."""
    for name in webhook.policy:
        if name in _NOT_FOR_PUSH:
            raise InvalidValue(f"policy.{name}: it has no meaning for a webhook's queue; leave it out")
    try:
        return QueuePolicy.from_mapping({**WORK.changes(), **webhook.policy})
    except (Conflict, TypeError) as error:
        raise InvalidValue(str(error)) from error


#: It is classic, has one consumer, and goes with its webhook.
_NOT_FOR_PUSH: Final = frozenset({"compact", "max_age_ms", "single_active", "expires_ms", "max_priority"})


def check_authorization(value: object) -> str:
    """Return the value of a header. Raise InvalidValue, never with the value."""
    if (
        isinstance(value, str)
        and len(value) <= AUTHORIZATION_MAX
        and (not value or _VISIBLE.fullmatch(value))
    ):
        return value
    raise InvalidValue(f"authorization: at most {AUTHORIZATION_MAX} printable ASCII characters are expected")
