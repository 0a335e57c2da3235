"""SASLprep (RFC 4013): one spelling for what looks the same, before it is hashed or looked up."""

from __future__ import annotations

import stringprep
import unicodedata
from collections.abc import Callable

#: What must not be in a prepared text (RFC 4013, 2.3).
_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, stored: bool = False) -> str:
    """Return the text prepared. Raise ValueError, never with the text, if it cannot be.

    What is `stored` must have only characters that Unicode 3.2 knows, what is asked for may have
    others (RFC 3454, 7).
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for one in prepared:
        if any(prohibited(one) for prohibited in _PROHIBITED):
            raise ValueError("it has a character that is not allowed (RFC 4013, 2.3)")
        if stored and stringprep.in_table_a1(one):
            raise ValueError("it has a character that Unicode 3.2 does not know (RFC 4013, 2.5)")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """Check text from right to left (RFC 3454, 6)."""
    if not any(stringprep.in_table_d1(one) for one in text):
        return
    if any(stringprep.in_table_d2(one) for one in text):
        raise ValueError("it mixes characters written from left and from right (RFC 4013, 2.4)")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("it is written from right to left, but not at its ends (RFC 4013, 2.4)")
