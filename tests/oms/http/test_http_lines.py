"""Messages as the driver http writes and reads them; options, problems, names: the pure parts."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.core.message import Message as CoreMessage
from gateway.core.message import Origin, Properties
from gateway.http_oms import Shown, from_json, to_json, to_message
from gateway.oms import (
    KeyValue,
    Message,
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    ResponseStatus,
    compression,
)
from gateway.oms.drivers.http.lines import from_line, to_line
from gateway.oms.drivers.http.options import login, servers, tls
from gateway.oms.drivers.http.statuses import TABLE, error_of
from gateway.oms.message import ExtensionHeader, Header
from gateway.oms.names import topic_of, topic_of_share
from gateway.oms.uri import AccessPointURI
from gateway.protocols.http.problems import KINDS
from tests.protocols.http.http_support import header_values

ORIGIN = Origin("http", "ann", "", "192.0.2.7:4711")
NOW_MS = 1_700_000_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.one_of(
    texts, st.binary(max_size=20), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats()
)


def through_the_core(line: bytes) -> CoreMessage:
    """Return what the gateway makes of a line."""
    told, body = from_json(json.loads(line))
    return to_message(told, body, ORIGIN, Clock(NOW_MS, 1))


def back(message: CoreMessage, queue: str = "q") -> Message:
    """Return what a consumer makes of what the gateway has."""
    return from_line(json.dumps(to_json(Shown(message, "made", 1))).encode(), queue)


@given(
    data=st.binary(max_size=50),
    key=st.none() | texts,
    correlation=st.none() | texts,
    priority=st.none() | st.integers(1, 10),
    tag=st.none() | texts,
    keys=st.lists(texts, max_size=3),
    properties=st.dictionaries(texts.map(lambda name: f"p{name}"), values, max_size=4),
)
def test_a_message_comes_back(
    data: bytes,
    key: str | None,
    correlation: str | None,
    priority: int | None,
    tag: str | None,
    keys: list[str],
    properties: dict[str, Any],
) -> None:
    extension = ExtensionHeader(key, correlation, tag=tag, search_keys=tuple(keys), partition=3)
    header = Header("ignored", born_timestamp=NOW_MS, born_host="h", priority=priority, durability=1)
    message = Message(data=data, header=header, extension_header=extension, properties=properties)
    found = back(through_the_core(to_line(message, "t", "m1")))
    assert (found.data, found.header.message_id, found.header.destination) == (data, "m1", "q")
    assert (found.header.priority, found.header.durability, found.header.born_host) == (
        priority,
        1,
        "192.0.2.7",
    )
    got = found.extension_header
    assert (got.message_key, got.correlation_id, got.tag) == (key, correlation, tag)
    assert (got.search_keys, got.partition) == (tuple(keys), 3)
    assert repr(dict(sorted(found.properties.items()))) == repr(dict(sorted(properties.items()))), "NaN too"


@given(st.dictionaries(texts.map(lambda name: f"p{name}"), header_values, max_size=4))
def test_headers_of_any_type_pass_an_application_unharmed(headers: dict[str, Any]) -> None:
    made = Properties(message_id="m", headers=tuple(headers.items()))
    taken = back(CoreMessage("t", b"", properties=made, origin=ORIGIN, timestamp_ms=NOW_MS))
    assert all(isinstance(value, str | bytes | int | float) for value in taken.properties.values())
    again = through_the_core(to_line(taken, "t"))
    found = {name: value for name, value in again.properties.headers if not name.startswith("oms-")}
    assert repr(dict(sorted(found.items()))) == repr(dict(sorted(headers.items())))


def test_what_is_compressed_is_plain_for_who_receives() -> None:
    message = Message(data=b"x" * 1000, header=Header(compression="gzip"))
    sent = through_the_core(to_line(message, "t"))
    assert sent.properties.content_encoding == "gzip"
    assert gzip.decompress(sent.body) == message.data
    assert len(sent.body) < 100
    found = back(sent)
    assert (found.data, found.header.compression) == (message.data, "gzip")
    with pytest.raises(OMSMessageFormatError, match="gzip is known"):
        to_line(Message(header=Header(compression="br")), "t")


def test_what_only_says_that_it_is_compressed_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Properties(content_encoding="gzip")
    assert back(CoreMessage("t", b"plain", properties=made)).data == b"plain"
    made = Properties(content_encoding="br")
    found = back(CoreMessage("t", b"?", properties=made))
    assert (found.header.compression, found.properties["$content-encoding"]) == ("", "br")
    assert through_the_core(to_line(found, "t")).properties.content_encoding == "br"
    monkeypatch.setattr(compression, "PLAIN_BYTES_MAX", 10)
    bomb = CoreMessage("t", gzip.compress(b"x" * 11), properties=Properties(content_encoding="gzip"))
    with pytest.raises(OMSMessageFormatError, match="more than 10 bytes"):
        back(bomb)


@pytest.mark.parametrize(
    ("properties", "why"),
    [({"a": "x", "$type:a": "int"}, "no int"), ({"a": "{", "$type:a": "json"}, "no json")],
)
def test_types_that_texts_do_not_have_are_refused(properties: dict[str, Any], why: str) -> None:
    with pytest.raises(OMSMessageFormatError, match=why):
        to_line(Message(properties=properties), "t")


def test_types_that_nobody_knows_say_nothing() -> None:
    found = json.loads(
        to_line(Message(properties={"a": "x", "$type:a": "colour", "b": 1, "$type:b": 2}), "t")
    )
    assert found["properties"] == {"a": "x", "b": 1}
    assert math.isinf(json.loads(b'{"x": 1e999}')["x"])


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"header": 1}', b'{"header": {}, "data": "="}'])
def test_what_is_no_message_is_an_error(line: bytes) -> None:
    with pytest.raises(OMSMessageFormatError, match="no message"):
        from_line(line, "q")


def test_what_a_later_server_says_besides_is_passed_over() -> None:
    line = {"header": {"colour": "red"}, "receipt": "r", "data": base64.b64encode(b"x").decode()}
    found = from_line(json.dumps(line).encode(), "q")
    assert found.receipt is not None
    assert (found.data, found.receipt.handle, found.receipt.queue) == (b"x", "r", "q")


# -- names, options, problems -------------------------------------------------------------------------


def test_names() -> None:
    assert topic_of("", "a/b") == "a/b"
    assert topic_of("ns", "q") == "ns/q"
    assert topic_of("", "$queue/q") == "$queue/q"
    for namespace, queue in (("", ""), ("", "a+"), ("", "$sys/x"), ("ns", "$queue/q"), ("", "$queue/")):
        with pytest.raises(OMSDestinationError, match="no queue"):
            topic_of(namespace, queue)
    assert [topic_of_share(name) for name in ("$share/g/a/b", "$share/g/a/#", "q")] == ["a/b", "", ""]


def test_servers() -> None:
    uri = AccessPointURI.parse("oms:http://ann@a:1,b/r")
    assert servers(uri, KeyValue()) == ["http://a:1", "http://b:8080"]
    assert servers(uri, KeyValue(TLS=True)) == ["https://a:1", "https://b:8443"]


def test_logins() -> None:
    assert login(KeyValue()) == {}
    assert login(KeyValue(ACCOUNT_ID="ann")) == {}, "a name alone is no login"
    assert login(KeyValue(ACCOUNT_ID="ann", ACCOUNT_KEY="x")) == {"auth": ("ann", "x")}
    assert login(KeyValue(TOKEN="t")) == {"headers": {"authorization": "Bearer t"}}
    for attributes in (KeyValue(ACCOUNT_KEY="x"), KeyValue(ACCOUNT_ID="ann", TOKEN="t")):
        with pytest.raises(OMSError) as caught:
            login(attributes)
        assert caught.value.code == ResponseStatus.BAD_PARAMETER


@pytest.mark.parametrize(
    "attributes",
    [{"TLS_CA": "x"}, {"TLS": True, "TLS_CERTIFICATE": "x"}, {"TLS": True, "TLS_CA": "/nowhere/at/all"}],
)
def test_tls_that_cannot_be(attributes: dict[str, Any]) -> None:
    with pytest.raises(OMSError) as caught:
        tls(KeyValue(attributes))
    assert caught.value.code == ResponseStatus.BAD_PARAMETER


def test_every_kind_of_problem_that_the_door_has_is_known_or_unspecific() -> None:
    unspecific = {
        "unsupported-media-type",
        "upgrade-required",
        "no-answer",
        "not-available",
        "nothing-accepted",
    }
    assert set(TABLE) | unspecific == set(KINDS)


def test_problems_of_others() -> None:
    assert isinstance(error_of({"status": 401}), OMSSecurityError)
    assert error_of({"status": 502, "title": "Bad gateway"}).code == ResponseStatus.SERVER_ERROR
    assert error_of({"status": 418}).code == ResponseStatus.BAD_REQUEST
    assert error_of({}).reason == "refused without a reason"
