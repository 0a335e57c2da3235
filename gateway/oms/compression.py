"""Data that was compressed on its way: applications get it as it was sent (`Header.compression`)."""

from __future__ import annotations

import zlib
from typing import Final

from .errors import OMSMessageFormatError, ResponseStatus

PLAIN_BYTES_MAX: Final = 64 << 20  # of what was compressed: more is an attack, or a mistake


def plain(data: bytes) -> bytes:
    """Undo gzip; what is none stays as it is: its sender may have meant something else.

    Raise OMSMessageFormatError for what is too large.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        found = inflate.decompress(data, PLAIN_BYTES_MAX)
    except zlib.error:
        return data
    if inflate.unconsumed_tail:
        raise OMSMessageFormatError(
            f"compressed data is more than {PLAIN_BYTES_MAX} bytes", ResponseStatus.BODY_TOO_LARGE
        )
    return found
