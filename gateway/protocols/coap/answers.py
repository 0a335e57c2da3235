"""What is answered when something is wrong: one table from our errors to CoAP's codes (RFC 7252, 5.9).

The reason is the payload, as text for people (5.5.2).
"""

from __future__ import annotations

from typing import Final

from gateway.core.errors import (
    AuthenticationFailed,
    Conflict,
    GatewayError,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    NotStored,
    QueueFull,
    QuotaExceeded,
    StorageError,
    Throttled,
    TooLarge,
)

from .codec import Option, Options
from .exchange import Response
from .numbers import (
    BAD_OPTION,
    BAD_REQUEST,
    CONFLICT,
    FORBIDDEN,
    INTERNAL_SERVER_ERROR,
    MAX_AGE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PROXYING_NOT_SUPPORTED,
    REQUEST_ENTITY_TOO_LARGE,
    SERVICE_UNAVAILABLE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    uint_bytes,
)

DIAGNOSTIC_BYTES_MAX: Final = 256  # fits one frame of most radios' fragments, and says enough
RETRY_SECONDS: Final = 5  # a full disk or queue: the client is to try again, but not at once

#: Error -> (code, seconds after which to try again: the Max-Age of 4.29 and 5.03; 0: no such thing).
#: The first class that fits counts.
CODES: Final[tuple[tuple[type[GatewayError], int, int], ...]] = (
    (Throttled, TOO_MANY_REQUESTS, RETRY_SECONDS),
    (AuthenticationFailed, UNAUTHORIZED, 0),
    (NotAuthorized, FORBIDDEN, 0),
    (InvalidTopic, BAD_REQUEST, 0),
    (InvalidValue, BAD_REQUEST, 0),
    (NotFound, NOT_FOUND, 0),
    (Conflict, CONFLICT, 0),
    (QueueFull, SERVICE_UNAVAILABLE, RETRY_SECONDS),
    (NotStored, SERVICE_UNAVAILABLE, RETRY_SECONDS),
    (TooLarge, REQUEST_ENTITY_TOO_LARGE, 0),
    (QuotaExceeded, TOO_MANY_REQUESTS, RETRY_SECONDS),
    (StorageError, SERVICE_UNAVAILABLE, RETRY_SECONDS),
)


class Refused(GatewayError):
    """A request that CoAP's own rules forbid; `code` is what to answer."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def refusal(code: int, detail: str, max_age: int = 0) -> Response:
    """Return a response that says why. `max_age`: seconds, 0 leaves it unsaid."""
    payload = detail.encode()[:DIAGNOSTIC_BYTES_MAX].decode(errors="ignore").encode()
    options: tuple[Option, ...] = ((MAX_AGE, uint_bytes(max_age)),) if max_age else ()
    return Response(code, payload, options)


def answer_to(error: GatewayError) -> Response:
    """Return what a client is told of an error."""
    if isinstance(error, Refused):
        return refusal(error.code, error.detail)
    retry_ms = error.retry_ms if isinstance(error, Throttled | QuotaExceeded) else 0
    for kind, code, seconds in CODES:
        if isinstance(error, kind):
            return refusal(code, error.detail, -(-retry_ms // 1000) or seconds)
    return refusal(INTERNAL_SERVER_ERROR, "the gateway has a bug; its log says more")


def fault_of(options: Options) -> Response | None:
    """Return what is wrong with a request's options, for every transport; None if they can be served.

    4.02 for a critical option that is unknown, repeated, or of a wrong length (RFC 7252, 5.4.1); 5.05 for
    a proxy's; 4.00 for a Hop-Limit of 0.
    """
    if options.critical:
        return refusal(BAD_OPTION, f"option {options.critical} is not known here, or not in this form")
    if options.hop_limit == 0:
        return refusal(BAD_REQUEST, "Hop-Limit: 1 to 255 are valid (RFC 8768)")
    if options.proxy:
        return refusal(PROXYING_NOT_SUPPORTED, "this is no proxy; leave out Proxy-Uri and Proxy-Scheme")
    return None


def wrong_method(known: str) -> Response:
    """Return 4.05, saying what there is."""
    return refusal(METHOD_NOT_ALLOWED, f"known here: {known}")
