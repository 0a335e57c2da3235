"""Reply codes, and what a peer did wrong: one channel's end, or the connection's.

[AMQP 0-9-1, 1.2 and 4.8]: a channel error ends the channel alone, a connection error everything.
"""

from __future__ import annotations

from enum import IntEnum
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
    TooLarge,
)


class Reply(IntEnum):
    """Reply codes of the standard."""

    SUCCESS = 200
    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    NO_CONSUMERS = 313
    CONNECTION_FORCED = 320
    INVALID_PATH = 402
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


#: What ends the channel only; all other codes end the connection.
CHANNEL_CODES: Final = frozenset(
    (
        Reply.CONTENT_TOO_LARGE,
        Reply.NO_CONSUMERS,
        Reply.ACCESS_REFUSED,
        Reply.NOT_FOUND,
        Reply.RESOURCE_LOCKED,
        Reply.PRECONDITION_FAILED,
    )
)


TEXT_CHARS_MAX: Final = 240  # a short string has 255 bytes


class AmqpFault(GatewayError):
    """The peer broke a rule; `code` says which kind."""

    def __init__(self, code: Reply, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    @property
    def channel_only(self) -> bool:
        """Whether the connection goes on."""
        return self.code in CHANNEL_CODES

    @property
    def text(self) -> str:
        """What is sent: the code's name first, as clients and people expect it."""
        text = f"{self.code.name} - {self.detail}"
        if len(text) <= TEXT_CHARS_MAX:
            return text
        # What a refusal ends with is the rule it goes by: a long name must not push that out.
        return f"{text[: TEXT_CHARS_MAX // 2]}...{text[-TEXT_CHARS_MAX // 2 :]}"


class SyntaxFault(AmqpFault):
    """Bytes that are no frame, method, property list or table."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reply.SYNTAX_ERROR, detail)


#: The gateway's errors -> reply codes; the first class that fits.
CODES: Final[tuple[tuple[type[GatewayError], Reply], ...]] = (
    (AuthenticationFailed, Reply.ACCESS_REFUSED),
    (NotAuthorized, Reply.ACCESS_REFUSED),
    (NotFound, Reply.NOT_FOUND),
    (Conflict, Reply.PRECONDITION_FAILED),
    (InvalidTopic, Reply.PRECONDITION_FAILED),
    (InvalidValue, Reply.PRECONDITION_FAILED),
    (TooLarge, Reply.PRECONDITION_FAILED),
    (QueueFull, Reply.RESOURCE_ERROR),
    (QuotaExceeded, Reply.RESOURCE_ERROR),
    (NotStored, Reply.INTERNAL_ERROR),
)


def fault_of(error: GatewayError) -> AmqpFault:
    """Return a refusal of the gateway's in AMQP's words."""
    if isinstance(error, AmqpFault):
        return error
    for kind, code in CODES:
        if isinstance(error, kind):
            return AmqpFault(code, error.detail)
    return AmqpFault(Reply.INTERNAL_ERROR, error.detail)
