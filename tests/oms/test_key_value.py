"""KeyValue: a mapping with typed getters."""

from __future__ import annotations

import pytest

from gateway.oms import KeyValue, OMSMessageFormatError
from gateway.oms.key_value import attributes_of


def test_it_is_a_mapping_in_order() -> None:
    values = KeyValue({"a": 1}, b="two").put("c", b"3").put("d", True)
    assert list(values.items()) == [("a", 1), ("b", "two"), ("c", b"3"), ("d", True)]
    assert values == {"a": 1, "b": "two", "c": b"3", "d": True}
    del values["a"]
    assert "a" not in values
    assert len(values) == 3


def test_missing_is_false_zero_or_none() -> None:
    values = KeyValue()
    assert values.get_boolean("x") is False
    assert values.get_int("x") == values.get_short("x") == values.get_long("x") == 0
    assert values.get_double("x") == 0.0
    assert values.get_string("x") is None
    assert values.get_bytes("x") is None
    assert values.get_int("x", 7) == 7
    assert values.get_string("x", "y") == "y"


def test_getters_convert() -> None:
    values = KeyValue(n="17", f="1.5", yes="TRUE", no="off", blob=b"\xc3\xa4", flag=True)
    assert values.get_int("n") == 17
    assert values.get_double("f") == 1.5
    assert values.get_boolean("yes") is True
    assert values.get_boolean("no") is False
    assert values.get_string("blob") == "ä"
    assert values.get_string("flag") == "true"
    assert values.get_bytes("n") == b"17"


@pytest.mark.parametrize("getter", ["get_int", "get_double", "get_boolean"])
def test_what_cannot_be_converted_is_refused(getter: str) -> None:
    with pytest.raises(OMSMessageFormatError):
        getattr(KeyValue(x="word"), getter)("x")


@pytest.mark.parametrize("value", [None, [], {}, object()])
def test_only_text_bytes_and_numbers(value: object) -> None:
    with pytest.raises(OMSMessageFormatError):
        KeyValue().put("x", value)  # type: ignore[arg-type]


def test_attributes_are_upper_case_and_later_ones_win() -> None:
    assert attributes_of({"consumer_id": "a", "REGION": "r"}, None, {"CONSUMER_ID": "b"}) == {
        "CONSUMER_ID": "b",
        "REGION": "r",
    }
