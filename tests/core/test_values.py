"""Values of headers as a text and the name of its kind, for doors whose properties are texts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.core.values import from_text, to_text

VALUES: list[tuple[Any, str, str]] = [
    ("text", "text", ""),
    ("", "", ""),
    (True, "true", "bool"),
    (False, "false", "bool"),
    (-(1 << 63), "-9223372036854775808", "int"),
    (1.5, "1.5", "float"),
    (float("inf"), "inf", "float"),
    (b"\0\xff", "AP8=", "bytes"),
    (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00", "timestamp"),
    (Decimal("1.50"), "1.50", "decimal"),
    (None, "", "null"),
    ([1, b"a", {"$x": None}], '[1, {"$base64": "YQ=="}, {"$map": {"$x": null}}]', "json"),
    ({}, "{}", "json"),
]


@pytest.mark.parametrize(("value", "text", "kind"), VALUES, ids=range(len(VALUES)))
def test_a_value_is_a_text_and_comes_back(value: Any, text: str, kind: str) -> None:
    assert to_text(value) == (text, kind)
    found = from_text(text, kind)
    assert (found, type(found)) == (value, type(value))


STRANGE = [
    ("x", "int"),
    (str(1 << 63), "int"),
    ("9" * 5000, "int"),
    ("x", "float"),
    ("=", "bytes"),
    ("2026-01-31T12:00:00", "timestamp"),
    ("x", "decimal"),
    ("{", "json"),
    ("[" * 100_000, "json"),
    ('{"$base64": "="}', "json"),
    ("x", "somebody's own"),
    ("x", None),
]


@pytest.mark.parametrize(("text", "kind"), STRANGE, ids=range(len(STRANGE)))
def test_what_does_not_fit_its_kind_stays_a_text(text: str, kind: str | None) -> None:
    assert from_text(text, kind) == text
