"""Ordering keys: of one key, one message at a time, in order; other keys flow.

What a queue hands out passes here once a message of the group has had a key. The first of a key
goes out and is its *head* until it is settled for good; those after it line up behind it. Then the
next one is *released*: it goes out before anything else of the queue. A head that comes back is
released again, so that a failing key backs off alone.

A line is in memory as far as its messages would be anyhow (not durable), or up to what a queue
keeps in memory; beyond that it is three words a message, and the engine is asked when it is its turn.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from .delivery import UNLOADED, Delivery, Group, by_offset

LINED_UP_MAX = 100_000  # a group, in words: 2.4 MB. Over it the group takes nothing new until it is less
SET_ASIDE_MAX = 1_000_000  # the same for failing and parked keys together: 24 MB
LOOKED_AT_MAX = 4096  # messages a pump looks at for one it may hand out: others have their turns
RETURNS_MAX = 2  # a head that came back so often fails: its line must not hold up others'
FETCHED_TOGETHER = 64  # of a line's words, made deliveries again

WORDS: Final = 3  # offset, position, size


class Key:
    """One key that is busy, or parked by an operator."""

    __slots__ = ("apart", "far", "head", "name", "near", "out", "parked", "returns", "since_ms")

    def __init__(self, name: str) -> None:
        self.name = name
        self.head: Delivery | None = None  # in hands, given back, or released; none if parked
        self.out = 0  # heads: one, but for what was handed out before there was an order
        self.near: deque[Delivery] | None = None
        self.far: array[int] | None = None  # behind `near`
        self.since_ms = 0  # when its head was handed out first
        self.returns = 0  # how often it came back
        self.apart = False  # fails or is parked: counted with these until its line is empty
        self.parked = False  # by an operator

    def length(self) -> int:
        """Return how many messages line up behind the head."""
        return len(self.near or ()) + len(self.far or ()) // WORDS


class KeyOrder:
    """The keys of one group. `count` messages of `size` bytes wait here: lined up, or released."""

    __slots__ = ("_apart", "_far", "_group", "_heads", "_near", "count", "keys", "released", "size")

    def __init__(self, group: Group) -> None:
        self._group = group
        self.keys: dict[str, Key] = {}
        self._heads: dict[int, Key] = {}  # by offset
        self.released: deque[Delivery] = deque()  # heads that are to go out next
        self.count = 0
        self.size = 0
        self._near = 0  # durable messages that are kept as deliveries
        self._far = 0  # in words
        self._apart = 0  # in words, of keys that are apart
        for delivery in (*group.unsettled.values(), *group.parked.values()):
            self._adopt(delivery)

    def _adopt(self, delivery: Delivery) -> None:
        """It was handed out before there was an order."""
        name = delivery.message.properties.key
        if name is not None:
            key = self.keys.setdefault(name, Key(name))
            self._make_head(key, delivery)

    # -- handing out --------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether more than may line up does: nothing new is taken."""
        return self._far >= LINED_UP_MAX or self._apart >= SET_ASIDE_MAX

    def ready(self) -> int:
        """Return how many messages a pump could look at now."""
        if self.full:
            return len(self.released)
        return len(self.released) + self._group.queue.fresh(self._group)

    def take(self, count: int, now_ms: int) -> list[Delivery]:
        """Return up to `count` messages that may go out now."""
        batch: list[Delivery] = []
        looked_at = 0
        queue = self._group.queue
        while True:
            while self.released and len(batch) < count:
                self._release(batch, now_ms)
            room = min(count - len(batch), LOOKED_AT_MAX - looked_at)
            if room <= 0 or self.full:
                return batch
            found = queue.take(self._group, room, now_ms)
            if not found:
                return batch
            looked_at += len(found)
            self.sift(found, batch, now_ms)

    def sift(self, found: list[Delivery], batch: list[Delivery], now_ms: int) -> None:
        """Add to a batch what may go out of what the queue has handed out; the rest lines up."""
        keys, heads = self.keys, self._heads
        free = self._group.queue.ordered
        for delivery in found:
            name = delivery.message.properties.key
            if name is None:
                batch.append(delivery)
                continue
            key = keys.get(name)
            if key is None:
                if not free:
                    batch.append(delivery)  # switched off: only what has lined up keeps its order
                    continue
                key = keys[name] = Key(name)
                key.head, key.out, key.since_ms = delivery, 1, now_ms
                heads[delivery.offset] = key
                batch.append(delivery)
            else:
                self._line_up(key, delivery)

    def _release(self, batch: list[Delivery], now_ms: int) -> None:
        """Add the first that is released to a batch, unless it has expired or cannot be read."""
        delivery = self.released.popleft()
        self._leave(delivery)
        if self._group.queue.revive(self._group, delivery, now_ms):
            key = self._heads[delivery.offset]
            key.since_ms = key.since_ms or now_ms
            batch.append(delivery)
        else:
            self.done(delivery.offset)

    # -- lines --------------------------------------------------------------------------------

    def _enter(self, delivery: Delivery) -> None:
        self.count += 1
        self.size += delivery.size
        self._group.queue.set_aside(1, delivery.size)

    def _leave(self, delivery: Delivery) -> None:
        self.count -= 1
        self.size -= delivery.size
        self._group.queue.set_aside(-1, -delivery.size)

    def _line_up(self, key: Key, delivery: Delivery) -> None:
        """Put a message behind those of its key: mostly the last."""
        self._enter(delivery)
        far = key.far
        fits = self._near < self._group.queue.memory_messages_max and not key.apart
        if not delivery.position or (fits and not far):
            if key.near is None:
                key.near = deque()
            _insert(key.near, delivery)
            if delivery.position:
                self._near += 1
        elif not far and key.near and delivery.offset < key.near[-1].offset:
            _insert(key.near, delivery)
            self._near += 1
        else:
            if far is None:
                far = key.far = array("Q")
            at = len(far)
            while at and far[at - WORDS] > delivery.offset:
                at -= WORDS
            far[at:at] = array("Q", (delivery.offset, delivery.position, delivery.size))
            self._count_far(key, 1)

    def _count_far(self, key: Key, count: int) -> None:
        if key.apart:
            self._apart += count
        else:
            self._far += count

    def _next(self, key: Key) -> Delivery | None:
        """Take the first out of a line; it is still counted."""
        if not key.near and key.far:
            self._fetch(key, key.far)
        if not key.near:
            return None
        delivery = key.near.popleft()
        if delivery.position:
            self._near -= 1
        return delivery

    def _fetch(self, key: Key, far: array[int]) -> None:
        """Make deliveries of a line's first words."""
        near = key.near = key.near or deque()
        words = far[: WORDS * FETCHED_TOGETHER]
        del far[: len(words)]
        for at in range(0, len(words), WORDS):
            offset, position, size = words[at : at + WORDS]
            near.append(Delivery(self._group, offset, position, UNLOADED, size))
        self._near += len(near)
        self._count_far(key, -(len(words) // WORDS))

    def _set_apart(self, key: Key) -> None:
        """A key fails, or is parked: let what others want go out of memory, and count it elsewhere."""
        if key.apart:
            return
        far = key.far or array("Q")
        self._far -= len(far) // WORDS
        key.apart = True
        words: list[array[int]] = []
        # What was handed out before stays as it is: the engine does not know all of it.
        while key.near and key.near[-1].position and not key.near[-1].attempt:
            delivery = key.near.pop()
            words.append(array("Q", (delivery.offset, delivery.position, delivery.size)))
            self._near -= 1
        near = array("Q")
        for entry in reversed(words):
            near += entry
        key.far = near + far
        self._apart += len(key.far) // WORDS

    # -- heads --------------------------------------------------------------------------------

    def _make_head(self, key: Key, delivery: Delivery) -> None:
        key.head = delivery
        key.out += 1
        self._heads[delivery.offset] = key

    def _promote(self, key: Key) -> None:
        """A key has no head: its next message is released, or the key is free."""
        key.head = None
        key.since_ms = key.returns = 0
        if key.parked:
            return
        delivery = self._next(key)
        if delivery is None:
            del self.keys[key.name]
            return
        if key.apart and not key.far:
            key.apart = False
        self._make_head(key, delivery)
        self.released.append(delivery)

    def done(self, offset: int) -> None:
        """A message is settled for good: if it was a head, its key goes on."""
        key = self._heads.pop(offset, None)
        if key is not None:
            key.out -= 1
            if not key.out:
                self._promote(key)

    def returned(self, delivery: Delivery) -> bool:
        """A delivery is given back: a head waits here. False if it is none and goes to its queue."""
        key = self._heads.get(delivery.offset)
        if key is None:
            return False
        group = self._group
        if not group.queue.has_passed(group, delivery.offset):
            self.done(delivery.offset)  # a seek went back: the cursor comes by it again
            return True
        self._enter(delivery)
        key.head = delivery
        key.returns += 1
        if key.parked:
            del self._heads[delivery.offset]
            key.out -= 1
            key.head = None
            self._put_first(key, delivery)
            return True
        if key.returns >= RETURNS_MAX:
            self._set_apart(key)
        self.released.appendleft(delivery)
        return True

    def _put_first(self, key: Key, delivery: Delivery) -> None:
        if key.near is None:
            key.near = deque()
        _insert(key.near, delivery)
        if delivery.position:
            self._near += 1

    # -- by an operator -----------------------------------------------------------------------

    def park(self, name: str) -> None:
        """Hold a key's messages back, but for what is in a consumer's hands."""
        key = self.keys.setdefault(name, Key(name))
        key.parked = True
        self._set_apart(key)
        head = key.head
        if head is not None and head in self.released:
            self.released.remove(head)
            del self._heads[head.offset]
            key.out -= 1
            key.head = None
            self._put_first(key, head)

    def unpark(self, name: str) -> bool:
        """Let a key go on; False if it was not parked."""
        key = self.keys.get(name)
        if key is None or not key.parked:
            return False
        key.parked = False
        if not key.out:
            self._promote(key)
        return True

    def first(self, key: Key) -> Delivery | None:
        """Take a key's next message out if it waits here, for an operator to give up; else None.

        It stays, or becomes, the head until it is done.
        """
        head = key.head
        if head is None:
            head = self._next(key)
            if head is None:
                return None
            self._make_head(key, head)
        elif head in self.released:
            self.released.remove(head)
        else:
            return None
        self._leave(head)
        return head

    # -- losing -------------------------------------------------------------------------------

    def oldest(self) -> Delivery | None:
        """Take out the oldest that waits here: it has to make room. The keys are looked at, one by one."""
        found: Delivery | None = min(self.released, key=by_offset, default=None)
        line: Key | None = None
        for key in self.keys.values():
            if not key.near and key.far:
                self._fetch(key, key.far)
            if key.near and (found is None or key.near[0].offset < found.offset):
                found, line = key.near[0], key
        if found is None:
            return None
        if line is None:
            self.released.remove(found)
        else:
            self._next(line)
        self._leave(found)
        return found

    def expired(self, now_ms: int) -> list[Delivery]:
        """Take out what has expired at the front of lines, and is in memory."""
        lost: list[Delivery] = []
        for delivery in [found for found in self.released if found.expired(now_ms)]:
            self.released.remove(delivery)
            lost.append(delivery)
        for key in self.keys.values():
            while key.near and key.near[0].expired(now_ms):
                found = self._next(key)
                assert found is not None
                lost.append(found)
        for delivery in lost:
            self._leave(delivery)
        return lost

    def clear(self) -> None:
        """Nothing waits here any more; what is in hands, or held back for a while, stays a head."""
        self._keep(lambda offset, position: False)
        group = self._group
        for offset in list(self._heads):
            if offset not in group.unsettled and offset not in group.parked:
                self.done(offset)

    def forget_from(self, place: int, offsets: bool) -> None:
        """What was stored from a position on was not, or from an offset on: it never was here."""
        self._keep(lambda offset, position: (offset if offsets else position) < place)
        if offsets:
            for offset in [offset for offset in self._heads if offset >= place]:
                self.done(offset)

    def _keep(self, wanted: Callable[[int, int], bool]) -> None:
        """Forget what waits here, but for those of which (offset, position) are wanted."""
        gone = [d for d in self.released if not wanted(d.offset, d.position)]
        for key in self.keys.values():
            near = key.near or ()
            gone += [d for d in near if not wanted(d.offset, d.position)]
            key.near = deque(d for d in near if wanted(d.offset, d.position)) or None
            self._near -= sum(1 for d in near if d.position and not wanted(d.offset, d.position))
            if key.far:
                self._keep_far(key, key.far, wanted)
        self.released = deque(d for d in self.released if wanted(d.offset, d.position))
        for delivery in gone:
            self._leave(delivery)
            self.done(delivery.offset)

    def _keep_far(self, key: Key, far: array[int], wanted: Callable[[int, int], bool]) -> None:
        kept: array[int] = array("Q")
        for at in range(0, len(far), WORDS):
            offset, position, size = words = far[at : at + WORDS]
            if wanted(offset, position):
                kept.extend(words)
            else:
                self._leave(Delivery(self._group, offset, position, UNLOADED, size))
        self._count_far(key, (len(kept) - len(far)) // WORDS)
        key.far = kept

    # -- looking ------------------------------------------------------------------------------

    def waiting(self) -> Iterator[Delivery]:
        """Yield what waits here, in no particular order; the messages of some are `UNLOADED`."""
        yield from self.released
        for key in self.keys.values():
            yield from key.near or ()
            far = key.far or ()
            for at in range(0, len(far), WORDS):
                yield Delivery(self._group, far[at], far[at + 1], UNLOADED, far[at + 2])

    def floor(self, above: int) -> int:
        """Return the lowest offset that waits here, or `above`."""
        for delivery in self.released:
            above = min(above, delivery.offset)
        for key in self.keys.values():
            if key.near:
                above = min(above, key.near[0].offset)
            elif key.far:
                above = min(above, key.far[0])
        return above

    def newest(self) -> int:
        """Return the highest position that waits here, 0 if none does."""
        found = max((delivery.position for delivery in self.released), default=0)
        for key in self.keys.values():
            if key.far:
                found = max(found, key.far[-2])
            elif key.near:
                found = max(found, key.near[-1].position)
        return found


def _insert(line: deque[Delivery], delivery: Delivery) -> None:
    """Put a delivery where its offset belongs: at the end, but for what came back."""
    at = len(line)
    while at and line[at - 1].offset > delivery.offset:
        at -= 1
    line.insert(at, delivery)
