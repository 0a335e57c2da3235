"""Settling what was pulled with `x-oms-ack: true`, by its receipt: a lease's token, good at the HTTP door's
`/v1/deliveries`, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.api import HttpAnswer, InvalidValue, NotFound
from gateway.core import lease
from gateway.core.message import Outcome

from .call import Call, json, nothing
from .pulling import LEASE_MS, LEASE_MS_MAX
from .refusals import UnknownHandle

DELAY_MS_MAX: Final = int(lease.DELAY_SECONDS_MAX * 1000)
RECEIPTS_MAX: Final = 10_000  # of one request

#: What is to become of a message that is given back.
OUTCOMES: Final = {"requeue": Outcome.REQUEUE, "retry": Outcome.RETRY, "reject": Outcome.REJECT}


async def ack(call: Call) -> HttpAnswer:
    """The message is done with."""
    _settle(call, call.parts["receipt"], Outcome.ACK)
    return nothing()


async def ack_many(call: Call) -> HttpAnswer:
    """All of these are; the answer says which receipts were not known, or not any more."""
    leases = call.gateway.broker.leases
    known, unknown = _each(call, lambda receipt: leases.settle(receipt, Outcome.ACK))
    return json({"acknowledged": known, "unknown": unknown})


async def extend_many(call: Call) -> HttpAnswer:
    """Start all of these leases again from now; the answer is of the same kind."""
    leases, lease_ms = call.gateway.broker.leases, _lease_ms(call)
    known, unknown = _each(call, lambda receipt: leases.extend(receipt, lease_ms))
    return json({"extended": known, "unknown": unknown})


def _each(call: Call, do: Callable[[str], None]) -> tuple[int, list[str]]:
    """Do something with each receipt of the body; return how many were known, and those that were not."""
    receipts = _receipts(call.request.body)
    unknown: list[str] = []
    for receipt in receipts:
        try:
            do(receipt)
        except NotFound:
            unknown.append(receipt)
    return len(receipts) - len(unknown), unknown


def _receipts(body: bytes) -> list[str]:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue(f"the body is not JSON: {error}") from error
    receipts = found.get("receipts") if isinstance(found, dict) and len(found) == 1 else None
    if not isinstance(receipts, list) or not all(isinstance(receipt, str) for receipt in receipts):
        raise InvalidValue('the body: {"receipts": [...]} is expected')
    if len(receipts) > RECEIPTS_MAX:
        raise InvalidValue(f"receipts: at most {RECEIPTS_MAX} are expected")
    return receipts


async def nack(call: Call) -> HttpAnswer:
    """Have the message delivered again, or give up on it."""
    text = call.text("x-oms-outcome", "requeue")
    outcome = OUTCOMES.get(text)
    if outcome is None:
        raise InvalidValue(f"x-oms-outcome is {text[:40]!r}; one of {', '.join(OUTCOMES)} is expected")
    later = "x-oms-delaymills" in call.headers
    delay_ms = call.number("x-oms-delayMills", 0, 0, DELAY_MS_MAX) if later else None
    _settle(call, call.parts["receipt"], outcome, delay_ms)
    return nothing()


async def extend(call: Call) -> HttpAnswer:
    """Start the lease again from now."""
    try:
        call.gateway.broker.leases.extend(call.parts["receipt"], _lease_ms(call))
    except NotFound as error:
        raise UnknownHandle(error.detail) from error
    return nothing()


def _lease_ms(call: Call) -> int:
    return call.number("x-oms-leaseMills", LEASE_MS, 1, LEASE_MS_MAX)


def _settle(call: Call, receipt: str, outcome: Outcome, delay_ms: int | None = None) -> None:
    try:
        call.gateway.broker.leases.settle(receipt, outcome, delay_ms)
    except NotFound as error:
        raise UnknownHandle(error.detail) from error
