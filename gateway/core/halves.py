"""Transactions from every door: messages that nobody sees until their producer says commit.

A producer publishes to `$transaction/<id>/publish/<topic>`, as often as it likes, and then to
`$transaction/<id>/commit` or `/rollback`; `$transaction/<id>/begin` may come first, with options. The
id is its own choice and its principal's: others' are other transactions. Whether it may publish is
asked when a message is added. A commit is one group in the log, written before anybody gets a message; what
became of a transaction is remembered, so that an answer that was lost can be asked for again. Who does not
decide is asked, see `checkback`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .access import Action, check_open
from .checkback import KEY as CHECK_KEY
from .checkback import CheckBack
from .engine import SETTLED_BY_DROP
from .errors import Conflict, GatewayError, InvalidTopic, InvalidValue, NotFound, QuotaExceeded, TooLarge
from .half import (
    AREA,
    BEGIN,
    COMMIT,
    DEAD_TOPIC,
    END,
    HALF_QUEUE_ID,
    PUBLISH,
    ROLLBACK,
    Half,
    Options,
    State,
    begin_record,
    belongs_to,
    check_id,
    end_record,
    ended,
    half_size,
    kind_of,
    letter,
    read_begin,
    read_end,
    read_options,
    read_orphan,
    readdressed,
    unwrap,
    wrap,
)
from .message import Message, wants_later
from .metrics import DropCause
from .once import release_once
from .outcomes import Outcomes
from .topic import TRANSACTION_PREFIX, check_topic
from .transaction import release

if TYPE_CHECKING:
    from .broker import Broker
    from .caller import Caller

OPEN_MAX: Final = 10_000  # about 1 KB each, and a timer
OPEN_OF_PRINCIPAL_MAX: Final = 1000  # one producer's bug leaves room for nine others
MESSAGES_MAX: Final = 1000  # of one transaction: all are read and published in one turn, some 20 ms
BYTES_MAX: Final = (
    16 << 20
)  # of their bodies: as large as one message may be, as all are in memory at a commit
BYTES_OPEN_MAX: Final = 1 << 30  # of all open ones: the log keeps them
RETRY_MS: Final = 1000  # until what a failing disk has lost is tried once more
LOAD_COUNT: Final = 1000  # records that a start reads together


#: Does as `transaction.release`, given all but the broker and the messages.
Publish = Callable[[Message, int, list[int]], list[int]]


class Halves:
    """All transactions that are open, and those that ended not long ago."""

    __slots__ = (
        "_broker",
        "_bytes",
        "_of_principal",
        "_open",
        "_outcomes",
        "begun",
        "check_back",
        "check_url",
        "committed",
        "messages_max",
        "rolled_back_count",
        "unresolved",
    )

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        broker.addresses[TRANSACTION_PREFIX[:-1]] = self.take
        self._open: dict[tuple[str, str], Half] = {}  # principal and id -> transaction
        self._outcomes = Outcomes(broker)
        self._of_principal: dict[str, int] = {}
        self._bytes = 0
        self.messages_max = MESSAGES_MAX
        self.check_back = CheckBack(broker, self.give_up)
        self.check_url: Callable[[str], None] = _no_url  # whether it may be asked; raises InvalidValue
        self.begun = 0  # since start, as the others
        self.committed = 0
        self.rolled_back_count = 0
        self.unresolved = 0

    # -- what a producer does -------------------------------------------------------------------

    def take(self, caller: Caller, message: Message) -> int:
        """Do what is published to `$transaction/...`; return the position to wait for.

        Raise what the methods below raise, or InvalidTopic.
        """
        check_topic(message.topic)
        levels = message.topic.split("/", 3)
        verb, rest = levels[2] if len(levels) > 2 else "", levels[3] if len(levels) > 3 else None
        if verb == PUBLISH and rest:
            return self.add(caller, levels[1], readdressed(message, rest))
        if rest is None and verb == BEGIN:
            options = read_options(message.body)
            options.reply_to = options.reply_to or message.properties.reply_to or ""
            return self.begin(caller, levels[1], options).number
        if rest is None and verb in (COMMIT, ROLLBACK):
            return self.resolve(caller, levels[1], verb == COMMIT)
        raise InvalidTopic(
            f"{message.topic[:200]!r}: after $transaction/<id>/, begin, publish/<topic>, commit or rollback "
            "is expected"
        )

    def begin(self, caller: Caller, id: str, options: Options) -> Half:
        """Begin a transaction; wait for its number to be stored.

        Raise InvalidValue, Conflict if the id was used, NotAuthorized for a reply-to that the caller may not
        publish to, or QuotaExceeded.
        """
        key = self._unused(caller, id)
        if key in self._open:
            raise Conflict(f"transaction {id!r} is open; commit it, roll it back, or take another id")
        if options.reply_to:
            caller.check_publish(options.reply_to)
        if options.check_url:
            self.check_url(options.check_url)
        return self._begin(caller, id, options)

    def add(self, caller: Caller, id: str, message: Message, immunity_ms: int = 0) -> int:
        """Add a message, beginning the transaction if it is the first; return the position to wait for.

        The first one's reply-to is where its producer is asked, if it may publish there, and its immunity
        (0: the usual one) how long it is not asked. Raise what `begin` does, and NotAuthorized, InvalidTopic
        or TooLarge.
        """
        key = self._unused(caller, id)
        half = self._open.get(key)
        if wants_later(message.properties):
            self._broker.schedules.due_ms(message.properties)  # what makes no sense is refused now
        if half is None:
            self._check_count(caller.principal.name)
        self._check_size(half, message)
        admitted = caller.admitted(message)
        if admitted is None:
            return 0
        if half is None:
            half = self._begin(caller, id, Options(immunity_ms, _reply_to(caller, admitted)))
        broker, size = self._broker, len(admitted.body)
        now_ms = broker.clock.now_ms
        position = broker.engine.append(wrap(admitted, half, now_ms), (HALF_QUEUE_ID,), now_ms)
        half.add(position, size)
        self._bytes += size
        broker.ready.wake()
        broker.engine.when_durable(position, lambda stored: None if stored else self._lost(half, position))
        return position

    def resolve(
        self, caller: Caller, id: str, commit: bool, principal: str | None = None, cause: str = ""
    ) -> int:
        """Commit or roll back; return the position to wait for. The same answer twice is fine.

        `principal`: whose it is, if not the caller's, who then has to manage the area `transactions`.
        Raise NotFound, NotAuthorized, Conflict if it ended otherwise, QueueFull or NotStored: in all of
        these cases nothing has happened.
        """
        half = self.find(caller, id, principal, Action.MANAGE)
        if not cause:
            cause = "producer" if half.origin.principal == caller.principal.name else "operator"
        return self.end(half, commit, cause)

    def find(self, caller: Caller, id: str, principal: str | None, action: Action) -> Half:
        """Return a transaction, open or ended. Raise NotFound, or NotAuthorized for another principal's."""
        check_id(id)
        mine = caller.principal.name
        if principal is not None and principal != mine:
            caller.check(action, AREA)
        key = (mine if principal is None else principal, id)
        half = self._open.get(key) or self._outcomes.get(key)
        if half is None:
            raise NotFound(
                f"transaction {id!r} is not known: it was never begun, or ended more than "
                f"{self._outcomes.remembered_ms // 1000} s ago"
            )
        return half

    def all(self, state: State | None = None) -> Iterator[Half]:
        """Yield the transactions that are known, the oldest of each kind first."""
        if state is not State.OPEN:
            yield from (half for half in self._outcomes if state in (None, half.state))
        if state in (None, State.OPEN):
            yield from self._open.values()

    def messages(self, half: Half) -> list[Message]:
        """Return the messages of one that is open, as a commit would publish them. Raise NotFound."""
        engine, now_ms = self._broker.engine, self._broker.clock.now_ms
        return [unwrap(engine.read(position), now_ms) for position in half.positions]

    def remember(self, remembered_ms: int) -> None:
        """Set for how long outcomes are remembered."""
        self._outcomes.remembered_ms = remembered_ms

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._open)

    # -- rules ------------------------------------------------------------------------------------

    def _unused(self, caller: Caller, id: str) -> tuple[str, str]:
        """Return the key of an id that has not ended. Raise InvalidValue or Conflict."""
        check_id(id)
        key = (caller.principal.name, id)
        known = self._outcomes.get(key)
        if known is not None:
            state = known.state.value.replace("-", " ")
            raise Conflict(f"transaction {id!r} was {state}; begin another, with a new id")
        return key

    def _check_count(self, principal: str) -> None:
        if len(self._open) >= OPEN_MAX:
            raise QuotaExceeded(f"{OPEN_MAX} transactions are open, as many as may be; try again later")
        if self._of_principal.get(principal, 0) >= OPEN_OF_PRINCIPAL_MAX:
            raise QuotaExceeded(
                f"{OPEN_OF_PRINCIPAL_MAX} transactions of {principal!r} are open; commit some, or roll back"
            )

    def _check_size(self, half: Half | None, message: Message) -> None:
        size = len(message.body)
        if half is not None and half.messages >= self.messages_max:
            raise TooLarge(f"transaction {half.id!r} has {half.messages} messages, as many as it may")
        if (half.size if half is not None else 0) + size > BYTES_MAX:
            raise TooLarge(f"a transaction has at most {BYTES_MAX} bytes of bodies; use several")
        if self._bytes + size > BYTES_OPEN_MAX:
            raise QuotaExceeded(f"open transactions hold {BYTES_OPEN_MAX} bytes, as many as they may")

    # -- what happens -----------------------------------------------------------------------------

    def _begin(self, caller: Caller, id: str, options: Options) -> Half:
        self._check_count(caller.principal.name)
        broker, origin = self._broker, caller.origin
        now_ms = broker.clock.now_ms
        number = broker.engine.append(begin_record(id, origin, options, now_ms), (HALF_QUEUE_ID,), now_ms)
        half = Half(id, number, origin, options, now_ms)
        self._opened(half)
        self.begun += 1
        broker.ready.wake()
        self.check_back.begun(half)
        return half

    def _opened(self, half: Half) -> None:
        principal = half.origin.principal
        self._open[half.key] = half
        self._of_principal[principal] = self._of_principal.get(principal, 0) + 1

    def _closed(self, half: Half) -> None:
        """It is open no more."""
        principal = half.origin.principal
        del self._open[half.key]
        self._bytes -= half.size
        left = self._of_principal[principal] - 1
        if left:
            self._of_principal[principal] = left
        else:
            del self._of_principal[principal]
        self.check_back.ended(half)

    def end(self, half: Half, commit: bool, cause: str) -> int:
        """Commit or roll back; return the position to wait for. Raise Conflict, QueueFull or NotStored."""
        broker, wanted = self._broker, State.COMMITTED if commit else State.ROLLED_BACK
        if half.state is State.OPEN:
            messages = self._readable(half) if commit else []
            self._end(half, wanted, cause, lambda *what: release_once(broker, messages, *what))
        elif half.state is not wanted:
            how = "; nobody had said what is to become of it" if half.cause == "unresolved" else ""
            raise Conflict(f"transaction {half.id!r} was {half.state.value.replace('-', ' ')} already{how}")
        return half.end_position

    def _readable(self, half: Half) -> list[Message]:
        try:
            messages = self.messages(half)
        except NotFound:
            half.damaged = True
        if half.damaged:  # half of it would be worse than nothing
            raise Conflict(f"transaction {half.id!r}: part of it cannot be read any more; roll it back")
        return messages

    def _end(self, half: Half, state: State, cause: str, publish: Publish) -> None:
        """Publish, remember, forget: one group. Raise QueueFull or NotStored, having done nothing."""
        broker = self._broker
        now_ms = broker.clock.now_ms
        record = end_record(half, state, cause, now_ms)
        gone = [half.number, *half.positions]
        position = publish(record, HALF_QUEUE_ID, gone)[-1]
        self._closed(half)
        ended(half, state, cause, now_ms, position)
        self._outcomes.add(half)
        self._watch(half, record, publish)
        if state is State.COMMITTED:
            self.committed += 1
        else:
            self.rolled_back_count += 1

    def give_up(self, half: Half) -> None:
        """Nobody says what is to become of it: roll it back, and put its messages where people find them.

        Raise a GatewayError if that cannot be now.
        """
        broker = self._broker
        now_ms = broker.clock.now_ms
        letters = self._letters(half, now_ms) if half.messages else []
        self._end(half, State.ROLLED_BACK, "unresolved", lambda *what: release(broker, letters, *what))
        self.unresolved += 1
        metrics = broker.metrics
        metrics.refuse(DropCause.TRANSACTION_UNRESOLVED, len(letters))
        metrics.dead_lettered += len(letters)

    def _letters(self, half: Half, now_ms: int) -> list[Message]:
        engine = self._broker.engine
        self._broker.letters.make(DEAD_TOPIC)
        letters: list[Message] = []
        for position in half.positions:
            with suppress(NotFound):  # the log has lost it
                letters.append(letter(unwrap(engine.read(position), now_ms), half, now_ms, position))
        return letters

    # -- start and failure ------------------------------------------------------------------------

    def _watch(self, half: Half, record: Message, publish: Publish) -> None:
        """Have an end that a sync which fails has lost once more: it is decided, and stays so."""
        position = half.end_position

        def told(stored: bool) -> None:
            if not stored and half.end_position == position:
                self._again(half, record, publish)

        self._broker.engine.when_durable(position, told)

    def _again(self, half: Half, record: Message, publish: Publish) -> None:
        try:
            half.end_position = publish(record, HALF_QUEUE_ID, [half.end_position])[-1]
        except GatewayError:
            self._broker.scheduler.after(RETRY_MS, lambda: self._again(half, record, publish))
        else:
            self._watch(half, record, publish)

    def restore(self) -> None:
        """Take over what recovery found."""
        engine, position = self._broker.engine, 0
        numbers: dict[int, Half] = {}
        while found := engine.after(HALF_QUEUE_ID, position, LOAD_COUNT):
            for entry in found:
                position = entry.position
                self._restore(entry.message, position, numbers)
        for half in self._open.values():
            self.check_back.restored(half)
        for key, _ in list(engine.scan(CHECK_KEY)):
            if int(key[len(CHECK_KEY) :]) not in numbers:
                engine.delete(key)
        self._outcomes.restored()

    def _restore(self, message: Message | None, position: int, numbers: dict[int, Half]) -> None:
        if message is None:  # nobody knows whose it was
            for half in numbers.values():
                half.damaged = True
            self._drop(position, DropCause.UNREADABLE)
        elif (kind := kind_of(message)) == BEGIN:
            half = numbers[position] = read_begin(message, position)
            self._opened(half)
        elif kind == END:
            self._outcomes.restore(read_end(message, position))
        else:
            self._restore_message(message, position, numbers)

    def _restore_message(self, message: Message, position: int, numbers: dict[int, Half]) -> None:
        number, index = belongs_to(message)
        half = numbers.get(number)
        if half is None:
            half = numbers[number] = read_orphan(message, self._broker.clock.now_ms)
            self._opened(half)
        half.damaged |= index != half.messages  # one before it is lost
        size = half_size(message)
        half.add(position, size)
        self._bytes += size

    def _drop(self, position: int, cause: DropCause) -> None:
        outcome = SETTLED_BY_DROP + cause
        self._broker.engine.settle(HALF_QUEUE_ID, (position,), outcome, self._broker.clock.now_ms)

    def _lost(self, half: Half, position: int) -> None:
        """A sync that failed has lost a message; its publisher was told so."""
        if self._broker.engine.stored(position) is False and position in half.positions:
            self._bytes -= half.take_back(half.positions.index(position))
            self._drop(position, DropCause.NOT_STORED)

    def rolled_back(self, first: int) -> None:
        """The log could not be written from a position on. Ends are never among that: see `release`."""
        for half in list(self._open.values()):
            if half.number >= first:
                self._closed(half)
                continue
            while half.positions and half.positions[-1] >= first:
                self._bytes -= half.take_back(-1)


def _reply_to(caller: Caller, message: Message) -> str:
    """Return a message's reply-to, if its publisher may have something published there, or ""."""
    topic = message.properties.reply_to
    if not topic:
        return ""
    try:
        check_open(topic)
    except GatewayError:
        return ""
    return topic if caller.may(Action.PUBLISH, topic) else ""


def _no_url(url: str) -> None:
    raise InvalidValue("check_url: this gateway asks no URLs; see transactions.check_urls")
