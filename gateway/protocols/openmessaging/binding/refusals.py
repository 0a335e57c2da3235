"""What is answered when something is wrong: a problem document that has OpenMessaging's code, too.

`type`, `title`, `status` and `detail` are those of the HTTP door's own problems, so that a client needs one
way of reading them; `code` is of OpenMessaging's list (OMSResponseStatus). A login that is refused is
answered by the door, before it comes here: 401 is code 1401.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import msgspec

from gateway.api import (
    AuthenticationFailed,
    Conflict,
    GatewayError,
    HttpAnswer,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    NotStored,
    QueueFull,
    QuotaExceeded,
    TooLarge,
)
from gateway.http_oms import UnsupportedVersion

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = (
    1  # after "full" or "not stored": about as long as a consumer or an operator's cron needs
)


class Code(IntEnum):
    """OpenMessaging's, those that are used here."""

    UNSUPPORTED_VERSION = 1101
    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    FORBIDDEN = 1403
    DESTINATION_NOT_FOUND = 1404
    BODY_TOO_LARGE = 1413
    BAD_PARAMETER = 1418
    STORAGE = 1501
    STORAGE_BUSY = 1502
    UNAVAILABLE = 1503


class UnknownHandle(NotFound):
    """A receipt or a transaction that stands for nothing: no destination is missing."""


class WrongMethod(GatewayError):
    """Something is there, but for another method."""


#: Error -> (status, code, kind of problem, its title). The first class that fits counts.
TABLE: Final[tuple[tuple[type[GatewayError], int, Code, str, str], ...]] = (
    (UnsupportedVersion, 400, Code.UNSUPPORTED_VERSION, "invalid-parameter", "Unsupported version"),
    (AuthenticationFailed, 401, Code.UNAUTHORIZED, "authentication-failed", "Authentication failed"),
    (NotAuthorized, 403, Code.FORBIDDEN, "not-authorized", "Not authorized"),
    (InvalidTopic, 400, Code.BAD_REQUEST, "invalid-topic", "Invalid topic or filter"),
    (UnknownHandle, 404, Code.BAD_PARAMETER, "not-found", "Not found"),
    (NotFound, 404, Code.DESTINATION_NOT_FOUND, "not-found", "Not found"),
    (Conflict, 409, Code.BAD_PARAMETER, "conflict", "Conflict"),
    (WrongMethod, 405, Code.BAD_REQUEST, "method-not-allowed", "Method not allowed"),
    (QueueFull, 429, Code.STORAGE_BUSY, "queue-full", "Queue full"),
    (NotStored, 507, Code.STORAGE, "not-stored", "Not stored"),
    (TooLarge, 413, Code.BODY_TOO_LARGE, "too-large", "Too large"),
    (InvalidValue, 422, Code.BAD_PARAMETER, "invalid-parameter", "Invalid parameter"),
    (QuotaExceeded, 429, Code.UNAVAILABLE, "quota-exceeded", "Quota exceeded"),
    (GatewayError, 400, Code.BAD_REQUEST, "malformed", "Malformed request"),
)
_LATER: Final = (429, 507)  # worth another try


def problem_of(error: GatewayError) -> dict[str, Any]:
    """Return an error as JSON."""
    _, status, code, kind, title = next(row for row in TABLE if isinstance(error, row[0]))
    found = {"type": f"/docs#{kind}", "title": title, "status": status, "detail": error.detail, "code": code}
    if isinstance(error, NotAuthorized) and error.rule:
        found["rule"] = error.rule
    return found


def refusal(error: GatewayError, results: list[dict[str, Any]] | None = None) -> HttpAnswer:
    """Return the answer; with `results` if it stands for several."""
    problem = problem_of(error)
    if results is not None:
        problem["results"] = results
    headers: list[tuple[str, str]] = []
    if problem["status"] in _LATER:
        retry_ms = error.retry_ms if isinstance(error, QuotaExceeded) else 0
        headers.append(("retry-after", str(-(-retry_ms // 1000) or RETRY_SECONDS)))
    return HttpAnswer(problem["status"], msgspec.json.encode(problem), MEDIA_TYPE, headers)
