"""Publishing once: what was published under an idempotency key, or with a message id, within a window.

By message id where an operator's rule says so for a topic, or a protocol for its clients: those send a
message again under the same id when an answer was lost.

What a message is known by is in the message, so in its record: a crash leaves both or neither. In
memory are fingerprints alone (see `fingerprints`). Every few seconds those that are new are written
to the log together, as a chunk, which says up to where the log was covered; a start reads the chunks
of the window, and the log from there on. A message that nobody keeps is logged all the same, for
what it is known by. One that could not be stored was never seen.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from .clock import Clock
from .engine import StorageEngine
from .fingerprints import Fingerprints
from .message import Message, Outcome
from .scheduler import Scheduler, Timer
from .topic import DEAD_PREFIX, DELAYED_PREFIX, SYS_PREFIX, matches

WINDOW_MS: Final = 10 * 60 * 1000  # clients retry for minutes, not hours
COUNT_MAX: Final = 4_000_000  # of one window: 160 MB, where they are many; the oldest go first
COVER_INTERVAL_MS: Final = 2000  # a start reads this much of the log at most: a second or two at full speed
CHUNK_MAX = 16_384  # fingerprints before a chunk is written ahead of time: 5 ms of work
CHUNKS_PER_LOAD: Final = 16  # that a start reads together
TOPICS_CACHED_MAX: Final = 10_000  # whose rule is remembered
QUEUE_ID: Final = 0xFFFF_FFFF  # the engine's queue of chunks; ids of ordinary queues begin at the other end
TOPIC: Final = SYS_PREFIX + "dedup"  # of the chunks: who looks at what was stored leaves these out
KEYS: Final = (
    ""  # the name of the window of idempotency keys; those by message id are called as their filters
)
REPEATS: Final = "\0"  # begins the names of those of protocols: no filter has it

_PER_PRINT: Final = 3  # words: two of the fingerprint, and the position
_COVERED: Final = Struct("<Q")
_SECTION: Final = Struct("<HII")  # bytes of the name, words of marks, words of fingerprints
_WORDS: Final = Struct("<QQ")


class Window:
    """Fingerprints, and which of them are in no chunk yet."""

    __slots__ = ("name", "new", "prints")

    def __init__(self, name: str, window_ms: int) -> None:
        self.name = name
        self.prints = Fingerprints(window_ms, COUNT_MAX)
        self.new = array("Q")  # three words each, in order: the fingerprint, and the position


#: What a message is known by: a fingerprint, and the window that it counts in.
Identity = tuple[Window, int, int]


class Chunk(NamedTuple):
    """A part of the windows that is in the log."""

    position: int
    expires_at_ms: int
    parts: list[tuple[Window, array[int]]]  # until it is known to be on disk


class Dedup:
    """The windows of one gateway."""

    __slots__ = (
        "_chunks",
        "_clock",
        "_covered",
        "_engine",
        "_keys",
        "_repeats",
        "_ruled",
        "_scheduler",
        "_timer",
        "_under_way",
        "rules",
    )

    def __init__(self, engine: StorageEngine, clock: Clock, scheduler: Scheduler) -> None:
        self._engine = engine
        self._clock = clock
        self._scheduler = scheduler
        self._keys = Window(KEYS, WINDOW_MS)
        self._repeats: dict[str, Window] = {}  # by message id: of a protocol whose clients repeat themselves
        self.rules: list[Window] = []  # by message id: the first whose name matches the topic
        self._ruled: dict[str, Window | None] = {}
        self._chunks: deque[Chunk] = deque()
        self._under_way: Chunk | None = None
        self._covered = 0  # up to this position what is to be known after a restart is in chunks
        self._timer: Timer | None = None

    def configure(self, window_ms: int, rules: dict[str, int], repeats: dict[str, int]) -> None:
        """Set the window of idempotency keys, and those of message ids; before `restore`.

        `rules` are by topic filter, for everybody; `repeats` by protocol, for each client of it alone.
        """
        self._keys = Window(KEYS, window_ms)
        self.rules = [Window(name, rule_ms) for name, rule_ms in rules.items()]
        self._repeats = {name: Window(REPEATS + name, repeat_ms) for name, repeat_ms in repeats.items()}

    # -- publishing ---------------------------------------------------------------------------

    def identities(self, message: Message) -> list[Identity]:
        """Return what a message is known by: its idempotency key, its id where a rule or a protocol is so."""
        made = message.properties
        found: list[Identity] = []
        topic = message.topic
        if topic.startswith(DELAYED_PREFIX):
            topic = topic[len(DELAYED_PREFIX) :].partition("/")[2]  # that it is to come later makes no other
        key = made.idempotency_key
        if key is not None:
            found.append((self._keys, *_fingerprint(message.origin.principal, topic, key)))
        if self.rules and made.message_id is not None:
            window = self.ruled(topic)
            if window is not None:
                found.append((window, *_fingerprint("", topic, made.message_id)))
        origin = message.origin
        repeated = self._repeats.get(origin.protocol)
        if repeated is not None and made.message_id is not None:
            scope = f"{len(origin.principal)} {origin.principal}{origin.client_id}"
            found.append((repeated, *_fingerprint(scope, topic, made.message_id)))
        return found

    def ruled(self, topic: str) -> Window | None:
        """Return the window of message ids of a topic, if it has one."""
        known = self._ruled
        if topic not in known:
            if len(known) >= TOPICS_CACHED_MAX:
                known.clear()
            known[topic] = next((window for window in self.rules if matches(window.name, topic)), None)
        return known[topic]

    def seen(self, identities: list[Identity]) -> int:
        """Return the position of the first message that was known by one of these; 0: there is none."""
        now_ms = self._clock.now_ms
        for window, high, low in identities:
            position = window.prints.find(high, low, now_ms)
            if position and self._engine.stored(position) is not False:
                return position
        return 0

    def begin(self) -> None:
        """Before the first of all is stored: the log says from where on it has to be read."""
        if self._timer is None:
            self._write([])
            self._watch()

    def remember(self, identities: list[Identity], position: int) -> None:
        """Note what the message at a position is known by; `begin` was called before it was stored."""
        now_ms, full = self._clock.now_ms, False
        for window, high, low in identities:
            window.prints.add(high, low, position, now_ms)
            window.new.extend((high, low, position))
            full |= len(window.new) % (CHUNK_MAX * _PER_PRINT) == 0
        if full:
            self._cover()

    def rolled_back(self, first: int) -> None:
        """The log could not be written from a position on: what was there was never seen."""
        if self._under_way is not None and self._under_way.position >= first:
            self._take_back(self._under_way)
        for window in self._windows():
            new = window.new
            while new and new[-1] >= first:
                window.prints.forget(new[-3], new[-2])
                del new[-_PER_PRINT:]
        self._covered = 0  # that position is another's now
        if not self._chunks:
            self._rest()  # nothing says where to begin

    def _windows(self) -> list[Window]:
        return [self._keys, *self.rules, *self._repeats.values()]

    # -- chunks -------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._timer = self._scheduler.after(COVER_INTERVAL_MS, self._look)

    def _rest(self) -> None:
        self._scheduler.cancel(self._timer)
        self._timer = None

    def _look(self) -> None:
        """Write what is new; let go what is over; rest when all of it is."""
        self._watch()
        now_ms = self._clock.now_ms
        for window in self._windows():
            window.prints.expire(now_ms)
        if self._settled_down():
            while len(self._chunks) > 1 and self._chunks[0].expires_at_ms <= now_ms:
                self._settle(self._chunks.popleft())
        if any(len(window.prints) for window in self._windows()):
            self._cover()
            return
        while self._chunks:
            self._settle(self._chunks.popleft())
        self._under_way = None
        self._rest()

    def _settle(self, chunk: Chunk) -> None:
        self._engine.settle(QUEUE_ID, (chunk.position,), Outcome.ACK, self._clock.now_ms)

    def _settled_down(self) -> bool:
        """Tell whether all chunks are on disk; what is in one that will never be is new again."""
        chunk = self._under_way
        if chunk is None:
            return True
        stored = self._engine.stored(chunk.position)
        if stored is False:
            self._take_back(chunk)
        elif stored:
            self._under_way = None
        return stored is not None

    def _take_back(self, chunk: Chunk) -> None:
        self._under_way = None
        self._chunks.remove(chunk)
        for window, words in chunk.parts:
            window.new = words + window.new

    def _cover(self) -> None:
        """Write a chunk, unless the last one is not on disk yet, or nothing was stored since."""
        if not self._settled_down() or self._engine.position() == self._covered:
            return
        parts = [(window, self._proven(window)) for window in self._windows() if window.new]
        self._write([part for part in parts if part[1]])

    def _proven(self, window: Window) -> array[int]:
        """Take what is new and on disk; what never will be is forgotten, what may be yet stays new."""
        new, stored = window.new, self._engine.stored
        end = len(new)
        while end and stored(new[end - 1]) is None:
            end -= _PER_PRINT
        proven, window.new = new[:end], new[end:]
        if all(map(stored, proven[2::_PER_PRINT])):
            return proven
        kept = array("Q")
        for index in range(0, end, _PER_PRINT):
            if stored(proven[index + 2]):
                kept += proven[index : index + _PER_PRINT]
            else:
                window.prints.forget(proven[index], proven[index + 1])
        return kept

    def _write(self, parts: list[tuple[Window, array[int]]]) -> None:
        engine, now_ms = self._engine, self._clock.now_ms
        last = engine.position()
        pieces = [_COVERED.pack(min([last, *(w.new[2] - 1 for w in self._windows() if w.new)]))]
        expires_at_ms = 0
        for window, words in parts:
            marks = array("Q", [word for mark in _since(window, words[2]) for word in mark])
            name = window.name.encode()
            pieces += (_SECTION.pack(len(name), len(marks), len(words)), name, _packed(marks), _packed(words))
            expires_at_ms = max(expires_at_ms, now_ms + window.prints.window_ms)
        position = engine.append(Message(TOPIC, b"".join(pieces)), (QUEUE_ID,), now_ms)
        self._under_way = Chunk(position, expires_at_ms, parts)
        self._chunks.append(self._under_way)
        self._covered = engine.position()

    # -- start and stop -----------------------------------------------------------------------

    def restore(self) -> None:
        """Read the chunks of the last run, and the log from where they end."""
        covered, position = 0, 0
        while found := self._engine.after(QUEUE_ID, position, CHUNKS_PER_LOAD):
            for entry in found:
                position = entry.position
                if entry.message is not None:
                    covered = max(covered, self._take(position, entry.message.body))
        if not covered:
            return
        now_ms = self._clock.now_ms
        for at, message in self._engine.messages_after(covered):
            if message.topic.startswith(DEAD_PREFIX):
                continue  # a copy of what came before
            sent_ms = min(now_ms, self._clock.own(message.timestamp_ms))
            for window, high, low in self.identities(message):
                prints = window.prints
                if now_ms - sent_ms < prints.window_ms:  # else it was delayed, or replayed
                    prints.add(high, low, at, max(sent_ms, prints.newest_ms))
                    window.new.extend((high, low, at))
        self._watch()

    def _take(self, position: int, body: bytes) -> int:
        """Take over a chunk; return up to where it covers the log."""
        windows = {window.name: window for window in self._windows()}
        expires_at_ms, at = 0, _COVERED.size
        while at < len(body):
            size, marked, count = _SECTION.unpack_from(body, at)
            marks_at = at + _SECTION.size + size
            words_at = marks_at + 8 * marked
            window = windows.get(body[at + _SECTION.size : marks_at].decode())
            at = words_at + 8 * count
            if window is None:
                continue  # the rule is gone
            marks = _words(body[marks_at:words_at])
            over_ms = marks[-2] + window.prints.window_ms
            if over_ms > self._clock.now_ms:
                pairs = list(zip(marks[::2], marks[1::2], strict=True))
                window.prints.load(pairs, _words(body[words_at:at]))
            expires_at_ms = max(expires_at_ms, over_ms)
        self._chunks.append(Chunk(position, expires_at_ms, []))
        covered: int = _COVERED.unpack_from(body)[0]
        return covered

    def stop(self) -> None:
        """Write what is new: the next start need not look for it."""
        if self._timer is not None:
            self._cover()


def _since(window: Window, position: int) -> Iterable[tuple[int, int]]:
    """Return the marks of what came from a position on, the one it belongs to first."""
    marks = window.prints.marks
    first = max((index for index, mark in enumerate(marks) if mark[1] <= position), default=0)
    return marks[first:]


def _fingerprint(scope: str, topic: str, name: str) -> tuple[int, int]:
    """Return the fingerprint of a name; it is another in another scope, and for another topic."""
    text = f"{len(scope)} {len(topic)} {scope}{topic}{name}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    high, low = _WORDS.unpack(digest)
    return high, low


def _packed(words: array[int]) -> bytes:
    copy = array("Q", words)
    _little(copy)
    return copy.tobytes()


def _words(raw: bytes) -> array[int]:
    words = array("Q")
    words.frombytes(raw)
    _little(words)
    return words


def _little(words: array[int]) -> None:
    """Turn machine words to little-endian ones, or back."""
    if _BIG:
        words.byteswap()


_BIG: Final = array("H", [1]).tobytes() == b"\0\1"
