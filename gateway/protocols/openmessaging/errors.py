"""What is answered when something is wrong: one table from our errors to RocketMQ's codes, in every answer.

A gRPC status other than OK is for what breaks the protocol itself: clients take it for a lost connection.
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
from gateway.rocketmq.numbers import Code

#: The first class that fits counts.
CODES: Final[tuple[tuple[type[GatewayError], Code], ...]] = (
    (Throttled, Code.TOO_MANY_REQUESTS),
    (AuthenticationFailed, Code.UNAUTHORIZED),
    (NotAuthorized, Code.FORBIDDEN),
    (InvalidTopic, Code.ILLEGAL_TOPIC),
    (InvalidValue, Code.BAD_REQUEST),
    (NotFound, Code.NOT_FOUND),
    (Conflict, Code.PRECONDITION_FAILED),
    (QueueFull, Code.TOO_MANY_REQUESTS),
    (NotStored, Code.MASTER_PERSISTENCE_TIMEOUT),
    (TooLarge, Code.MESSAGE_BODY_TOO_LARGE),
    (QuotaExceeded, Code.TOO_MANY_REQUESTS),
    (StorageError, Code.INTERNAL_ERROR),
)


class Refused(GatewayError):
    """A request that RocketMQ's own rules forbid; `code` is what to answer."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class BrokenProtocol(Refused):
    """What no client of RocketMQ's says by Telemetry: answered with a gRPC status, which ends the stream."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.BAD_REQUEST, detail)


def code_of(error: GatewayError) -> Code:
    """Return the code that a client is told of an error."""
    if isinstance(error, Refused):
        return error.code
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return Code.INTERNAL_SERVER_ERROR
