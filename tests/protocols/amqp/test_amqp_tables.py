"""Field tables: every type, there and back, against the library's (pamqp), and what lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode

from gateway.protocols.amqp.errors import Reply, SyntaxFault
from gateway.protocols.amqp.tables import DEPTH_MAX, decode_table, encode_table
from tests.protocols.amqp.codec_cases import BAD_TABLES, nested, table_of

VALUES: list[tuple[bytes, Any]] = [
    (b"t\x00", False),
    (b"t\x01", True),
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xfe", -2),
    (b"u\xff\xfe", 65_534),
    (b"I\xff\xff\xff\xfe", -2),
    (b"i\xff\xff\xff\xfe", (1 << 32) - 2),
    (b"l" + b"\xff" * 8, -1),
    (b"L" + b"\xff" * 8, -1),
    (b"f\x3f\xc0\x00\x00", 1.5),
    (b"d" + pack(">d", 0.1), 0.1),
    (b"D\x02\xff\xff\xff\x85", Decimal("-1.23")),
    (b"T" + pack(">Q", 1_769_860_800), datetime(2026, 1, 31, 12, tzinfo=UTC)),
    (b"S\x00\x00\x00\x02\xc3\xa9", "é"),
    (b"S\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
    (b"S\x00\x00\x00\x00", ""),
    (b"x\x00\x00\x00\x02hi", b"hi"),
    (b"V", None),
    (b"\x00", None),
    (b"A\x00\x00\x00\x04t\x01VV", [True, None, None]),
    (b"A\x00\x00\x00\x00", []),
    (b"F\x00\x00\x00\x04\x02abV", {"ab": None}),
    (b"F\x00\x00\x00\x00", {}),
]


@pytest.mark.parametrize(("data", "value"), VALUES)
def test_every_type_is_read_as_the_library_reads_it(data: bytes, value: Any) -> None:
    table = table_of(data)
    assert decode_table(b"\xff" + table + b"\xff", 1) == ({"k": value}, 1 + len(table))
    assert decode.field_table(table)[1] == {"k": value}
    assert type(decode_table(table)[0]["k"]) is type(value)


seconds = st.integers(0, 4_000_000_000).map(lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
decimals = st.builds(
    lambda n, scale: Decimal(n).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), st.integers(0, 20)
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | decimals
scalars = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=9) | seconds
field_names = st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(field_names, inner, max_size=4)
)
tables = st.dictionaries(field_names, values, max_size=6)


@given(table=tables)
def test_what_is_written_is_read_here_and_by_the_library(table: dict[str, Any]) -> None:
    data = encode_table(table)
    assert decode_table(data) == (table, len(data))
    assert decode.field_table(data) == (len(data), table)


#: Value -> what it is afterwards.
CHANGED: list[tuple[Any, Any]] = [
    (1 << 63, "9223372036854775808"),
    (-(1 << 63) - 1, "-9223372036854775809"),
    (Decimal("1E+3"), "1E+3"),
    (Decimal("NaN"), "NaN"),
    (Decimal("2147483648"), "2147483648"),
    (Decimal("1E-256"), "1E-256"),
    (datetime(1969, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
    (datetime(1970, 1, 1, 0, 0, 1, 999_999, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ((1, "b"), [1, "b"]),
    (bytearray(b"x"), b"x"),
    ("\ud800", "?"),
]


@pytest.mark.parametrize(("value", "after"), CHANGED)
def test_what_no_type_holds_becomes_text(value: Any, after: Any) -> None:
    assert decode_table(encode_table({"k": value}))[0] == {"k": after}


@pytest.mark.parametrize(
    ("value", "start"),
    [(1, b"I"), (-(1 << 31), b"I"), (1 << 31, b"l"), (0.5, b"d"), (b"", b"x"), (True, b"t")],
)
def test_types_that_every_client_knows_are_written(value: Any, start: bytes) -> None:
    assert encode_table({"": value})[5:6] == start


def test_a_name_is_cut_and_an_object_is_no_field() -> None:
    assert decode_table(encode_table({"n" * 300: 1}))[0] == {"n" * 255: 1}
    with pytest.raises(TypeError, match="object"):
        encode_table({"k": object()})


def test_tables_may_be_nested() -> None:
    for kind in (b"F", b"A"):
        decode_table(nested(DEPTH_MAX, kind))


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in BAD_TABLES])
def test_tables_that_lie_are_refused(data: bytes) -> None:
    for start in (0, 3):
        with pytest.raises(SyntaxFault) as caught:
            decode_table(bytes(start) + data, start)
        assert caught.value.code == Reply.SYNTAX_ERROR


@given(table=tables, data=st.data())
def test_a_table_that_is_cut_is_refused(table: dict[str, Any], data: st.DataObject) -> None:
    whole = encode_table(table)
    with pytest.raises(SyntaxFault):
        decode_table(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(table=tables, claimed=st.integers(0, 400))
def test_a_table_ends_where_it_says_or_is_refused(table: dict[str, Any], claimed: int) -> None:
    data = pack(">I", claimed) + encode_table(table)[4:]
    try:
        _, end = decode_table(data)
    except SyntaxFault:
        return
    assert end == 4 + claimed <= len(data)
