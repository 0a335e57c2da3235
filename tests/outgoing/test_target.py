"""URLs: what is taken, what is refused, what is below what."""

from __future__ import annotations

import pytest

from gateway.api import InvalidValue
from gateway.outgoing.target import URL_MAX, parse


@pytest.mark.parametrize(
    ("url", "origin", "path", "authority"),
    [
        ("https://Example.COM", ("https", "example.com", 443), "/", "example.com"),
        ("https://example.com./a?b=c", ("https", "example.com", 443), "/a?b=c", "example.com"),
        ("http://h:8080/a%20b", ("http", "h", 8080), "/a%20b", "h:8080"),
        ("https://h:443/", ("https", "h", 443), "/", "h"),
        ("http://127.0.0.1:9/", ("http", "127.0.0.1", 9), "/", "127.0.0.1:9"),
        ("http://[::1]:9/x", ("http", "::1", 9), "/x", "[::1]:9"),
        ("https://[2001:DB8:0::1]/", ("https", "2001:db8::1", 443), "/", "[2001:db8::1]"),
        (
            "https://xn--bcher-kva.example/",
            ("https", "xn--bcher-kva.example", 443),
            "/",
            "xn--bcher-kva.example",
        ),
        ("https://a_b.example/..x/.../", ("https", "a_b.example", 443), "/..x/.../", "a_b.example"),
    ],
)
def test_what_is_taken(url: str, origin: tuple[str, str, int], path: str, authority: str) -> None:
    target = parse(url)
    assert (target.origin, target.path, target.authority) == (origin, path, authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///x",
        "https://:443/",
        "https://h:0/",
        "https://h:/",
        "https://h:65536/",
        "https://h:x/",
        "https://h:-1/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com@10.0.0.1/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com#@10.0.0.1/",
        "https://example.com/#x",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nx: y",
        "https://example.com/\x00",
        "https://bücher.example/",
        "https://２１３.example/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://1.2.3.4.5/",
        "https://256.0.0.1/",
        "https://a.0x/",
        "https://[::1%25eth0]/",
        "https://[::1%eth0]/",
        "https://[::1",
        "https://[127.0.0.1]/",
        "https://[v1.x]/",
        "https://-a.example/",
        "https://a..example/",
        "https://.example/",
        "https://a.example../",
        "https://a%2eexample/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
        "https://h/../x",
        "https://h/a/..",
        "https://h/a/./b",
        "https://h/a/%2e%2e/b",
        "https://h/a/%2E./b",
        "https://h/a%2f..%2fb",
        "https://h/a%5c..%5cb",
        "https://h/" + "a" * URL_MAX,
    ],
)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue):
        parse(url)


@pytest.mark.parametrize(
    ("url", "prefix", "below"),
    [
        ("https://h/", "https://h", True),
        ("https://h/a/b?c", "https://h/", True),
        ("https://h/a/b", "https://h/a", True),
        ("https://h/a", "https://h/a", True),
        ("https://h/a?b", "https://h/a", True),
        ("https://h/a/", "https://h/a/", True),
        ("https://h:443/", "https://h/", True),
        ("https://H/", "https://h/", True),
        ("https://h/ab", "https://h/a", False),
        ("https://h/a", "https://h/a/", True),
        ("http://10.0.0.1:8080/any", "http://10.0.0.1:8080", True),
        ("https://h/b?/a/", "https://h/a/", False),
        ("https://h/A/b", "https://h/a/", False),
        ("http://h/", "https://h/", False),
        ("https://h:444/", "https://h/", False),
        ("https://h.evil.example/", "https://h/", False),
        ("https://hh/", "https://h/", False),
        ("https://x.h/", "https://h/", False),
    ],
)
def test_what_is_below_what(url: str, prefix: str, below: bool) -> None:
    assert parse(url).begins_with(parse(prefix)) is below


def test_a_query_is_never_repeated() -> None:
    with pytest.raises(InvalidValue) as refused:
        parse("ftp://h/?token=secret")
    assert "secret" not in refused.value.detail
    with pytest.raises(InvalidValue) as refused:
        parse("https://user:secret@h/")
    assert "secret" not in refused.value.detail
    with pytest.raises(InvalidValue) as refused:
        parse("https://user:secret@h/ x")
    assert "secret" not in refused.value.detail
