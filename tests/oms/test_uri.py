"""Access point URLs in all their historical forms."""

from __future__ import annotations

import pytest

from gateway.oms import AccessPointURI, Endpoint, OMSError, ResponseStatus

GOOD = {
    "oms:rocketmq://alice@rmq.apache.org:9876/us-east": AccessPointURI(
        "rocketmq", (Endpoint("rmq.apache.org", 9876),), "us-east", "", "alice"
    ),
    "oms:rocketmq://a:1,b:2/us-east:shop": AccessPointURI(
        "rocketmq", (Endpoint("a", 1), Endpoint("b", 2)), "us-east", "shop"
    ),
    "oms:local://memory/here": AccessPointURI("local", (Endpoint("memory", 80, False),), "here"),
    "oms:http://[::1]:8080/r": AccessPointURI("http", (Endpoint("[::1]", 8080),), "r"),
    "openmessaging:kafka://h:9/space": AccessPointURI("kafka", (Endpoint("h", 9),), "", "space"),
}


@pytest.mark.parametrize("url", GOOD)
def test_both_ways(url: str) -> None:
    parsed = AccessPointURI.parse(url)
    assert parsed == GOOD[url]
    assert str(parsed) == url


def test_spaces_after_commas() -> None:
    assert AccessPointURI.parse("oms:x://a:1, b:2/r").hosts == (Endpoint("a", 1), Endpoint("b", 2))


def test_a_host_without_a_port_has_the_specifications() -> None:
    host = AccessPointURI.parse("oms:x://h/r").hosts[0]
    assert (host.port, host.has_port) == (80, False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "oms:",
        "oms:x",
        "oms:x://h",
        "oms:x:///r",
        "oms://h/r",
        "oms:x://h/",
        "oms:x://h:0/r",
        "oms:x://h:65536/r",
        "oms:x://h:port/r",
        "oms:x://a,,b/r",
        "oms:x://a/b/r",
        "oms:x://h/r:",
        "oms:x://h/:ns",
        "amqp:x://h/r",
        "http://h/r",
    ],
)
def test_what_is_none(url: str) -> None:
    with pytest.raises(OMSError) as refused:
        AccessPointURI.parse(url)
    assert refused.value.code == ResponseStatus.URL_ILLEGAL == 10001
