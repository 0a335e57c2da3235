"""CBOR (RFC 8949) from and to clients: one item and nothing behind it, shallow, no key twice.

`cbor2` is imported when the first is there: not everybody's devices speak it, and start-up counts. What it
can make of tags besides numbers and times (patterns, addresses, arrays that contain themselves) is refused
here, so that nobody has to expect it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from io import BytesIO
from typing import Any, Final

from gateway.core.errors import InvalidValue

DEPTH_MAX: Final = 32  # of arrays and maps in each other: nothing here is deeper, decoders recurse
INT_MAX: Final = (1 << 64) - 1  # what CBOR has without bignums, which nobody here needs


def decode(data: bytes) -> Any:
    """Return the item: null, booleans, numbers, texts, bytes, times, arrays, maps by text or number.

    Raise InvalidValue: malformed, too deep, anything else in it, a key twice, or bytes behind it.
    """
    import cbor2

    source = BytesIO(data)
    try:
        found = cbor2.CBORDecoder(source, max_depth=DEPTH_MAX, allow_duplicate_keys=False).decode()
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise InvalidValue(f"not CBOR: {error}") from None
    if source.tell() != len(data):
        raise InvalidValue(f"not one item of CBOR: {len(data) - source.tell()} bytes are behind it")
    _check(found, 0)
    return found


def _check(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidValue(f"CBOR: arrays and maps may be nested {DEPTH_MAX} deep")
    if value is None or isinstance(value, bool | float | str | bytes | Decimal | datetime):
        return
    if isinstance(value, int):
        if not -INT_MAX - 1 <= value <= INT_MAX:
            raise InvalidValue("CBOR: a whole number has 64 bits")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise InvalidValue("CBOR: a key is a text or a number")
            _check(key, depth + 1)
            _check(item, depth + 1)
    else:
        raise InvalidValue(f"CBOR: {type(value).__name__} is of no use here")


def encode(value: Any) -> bytes:
    """Return a value of ours: maps, arrays, texts, bytes, numbers, times."""
    import cbor2

    return cbor2.dumps(value)


def at_time(seconds: float) -> Any:
    """Return what encodes as a time: seconds since 1970 under tag 1 (RFC 8949, 3.4.2)."""
    import cbor2

    return cbor2.CBORTag(1, seconds)
