"""Field tables [AMQP 0-9-1, 4.2.5.5], with the types as RabbitMQ and its clients have them.

Not the library's: it writes floats with 32 bits and short integers as a type that py-amqp (so
Celery) takes for a string, and reads on where a table says it is shorter than its fields.

| type | here | | type | here |
|---|---|---|---|---|
| `t` | bool | | `S` | str (bytes, if it is no UTF-8) |
| `b B s u I i l L` | int | | `x` | bytes |
| `f d` | float | | `T` | datetime, UTC, whole seconds |
| `D` | Decimal | | `A`, `F` | list, dict |
| `V` | None | | | |
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct, error
from typing import Any, Final

from .errors import SyntaxFault

Table = dict[str, Any]

DEPTH_MAX: Final = 32  # of tables in tables: more is an attack
NAME_BYTES_MAX: Final = 255

_LONG: Final = Struct(">I")
_DECIMAL: Final = Struct(">Bi")
_STAMP: Final = Struct(">Q")
_INT: Final = Struct(">i")
_INT64: Final = Struct(">q")
_DOUBLE: Final = Struct(">d")
_FIXED: Final = {
    ord("b"): Struct(">b"),
    ord("B"): Struct(">B"),
    ord("s"): Struct(">h"),
    ord("u"): Struct(">H"),
    ord("I"): Struct(">i"),
    ord("i"): Struct(">I"),
    ord("l"): Struct(">q"),
    ord("L"): Struct(">q"),  # RabbitMQ's clients: signed, whatever the standard's table says
    ord("f"): Struct(">f"),
    ord("d"): Struct(">d"),
}


# -- reading ------------------------------------------------------------------------------------


def decode_table(data: bytes, start: int = 0) -> tuple[Table, int]:
    """Return (table, where it ends). Raise SyntaxFault."""
    try:
        return _table(data, start, len(data), 0)
    except (error, IndexError, ValueError, OverflowError, OSError) as fault:
        raise SyntaxFault(f"a field table cannot be read: {fault}") from fault


def _table(data: bytes, start: int, limit: int, depth: int) -> tuple[Table, int]:
    at, end = _extent(data, start, limit, depth)
    found: Table = {}
    while at < end:
        name_end = at + 1 + data[at]
        if name_end >= end:
            raise SyntaxFault("a field table is shorter than its fields")
        name = data[at + 1 : name_end].decode("utf-8", "replace")
        found[name], at = _value(data, name_end, end, depth)
    return found, end


def _array(data: bytes, start: int, limit: int, depth: int) -> tuple[list[Any], int]:
    at, end = _extent(data, start, limit, depth)
    found: list[Any] = []
    while at < end:
        item, at = _value(data, at, end, depth)
        found.append(item)
    return found, end


def _extent(data: bytes, start: int, limit: int, depth: int) -> tuple[int, int]:
    """Return where a length-prefixed thing begins and ends."""
    begin = start + 4
    if begin > limit:
        raise SyntaxFault("a field table ends in a length")
    end = begin + _LONG.unpack_from(data, start)[0]
    if end > limit:
        raise SyntaxFault("a field table says it is longer than what holds it")
    if depth > DEPTH_MAX:
        raise SyntaxFault(f"field tables may be nested {DEPTH_MAX} deep")
    return begin, end


def _value(data: bytes, at: int, limit: int, depth: int) -> tuple[Any, int]:
    kind, at = data[at], at + 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        value, end = fixed.unpack_from(data, at)[0], at + fixed.size
    else:
        read = _READERS.get(kind)
        if read is None:
            raise SyntaxFault(f"a field table has a value of type {chr(kind)!r}, which does not exist")
        value, end = read(data, at, limit, depth + 1)
    if end > limit:
        raise SyntaxFault("a field table is shorter than its fields")
    return value, end


def _bool(data: bytes, at: int, limit: int, depth: int) -> tuple[bool, int]:
    return data[at] != 0, at + 1


def _void(data: bytes, at: int, limit: int, depth: int) -> tuple[None, int]:
    return None, at


def _bytes(data: bytes, at: int, limit: int, depth: int) -> tuple[bytes, int]:
    begin, end = _extent(data, at, limit, 0)
    return data[begin:end], end


def _text(data: bytes, at: int, limit: int, depth: int) -> tuple[str | bytes, int]:
    raw, end = _bytes(data, at, limit, depth)
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return raw, end


def _stamp(data: bytes, at: int, limit: int, depth: int) -> tuple[datetime, int]:
    return datetime.fromtimestamp(_STAMP.unpack_from(data, at)[0], UTC), at + 8


def _decimal(data: bytes, at: int, limit: int, depth: int) -> tuple[Decimal, int]:
    scale, mantissa = _DECIMAL.unpack_from(data, at)
    return Decimal(mantissa).scaleb(-scale), at + 5


_READERS: Final[dict[int, Callable[[bytes, int, int, int], tuple[Any, int]]]] = {
    ord("t"): _bool,
    ord("S"): _text,
    ord("x"): _bytes,
    ord("T"): _stamp,
    ord("D"): _decimal,
    ord("A"): _array,
    ord("F"): _table,
    ord("V"): _void,
    0: _void,
}


# -- writing --------------------------------------------------------------------------------------


def encode_table(table: Table) -> bytes:
    """Return a table, length included. Names over 255 bytes are cut."""
    pieces: list[bytes] = []
    for name, value in table.items():
        encoded = name.encode("utf-8", "replace")[:NAME_BYTES_MAX]
        pieces += (bytes((len(encoded),)), encoded, encode_value(value))
    body = b"".join(pieces)
    return _LONG.pack(len(body)) + body


def encode_value(value: Any) -> bytes:
    """Return a value with its type. What no type holds becomes text."""
    if isinstance(value, str):
        return _sized(b"S", value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"d" + _DOUBLE.pack(value)
    if isinstance(value, bytes | bytearray):
        return _sized(b"x", bytes(value))
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, list | tuple):
        return _sized(b"A", b"".join(encode_value(item) for item in value))
    if isinstance(value, datetime):
        return b"T" + _STAMP.pack(max(0, int(value.timestamp())))
    if isinstance(value, Decimal):
        return _write_decimal(value)
    if value is None:
        return b"V"
    raise TypeError(f"no field of a table can be a {type(value).__name__}")


def _integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"I" + _INT.pack(value)
    if -(1 << 63) <= value < 1 << 63:
        return b"l" + _INT64.pack(value)
    return _sized(b"S", str(value).encode())


def _write_decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -255 <= exponent <= 0:
        mantissa = int(value.scaleb(-exponent))
        if -(1 << 31) <= mantissa < 1 << 31:
            return b"D" + _DECIMAL.pack(-exponent, mantissa)
    return _sized(b"S", str(value).encode())


def _sized(kind: bytes, data: bytes) -> bytes:
    return b"".join((kind, _LONG.pack(len(data)), data))
