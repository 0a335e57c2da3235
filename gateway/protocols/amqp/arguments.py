"""Arguments of queues: what they say in the gateway's words, and what they must not say.

Each known one is checked for its type and range, as RabbitMQ does; unknown ones are kept, shown
and compared, and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.core.errors import Conflict
from gateway.core.policy import DROP_HEAD, REJECT, REJECT_DEAD_LETTER, QueuePolicy, check_backoff
from gateway.core.selector import USUAL_LANGUAGE, Selector, Selectors

from .errors import AmqpFault, Reply
from .tables import Table

OVERFLOWS: Final = {
    "drop-head": DROP_HEAD,
    "reject-publish": REJECT,
    "reject-publish-dlx": REJECT_DEAD_LETTER,
}
QUEUE_TYPES: Final = {"classic": "classic", "quorum": "classic", "stream": "stream"}
PRIORITY_MAX: Final = 255
EXPIRES_MS_MAX: Final = 0xFFFFFFFF
FILTER: Final = "x-filter"  # of bindings and consumers: a selector
FILTER_LANGUAGE: Final = "x-filter-language"
AGE_DIGITS_MAX: Final = 8  # a hundred thousand years of days
_UNITS_MS: Final = {
    "Y": 365 * 86_400_000,
    "M": 30 * 86_400_000,
    "D": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
}


#: What a queue has whose arguments say nothing: dead letters only where an exchange for them is named.
PLAIN: Final = QueuePolicy(dead_letter="")


class Terms(NamedTuple):
    """What arguments amount to."""

    kind: str
    policy: QueuePolicy


def _at_least(least: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"expected an integer, got {value!r}"
        if value < least:
            return f"{value} is less than {least}"
        return f"{value} is too large" if value >= 1 << 63 else ""

    return check


def _one_of(known: Any) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        fits = isinstance(value, str) and value in known
        return "" if fits else f"{value!r} is none of {', '.join(known)}"

    return check


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else f"expected a string, got {value!r}"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"expected true or false, got {value!r}"


def _age(value: Any) -> str:
    return "" if age_ms(value) is not None else f"{value!r} is no age; 7D, 12h and 30m are some"


def _priority(value: Any) -> str:
    wrong = _at_least(0)(value)
    return wrong or (f"{value} is over {PRIORITY_MAX}" if value > PRIORITY_MAX else "")


def _expires(value: Any) -> str:
    wrong = _at_least(1)(value)
    return wrong or (f"{value} is over {EXPIRES_MS_MAX}" if value > EXPIRES_MS_MAX else "")


def _backoff(value: Any) -> str:
    try:
        check_backoff(value)
    except Conflict as error:
        return error.detail
    return ""


CHECKS: Final[dict[str, Callable[[Any], str]]] = {
    "x-message-ttl": _at_least(0),
    "x-expires": _expires,
    "x-max-length": _at_least(0),
    "x-max-length-bytes": _at_least(0),
    "x-max-priority": _priority,
    "x-delivery-limit": _at_least(0),
    "x-overflow": _one_of(OVERFLOWS),
    "x-queue-type": _one_of(QUEUE_TYPES),
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-single-active-consumer": _flag,
    "x-max-age": _age,
    "x-backoff": _backoff,
    "x-stream-max-segment-size-bytes": _at_least(1),
    "x-queue-mode": _text,
    "x-queue-version": _at_least(1),
    "x-queue-master-locator": _text,
    "x-quorum-initial-group-size": _at_least(1),
}


def check(queue: str, vhost: str, arguments: Table, durable: bool, exclusive: bool) -> None:
    """Raise AmqpFault naming the argument that is wrong."""

    def refuse(name: str, why: str) -> None:
        text = f"invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
        raise AmqpFault(Reply.PRECONDITION_FAILED, text)

    for name, value in arguments.items():
        test = CHECKS.get(name)
        if test is not None and (wrong := test(value)):
            refuse(name, wrong)
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        refuse("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    kind = arguments.get("x-queue-type", "classic")
    if kind != "classic" and (not durable or exclusive):
        refuse("x-queue-type", f"a {kind} queue is durable and not exclusive")


def terms(arguments: Table, base: QueuePolicy | None = None) -> Terms:
    """Return kind and policy of checked arguments; `base` holds where they say nothing."""
    values: dict[str, Any] = (base or PLAIN).to_mapping()
    kind = QUEUE_TYPES[arguments.get("x-queue-type", "classic")]
    for name, (policy, convert) in _POLICIES.items():
        if name in arguments:
            values[policy] = convert(arguments[name])
    if 0 in (arguments.get("x-max-length"), arguments.get("x-max-length-bytes")):
        values["ttl_ms"] = 1  # nothing is kept: what no consumer takes at once goes
    if kind == "stream" and "x-max-age" in arguments:
        values["max_age_ms"] = age_ms(arguments["x-max-age"]) or 0
    return Terms(kind, QueuePolicy(**values))


def _ttl(value: int) -> int:
    return max(1, value)  # 0 is at once, to us for ever; a millisecond is as good as at once


def _limit(value: int) -> int:
    return value + 1  # RabbitMQ counts returns, we count deliveries


_POLICIES: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "x-message-ttl": ("ttl_ms", _ttl),
    "x-expires": ("expires_ms", int),
    "x-max-length": ("max_length", int),
    "x-max-length-bytes": ("max_bytes", int),
    "x-overflow": ("overflow", OVERFLOWS.__getitem__),
    "x-delivery-limit": ("delivery_limit", _limit),
    "x-single-active-consumer": ("single_active", bool),
    "x-max-priority": ("max_priority", int),
    "x-backoff": ("backoff_ms", tuple),
}


def age_ms(value: Any) -> int | None:
    """Return the milliseconds of `7D` and the like, or None."""
    if not isinstance(value, str) or value[-1:] not in _UNITS_MS or len(value) > AGE_DIGITS_MAX:
        return None
    number = value[:-1]
    return int(number) * _UNITS_MS[value[-1]] if number.isascii() and number.isdigit() else None


def selector_of(selectors: Selectors, arguments: Table) -> Selector | None:
    """Return the selector that the arguments of a binding or consumer ask for. Raise a GatewayError."""
    for name in (FILTER, FILTER_LANGUAGE):
        if name in arguments and not isinstance(arguments[name], str):
            text = f"invalid arg '{name}': expected a string, got {arguments[name]!r}"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)
    if FILTER not in arguments:
        return None
    return selectors.find(arguments[FILTER], arguments.get(FILTER_LANGUAGE, USUAL_LANGUAGE))


def difference(resource: str, vhost: str, what: str, wanted: str, found: str) -> AmqpFault:
    """Return the fault that says what differs, from what to what: both as `plain` or `shown` write them."""
    head = f"inequivalent arg '{what}' for {resource} in vhost '{vhost}'"
    return AmqpFault(Reply.PRECONDITION_FAILED, f"{head}: received {wanted} but current is {found}")


def plain(value: bool | str) -> str:
    """Return a field of a method as RabbitMQ shows it in a 406."""
    return f"'{str(value).lower()}'" if isinstance(value, bool) else f"'{value}'"


def shown(value: Any) -> str:
    """Return an argument as RabbitMQ shows it in a 406."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return plain(value)
    kind = {int: "signedint", str: "longstr", list: "array", dict: "table", float: "double"}.get(type(value))
    return f"the value '{value}' of type '{kind}'" if kind else repr(value)
