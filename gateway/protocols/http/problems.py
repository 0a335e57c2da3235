"""Errors as RFC 9457 problem details: one table from the gateway's errors to HTTP's.

`detail` says what was refused and what to do about it. `type` is a relative reference to
the entry of /docs that explains the kind, so that it resolves on the gateway that sent it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...api import (
    AuthenticationFailed,
    Conflict,
    GatewayError,
    InvalidSelector,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    NotStored,
    QueueFull,
    QuotaExceeded,
    Throttled,
    TooLarge,
)

MEDIA_TYPE = "application/problem+json"
BUG = "a bug in the gateway; its log has the details"  # all that strangers are told of one
RETRY_SECONDS = 1  # after "full" or "not stored": about as long as a consumer or an operator's cron needs

#: Kind -> (status, title). The kinds are part of the contract: clients may branch on `type`.
KINDS: dict[str, tuple[int, str]] = {
    "malformed": (400, "Malformed request"),
    "invalid-topic": (400, "Invalid topic or filter"),
    "nothing-accepted": (400, "No message of the batch was accepted"),
    "authentication-failed": (401, "Authentication failed"),
    "not-authorized": (403, "Not authorized"),
    "foreign-origin": (403, "Page of another origin"),
    "not-found": (404, "Not found"),
    "no-such-route": (404, "No such resource"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "too-large": (413, "Too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "invalid-parameter": (422, "Invalid parameter"),
    "upgrade-required": (426, "Upgrade required"),
    "queue-full": (429, "Queue full"),
    "quota-exceeded": (429, "Quota exceeded"),
    "too-many-logins": (429, "Too many failed logins"),
    "head-too-large": (431, "Request head too large"),
    "internal-error": (500, "Internal error"),
    "not-available": (501, "Not available yet"),
    "no-answer": (504, "No answer"),
    "stopping": (503, "The gateway is stopping"),
    "not-stored": (507, "Not stored"),
}

#: The gateway's errors. The first class that fits counts: subclasses stand before their bases.
ERRORS: tuple[tuple[type[GatewayError], str], ...] = (
    (Throttled, "too-many-logins"),
    (AuthenticationFailed, "authentication-failed"),
    (NotAuthorized, "not-authorized"),
    (InvalidTopic, "invalid-topic"),
    (NotFound, "not-found"),
    (Conflict, "conflict"),
    (QueueFull, "queue-full"),
    (NotStored, "not-stored"),
    (TooLarge, "too-large"),
    (InvalidValue, "invalid-parameter"),
    (QuotaExceeded, "quota-exceeded"),
)

_HEADERS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "authentication-failed": (
        (b"www-authenticate", b'Basic realm="gateway", charset="UTF-8"'),
        (b"www-authenticate", b'Bearer realm="gateway"'),
    ),
    "queue-full": ((b"retry-after", b"%d" % RETRY_SECONDS),),
    "quota-exceeded": ((b"retry-after", b"%d" % RETRY_SECONDS),),
    "too-many-logins": ((b"retry-after", b"%d" % RETRY_SECONDS),),
    "not-stored": ((b"retry-after", b"%d" % RETRY_SECONDS),),
    "stopping": ((b"retry-after", b"%d" % RETRY_SECONDS),),
}


class Refused(GatewayError):
    """A refusal that only HTTP knows: `kind` is a key of KINDS."""

    def __init__(self, kind: str, detail: str, **extra: Any) -> None:
        assert kind in KINDS
        super().__init__(detail)
        self.kind = kind
        self.extra = extra


class Problem:
    """One problem, ready to be sent in a response, an event or a WebSocket message."""

    __slots__ = ("detail", "extra", "headers", "kind", "status", "title")

    def __init__(self, kind: str, detail: str, extra: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.detail = detail
        self.extra = extra or {}
        self.headers = _HEADERS.get(kind, ())

    def to_mapping(self) -> dict[str, Any]:
        """Return the members, as JSON has them."""
        return {
            "type": f"/docs#{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }

    def to_json(self) -> bytes:
        """Return the body of a response."""
        return msgspec.json.encode(self.to_mapping())


def problem_of(error: GatewayError) -> Problem:
    """Translate an error."""
    if isinstance(error, Refused):
        return Problem(error.kind, error.detail, error.extra)
    for known, kind in ERRORS:
        if isinstance(error, known):
            problem = Problem(kind, error.detail)
            if isinstance(error, InvalidSelector):
                problem.extra["column"] = error.column
            elif isinstance(error, NotAuthorized) and error.rule:
                problem.extra["rule"] = error.rule
            elif isinstance(error, QuotaExceeded | Throttled) and error.retry_ms:
                problem.headers = ((b"retry-after", b"%d" % -(-error.retry_ms // 1000)),)
            return problem
    return Problem("malformed", error.detail)
