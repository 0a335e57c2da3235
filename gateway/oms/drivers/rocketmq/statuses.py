"""RocketMQ's codes and gRPC's as OpenMessaging's errors: one table for each."""

from __future__ import annotations

from typing import Any, Final

from gateway.oms.errors import (
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    OMSTimeoutError,
    OMSTransactionError,
    OMSUnsupportedError,
    ResponseStatus,
)
from gateway.rocketmq.numbers import Code

_Meaning = tuple[type[OMSError], ResponseStatus]

_CODES: Final[dict[int, _Meaning]] = {
    Code.BAD_REQUEST: (OMSError, ResponseStatus.BAD_REQUEST),
    Code.ILLEGAL_ACCESS_POINT: (OMSError, ResponseStatus.BAD_REQUEST),
    Code.ILLEGAL_TOPIC: (OMSDestinationError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_CONSUMER_GROUP: (OMSDestinationError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_MESSAGE_TAG: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_MESSAGE_KEY: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_MESSAGE_GROUP: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_MESSAGE_PROPERTY_KEY: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.INVALID_TRANSACTION_ID: (OMSTransactionError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_MESSAGE_ID: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_FILTER_EXPRESSION: (OMSError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_INVISIBLE_TIME: (OMSError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_DELIVERY_TIME: (OMSMessageFormatError, ResponseStatus.BAD_PARAMETER),
    Code.INVALID_RECEIPT_HANDLE: (OMSError, ResponseStatus.BAD_PARAMETER),
    Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE: (OMSMessageFormatError, ResponseStatus.BAD_REQUEST),
    Code.MESSAGE_CORRUPTED: (OMSMessageFormatError, ResponseStatus.BAD_REQUEST),
    Code.ILLEGAL_POLLING_TIME: (OMSError, ResponseStatus.BAD_PARAMETER),
    Code.ILLEGAL_OFFSET: (OMSError, ResponseStatus.BAD_PARAMETER),
    Code.UNAUTHORIZED: (OMSSecurityError, ResponseStatus.UNAUTHORIZED),
    Code.FORBIDDEN: (OMSSecurityError, ResponseStatus.FORBIDDEN),
    Code.NOT_FOUND: (OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND),
    Code.MESSAGE_NOT_FOUND: (OMSError, ResponseStatus.NO_NEW_MESSAGE),
    Code.TOPIC_NOT_FOUND: (OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND),
    Code.CONSUMER_GROUP_NOT_FOUND: (OMSDestinationError, ResponseStatus.DESTINATION_NOT_FOUND),
    Code.OFFSET_NOT_FOUND: (OMSError, ResponseStatus.NO_NEW_MESSAGE),
    Code.REQUEST_TIMEOUT: (OMSTimeoutError, ResponseStatus.REQUEST_TIMEOUT),
    Code.PAYLOAD_TOO_LARGE: (OMSMessageFormatError, ResponseStatus.BODY_TOO_LARGE),
    Code.MESSAGE_BODY_TOO_LARGE: (OMSMessageFormatError, ResponseStatus.BODY_TOO_LARGE),
    Code.MESSAGE_BODY_EMPTY: (OMSMessageFormatError, ResponseStatus.BODY_REQUIRED),
    Code.TOO_MANY_REQUESTS: (OMSError, ResponseStatus.STORAGE_BUSY),
    Code.REQUEST_HEADER_FIELDS_TOO_LARGE: (OMSMessageFormatError, ResponseStatus.HEADER_TOO_LARGE),
    Code.MESSAGE_PROPERTIES_TOO_LARGE: (OMSMessageFormatError, ResponseStatus.ATTRIBUTES_TOO_LARGE),
    Code.HA_NOT_AVAILABLE: (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    Code.NOT_IMPLEMENTED: (OMSUnsupportedError, ResponseStatus.BAD_REQUEST),
    Code.PROXY_TIMEOUT: (OMSTimeoutError, ResponseStatus.REQUEST_TIMEOUT),
    Code.MASTER_PERSISTENCE_TIMEOUT: (OMSTimeoutError, ResponseStatus.FLUSH_DISK_TIMEOUT),
    Code.SLAVE_PERSISTENCE_TIMEOUT: (OMSTimeoutError, ResponseStatus.FLUSH_DISK_TIMEOUT),
    Code.UNSUPPORTED: (OMSUnsupportedError, ResponseStatus.BAD_REQUEST),
    Code.VERSION_UNSUPPORTED: (OMSUnsupportedError, ResponseStatus.UNSUPPORTED_VERSION),
}
#: What a code means that is newer than we are, by its first digit.
_CLASSES: Final[dict[int, _Meaning]] = {
    4: (OMSError, ResponseStatus.BAD_REQUEST),
    5: (OMSError, ResponseStatus.SERVER_ERROR),
}
_TRANSPORT: Final[dict[str, _Meaning]] = {
    "UNAVAILABLE": (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    "CANCELLED": (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    "ABORTED": (OMSError, ResponseStatus.SERVICE_UNAVAILABLE),
    "DEADLINE_EXCEEDED": (OMSTimeoutError, ResponseStatus.REQUEST_TIMEOUT),
    "UNAUTHENTICATED": (OMSSecurityError, ResponseStatus.UNAUTHORIZED),
    "PERMISSION_DENIED": (OMSSecurityError, ResponseStatus.FORBIDDEN),
    "UNIMPLEMENTED": (OMSUnsupportedError, ResponseStatus.BAD_REQUEST),
    "INVALID_ARGUMENT": (OMSError, ResponseStatus.BAD_REQUEST),
    "FAILED_PRECONDITION": (OMSError, ResponseStatus.BAD_REQUEST),
    "RESOURCE_EXHAUSTED": (OMSMessageFormatError, ResponseStatus.BODY_TOO_LARGE),
}
_NAMES: Final[dict[int, str]] = {code.value: code.name for code in Code}
_UNKNOWN: Final[_Meaning] = (OMSError, ResponseStatus.SERVER_ERROR)

#: Worth another try: it may have been the server's moment, or the way to it.
_PASSING: Final = frozenset(
    (
        ResponseStatus.REQUEST_TIMEOUT,
        ResponseStatus.SERVER_ERROR,
        ResponseStatus.STORAGE_ERROR,
        ResponseStatus.SERVICE_UNAVAILABLE,
        ResponseStatus.FLUSH_DISK_TIMEOUT,
    )
)


def of_status(status: Any, what: str) -> OMSError:
    """Return the error of a status that is not OK; `what` is what was asked for."""
    code = status.code
    kind, meaning = _CODES.get(code) or _CLASSES.get(code // 10_000, _UNKNOWN)
    name = _NAMES.get(code, "unknown")
    return kind(f"{what}: {status.message or name} ({name} {code})", meaning)


def of_transport(code: str, details: str, what: str) -> OMSError:
    """Return the error of a gRPC status, by its name."""
    kind, meaning = _TRANSPORT.get(code, _UNKNOWN)
    return kind(f"{what}: {details or code} ({code})", meaning)


def check(status: Any, what: str) -> None:
    """Raise the error of a status, unless it is OK."""
    if status.code != Code.OK:
        raise of_status(status, what)


def is_passing(error: OMSError) -> bool:
    """Tell whether the same request may succeed if it is made again."""
    return error.code in _PASSING
