"""Messages and names of OpenMessaging as RocketMQ has them, and back: pure functions.

What RocketMQ has no field for travels in user properties. Names that begin with `$` are those of the
gateway's doors: for what other protocols have, too, and for the type of a property that is no text. Names
that begin with `oms-` are for what OpenMessaging alone has.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from gateway.api import GatewayError
from gateway.oms.errors import OMSError, OMSMessageFormatError, ResponseStatus
from gateway.oms.fields import deliver_at, expires_at, priority_from, priority_of
from gateway.oms.key_value import KeyValue, Value
from gateway.oms.message import Durability, ExtensionHeader, Header, Message, QoS
from gateway.rocketmq.names import DEAD_LETTERS, RETRIES, escape, unescape
from gateway.rocketmq.numbers import Encoding, MessageType
from gateway.rocketmq.payload import compress, decompress, is_intact, put_ms, to_delivery_ms, to_ms
from gateway.rocketmq.properties import CORRELATION, ESCAPED, IDEMPOTENCY_KEY, RESERVED, TTL, TYPE
from gateway.rocketmq.schema import Message as WireMessage
from gateway.rocketmq.schema import Resource

from . import ids

GZIP: Final = "gzip"
BODY_BYTES_MAX: Final = 64 << 20  # of a received body without its compression

ENCODING: Final = "$content-encoding"
#: When a message expires, to the millisecond: `$ttl` says the same to the gateway, which counts it down;
#: RocketMQ's own proxy does not.
EXPIRES: Final = "oms-expire-time"
QOS: Final = "oms-qos"
DURABILITY: Final = "oms-durability"
TRANSACTION: Final = "oms-transaction-id"
BORN_HOST: Final = "oms-born-host"  # as the producer calls it: servers say where it came from
PARTITION: Final = "oms-partition"

_KINDS: Final[dict[str, Callable[[str], Value]]] = {
    "bool": lambda text: text == "true",
    "int": int,
    "float": float,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}


def resource_of(namespace: str, queue: str) -> Any:
    """Return the resource of a queue. What a group has besides its queues is called as RocketMQ calls it."""
    for prefix in (DEAD_LETTERS, RETRIES):
        if queue.startswith(prefix):
            return Resource(resource_namespace=namespace, name=prefix + escape(queue[len(prefix) :]))
    return Resource(resource_namespace=namespace, name=escape(queue))


def queue_of(resource: Any) -> str:
    """Return the name of a queue as one of another namespace has it: undoes `resource_of`."""
    name = resource.name
    prefix = next((one for one in (DEAD_LETTERS, RETRIES) if name.startswith(one)), "")
    try:
        queue = prefix + unescape(name[len(prefix) :])
    except GatewayError:  # a topic of RocketMQ's that no driver of ours has made
        queue = name
    return f"{resource.resource_namespace}://{queue}" if resource.resource_namespace else queue


# -- out


def to_wire(message: Message, topic: Any, half: bool = False) -> Any:
    """Return a message as it is sent, with an id of its own; `half`: as the first part of a transaction."""
    header = message.header
    made = WireMessage(topic=topic)
    system, user = made.system_properties, made.user_properties
    system.message_id = ids.message_id()
    system.message_type = MessageType.NORMAL
    put_ms(system.born_timestamp, header.born_timestamp)
    system.born_host = user[BORN_HOST] = header.born_host
    if header.compression == GZIP:
        made.body, system.body_encoding = compress(message.data), Encoding.GZIP
    elif header.compression:
        raise OMSMessageFormatError(
            f"compression is {header.compression!r}: there is {GZIP}", ResponseStatus.BAD_PARAMETER
        )
    else:
        made.body, system.body_encoding = message.data, Encoding.IDENTITY
    priority = priority_of(message)
    if priority is not None:
        system.message_type, system.priority = MessageType.PRIORITY, priority
    if message.has_extension:
        _write_extension(message, system, user)
    if half:
        system.message_type = MessageType.TRANSACTION
        user[TRANSACTION] = system.message_id  # the server's own is known too late
    if header.qos != QoS.AT_LEAST_ONCE:
        user[QOS] = str(int(header.qos))
        if header.qos == QoS.EXACTLY_ONCE:
            user[IDEMPOTENCY_KEY] = system.message_id  # more tries have the same one
    if header.durability != Durability.PERSISTENT:
        user[DURABILITY], user[TYPE + DURABILITY] = str(int(header.durability)), "int"
    if message.has_properties:
        _write_properties(message.properties, user)
    return made


def _write_extension(message: Message, system: Any, user: MutableMapping[str, str]) -> None:
    extension = message.extension_header
    if extension.message_key is not None:
        system.message_type, system.message_group = MessageType.FIFO, extension.message_key
    due_ms = deliver_at(message)
    if due_ms is not None:
        system.message_type = MessageType.DELAY
        put_ms(system.delivery_timestamp, due_ms)
    if extension.tag is not None:
        system.tag = extension.tag
    if extension.search_keys:
        system.keys.extend(extension.search_keys)
    if extension.trace_id is not None:
        system.trace_context = extension.trace_id
    if extension.partition:
        user[PARTITION], user[TYPE + PARTITION] = str(extension.partition), "int"
    if extension.correlation_id is not None:
        user[CORRELATION] = extension.correlation_id
    if extension.transaction_id is not None:
        user[TRANSACTION] = extension.transaction_id
    expires_ms = expires_at(message)
    if expires_ms:
        user[EXPIRES], user[TYPE + EXPIRES] = str(expires_ms), "int"
        user[TTL] = f"{max(1, expires_ms - int(time.time() * 1000)) / 1000:.3f}"


def _write_properties(properties: KeyValue, user: MutableMapping[str, str]) -> None:
    for name, value in properties.items():
        if name in RESERVED:
            name = ESCAPED + name
        if isinstance(value, str):
            user[name] = value
            continue
        kind, text = _typed(value)
        user[name] = text
        user[TYPE + name] = kind


def _typed(value: Value) -> tuple[str, str]:
    if isinstance(value, bool):
        return "bool", "true" if value else "false"
    if isinstance(value, bytes):
        return "bytes", base64.b64encode(value).decode()
    return ("float", repr(value)) if isinstance(value, float) else ("int", str(value))


# -- in


def from_wire(found: Any, destination: str) -> Message:
    """Return a message that was received from a queue. Raise OMSMessageFormatError if its body is no good."""
    system = found.system_properties
    header = Header(
        destination=destination,
        message_id=system.message_id,
        born_timestamp=to_ms(system.born_timestamp),
        born_host=system.born_host,
        delivery_count=system.delivery_attempt or 1,
    )
    message = Message(header=header, data=_body(found, header), extension_header=_extension(system, header))
    if found.user_properties:
        _read_user(found.user_properties, message)
    return message


def _body(found: Any, header: Header) -> bytes:
    system = found.system_properties
    body: bytes = found.body
    try:
        if system.HasField("body_digest") and system.body_digest.checksum:
            if not is_intact(system.body_digest.type, system.body_digest.checksum, body):
                raise OMSMessageFormatError(f"message {header.message_id}: the body is not what was sent")
        if system.body_encoding == Encoding.GZIP:
            header.compression = GZIP
            body = decompress(body, BODY_BYTES_MAX)
    except OMSError:
        raise
    except Exception as error:
        raise OMSMessageFormatError(f"message {header.message_id}: {error}") from error
    return body


def _extension(system: Any, header: Header) -> ExtensionHeader:
    made = ExtensionHeader(partition=system.queue_id)
    if system.HasField("queue_offset"):
        made.offset = system.queue_offset
    if system.HasField("store_timestamp"):
        made.store_timestamp = to_ms(system.store_timestamp)
    made.store_host = system.store_host or None
    if system.HasField("delivery_timestamp"):
        made.delay_time = max(0, to_delivery_ms(system.delivery_timestamp) - header.born_timestamp)
    if system.message_group:
        made.message_key = system.message_group
    if system.trace_context:
        made.trace_id = system.trace_context
    if system.HasField("priority"):
        header.priority = priority_from(system.priority)
    if system.HasField("tag"):
        made.tag = system.tag
    if system.keys:
        made.search_keys = tuple(system.keys)
    return made


def _read_user(user: Mapping[str, str], message: Message) -> None:
    for name, text in user.items():
        kind = user.get(TYPE + name)
        read = _READERS.get(name) if kind in _PLAIN else None
        if read is not None and read(text, message):
            continue
        if name.startswith(TYPE) and name[len(TYPE) :] in user and text in _KINDS:
            continue  # it has been looked at with the other
        message.properties[name.removeprefix(ESCAPED)] = _value(text, kind)


def _value(text: str, kind: str | None) -> Value:
    read = _KINDS.get(kind) if kind is not None else None
    if read is None:
        return text
    try:
        return read(text)
    except ValueError:
        return text  # somebody else's `$type:`: what it names stays a string


def _read_correlation(text: str, message: Message) -> bool:
    message.extension_header.correlation_id = text
    return True


def _read_transaction(text: str, message: Message) -> bool:
    message.extension_header.transaction_id = text
    return True


def _read_born_host(text: str, message: Message) -> bool:
    message.header.born_host = text
    return True


def _read_encoding(text: str, message: Message) -> bool:
    """Undo gzip that another driver has done; what is none stays as it is: somebody may have meant it."""
    if text != GZIP:
        return False
    try:
        message.data = decompress(message.data, BODY_BYTES_MAX)
    except Exception:
        return False
    message.header.compression = GZIP
    return True


def _read_expires(text: str, message: Message) -> bool:
    known = text.isascii() and text.isdecimal()
    if known:
        message.extension_header.expire_time = int(text)
    return known


def _read_ttl(text: str, message: Message) -> bool:
    try:
        expires_ms = round(time.time() * 1000 + float(text) * 1000)
    except (ValueError, OverflowError):
        return False
    if message.extension_header.expire_time is None:
        message.extension_header.expire_time = expires_ms
    return True


def _read_qos(text: str, message: Message) -> bool:
    known = text in _QOS
    if known:
        message.header.qos = int(text)
    return known


def _read_durability(text: str, message: Message) -> bool:
    known = text in _DURABILITIES
    if known:
        message.header.durability = int(text)
    return known


def _read_partition(text: str, message: Message) -> bool:
    known = text.isascii() and text.isdecimal()
    if known:
        message.extension_header.partition = int(text)
    return known


def _read_idempotency_key(text: str, message: Message) -> bool:
    return text == message.header.message_id  # qos says it


_QOS: Final = frozenset(str(int(qos)) for qos in QoS)
_DURABILITIES: Final = frozenset(str(int(durability)) for durability in Durability)
_PLAIN: Final = (None, "int")  # types of what has a field
#: Reads what is not the user's own; False leaves it to the properties.
_READERS: Final[dict[str, Callable[[str, Message], bool]]] = {
    CORRELATION: _read_correlation,
    ENCODING: _read_encoding,
    TRANSACTION: _read_transaction,
    BORN_HOST: _read_born_host,
    PARTITION: _read_partition,
    EXPIRES: _read_expires,
    TTL: _read_ttl,
    QOS: _read_qos,
    DURABILITY: _read_durability,
    IDEMPOTENCY_KEY: _read_idempotency_key,
}
