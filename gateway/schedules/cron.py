"""Cron: messages that are published again and again, at times as people write them.

Each is a key of the metadata store. Its times go by the wall clock, as its time zone has it. A run is
published under an idempotency key of its own and noted once it is on disk: should that be forgotten by a
crash, or the disk be full, the run is tried again and is no second one. Rights are its maker's, asked when
it is made.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from gateway.api import Conflict, GatewayError, NotFound
from gateway.core.broker import Broker
from gateway.core.message import Message, Origin, Properties
from gateway.core.once import publish_once
from gateway.core.scheduler import Timer
from gateway.core.values import from_json

from .entry import ONCE, Entry

KEY: Final = "cron/"
CRONS_MAX: Final = 10_000  # about 1 KB each without their bodies, and a timer
LOOK_MS: Final = 30_000  # how often the wall clock is looked at: somebody may set it
LATE_MS: Final = 60_000  # a run that is so late was missed: the gateway was away, or the clock was set
RETRY_MS: Final = 1000  # after a full queue, or a full disk

log = structlog.get_logger("gateway")
_decode = msgspec.msgpack.Decoder(Entry).decode
_encode = msgspec.msgpack.Encoder().encode


class Cron:
    """One of them, at work."""

    __slots__ = ("entry", "failed", "next_ms", "timer")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.next_ms = 0  # 0: never
        self.timer: Timer | None = None
        self.failed = ""  # why the last run was not published


class Crons:
    """All of them, by name."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.all: dict[str, Cron] = {}

    def restore(self) -> None:
        """Take up what was there before the restart; what was missed meanwhile runs, if it is to."""
        for key, value in list(self._broker.engine.scan(KEY)):
            try:
                entry = _decode(value)
                cron = self.all[entry.name] = Cron(entry)
                # From the last run on: so what is missed is the next, and late.
                self._plan(cron, max(entry.last_ms, entry.made_ms))
            except (msgspec.MsgspecError, GatewayError) as error:
                log.error("a cron schedule cannot be read, and does not run", key=key, reason=str(error))

    def get(self, name: str) -> Cron:
        """Return one. Raise NotFound."""
        found = self.all.get(name)
        if found is None:
            raise NotFound(f"no cron schedule {name[:100]!r}; GET /v1/cron lists those there are")
        return found

    def put(self, entry: Entry) -> bool:
        """Add or change one, which was checked; tell whether it is new. Raise Conflict for one too many."""
        old = self.all.get(entry.name)
        if old is None and len(self.all) >= CRONS_MAX:
            raise Conflict(f"there are {CRONS_MAX} cron schedules, as many as there may be; delete some")
        if old is not None:
            self._broker.scheduler.cancel(old.timer)
        cron = self.all[entry.name] = Cron(entry)
        self._keep(entry)
        self._plan(cron, self._broker.clock.wall_ms)
        return old is None

    def delete(self, name: str) -> Entry:
        """Remove one. Raise NotFound."""
        cron = self.get(name)
        self._broker.scheduler.cancel(cron.timer)
        del self.all[name]
        self._broker.engine.delete(KEY + name)
        self._broker.ready.wake()
        return cron.entry

    def _keep(self, entry: Entry) -> None:
        self._broker.engine.put(KEY + entry.name, _encode(entry))
        self._broker.ready.wake()

    def _plan(self, cron: Cron, after_ms: int) -> None:
        """Have it run at the first of its times after one."""
        cron.next_ms = cron.entry.next_ms(after_ms) if cron.entry.enabled else 0
        self._arm(cron)

    def _arm(self, cron: Cron, at_least_ms: int = 0) -> None:
        scheduler = self._broker.scheduler
        scheduler.cancel(cron.timer)
        cron.timer = None
        if cron.next_ms:
            wait_ms = max(at_least_ms, cron.next_ms - self._broker.clock.wall_ms)
            cron.timer = scheduler.after(min(wait_ms, LOOK_MS), lambda: self._look(cron))

    def _look(self, cron: Cron) -> None:
        """See whether its time has come."""
        cron.timer = None
        now_ms, run_ms = self._broker.clock.wall_ms, cron.next_ms
        if now_ms < run_ms:
            self._arm(cron)
        elif now_ms - run_ms > LATE_MS and (cron.failed or cron.entry.missed != ONCE):
            self._plan(cron, now_ms)
        else:
            self._run(cron, run_ms)

    def _run(self, cron: Cron, run_ms: int) -> None:
        message = self._message(cron.entry, run_ms)
        broker = self._broker
        try:
            position = publish_once(broker, message, lambda: broker.publish(message)).position
        except GatewayError as error:
            self._again(cron, error.detail)
            return
        # All that was missed, however often, is one run: the next is in the future.
        self._plan(cron, max(run_ms, broker.clock.wall_ms))
        if position <= 0:
            self._ran(cron, run_ms, True)
            return
        broker.engine.when_durable(position, lambda stored: self._ran(cron, run_ms, stored))

    def _ran(self, cron: Cron, run_ms: int, stored: bool) -> None:
        """A run is on disk, or never will be."""
        if self.all.get(cron.entry.name) is not cron:
            return  # it was changed or deleted meanwhile
        if not stored:
            cron.next_ms = run_ms
            self._again(cron, "the message could not be written to disk")
            return
        cron.failed = ""
        cron.entry.last_ms = run_ms
        self._keep(cron.entry)

    def _again(self, cron: Cron, why: str) -> None:
        if not cron.failed:
            log.warning(
                "a cron schedule's message was refused; it is tried again", name=cron.entry.name, reason=why
            )
        cron.failed = why
        self._arm(cron, RETRY_MS)

    def _message(self, entry: Entry, run_ms: int) -> Message:
        clock = self._broker.clock
        properties = Properties(
            content_type=entry.content_type,
            headers=tuple((name, from_json(value)) for name, value in entry.headers),
            idempotency_key=f"cron/{entry.name}/{run_ms}",
        )
        origin = Origin("cron", entry.user, entry.name)
        return Message(entry.topic, entry.body, entry.qos, entry.retain, properties, origin, clock.wall_ms)
