"""The core's errors as OpenMessaging's: one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.api import (
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
    TooLarge,
)

from ...errors import (
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    ResponseStatus,
)

#: The first that fits.
TABLE: tuple[tuple[type[GatewayError], type[OMSError], ResponseStatus], ...] = (
    (AuthenticationFailed, OMSSecurityError, ResponseStatus.UNAUTHORIZED),
    (NotAuthorized, OMSSecurityError, ResponseStatus.FORBIDDEN),
    (InvalidTopic, OMSDestinationError, ResponseStatus.BAD_PARAMETER),
    (InvalidValue, OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    (NotFound, OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND),
    (Conflict, OMSError, ResponseStatus.BAD_REQUEST),
    (TooLarge, OMSMessageFormatError, ResponseStatus.BODY_TOO_LARGE),
    (QueueFull, OMSError, ResponseStatus.STORAGE_BUSY),
    (QuotaExceeded, OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    (NotStored, OMSError, ResponseStatus.STORAGE_ERROR),
    (StorageError, OMSError, ResponseStatus.STORAGE_ERROR),
)


def translated(error: GatewayError) -> OMSError:
    """Return what an error is called here."""
    for kind, other, status in TABLE:
        if isinstance(error, kind):
            return other(error.detail, status)
    return OMSError(error.detail, ResponseStatus.SERVER_ERROR)


@contextmanager
def translating() -> Iterator[None]:
    """Have the core's errors come out as OpenMessaging's."""
    try:
        yield
    except GatewayError as error:
        raise translated(error) from error
