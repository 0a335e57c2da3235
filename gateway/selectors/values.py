"""How values compare while messages go by: what the generated code calls where it cannot be quick.

None is unknown, or NULL. Nothing here raises. The rules are in `sql92`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

NUMBER_CHARS_MAX: Final = 40  # of a text that may be a number; the longest double has 24
NUMBERS_CACHED_MAX: Final = 10_000  # texts read as numbers: fleets send the same ones again and again
INT_MIN: Final = -(1 << 63)  # what a calculation may give
INT_MAX: Final = (1 << 63) - 1

Number = int | float

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

#: Comparison -> what `order` returns if it is true.
ORDERS: Final = {
    "<": frozenset((-1,)),
    "<=": frozenset((-1, 0)),
    ">": frozenset((1,)),
    ">=": frozenset((0, 1)),
}


@lru_cache(NUMBERS_CACHED_MAX)
def _written(text: str) -> Number | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        found = float(text)
        return found if math.isfinite(found) else None


def number(value: Any) -> Number | None:
    """Return a value as a number, or None if it is none, nor written like one."""
    if isinstance(value, str):
        return _written(value) if len(value) <= NUMBER_CHARS_MAX else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if value == value else None  # NaN is nothing that compares
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, Decimal) and value.is_finite():
        whole = value.to_integral_value() == value and abs(value.adjusted()) < NUMBER_CHARS_MAX
        return int(value) if whole else float(value)
    return None


def text(value: Any) -> str | None:
    """Return a value as a text, or None if it cannot be written as one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= NUMBER_CHARS_MAX * 4 else None
    return str(value) if isinstance(value, float | Decimal) else None


def truth(value: Any) -> bool | None:
    """Return a value as true or false, None if it is neither."""
    if isinstance(value, bool):
        return value
    return _TRUTHS.get(value.lower()) if isinstance(value, str) and len(value) <= 5 else None


_TRUTHS: Final = {"true": True, "false": False}


def equal(left: Any, right: Any) -> bool | None:
    """Tell whether two values are equal; None if one of them is NULL, or compares with nothing."""
    if left is None or right is None:
        return None
    if isinstance(left, bool) or isinstance(right, bool):
        one, other = truth(left), truth(right)
        if one is not None and other is not None:
            return one is other
        return None if text(left) is None or text(right) is None else False
    x, y = number(left), number(right)
    if x is not None and y is not None:
        return x == y
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return False if _compares(left, x) and _compares(right, y) else None


def _compares(value: Any, as_number: Number | None) -> bool:
    return as_number is not None or isinstance(value, str)


def order(left: Any, right: Any) -> int | None:
    """Return -1, 0 or 1; None if the two have no order."""
    x, y = number(left), number(right)
    if x is not None and y is not None:
        return (x > y) - (x < y)
    if x is None and y is None and isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    return None


def within(value: Any, texts: frozenset[str], numbers: frozenset[Number]) -> bool | None:
    """Tell whether a value is in a list; texts that are written like numbers are among the numbers."""
    if value is None:
        return None
    found = number(value)
    if found is not None:
        return found in numbers
    if isinstance(value, bool):
        return any(truth(one) is value for one in texts)
    return value in texts if isinstance(value, str) else None


def utf8(value: bytes | None) -> str | None:
    """Return bytes as the text that they are, or None."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def negative(value: Any) -> Number | None:
    """Return minus a number."""
    found = number(value)
    return None if found is None else _kept(-found)


def calculate(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Number | None:
    """Return the result of an operation of `OPERATIONS`, or None if it has none."""
    x, y = number(left), number(right)
    if x is None or y is None:
        return None
    try:
        return _kept(operation(x, y))
    except (ZeroDivisionError, OverflowError):
        return None


def _kept(result: Number) -> Number | None:
    if isinstance(result, int):
        return result if INT_MIN <= result <= INT_MAX else None
    return result if math.isfinite(result) else None


def _divided(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)  # towards zero, as SQL and Java have it
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
}
