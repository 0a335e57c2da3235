"""Fields by name: what `create_message` takes, and what is checked before a message is sent."""

from __future__ import annotations

import socket
import time
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

from .errors import OMSMessageFormatError, ResponseStatus
from .message import PRIORITY_MAX, PRIORITY_MIN, ExtensionHeader, Header, Message, QoS

HEADER_FIELDS: Final = frozenset(field.name for field in fields(Header))
EXTENSION_FIELDS: Final = frozenset(field.name for field in fields(ExtensionHeader))
DATA_BYTES_MAX: Final = 4 << 20  # RocketMQ's, the smallest of the transports: what fits one fits all
BORN_HOST: Final = socket.gethostname() or "localhost"

Seconds = float | timedelta


def seconds_of(value: Seconds) -> float:
    """Return a time given in seconds or as a timedelta, in seconds.

    Raise OMSMessageFormatError if negative.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < float("inf"):
        raise OMSMessageFormatError(f"{value!r} is no time to wait", ResponseStatus.BAD_PARAMETER)
    return seconds


def set_fields(message: Message, given: dict[str, Any]) -> None:
    """Set fields of header and extension header, and properties. Raise OMSMessageFormatError."""
    for name, value in given.items():
        if name == "properties":
            message.properties.update(value)
        elif name in HEADER_FIELDS:
            setattr(message.header, name, value)
        elif name in EXTENSION_FIELDS:
            if isinstance(value, timedelta):
                value = round(value.total_seconds() * 1000)
            setattr(message.extension_header, name, value)
        else:
            raise OMSMessageFormatError(
                f"messages have no field {name!r}: there are "
                f"{', '.join(sorted(HEADER_FIELDS | EXTENSION_FIELDS))} and properties"
            )


def prepare_to_send(message: Message) -> None:
    """Check a message and set when and where it was born. Raise OMSMessageFormatError."""
    header = message.header
    if not header.destination:
        raise OMSMessageFormatError("a message needs a destination", ResponseStatus.BAD_PARAMETER)
    data = message.data
    if type(data) is not bytes:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise OMSMessageFormatError(f"data is bytes, not {type(data).__name__}")
        message.data = bytes(data)
    if len(message.data) > DATA_BYTES_MAX:
        raise OMSMessageFormatError(
            f"{len(message.data)} bytes are more than {DATA_BYTES_MAX}", ResponseStatus.BODY_TOO_LARGE
        )
    header.born_timestamp = int(time.time() * 1000)
    header.born_host = BORN_HOST
    if header.qos not in _QOS:
        raise OMSMessageFormatError(f"there is no qos {header.qos!r}", ResponseStatus.BAD_PARAMETER)
    if message.has_extension:
        _check_extension(message.extension_header)


_QOS: Final = frozenset(int(qos) for qos in QoS)


def _check_extension(extension: ExtensionHeader) -> None:
    for name in ("delay_time", "expire_time", "partition"):
        value = getattr(extension, name)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise OMSMessageFormatError(f"{name} is {value!r}", ResponseStatus.BAD_PARAMETER)


def priority_of(message: Message) -> int | None:
    """Return the priority by the scale of all other protocols here, from 0; None if none is said.

    OpenMessaging's 1 to 10 are AMQP's 0 to 9. What is out of range is ignored, as the specification has it.
    """
    priority = message.header.priority
    in_range = priority is not None and PRIORITY_MIN <= priority <= PRIORITY_MAX
    return priority - PRIORITY_MIN if priority is not None and in_range else None


def priority_from(others: int | None) -> int | None:
    """Undo `priority_of`; what is above the scale is its highest."""
    return None if others is None else min(max(others, 0) + PRIORITY_MIN, PRIORITY_MAX)


def deliver_at(message: Message) -> int | None:
    """Return when a message is to be delivered, in Unix milliseconds; None if at once."""
    delay = message.extension_header.delay_time if message.has_extension else None
    return message.header.born_timestamp + delay if delay else None


def expires_at(message: Message) -> int:
    """Return when a message is to be discarded, in Unix milliseconds; 0 if never."""
    expire = message.extension_header.expire_time if message.has_extension else None
    return expire if expire and expire >= message.header.born_timestamp else 0
