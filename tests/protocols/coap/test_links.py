"""Link format: read again by aiocoap's parser; filters as RFC 6690, 4.1 has them."""

from __future__ import annotations

import pytest
from aiocoap.util import linkformat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidValue
from gateway.protocols.coap.discovery.links import COUNT_MAX, Link, Query, path_of, read_query, write

#: RFC 6690, 5: the examples' links, as the RFC writes them but for quotes.
SENSORS = Link("/sensors", [("ct", "40"), ("title", "Sensor Index")])
TEMP = Link("/sensors/temp", [("rt", "temperature-c"), ("if", "sensor")])
LIGHT = Link("/sensors/light", [("rt", "light-lux core.sen-light"), ("if", "sensor"), ("obs", "")])
ALL = [SENSORS, TEMP, LIGHT]


def test_as_the_rfc_writes_it() -> None:
    assert write(ALL) == (
        b'</sensors>;ct=40;title="Sensor Index",'
        b'</sensors/temp>;rt="temperature-c";if="sensor",'
        b'</sensors/light>;rt="light-lux core.sen-light";if="sensor";obs'
    )
    assert write([]) == b""


_values = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
_links = st.builds(
    Link,
    st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=6), min_size=1).map(path_of),
    st.lists(st.tuples(st.sampled_from(["rt", "if", "ct", "title", "obs", "x-y"]), _values), max_size=4),
)


@given(st.lists(_links, max_size=4))
def test_another_parser_reads_what_we_write(links: list[Link]) -> None:
    found = linkformat.parse(write(links).decode()).links if links else []
    assert [link.href for link in found] == [link.href for link in links]
    for ours, theirs in zip(links, found, strict=True):
        pairs = [(name, value or "") for name, value in theirs.attr_pairs]
        # That parser takes off no backslashes but those before quotes.
        assert [(n, v.replace("\\\\", "\\")) for n, v in pairs] == [
            (n, v.replace("\\\\", "\\")) for n, v in ours.attributes
        ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ((), ALL),
        (("rt=light-lux",), [LIGHT]),
        (("rt=core.sen-light",), [LIGHT]),
        (("rt=light-lux core.sen-light",), []),
        (("rt=light*",), [LIGHT]),
        (("rt=temp*",), [TEMP]),
        (("rt=*",), [TEMP, LIGHT]),
        (("rt=temperature",), []),
        (("if=sensor",), [TEMP, LIGHT]),
        (("if=sensor", "rt=light-lux"), [LIGHT]),
        (("href=/sensors",), [SENSORS]),
        (("href=/sensors/*",), [TEMP, LIGHT]),
        (("href=/sensors*", "ct=40"), [SENSORS]),
        (("ct=4",), []),
        (("obs=*",), [LIGHT]),
        (("title=Sensor Index",), [SENSORS]),
        (("title=Sensor",), []),
        (("nothing=*",), []),
        (("count=2",), [SENSORS, TEMP]),
        (("count=2", "page=1"), [LIGHT]),
        (("count=1", "page=1", "if=sensor"), [LIGHT]),
        (("page=7",), []),
        (("u=device7", "p=secret", "if=sensor"), [TEMP, LIGHT]),
    ],
)
def test_filters(query: tuple[str, ...], found: list[Link]) -> None:
    assert read_query(query, frozenset({"u", "p"})).pick(ALL) == found


@pytest.mark.parametrize("text", ["rt", "=x", "", "page=-1", "page=x", "count=", "count=٣", "page=99999999"])
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(InvalidValue):
        read_query((text,))


def test_limits() -> None:
    assert read_query(("count=100000",)).count == COUNT_MAX
    assert read_query(("count=0",)).count == 1
    many = [Link(f"/{n}") for n in range(COUNT_MAX + 5)]
    assert len(Query().pick(many)) == COUNT_MAX
    assert len(Query((), 1).pick(many)) == 5


def test_what_can_be_known_before_there_are_links() -> None:
    query = read_query(("href=/ps/a*", "rt=core.ps.data"))
    assert query.href_prefix() == "/ps/a"
    assert query.wants([("rt", "core.ps.data")])
    assert not query.wants([("rt", "queue")])


def test_paths() -> None:
    assert path_of(["ps", "a b", "ü", "x/y", "", "a:b@c,d"]) == "/ps/a%20b/%C3%BC/x%2Fy//a:b@c,d"
