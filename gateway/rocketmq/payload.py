"""Bodies and times as the protocol has them: digests, gzip, and seconds with nanoseconds.

A digest is of the body as it travels, compressed if it is. Times are milliseconds everywhere but on the wire.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Final, Protocol

from gateway.core.errors import InvalidValue, TooLarge

from .numbers import DigestType

#: The last second of the year 9999, the last that a Timestamp has: the Python client writes milliseconds
#: where seconds belong, and so says its documentation.
SECONDS_MAX: Final = 253_402_300_799
#: zlib looks at the first bytes: gzip, or what RocketMQ's own broker stores as "compressed".
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
_GZIP: Final = zlib.MAX_WBITS | 16
_GZIP_LEVEL: Final = 5  # RocketMQ's own


class Time(Protocol):
    """A Timestamp, or a Duration."""

    seconds: int
    nanos: int


_DIGESTS: Final[dict[int, Callable[[bytes], str]]] = {
    DigestType.CRC32: lambda body: f"{zlib.crc32(body):08X}",
    DigestType.MD5: lambda body: hashlib.md5(body, usedforsecurity=False).hexdigest().upper(),
    DigestType.SHA1: lambda body: hashlib.sha1(body, usedforsecurity=False).hexdigest().upper(),
}
_DIGITS: Final[dict[int, int]] = {DigestType.CRC32: 8, DigestType.MD5: 32, DigestType.SHA1: 40}


def digest(kind: int, body: bytes) -> str:
    """Return the digest of a body in upper case. Raise InvalidValue for a kind that there is not."""
    function = _DIGESTS.get(kind)
    if function is None:
        raise InvalidValue(f"a digest is of type CRC32, MD5 or SHA1, not {kind}")
    return function(body)


def is_intact(kind: int, checksum: str, body: bytes) -> bool:
    """Tell whether a body has that digest, in either case; some clients leave out leading zeros.

    Raise InvalidValue for a kind that there is not.
    """
    return digest(kind, body) == checksum.upper().zfill(_DIGITS.get(kind, 0))


def compress(body: bytes) -> bytes:
    """Return a body by gzip."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


def decompress(body: bytes, bytes_max: int) -> bytes:
    """Return what was compressed, by gzip or by zlib. Raise InvalidValue if it was not, or TooLarge."""
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        # one byte more than is allowed: that a few bytes may stand for gigabytes is known by then
        plain = unpacker.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise InvalidValue("the body is no gzip") from error
    if len(plain) > bytes_max:
        raise TooLarge(f"the body is more than {bytes_max} bytes without its compression")
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidValue("the body is no gzip from its beginning to its end")
    return plain


def to_ms(time: Time) -> int:
    """Return a Timestamp, or a Duration, as milliseconds."""
    return time.seconds * 1000 + time.nanos // 1_000_000


def to_delivery_ms(time: Time) -> int:
    """Return when a message is to be delivered, also by a client that writes milliseconds as seconds."""
    return time.seconds if time.seconds > SECONDS_MAX else to_ms(time)


def put_ms(time: Time, ms: int) -> None:
    """Write milliseconds into a Timestamp, or a Duration."""
    time.seconds, rest = divmod(ms, 1000)
    time.nanos = rest * 1_000_000
