"""Which fingerprints were seen within a window: millions of them in little memory.

A fingerprint is 16 bytes, as two words; with it goes the log position of the message that had it.
Tables of plain words hold both, probed one slot after the other: 40 to 100 bytes a fingerprint, where
a dictionary takes 200. Nothing is taken out one by one. Positions grow with time, so what is below
the position of a window ago is over, and a table goes when all of it is. A table that is full is
not grown, which would hold up a turn for a second: a larger one is begun. So there are several to
look into; eight bits a slot say of most at once that they need not be.
"""

from __future__ import annotations

from array import array
from collections import deque

SLOTS_MIN = 1 << 10  # 24 KB: a window that is hardly used costs no more
SLOTS_MAX = 1 << 20  # 25 MB, made in 10 ms
GROWTH = 4  # of the next table: few steps to the largest
LOAD_MAX = 0.7  # of the slots; above it, probes get long
TABLES_PER_WINDOW = 4  # a table is closed at this part of the window, so that it can go soon after
MARKS_PER_WINDOW = 1000  # how exactly a window ends: to a thousandth of it
NEVER = 1 << 62  # no log is so long
_WORDS = 3  # of a slot: two of the fingerprint, and the position; 0: free
_GONE = 1  # position of what was forgotten: no message is there


class Table:
    """Fingerprints and positions, in slots."""

    __slots__ = ("begun_ms", "bits", "count", "mask", "newest", "room", "words")

    def __init__(self, slots: int, now_ms: int) -> None:
        self.words = array("Q", [0]) * (slots * _WORDS)
        self.bits = bytearray(slots)  # by the other word: not set if a fingerprint is not here
        self.mask = slots - 1
        self.room = int(slots * LOAD_MAX)
        self.count = 0
        self.newest = 0
        self.begun_ms = now_ms

    def at(self, high: int, low: int) -> int:
        """Return where a fingerprint is, or the free slot where it goes."""
        words, mask = self.words, self.mask
        slot = low & mask
        while True:
            index = slot * _WORDS
            if not words[index + 2] or (words[index] == high and words[index + 1] == low):
                return index
            slot = (slot + 1) & mask

    def put(self, high: int, low: int, position: int) -> None:
        """Set the position of a fingerprint."""
        words, index = self.words, self.at(high, low)
        if not words[index + 2]:
            self.count += 1
            self.bits[(high >> 3) & self.mask] |= 1 << (high & 7)
        words[index], words[index + 1], words[index + 2] = high, low, position
        if position > self.newest:
            self.newest = position


class Fingerprints:
    """Those of one window, `window_ms` long; at most `count_max`, of which the oldest go."""

    __slots__ = ("_count_max", "_horizon", "_looked_ms", "_marks", "_step_ms", "_tables", "window_ms")

    def __init__(self, window_ms: int, count_max: int) -> None:
        self.window_ms = window_ms
        self._step_ms = max(1, window_ms // MARKS_PER_WINDOW)
        self._count_max = count_max
        self._looked_ms = -1  # when it was looked what is over
        self._horizon = NEVER  # and from which position on it was not
        self._tables: list[Table] = []  # the newest last
        self._marks: deque[tuple[int, int]] = deque()  # time, position: what is from there on came then

    def __len__(self) -> int:
        return sum(table.count for table in self._tables)

    @property
    def bytes(self) -> int:
        """The memory of the tables."""
        return sum(len(table.words) * table.words.itemsize + len(table.bits) for table in self._tables)

    @property
    def marks(self) -> list[tuple[int, int]]:
        """Pairs of a time and the first position that came then."""
        return list(self._marks)

    @property
    def newest_ms(self) -> int:
        """When the last of them came, to the thousandth of the window; 0: there is none."""
        return self._marks[-1][0] if self._marks else 0

    def find(self, high: int, low: int, now_ms: int) -> int:
        """Return the position that a fingerprint came with in the last window; 0: it did not."""
        if not self._tables:
            return 0
        horizon = self.expire(now_ms)
        bit, place = 1 << (high & 7), high >> 3
        for table in reversed(self._tables):
            if table.bits[place & table.mask] & bit:
                position = table.words[table.at(high, low) + 2]
                if position:
                    return position if position >= horizon else 0
        return 0

    def add(self, high: int, low: int, position: int, now_ms: int) -> None:
        """Remember a fingerprint that came now; positions do not shrink."""
        marks = self._marks
        if not marks or now_ms >= marks[-1][0] + self._step_ms:
            marks.append((now_ms, position))
            self._looked_ms = -1
        table = self._tables[-1] if self._tables else self._begin(now_ms)
        old = (now_ms - table.begun_ms) * TABLES_PER_WINDOW >= self.window_ms
        if table.count >= table.room or (old and table.count):
            table = self._begin(now_ms)
        table.put(high, low, position)

    def load(self, marks: list[tuple[int, int]], words: array[int]) -> None:
        """Remember fingerprints of the last run, three words each; `marks` say when they came."""
        first_ms = marks[0][0]
        self._marks.extend(marks)
        self._looked_ms = -1
        table = self._tables[-1] if self._tables else self._begin(first_ms)
        for index in range(0, len(words), _WORDS):
            if table.count >= table.room:
                table = self._begin(first_ms)
            table.put(words[index], words[index + 1], words[index + 2])

    def _begin(self, now_ms: int) -> Table:
        tables = self._tables
        slots = SLOTS_MIN
        if tables:
            while slots < SLOTS_MAX and slots * LOAD_MAX < tables[-1].count * GROWTH:
                slots *= 2
        while tables and len(self) >= self._count_max:
            tables.pop(0)
        tables.append(Table(slots, now_ms))
        return tables[-1]

    def forget(self, high: int, low: int) -> None:
        """Take a fingerprint back that was just added."""
        for table in reversed(self._tables):
            index = table.at(high, low)
            if table.words[index + 2]:
                table.words[index] = table.words[index + 1] = 0
                table.words[index + 2] = _GONE
                return

    def expire(self, now_ms: int) -> int:
        """Let what is over go; return the position from which on it is not."""
        if now_ms == self._looked_ms:
            return self._horizon
        marks = self._marks
        # What a mark stands for came up to a step later.
        over_ms = now_ms - self.window_ms - (self._step_ms - 1)
        while marks and marks[0][0] <= over_ms:
            marks.popleft()
        horizon = marks[0][1] if marks else NEVER
        tables = self._tables
        while tables and tables[0].newest < horizon:
            tables.pop(0)
        self._looked_ms, self._horizon = now_ms, horizon
        return horizon
