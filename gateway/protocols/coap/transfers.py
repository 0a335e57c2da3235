"""What is kept of block-wise transfers between their requests, bounded: for each client, in all, and in time.

Two such stores are Blockwise's: requests of which blocks are still to come, and representations of
which blocks are still to be fetched. Where there is too much, what was not asked for longest goes: a
transfer that goes on is asked for once a round trip, one that was left by its client never.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from .codec import Option, Options
from .exchange import Link

LINK_ENTRIES_MAX: Final = 16  # of one client: more transfers at once than any device has
OVERHEAD_BYTES: Final = 900  # what an entry takes besides its payload: measured 830, with a key of its own

#: Method, path, query, host and Accept or Request-Tags: what the requests of one transfer have in common.
Key = tuple[int, tuple[str, ...], tuple[str, ...], str | None, object]


def upload_key(code: int, options: Options) -> Key:
    """Return what blocks of one request body have in common (RFC 9175, 3.3)."""
    return (code, options.path, options.query, options.host, options.request_tags)


def download_key(code: int, options: Options) -> Key:
    """Return what requests for blocks of one representation have in common.

    Without Request-Tag: not all clients repeat it when they fetch the answer to what they sent in blocks.
    """
    return (code, options.path, options.query, options.host, options.accept)


class Entry:
    """Something kept for a link. `size` is what it takes, in bytes."""

    __slots__ = ("key", "link", "size", "until_ms")

    def __init__(self, link: Link, key: Key) -> None:
        self.link = link
        self.key = key
        self.size = 0
        self.until_ms = 0


class Upload(Entry):
    """The part of a request's body that has arrived, in order and without gaps."""

    __slots__ = ("body", "content_format")

    def __init__(self, link: Link, key: Key, content_format: int) -> None:
        super().__init__(link, key)
        self.body = bytearray()
        self.content_format = content_format


class Download(Entry):
    """A response whose blocks are being fetched. `options` are those of every block, ETag among them."""

    __slots__ = ("code", "options", "payload")

    def __init__(self, link: Link, key: Key, code: int, options: tuple[Option, ...], payload: bytes) -> None:
        super().__init__(link, key)
        self.code = code
        self.options = options
        self.payload = payload


E = TypeVar("E", bound=Entry)


class Store(Generic[E]):
    """Entries by link and key. Times are monotonic milliseconds."""

    __slots__ = ("_lifetime_ms", "_links", "_order", "bytes", "bytes_max", "link_bytes_max")

    def __init__(self, lifetime_ms: int, bytes_max: int, link_bytes_max: int) -> None:
        self._lifetime_ms = lifetime_ms
        self._links: dict[Link, dict[Key, E]] = {}
        self._order: OrderedDict[E, None] = OrderedDict()  # the one not asked for longest comes first
        self.bytes = 0
        self.bytes_max = bytes_max
        self.link_bytes_max = link_bytes_max

    def __len__(self) -> int:
        return len(self._order)

    def find(self, link: Link, key: Key, now_ms: int) -> E | None:
        """Return an entry and keep it for its lifetime from now; None if there is none any more."""
        of_link = self._links.get(link)
        entry = of_link.get(key) if of_link is not None else None
        if entry is None:
            return None
        if entry.until_ms <= now_ms:
            self.drop(entry)
            return None
        self._order.move_to_end(entry)
        entry.until_ms = now_ms + self._lifetime_ms
        return entry

    def add(self, entry: E, size: int, now_ms: int) -> None:
        """Keep an entry with a payload of `size` bytes, instead of the one that has its key."""
        of_link = self._links.setdefault(entry.link, {})
        old = of_link.get(entry.key)
        if old is not None:
            self.drop(old)
            of_link = self._links.setdefault(entry.link, {})
        of_link[entry.key] = entry
        self._order[entry] = None
        entry.until_ms = now_ms + self._lifetime_ms
        self.expire(now_ms)
        self.grow(entry, size + OVERHEAD_BYTES)

    def grow(self, entry: E, size: int) -> None:
        """Note that an entry takes `size` bytes more; the oldest of its link, and of all, make room."""
        entry.size += size
        self.bytes += size
        of_link = self._links[entry.link]
        if len(of_link) > 1:
            total = sum(other.size for other in of_link.values())
            for other in sorted(of_link.values(), key=_until):
                if len(of_link) <= LINK_ENTRIES_MAX and total <= self.link_bytes_max:
                    break
                if other is not entry:
                    total -= other.size
                    self.drop(other)
        while self.bytes > self.bytes_max and len(self._order) > 1:
            oldest = next(iter(self._order))
            if oldest is entry:  # is the one asked for now: it goes to the end, where it belongs
                self._order.move_to_end(entry)
            else:
                self.drop(oldest)

    def drop(self, entry: E) -> None:
        """Forget an entry that is kept."""
        del self._order[entry]
        self.bytes -= entry.size
        of_link = self._links[entry.link]
        del of_link[entry.key]
        if not of_link:
            del self._links[entry.link]

    def forget(self, link: Link) -> None:
        """Forget all of a link."""
        for entry in list(self._links.get(link, {}).values()):
            self.drop(entry)

    def expire(self, now_ms: int) -> None:
        """Forget what nobody has asked for in its lifetime."""
        while self._order:
            oldest = next(iter(self._order))
            if oldest.until_ms > now_ms:
                return
            self.drop(oldest)


def _until(entry: Entry) -> int:
    return entry.until_ms
