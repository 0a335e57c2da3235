"""Links in the CoRE Link Format (RFC 6690): written, and picked by the filters of a query (4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from gateway.core.errors import InvalidValue

from ..content.formats import LINK_FORMAT
from ..numbers import CONTENT_FORMAT, uint_bytes

LINK_OPTIONS: Final = ((CONTENT_FORMAT, uint_bytes(LINK_FORMAT)),)

#: Attributes that hold several values, separated by spaces; each is matched for itself (RFC 6690, 4.1;
#: for `ct` RFC 7252, 7.2.1).
SEVERAL: Final = frozenset({"rt", "if", "rel", "rev", "ct"})
#: What a path segment has besides what `quote` keeps (RFC 3986, pchar).
_SEGMENT_SAFE: Final = "!$&'()*+,;=:@"

COUNT_MAX: Final = 1000  # links in one answer: about 60 KB, or sixty blocks of 1024 bytes
_COUNT: Final = "count"  # as for lookups in a resource directory (RFC 9176, 6.2)
_PAGE: Final = "page"


class Link:
    """One link. `attributes` in the order in which they are written; a value of "" is a flag (`obs`)."""

    __slots__ = ("attributes", "href")

    def __init__(self, href: str, attributes: Sequence[tuple[str, str]] = ()) -> None:
        self.href = href
        self.attributes = tuple(attributes)

    def __repr__(self) -> str:
        return f"Link({self})"

    def __str__(self) -> str:
        """Return it as RFC 6690, 2 writes it."""
        parts = [f"<{self.href}>"]
        for name, value in self.attributes:
            if not value:
                parts.append(name)
            elif value.isascii() and value.isdigit():
                parts.append(f"{name}={value}")
            else:
                escaped = value.replace("\\", "\\\\").replace('"', '\\"')
                parts.append(f'{name}="{escaped}"')
        return ";".join(parts)

    def values(self, name: str) -> list[str]:
        """Return what a filter of that name is compared with; empty if the link has no such attribute."""
        if name == "href":
            return [self.href]
        found: list[str] = []
        for attribute, value in self.attributes:
            if attribute == name:
                found += value.split(" ") if name in SEVERAL else [value]
        return found


class Query:
    """What a request wants of a list: links that match all filters, and one page of those."""

    __slots__ = ("count", "filters", "page")

    def __init__(
        self, filters: Sequence[tuple[str, str]] = (), page: int = 0, count: int = COUNT_MAX
    ) -> None:
        self.filters = tuple(filters)
        self.page = page
        self.count = count

    def matches(self, link: Link) -> bool:
        """Tell whether a link is wanted: by all filters, as in RFC 9176, 6.1 (RFC 6690 knows one only)."""
        return all(_matches(link, name, wanted) for name, wanted in self.filters)

    def wants(self, attributes: Sequence[tuple[str, str]]) -> bool:
        """Tell whether links with these attributes may be wanted, whatever their target is."""
        sample = Link("", attributes)
        return all(name == "href" or _matches(sample, name, wanted) for name, wanted in self.filters)

    def href_prefix(self) -> str:
        """Return what the targets of all wanted links begin with."""
        found = ""
        for name, wanted in self.filters:
            prefix = wanted.removesuffix("*")
            if name == "href" and len(prefix) > len(found):
                found = prefix
        return found

    @property
    def last(self) -> int:
        """How many links have to be found for the page to be known."""
        return (self.page + 1) * self.count

    def pick(self, links: Iterable[Link]) -> list[Link]:
        """Return the page of the wanted links."""
        found: list[Link] = []
        skipped, first = 0, self.page * self.count
        for link in links:
            if not self.matches(link):
                continue
            if skipped < first:
                skipped += 1
                continue
            found.append(link)
            if len(found) >= self.count:
                break
        return found


def _matches(link: Link, name: str, wanted: str) -> bool:
    values = link.values(name)
    if wanted.endswith("*"):
        prefix = wanted[:-1]
        return any(value.startswith(prefix) for value in values)
    return wanted in values


def read_query(query: Iterable[str], ignored: frozenset[str] = frozenset()) -> Query:
    """Return what Uri-Query options ask for, without the names in `ignored`. Raise InvalidValue."""
    filters: list[tuple[str, str]] = []
    page, count = 0, COUNT_MAX
    for text in query:
        name, separator, value = text.partition("=")
        if name in ignored:
            continue
        if not name or not separator:
            raise InvalidValue(f"query {text[:40]!r}: a filter is name=value, as in rt=core.ps.data")
        if name == _PAGE:
            page = _number(name, value, 1_000_000)
        elif name == _COUNT:
            count = max(1, min(_number(name, value, 1_000_000), COUNT_MAX))
        else:
            filters.append((name, value))
    return Query(filters, page, count)


def _number(name: str, value: str, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 7 and int(value) <= most):
        raise InvalidValue(f"{name} is {value[:40]!r}; a number from 0 to {most} is expected")
    return int(value)


def path_of(segments: Iterable[str]) -> str:
    """Return an absolute path as in a link: each segment percent-encoded (RFC 3986, 3.3)."""
    return "".join("/" + quote(segment, safe=_SEGMENT_SAFE) for segment in segments)


def write(links: Iterable[Link]) -> bytes:
    """Return links as a payload (RFC 6690, 2), Content-Format 40."""
    return ",".join(map(str, links)).encode()
