"""Digests, compression, times: known values, round trips, and what is refused."""

from __future__ import annotations

import gzip
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidValue, TooLarge
from gateway.rocketmq.numbers import DigestType
from gateway.rocketmq.payload import (
    compress,
    decompress,
    digest,
    is_intact,
    put_ms,
    to_delivery_ms,
    to_ms,
)


@pytest.mark.parametrize(
    ("kind", "checksum"),
    [
        (DigestType.CRC32, "CBF43926"),
        (DigestType.MD5, "25F9E794323B453885F5181F1B624D0B"),
        (DigestType.SHA1, "F7C3BC1D808E04732ADF679965CCC34CA7AE3441"),
    ],
)
def test_digests(kind: DigestType, checksum: str) -> None:
    assert digest(kind, b"123456789") == checksum
    assert is_intact(kind, checksum.lower(), b"123456789")
    assert not is_intact(kind, checksum, b"12345678")
    assert not is_intact(kind, "", b"123456789")


def test_leading_zeros_may_be_left_out() -> None:
    body = next(b"%d" % n for n in range(1000) if digest(DigestType.CRC32, b"%d" % n).startswith("0"))
    checksum = digest(DigestType.CRC32, body)
    assert len(checksum) == 8
    assert is_intact(DigestType.CRC32, checksum.lstrip("0"), body)


@pytest.mark.parametrize("kind", [DigestType.DIGEST_TYPE_UNSPECIFIED, 99])
def test_other_digests_are_refused(kind: int) -> None:
    with pytest.raises(InvalidValue):
        is_intact(kind, "", b"")


@given(st.binary(max_size=2000))
def test_what_is_compressed_comes_back(body: bytes) -> None:
    assert decompress(compress(body), len(body)) == body
    assert gzip.decompress(compress(body)) == body
    assert decompress(zlib.compress(body), len(body)) == body


@pytest.mark.parametrize("body", [b"", b"text", compress(b"text")[:-1], compress(b"text") + b"x"])
def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidValue):
        decompress(body, 1000)


def test_a_bomb_does_not_go_off() -> None:
    with pytest.raises(TooLarge):
        decompress(compress(bytes(1_000_001)), 1_000_000)


@given(st.integers(0, 253_402_300_799_999))
def test_times_come_back(ms: int) -> None:
    time = SimpleNamespace(seconds=0, nanos=0)
    put_ms(time, ms)
    assert 0 <= time.nanos < 1_000_000_000
    assert to_ms(time) == ms
    assert to_delivery_ms(time) == ms


def test_milliseconds_in_place_of_seconds() -> None:
    assert to_delivery_ms(SimpleNamespace(seconds=1_790_000_000_123, nanos=0)) == 1_790_000_000_123
