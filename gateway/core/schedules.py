"""Messages that wait for their time: scheduled by any door, published when they are due.

A scheduled message is a message in a bucket of the calendar, stored before its publisher is told.
When it is due it is published in its own place, with what else is due in that turn, as one group of
records: after a crash it waits, or it is out; never both, never neither. Who may publish is asked
when it is scheduled, not again when it is due.

Times are the gateway's own (see `clock`). A time that a client names is taken by the wall clock of
that moment; a jump of the wall clock later moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from .bucket import Bucket
from .calendar import Calendar
from .due import NEVER_MS
from .engine import SETTLED_BY_DROP, StorageEngine
from .errors import InvalidTopic, InvalidValue, NotFound, QueueFull
from .message import Message, Properties, wants_later
from .metrics import DropCause
from .plan import Plan
from .router import Binding, Route
from .scheduler import Timer
from .topic import DELAYED_PREFIX, check_topic
from .transaction import Publish, move_all

if TYPE_CHECKING:
    from .broker import Broker
    from .session import Session

DISTANCE_MS_MAX: Final = 10 * 366 * 86_400_000  # ten years: a later one is a mistake in the units
FIRED_PER_TURN: Final = 500  # messages: some 20 ms, others have their turns
FIRED_BYTES: Final = 1 << 20  # of bodies, read in one turn; the first may be larger
FULL_PAUSE_MS: Final = 1000  # until a queue that was full is tried again
POSITION_MAX: Final = (1 << 63) - 1
INVALID_DELAY: Final = -1  # what a door sets for a delay that is none

_NO_ROUTE: Final = Route(0)  # a message that waits has none yet

#: Returns a due message as it goes out, and its way: for what came with a native encoding of its door.
Release = Callable[[Message], tuple[Message, Route | None]]


class Scheduled(NamedTuple):
    """A message that waits. `due_ms` is the gateway's own time."""

    position: int  # its id: it stays the same over restarts, and is never used again
    due_ms: int
    message: Message
    bucket: Bucket


def delay_of(seconds: float, what: str) -> int:
    """Return milliseconds. Raise InvalidValue, naming `what`, for what is no delay."""
    if not (math.isfinite(seconds) and 0 <= seconds * 1000 <= DISTANCE_MS_MAX):
        limit = DISTANCE_MS_MAX // 1000
        raise InvalidValue(f"{what} is {seconds:g}; seconds are expected, 0 to {limit} (ten years)")
    return round(seconds * 1000)


def parse_delay(text: str, what: str) -> int:
    """Return milliseconds of seconds, whole or decimal. Raise InvalidValue."""
    plain = text.isascii() and len(text) <= 24 and text.replace(".", "", 1).isdigit()
    if not plain:
        raise InvalidValue(f"{what} is {text[:40]!r}; seconds such as 10 or 0.5 are expected")
    return delay_of(float(text), what)


class Schedules:
    """Part of the broker."""

    __slots__ = ("_armed_ms", "_broker", "_timer", "calendar", "release")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.release: dict[str, Release] = {}  # by format of the native encoding
        self.calendar = Calendar(
            broker.engine, broker.catalog, broker.queues, broker.scheduler, broker.clock, self._arm
        )
        self._timer: Timer | None = None
        self._armed_ms = NEVER_MS
        broker.addresses[DELAYED_PREFIX[:-1]] = self._take

    @property
    def engine(self) -> StorageEngine:
        """Where it all is."""
        return self._broker.engine

    # -- scheduling -----------------------------------------------------------------------------

    def _take(self, session: Session, message: Message) -> int:
        """Take what is published to `$delayed/<seconds>/<topic>`, as for that topic, but later."""
        try:
            delay_ms, topic = _parse(message.topic)
            if topic.partition("/")[0] in self._broker.addresses:
                raise InvalidTopic(f"{topic[:200]!r} is for now; publish there when it is time")
        except InvalidTopic:
            session.refused(DropCause.INVALID)
            raise
        properties = message.properties.copy()
        properties.deliver_at_ms = None
        properties.delay_ms = delay_ms
        return session.publish(message.changed(topic, properties, message.expires_at_ms))

    def publish(self, message: Message, route: Route | None) -> int:
        """Publish a message, or keep it until it is due; return as `Broker.publish`. Raise InvalidValue."""
        position = self.hold(message) if wants_later(message.properties) else 0
        return position or self._broker.publish(message, route)

    def hold(self, message: Message) -> int:
        """Keep a message until it is due; return the position to wait for, 0 if that is now.

        Raise InvalidValue.
        """
        broker = self._broker
        try:
            plan = self.plan(message)
        except InvalidValue:
            broker.metrics.refuse(DropCause.INVALID)
            raise
        if plan is None:
            return 0
        broker.ready.wake()
        position = broker.engine.append(plan.message, plan.ids, broker.clock.now_ms)
        broker.metrics.published += 1
        return self.carry_out(plan, position)

    def plan(self, message: Message) -> Plan | None:
        """Return where a message waits; None if it is due now. Raise InvalidValue."""
        due_ms = self.due_ms(message.properties)
        return self._plan(message, due_ms) if due_ms > self._broker.clock.now_ms else None

    def due_ms(self, properties: Properties) -> int:
        """Return when a message is due, by the gateway's own time. Raise InvalidValue."""
        clock = self._broker.clock
        if properties.delay_ms < 0:
            raise InvalidValue("the delay is no number of seconds; 0 or more is expected, such as 10 or 0.5")
        if properties.delay_ms:
            due_ms = clock.now_ms + properties.delay_ms
        else:
            due_ms = clock.own(properties.deliver_at_ms or 0)
        return self.check(due_ms)

    def check(self, due_ms: int) -> int:
        """Return a time if it is one that can be waited for. Raise InvalidValue."""
        if due_ms - self._broker.clock.now_ms > DISTANCE_MS_MAX:
            raise InvalidValue("deliver-at is more than ten years ahead; Unix milliseconds are expected")
        return due_ms

    def _plan(self, message: Message, due_ms: int) -> Plan:
        kept = message.properties.native_format in self.release
        expires_at_ms = message.expires_at_ms
        if expires_at_ms:  # it counts from when the message is due
            expires_at_ms += max(0, due_ms - self._broker.clock.now_ms)
        stored = message.changed(message.topic, message.properties.due_at(due_ms, kept), expires_at_ms)
        queue = self.calendar.bucket(due_ms).queue
        return Plan(stored, [Binding(queue.name, queue)], [], (queue.queue_id,), True, _NO_ROUTE, due_ms)

    def carry_out(self, plan: Plan, position: int) -> int:
        """A message is in the log at a position, and waits from now on."""
        broker = self._broker
        queue = plan.queues[0].queue
        assert queue is not None
        queue.put(plan.message, position, None, broker.clock.now_ms)
        broker.metrics.copies += 1
        self.calendar.put(self.calendar.bucket_of(queue), plan.due_ms, position)
        if plan.due_ms < self._armed_ms:
            self._arm()
        return position

    # -- firing ---------------------------------------------------------------------------------

    def _arm(self) -> None:
        scheduler, head_ms = self._broker.scheduler, self.calendar.due.head_ms()
        scheduler.cancel(self._timer)
        self._timer, self._armed_ms = None, head_ms
        if head_ms != NEVER_MS:
            self._timer = scheduler.after(head_ms - self._broker.clock.now_ms, self._fire)

    def _fire(self) -> None:
        try:
            taken = self.calendar.take(FIRED_PER_TURN)
            found = self._read(taken)
            if found:
                self._publish(found)
        finally:
            self._arm()

    def _read(self, taken: list[tuple[int, int, Bucket]]) -> list[Scheduled]:
        """Return the messages; what is too much for this turn is due again."""
        broker, now_ms = self._broker, self._broker.clock.now_ms
        found: list[Scheduled] = []
        left = FIRED_BYTES
        for due_ms, position, bucket in taken:
            if left <= 0:
                self.calendar.again(bucket, due_ms, position)
                continue
            try:
                message = broker.engine.read(position)
            except NotFound:
                self._drop(bucket, position, 0, DropCause.UNREADABLE)
                continue
            left -= len(message.body)
            if 0 < message.expires_at_ms <= now_ms:
                self._drop(bucket, position, len(message.body), DropCause.EXPIRED)
            else:
                found.append(Scheduled(position, due_ms, message, bucket))
        return found

    def _publish(self, due: list[Scheduled]) -> None:
        """Publish messages in place of those that wait; what a full queue rejects waits on."""
        try:
            self._move(due)
        except QueueFull:
            later_ms = self._broker.clock.now_ms + FULL_PAUSE_MS
            for each in due:
                try:
                    self._move([each])
                except QueueFull:
                    self.calendar.again(each.bucket, later_ms, each.position)

    def _move(self, due: list[Scheduled]) -> None:
        """Do it for all of them, or raise QueueFull, having done nothing."""
        settled: dict[int, list[int]] = {}
        for each in due:
            settled.setdefault(each.bucket.queue.queue_id, []).append(each.position)
        groups = [(queue_id, sorted(positions)) for queue_id, positions in settled.items()]
        move_all(self._broker, [self._released(each.message) for each in due], groups)
        for each in due:
            each.bucket.queue.withdraw(len(each.message.body))
        self._broker.metrics.copies -= len(due)  # publishing has counted them anew

    def _released(self, message: Message) -> Publish:
        """Return a message as it goes out, and its way."""
        properties, offset_ms = message.properties, self._broker.clock.offset_ms
        if offset_ms and properties.deliver_at_ms is not None:
            properties = properties.due_at(properties.deliver_at_ms + offset_ms, True)
            message = message.changed(message.topic, properties, message.expires_at_ms)
        release = self.release.get(properties.native_format)
        if release is None:
            return message, None
        try:
            return release(message)
        except Exception as error:
            self._broker.on_bug(f"a scheduled message to {message.topic}", error)
            return message, None

    def _drop(self, bucket: Bucket, position: int, size: int, cause: DropCause) -> None:
        broker = self._broker
        broker.ready.wake()
        if bucket.queue.withdraw(size):
            broker.metrics.drop(cause)
        self._settle(bucket, position, cause)

    def _settle(self, bucket: Bucket, position: int, cause: DropCause) -> None:
        broker = self._broker
        outcome = SETTLED_BY_DROP + cause
        broker.engine.settle(bucket.queue.queue_id, (position,), outcome, broker.clock.now_ms)

    # -- looking and changing -------------------------------------------------------------------

    def find(self, position: int) -> Scheduled:
        """Return a message that waits. Raise NotFound."""
        if 0 < position <= POSITION_MAX:
            try:
                message = self._broker.engine.read(position)
            except NotFound:
                message = None
            due_ms = message.properties.deliver_at_ms if message is not None else None
            if message is not None and due_ms is not None:
                bucket = self.calendar.find(due_ms, position)
                if bucket is not None:
                    return Scheduled(position, due_ms, message, bucket)
        raise NotFound(f"no schedule {position}: it was published, cancelled or edited since, or never was")

    def waits(self, position: int) -> bool:
        """Tell whether there is a message at a position that waits."""
        try:
            self.find(position)
        except NotFound:
            return False
        return True

    def cancel(self, position: int) -> Scheduled:
        """Have a message never be published; return it. Raise NotFound."""
        found = self.find(position)
        broker, size = self._broker, len(found.message.body)
        broker.ready.wake()
        if self.calendar.withdraw(found.bucket, found.due_ms, position, size):
            broker.metrics.drop(DropCause.CANCELLED)
            self._settle(found.bucket, position, DropCause.CANCELLED)
        return found

    def publish_now(self, position: int) -> int:
        """Publish a message that waits; return the position to wait for. Raise NotFound or QueueFull."""
        found = self.find(position)
        self._broker.ready.wake()
        self._move([found])
        if found.bucket.seen(found.due_ms, position):
            found.bucket.gone.add(position)
        self.calendar.touched = True
        return self._broker.engine.position()

    def replace(self, position: int, message: Message, due_ms: int) -> int:
        """Have another message wait in place of one, in one step; return its position.

        Its expiry is taken as it is. Raise NotFound or InvalidValue.
        """
        found = self.find(position)
        broker = self._broker
        plan = self._plan(message.changed(message.topic, message.properties, 0), self.check(due_ms))
        plan.message.expires_at_ms = message.expires_at_ms
        broker.ready.wake()
        settled = [(found.bucket.queue.queue_id, (position,))]
        (new,) = broker.engine.transact([(plan.message, plan.ids)], settled, broker.clock.now_ms)
        self.calendar.withdraw(found.bucket, found.due_ms, position, len(found.message.body))
        broker.metrics.copies -= 1
        return self.carry_out(plan, new)


def _parse(name: str) -> tuple[int, str]:
    """Return (delay in ms, topic) of `$delayed/<seconds>/<topic>`. Raise InvalidTopic."""
    seconds, slash, topic = name[len(DELAYED_PREFIX) :].partition("/")
    if not slash:
        raise InvalidTopic(f"{name[:200]!r}: $delayed/<seconds>/<topic> is expected")
    check_topic(topic)
    try:
        return parse_delay(seconds, "the delay"), topic
    except InvalidValue as error:
        raise InvalidTopic(f"{name[:200]!r}: {error.detail}") from error
