"""Methods: the library's classes, read and written strictly.

The library knows every method's fields and their types. It reads past the end of what is too
short, and refuses names that RabbitMQ allows, so reading and writing them is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, cast

from pamqp import base, commands

from .errors import AmqpFault, Reply, SyntaxFault
from .tables import decode_table, encode_table

Method = base.Frame

INDEX: Final = Struct(">I")  # class and method
_NUMBERS: Final = {
    "octet": Struct(">B"),
    "short": Struct(">H"),
    "long": Struct(">I"),
    "longlong": Struct(">Q"),
}

#: Index of a method -> its class, names and types of its fields.
_FIELDS: Final[dict[int, tuple[type[Method], tuple[tuple[str, str], ...]]]] = {
    index: (kind, tuple((name, kind.amqp_type(name)) for name in kind.__slots__))
    for index, kind in cast("dict[int, Any]", commands.INDEX_MAPPING).items()
}


def decode_method(payload: bytes) -> Any:
    """Return the method of a method frame's payload. Raise AmqpFault."""
    if len(payload) < 4:
        raise SyntaxFault("a method frame without a method")
    index = INDEX.unpack_from(payload)[0]
    known = _FIELDS.get(index)
    if known is None:
        raise AmqpFault(Reply.NOT_IMPLEMENTED, f"there is no method {index >> 16}.{index & 0xFFFF}")
    kind, fields = known
    method = kind.__new__(kind)
    at, bit = 4, 0  # bits follow each other in one octet [4.2.5.2]
    for name, domain in fields:
        if domain == "bit":
            if at >= len(payload):
                raise SyntaxFault(f"{kind.name} ends before {name}")
            setattr(method, name, bool(payload[at] & 1 << bit))
            bit += 1
            continue
        if bit:
            at, bit = at + 1, 0
        value, at = _read(payload, at, domain, kind.name, name)
        setattr(method, name, value)
    if at + (bit > 0) != len(payload):
        raise SyntaxFault(f"{kind.name} has {len(payload) - at - (bit > 0)} bytes more than its fields")
    return method


def _read(payload: bytes, at: int, domain: str, method: str, name: str) -> tuple[Any, int]:
    number = _NUMBERS.get(domain)
    end = at
    value: Any = None
    if number is not None:
        end = at + number.size
        if end <= len(payload):
            value = number.unpack_from(payload, at)[0]
    elif domain == "shortstr":
        end = at + 1 + payload[at] if at < len(payload) else at + 1
        if end <= len(payload):
            value = _text(payload[at + 1 : end], method, name)
    elif domain == "longstr":
        end = at + 4
        if end <= len(payload):
            end += INDEX.unpack_from(payload, at)[0]
            value = payload[at + 4 : end]
    else:
        assert domain == "table", domain
        return decode_table(payload, at)
    if end > len(payload):
        raise SyntaxFault(f"{method} ends in {name}")
    return value, end


def _text(raw: bytes, method: str, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise SyntaxFault(f"{method}: {name} is no UTF-8") from error


def make(kind: Any, *values: Any) -> Any:
    """Return a method with values for its first fields, and nothing in the others.

    Not by the library's constructor: it refuses names that RabbitMQ allows.
    """
    method = kind.__new__(kind)
    for number, (name, domain) in enumerate(_FIELDS[kind.index][1]):
        setattr(method, name, values[number] if number < len(values) else _NOTHING[domain])
    return method


def encode_method(method: Any) -> bytes:
    """Return the payload of a method frame."""
    pieces = [INDEX.pack(method.index)]
    bits: list[bool] = []
    for name, domain in _FIELDS[method.index][1]:
        value = getattr(method, name)
        if domain == "bit":
            bits.append(bool(value))
            continue
        if bits:
            pieces.append(_pack_bits(bits))
            bits = []
        pieces.append(_WRITERS[domain](value))
    if bits:
        pieces.append(_pack_bits(bits))
    return b"".join(pieces)


_NOTHING: Final[dict[str, Any]] = {
    "octet": 0,
    "short": 0,
    "long": 0,
    "longlong": 0,
    "bit": False,
    "shortstr": "",
    "longstr": "",
    "table": {},
}


def _pack_bits(bits: list[bool]) -> bytes:
    return bytes((sum(1 << index for index, value in enumerate(bits) if value),))


def shortstr(text: str) -> bytes:
    """Return a short string; what is over 255 bytes is cut, as in a reply text."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > 255:
        raw = raw[:255].decode("utf-8", "ignore").encode()
    return bytes((len(raw),)) + raw


def _longstr(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return INDEX.pack(len(raw)) + raw


_WRITERS: Final[dict[str, Callable[[Any], bytes]]] = {
    **{domain: number.pack for domain, number in _NUMBERS.items()},
    "shortstr": shortstr,
    "longstr": _longstr,
    "table": lambda value: encode_table(value or {}),
}
