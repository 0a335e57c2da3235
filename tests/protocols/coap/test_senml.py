"""SenML: the examples of RFC 8428, 5 and 6, resolved; and packs that are none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTopic, InvalidValue
from gateway.protocols.coap.content.formats import SENML_CBOR, SENML_JSON
from gateway.protocols.coap.content.senml import LABELS, RECORDS_MAX, read
from gateway.protocols.coap.content.splitting import BODY_BYTES_MAX, Part, Rule, read_rules, rule_for, split

NOW = 1_700_000_000.0
ONE_WIRE = "urn:dev:ow:10e2073a01080063"

#: RFC 8428, 5.1.1 to 5.1.7, and what each means: (name, time, the other fields).
EXAMPLES: list[tuple[str, list[dict[str, Any]], list[tuple[str, float, dict[str, Any]]]]] = [
    (
        "5.1.1",
        [{"n": ONE_WIRE, "u": "Cel", "v": 23.1}],
        [(ONE_WIRE, NOW, {"u": "Cel", "v": 23.1})],
    ),
    (
        "5.1.2, now",
        [{"bn": ONE_WIRE + ":", "n": "voltage", "u": "V", "v": 120.1}, {"n": "current", "u": "A", "v": 1.2}],
        [
            (ONE_WIRE + ":voltage", NOW, {"u": "V", "v": 120.1}),
            (ONE_WIRE + ":current", NOW, {"u": "A", "v": 1.2}),
        ],
    ),
    (
        "5.1.2, with a base time, a base unit and an old version",
        [
            {
                "bn": "urn:dev:ow:10e2073a0108006:",
                "bt": 1.276020076001e09,
                "bu": "A",
                "bver": 5,
                "n": "voltage",
                "u": "V",
                "v": 120.1,
            },
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "current", "t": -4, "v": 1.3},
            {"n": "current", "v": 1.7},
        ],
        [
            ("urn:dev:ow:10e2073a0108006:voltage", 1276020076.001, {"bver": 5, "u": "V", "v": 120.1}),
            ("urn:dev:ow:10e2073a0108006:current", 1276020071.001, {"bver": 5, "u": "A", "v": 1.2}),
            ("urn:dev:ow:10e2073a0108006:current", 1276020072.001, {"bver": 5, "u": "A", "v": 1.3}),
            ("urn:dev:ow:10e2073a0108006:current", 1276020076.001, {"bver": 5, "u": "A", "v": 1.7}),
        ],
    ),
    (
        "5.1.3, resolved as in 5.1.4",
        [
            {"bn": ONE_WIRE, "bt": 1.320067464e09, "bu": "%RH", "v": 20},
            {"u": "lon", "v": 24.30621},
            {"u": "lat", "v": 60.07965},
            {"t": 60, "v": 20.3},
            {"u": "lon", "t": 60, "v": 24.30622},
            {"u": "%EL", "t": 150, "v": 98},
        ],
        [
            (ONE_WIRE, 1320067464, {"u": "%RH", "v": 20}),
            (ONE_WIRE, 1320067464, {"u": "lon", "v": 24.30621}),
            (ONE_WIRE, 1320067464, {"u": "lat", "v": 60.07965}),
            (ONE_WIRE, 1320067524, {"u": "%RH", "v": 20.3}),
            (ONE_WIRE, 1320067524, {"u": "lon", "v": 24.30622}),
            (ONE_WIRE, 1320067614, {"u": "%EL", "v": 98}),
        ],
    ),
    (
        "5.1.5",
        [
            {"bn": ONE_WIRE + ":", "n": "temp", "u": "Cel", "v": 23.1},
            {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False},
            {"n": "nfc-reader", "vd": "aGkgCg"},
        ],
        [
            (ONE_WIRE + ":temp", NOW, {"u": "Cel", "v": 23.1}),
            (ONE_WIRE + ":label", NOW, {"vs": "Machine Room"}),
            (ONE_WIRE + ":open", NOW, {"vb": False}),
            (ONE_WIRE + ":nfc-reader", NOW, {"vd": b"hi \n"}),
        ],
    ),
    (
        "5.1.6",
        [
            {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
            {"n": "humidity", "u": "%RH", "v": 30},
            {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
            {"n": "humidity", "u": "%RH", "v": 67},
        ],
        [
            ("2001:db8::2/temperature", 1320078429, {"u": "Cel", "v": 25.2}),
            ("2001:db8::2/humidity", 1320078429, {"u": "%RH", "v": 30}),
            ("2001:db8::1/temperature", 1320078429, {"u": "Cel", "v": 12.3}),
            ("2001:db8::1/humidity", 1320078429, {"u": "%RH", "v": 67}),
        ],
    ),
    (
        "base value and base sum",
        [{"bn": "a/", "bv": 20, "bs": 100, "n": "x", "v": 0.5}, {"n": "y", "v": -1, "s": 7}, {"n": "z"}],
        [
            ("a/x", NOW, {"v": 20.5, "s": 100}),
            ("a/y", NOW, {"v": 19, "s": 107}),
            ("a/z", NOW, {"v": 20, "s": 100}),
        ],
    ),
    (
        "a sum alone, an extension, the time of the next update, a record that only sets a base",
        [{"bn": "dev/"}, {"n": "e", "s": 12, "ut": 60, "x-q": "good"}],
        [("dev/e", NOW, {"s": 12, "x-q": "good", "ut": 60})],
    ),
    (
        "RFC 9193: what the data is",
        [{"bn": "a", "bct": "60", "vd": "oA"}, {"vd": "oA", "ct": "112"}, {"vs": "text"}],
        [
            ("a", NOW, {"vd": b"\xa0", "ct": "60"}),
            ("a", NOW, {"vd": b"\xa0", "ct": "112"}),
            ("a", NOW, {"vs": "text"}),
        ],
    ),
    (
        "relative and absolute times: 2**28 is absolute (4.5.3)",
        [
            {"n": "a", "t": (1 << 28) - 1, "v": 1},
            {"n": "a", "t": 1 << 28, "v": 2},
            {"n": "a", "t": -10, "v": 3},
        ],
        [("a", NOW + (1 << 28) - 1, {"v": 1}), ("a", 1 << 28, {"v": 2}), ("a", NOW - 10, {"v": 3})],
    ),
]


def to_cbor(pack: list[dict[str, Any]]) -> bytes:
    """Return a pack of JSON's labels in CBOR."""
    converted = []
    for record in pack:
        fields = {LABELS.get(label, label): value for label, value in record.items()}
        if 8 in fields:
            text = fields[8]
            fields[8] = __import__("base64").urlsafe_b64decode(text + "=" * (-len(text) % 4))
        converted.append(fields)
    return cbor2.dumps(converted)


@pytest.mark.parametrize("content_format", [SENML_JSON, SENML_CBOR])
@pytest.mark.parametrize(
    ("pack", "found"), [case[1:] for case in EXAMPLES], ids=[case[0] for case in EXAMPLES]
)
def test_examples(
    pack: list[dict[str, Any]], found: list[tuple[str, float, dict[str, Any]]], content_format: int
) -> None:
    payload = json.dumps(pack).encode() if content_format == SENML_JSON else to_cbor(pack)
    records = read(payload, content_format, NOW)
    assert [record.name for record in records] == [name for name, _, _ in found]
    assert [record.time for record in records] == [pytest.approx(time, abs=1e-5) for _, time, _ in found]
    for record, (name, _, fields) in zip(records, found, strict=True):
        assert record.fields == {"n": name, "t": record.time, **fields}


def test_the_dump_of_the_rfc() -> None:
    """RFC 8428, 6: the first record and a half of the example's dump."""
    dump = bytes.fromhex(
        "82"
        "a721781b75726e3a6465763a6f773a3130653230373361303130383030363a"
        "22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e066666666666"
        "a3006763757272656e74062402fb3ff3333333333333"
    )
    first, second = read(dump, SENML_CBOR, NOW)
    assert (first.name, first.fields["v"], first.fields["u"]) == (
        "urn:dev:ow:10e2073a0108006:voltage",
        120.1,
        "V",
    )
    assert (second.name, second.fields["v"], second.fields["u"]) == (
        "urn:dev:ow:10e2073a0108006:current",
        1.2,
        "A",
    )
    assert second.time == pytest.approx(1276020071.001)


def test_decimal_fractions_and_versions_with_features() -> None:
    (record,) = read(cbor2.dumps([{0: "a", 2: Decimal("271.15"), -1: 26}]), SENML_CBOR, NOW)
    assert record.fields == {"n": "a", "bver": 26, "v": 271.15, "t": NOW}


BAD_JSON = [
    (b"", "not JSON"),
    (b"{}", "an array"),
    (b"[]", "an array"),
    (b"[1]", "record 1: a map"),
    (b"\xff", "not JSON"),
    (b"[" * 5000, "not JSON"),
    (b'[{"n":"a","v":1e999}]', "not JSON"),
    (b'[{"n":"a","v":NaN}]', "not JSON"),
    (b'[{"n":"a","v":1},{"n":"b"}]', "record 2: no value"),
    (b'[{"n":"a","v":1,"vs":"x"}]', "record 1: more than one"),
    (b'[{"n":"a","v":"1"}]', "v: a number"),
    (b'[{"n":"a","v":true}]', "v: a number"),
    (b'[{"n":"a","vb":1}]', "vb: true or false"),
    (b'[{"n":"a","vs":1}]', "vs: a text"),
    (b'[{"n":"a","vd":"a"}]', "vd: base64"),
    (b'[{"n":"a","vd":"a+b/"},{"n":"a","vd":"!"}]', "record 2: vd: base64"),
    (b'[{"n":7,"v":1}]', "n: a text"),
    (b'[{"v":1}]', "name ''"),
    (b'[{"n":"a+b","v":1}]', "name 'a+b'"),
    (b'[{"n":"a/#","v":1}]', "name 'a/#'"),
    (b'[{"bn":"$sys/","n":"a","v":1}]', "name '$sys/a'"),
    (b'[{"bn":"/","n":"a","v":1}]', "name '/a'"),
    (b'[{"n":"a b","v":1}]', "name 'a b'"),
    (b'[{"n":"a\\n","v":1}]', "name"),
    (b'[{"n":"\xc3\xbc","v":1}]', "name"),
    (b'[{"n":"a","v":1,"important_":1}]', "must be understood"),
    (b'[{"n":"a","v":1,"other":{}}]', "'other'"),
    (b'[{"bver":11,"n":"a","v":1}]', "bver is 11"),
    (b'[{"bver":0,"n":"a","v":1}]', "bver: a positive"),
    (b'[{"bver":5.0,"n":"a","v":1}]', "bver: a positive"),
    (b'[{"bver":5,"n":"a","v":1},{"bver":10,"n":"a","v":1}]', "record 2: bver is 10, and was 5"),
    (b'[{"n":"a","v":1,"t":1e300}]', "its time"),
    (b'[{"n":"a","bv":1e308,"v":1e308}]', "more than a number"),
    (b'[{"n":"a","t":"now","v":1}]', "t: a number"),
]
BAD_CBOR = [
    (b"", "not CBOR"),
    (b"\x80", "an array"),
    (b"\x81\xa1\x00\x61a\x00", "behind"),
    (b"\x81\xa2\x00\x61a\x00\x61b", "not CBOR"),
    (b"\x81\xa2\x00\x61a\x08\x61b", "vd: bytes"),
    (b"\x81\xa2\x00\x61a\x18\x63\x01", "label 99"),
    (b"\x81\xa3\x00\x61a\x61n\x61b\x02\x01", "n is there twice"),
    (b"\x81\xa2\x00\x61a\x02\xfb\x7f\xf8" + bytes(6), "v: a number"),
    (b"\x81\xa2\x00\x61a\x02\xc4\x82\x1a\x7f\xff\xff\xff\x01", "v: a number"),
    (b"\x81\xa2\x00\x61a\x02\xc2\x49\x01" + bytes(8), "64 bits"),
    (b"\xd8\x1c\x81\xd8\x1d\x00", "nested"),
    (b"\x81" * 4000, "not CBOR"),
    (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "not CBOR"),
    (b"\x81\xa1\xf5\x01", "a key"),
]


@pytest.mark.parametrize(
    ("payload", "content_format", "why"),
    [(payload, SENML_JSON, why) for payload, why in BAD_JSON]
    + [(payload, SENML_CBOR, why) for payload, why in BAD_CBOR],
)
def test_what_is_no_pack(payload: bytes, content_format: int, why: str) -> None:
    with pytest.raises(InvalidValue, match=why.replace("(", r"\(").replace("+", r"\+").replace("$", r"\$")):
        read(payload, content_format, NOW)


def test_a_pack_cut_anywhere_is_refused() -> None:
    whole = to_cbor(EXAMPLES[2][1])
    assert len(read(whole, SENML_CBOR, NOW)) == 4
    for length in range(len(whole)):
        with pytest.raises(InvalidValue):
            read(whole[:length], SENML_CBOR, NOW)


def test_a_pack_has_a_limit() -> None:
    record = {"n": "a", "v": 1}
    assert len(read(json.dumps([record] * RECORDS_MAX).encode(), SENML_JSON, NOW)) == RECORDS_MAX
    with pytest.raises(InvalidValue, match="1001 records"):
        read(json.dumps([record] * (RECORDS_MAX + 1)).encode(), SENML_JSON, NOW)


@given(st.binary(max_size=60), st.sampled_from([SENML_JSON, SENML_CBOR]))
def test_any_bytes(payload: bytes, content_format: int) -> None:
    try:
        assert read(payload, content_format, NOW)
    except InvalidValue:
        pass


_names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9:./_-]{0,8}\Z")
_measured = st.one_of(
    st.fixed_dictionaries({"v": st.integers(-(1 << 53), 1 << 53) | st.floats(-1e9, 1e9)}),
    st.fixed_dictionaries({"vs": st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)}),
    st.fixed_dictionaries({"vb": st.booleans()}),
    st.fixed_dictionaries({"s": st.floats(-1e9, 1e9)}),
)


@given(st.lists(st.tuples(_names, st.integers(1 << 28, 1 << 33), _measured), min_size=1, max_size=4))
def test_resolved_records_resolve_to_themselves(records: list[tuple[str, int, dict[str, Any]]]) -> None:
    pack = [{"n": name, "t": time, **values} for name, time, values in records]
    for content_format, payload in ((SENML_JSON, json.dumps(pack).encode()), (SENML_CBOR, to_cbor(pack))):
        found = read(payload, content_format, NOW)
        assert [record.fields for record in found] == pack
        for record in found:
            (again,) = read(record.encode(content_format), content_format, NOW + 1000)
            assert again.fields == record.fields


# -- rules ------------------------------------------------------------------------------------


def parts(rule: Rule, pack: list[dict[str, Any]], content_format: int = SENML_JSON) -> list[Part]:
    """Split a pack that was published to fleet/7/senml."""
    payload = json.dumps(pack).encode() if content_format == SENML_JSON else to_cbor(pack)
    return split(rule, "fleet/7/senml", payload, content_format, int(NOW * 1000))


def test_records_become_messages() -> None:
    rule = Rule("fleet/+/senml", "{topic}/{name}", False)
    pack = [{"bn": "room/", "n": "t", "v": 20.5, "t": -10}, {"n": "door", "vb": True}]
    first, second = parts(rule, pack)
    assert (first.topic, second.topic) == ("fleet/7/senml/room/t", "fleet/7/senml/room/door")
    assert json.loads(first.body) == [{"n": "room/t", "v": 20.5, "t": NOW - 10}]
    assert first.properties.content_type == "application/senml+json"
    assert first.properties.timestamp_ms == (NOW - 10) * 1000
    (again, _) = parts(rule, pack, SENML_CBOR)
    assert cbor2.loads(again.body) == [{0: "room/t", 2: 20.5, 6: NOW - 10}]
    assert again.properties.content_type == "application/senml+cbor"


def test_or_their_values() -> None:
    rule = Rule("fleet/+/senml", "values/{name}", True)
    pack = [{"bn": "a", "v": 20.5}, {"v": 7}, {"vs": "ü"}, {"vb": False}, {"vd": "_w"}]
    found = parts(rule, pack)
    assert [part.body for part in found] == [b"20.5", b"7", "ü".encode(), b"false", b"\xff"]
    assert [part.properties.content_type for part in found] == ["text/plain;charset=utf-8"] * 4 + [
        "application/octet-stream"
    ]
    assert {part.topic for part in found} == {"values/a"}
    with pytest.raises(InvalidValue, match="only a sum"):
        parts(rule, [{"n": "a", "v": 1}, {"n": "b", "s": 1}])


def test_the_first_rule_counts() -> None:
    rules = read_rules({"fleet/7/#": "a", "fleet/#": "b/{name}"}, {"#": "c"})
    assert [rule.template for rule in rules] == ["a", "b/{name}", "c"]
    assert rule_for(rules, "fleet/7/x", SENML_JSON) is rules[0]
    assert rule_for(rules, "fleet/8/x", SENML_CBOR) is rules[1]
    assert rule_for(rules, "other", SENML_CBOR) is rules[2]
    assert rule_for(rules, "$queue/q", SENML_CBOR) is None
    assert rule_for(rules, "fleet/7/x", 50) is None
    assert rule_for([], "fleet/7/x", SENML_JSON) is None


@pytest.mark.parametrize(
    ("topic_filter", "template", "kind"),
    [
        ("a/#/b", "x", InvalidTopic),
        ("", "x", InvalidTopic),
        ("a", "", InvalidValue),
        ("a", "{device}/x", InvalidValue),
        ("a", "{topic/{name}", InvalidValue),
        ("a", "x/+/{name}", InvalidValue),
        ("a", "$sys/{name}", InvalidValue),
        ("a", "$dead/{name}", InvalidValue),
    ],
)
def test_rules_that_are_none(topic_filter: str, template: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Rule(topic_filter, template, False)


def test_names_are_not_templates() -> None:
    rule = Rule("#", "{topic}/{name}", False)
    assert rule.topic("a/{name}", "b") == "a/{name}/b"


def test_a_pack_may_be_so_large() -> None:
    rule = Rule("#", "x", False)
    with pytest.raises(InvalidValue, match="bytes"):
        split(rule, "t", b" " * (BODY_BYTES_MAX + 1), SENML_JSON, 0)
