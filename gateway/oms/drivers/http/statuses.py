"""The door's problem documents as OpenMessaging's errors: one table, by kind of problem."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx

from gateway.oms.errors import (
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    OMSTimeoutError,
    OMSUnsupportedError,
    ResponseStatus,
)

#: The end of a problem's `type` -> (class, status).
TABLE: Final[dict[str, tuple[type[OMSError], ResponseStatus]]] = {
    "authentication-failed": (OMSSecurityError, ResponseStatus.UNAUTHORIZED),
    "too-many-logins": (OMSSecurityError, ResponseStatus.UNAUTHORIZED),
    "not-authorized": (OMSSecurityError, ResponseStatus.FORBIDDEN),
    "foreign-origin": (OMSSecurityError, ResponseStatus.FORBIDDEN),
    "invalid-topic": (OMSDestinationError, ResponseStatus.BAD_PARAMETER),
    "not-found": (OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND),
    "conflict": (OMSError, ResponseStatus.BAD_REQUEST),
    "invalid-parameter": (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    "malformed": (OMSMessageFormatError, ResponseStatus.BAD_REQUEST),
    "too-large": (OMSMessageFormatError, ResponseStatus.BODY_TOO_LARGE),
    "head-too-large": (OMSMessageFormatError, ResponseStatus.HEADER_TOO_LARGE),
    "queue-full": (OMSError, ResponseStatus.STORAGE_BUSY),
    "not-stored": (OMSError, ResponseStatus.STORAGE_ERROR),
    "quota-exceeded": (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    "stopping": (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    "no-such-route": (OMSUnsupportedError, ResponseStatus.BAD_REQUEST),
    "method-not-allowed": (OMSUnsupportedError, ResponseStatus.BAD_REQUEST),
    "internal-error": (OMSError, ResponseStatus.SERVER_ERROR),
}
UNAUTHORIZED: Final = 401
SERVER_ERRORS: Final = 500  # and what is above


def error_of(problem: dict[str, Any]) -> OMSError:
    """Return what a problem is called here."""
    kind = str(problem.get("type", "")).rpartition("#")[2]
    found = TABLE.get(kind)
    reason = str(problem.get("detail") or problem.get("title") or "refused without a reason")
    if found is not None:
        return found[0](reason, found[1])
    status = problem.get("status")
    if status == UNAUTHORIZED:
        return OMSSecurityError(reason, ResponseStatus.UNAUTHORIZED)
    failed = isinstance(status, int) and status >= SERVER_ERRORS
    return OMSError(reason, ResponseStatus.SERVER_ERROR if failed else ResponseStatus.BAD_REQUEST)


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem in an answer; something like it if a proxy has answered."""
    try:
        found = json.loads(answer.content)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return {"status": answer.status_code, **found}
    return {"status": answer.status_code, "title": f"status {answer.status_code}, and no reason"}


def failure_of(error: Exception, url: str) -> OMSError:
    """Return what it is called that no answer came."""
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return OMSTimeoutError(f"{url} did not answer in time")
    reason = str(error) or type(error).__name__
    return OMSError(f"{url} cannot be reached: {reason}", ResponseStatus.SERVICE_UNAVAILABLE)
