"""What an answer means for the message, and for the endpoint. Only 2xx is delivered."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from ..core.message import Outcome
from ..outgoing.exchange import Answer

#: How long an endpoint can ask to be left alone; what it says beyond that is a mistake.
RETRY_AFTER_MS_MAX: Final = 3_600_000
GONE: Final = 410  # the endpoint is no more (HTTP webhooks for event delivery, 1.0, 2.2)
LATER: Final = frozenset({429, 503})  # may say when (RFC 6585, 4; RFC 9110, 15.6.4)
#: Statuses that are the endpoint's fault, besides 5xx: it is overloaded, or waits for too long.
OVERLOADED: Final = frozenset({408, 425, 429})


class Verdict(NamedTuple):
    """How to settle, after which delay (None: the queue's policy says), and what it says of the endpoint."""

    outcome: Outcome
    reason: str = ""  # why it is not delivered
    delay_ms: int | None = None
    down: bool = False  # the endpoint does not work
    gone: bool = False  # for good
    status: int = 0


def judge(answer: Answer, now_ms: int) -> Verdict:
    """Return what an answer means; `now_ms` is Unix time."""
    status = answer.status
    if 200 <= status < 300:
        return Verdict(Outcome.ACK, status=status)
    reason = _told(answer)
    if status == GONE:
        return Verdict(Outcome.RETRY, reason, gone=True, status=status)
    if status in LATER:
        delay_ms = retry_after_ms(answer.retry_after, now_ms)
        if delay_ms is not None:
            return Verdict(Outcome.RETRY, reason, delay_ms, down=True, status=status)
    return Verdict(Outcome.REQUEUE, reason, down=status >= 500 or status in OVERLOADED, status=status)


def no_answer(reason: str) -> Verdict:
    """Return what it means that there is none."""
    return Verdict(Outcome.REQUEUE, reason, down=True)


def _told(answer: Answer) -> str:
    """Return the status and the beginning of the answer, on one line."""
    text = "".join(char if char.isprintable() else " " for char in answer.excerpt.decode("utf-8", "replace"))
    text = " ".join(text.split())
    redirect = "; redirects are not followed" if 300 <= answer.status < 400 else ""
    return f"status {answer.status}{redirect}{': ' if text else ''}{text}"


def retry_after_ms(text: str, now_ms: int) -> int | None:
    """Return the delay that Retry-After asks for (RFC 9110, 10.2.3), None if it says nothing sensible."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return min(int(text) * 1000, RETRY_AFTER_MS_MAX)
    try:
        until_ms = int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, min(until_ms - now_ms, RETRY_AFTER_MS_MAX))
