"""What goes wrong, by OpenMessaging's own codes: one hierarchy for every driver.

`ResponseStatus` is the specification's list. An error knows its status, a sentence, and the page that
the specification has for the code. Drivers translate what their transport says into these, in one
table each; applications catch `OMSError` or the class that they can do something about.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, Final

#: Where the specification explains a code.
CODE_URL: Final = "http://openmessaging.cloud/internal/code#"


class ResponseStatus(IntEnum):
    """The specification's status codes."""

    UNSUPPORTED_VERSION = 1101
    SUCCESS = 1200
    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    BODY_REQUIRED = 1402
    FORBIDDEN = 1403
    DESTINATION_NOT_FOUND = 1404
    NAMESPACE_NOT_FOUND = 1405
    DESTINATION_EXISTS = 1406
    NAMESPACE_EXISTS = 1407
    CONSUMER_ID_EXISTS = 1408
    PRODUCER_ID_EXISTS = 1409
    REQUEST_TIMEOUT = 1410
    ATTRIBUTES_TOO_LARGE = 1411
    HEADER_TOO_LARGE = 1412
    BODY_TOO_LARGE = 1413
    NO_NEW_MESSAGE = 1414
    TOPICS_MAX = 1415
    QUEUES_MAX = 1416
    NAMESPACES_MAX = 1417
    BAD_PARAMETER = 1418
    SERVER_ERROR = 1500
    STORAGE_ERROR = 1501
    STORAGE_BUSY = 1502
    SERVICE_UNAVAILABLE = 1503
    FLUSH_DISK_TIMEOUT = 1504
    DRIVER_UNAVAILABLE = 10000
    URL_ILLEGAL = 10001
    IMPLEMENTATION_VERSION_ILLEGAL = 10002
    SPECIFICATION_MISMATCH = 10003


class OMSError(Exception):
    """Something failed; `code` says what. `reason` is for people."""

    default: ClassVar[int] = ResponseStatus.SERVER_ERROR

    def __init__(self, reason: str, code: int | None = None) -> None:
        self.code = self.default if code is None else code
        self.reason = reason
        super().__init__(f"{reason}\nFor more information: {CODE_URL}{int(self.code)}")


class OMSSecurityError(OMSError):
    """Whoever this is may not (FORBIDDEN), or is not known (UNAUTHORIZED)."""

    default = ResponseStatus.FORBIDDEN


class OMSTimeoutError(OMSError):
    """It took longer than the operation timeout. What was asked for may have happened."""

    default = ResponseStatus.REQUEST_TIMEOUT


class OMSDestinationError(OMSError):
    """There is no such queue or namespace, there is one already, or it takes nothing."""

    default = ResponseStatus.DESTINATION_NOT_FOUND


class OMSMessageFormatError(OMSError):
    """The message cannot be sent as it is, or what came is none."""

    default = ResponseStatus.BAD_REQUEST


class OMSTransactionError(OMSError):
    """A transaction cannot begin, or has ended otherwise."""

    default = ResponseStatus.BAD_REQUEST


class OMSUnsupportedError(OMSError):
    """The driver has no such thing. Raised instead of doing nothing."""

    default = ResponseStatus.BAD_REQUEST


class OMSBatchError(OMSError):
    """Some messages of a batch were not sent; `results` has a SendResult or an OMSError for each,
    in order.
    """

    def __init__(self, results: Sequence[object]) -> None:
        self.results = tuple(results)
        failed = [result for result in results if isinstance(result, OMSError)]
        assert failed, "a batch without a failure is none"
        first = failed[0]
        super().__init__(
            f"{len(failed)} of {len(results)} messages were not sent: {first.reason}", first.code
        )
