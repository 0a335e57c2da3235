"""Content-Format numbers and content types (RFC 7252, 12.3): the ones that devices use."""

from __future__ import annotations

from typing import Final

TYPES: Final = {
    0: "text/plain;charset=utf-8",
    40: "application/link-format",
    42: "application/octet-stream",
    50: "application/json",
    60: "application/cbor",
    110: "application/senml+json",
    112: "application/senml+cbor",
}
NUMBERS: Final = {name: number for number, name in TYPES.items()}


def content_type_of(number: int) -> str | None:
    """Return what a Content-Format is called, None if nobody knows it."""
    return TYPES.get(number)


def content_format_of(content_type: str | None) -> int:
    """Return the number of a content type, -1 if it has none."""
    if content_type is None:
        return -1
    return NUMBERS.get(content_type.lower().replace(" ", ""), -1)
