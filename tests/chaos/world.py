"""One round: a broker on a disk that fails, its clients, and what they note. All of it from one seed.

Nothing runs beside anything else: the sync thread is stepped by the round, so that a seed gives
the same history every time.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import deque
from pathlib import Path

from gateway.core import deadletter
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import NotStored, StorageError
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.core.queues import group_of
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.storage.commitlog import CommitLog, engine, sync
from tests.chaos.disk import Crash, Disk
from tests.chaos.history import History

START_MS = 1_700_000_000_000
SENDERS, KEYS = 3, 4
LETTERS = QueuePolicy(dead_letter="$queue/dead", delivery_limit=3, retry_delay_ms=50)
#: queue -> (kind, filters, policy)
QUEUES = {
    "jobs": ("classic", ["jobs/#"], LETTERS),
    "both": ("classic", ["jobs/#", "state/#"], QueuePolicy()),
    "async": ("classic", ["async/#"], QueuePolicy(durability="async")),
    "none": ("classic", ["none/#"], QueuePolicy(durability="none")),
    "dead": ("classic", [], QueuePolicy()),
    "all": ("stream", ["jobs/#", "state/#"], QueuePolicy()),
    "last": ("stream", ["state/#"], QueuePolicy(compact=True)),
}
PLAN = {
    "jobs": "classic",
    "both": "classic",
    "async": "loose",
    "none": "loose",
    "all/g": "group",
    "all/replay": "replay",
    "last/replay": "compact",
    "retained": "values",
}
TOPICS = ("jobs", "async", "none", "state", "kept")
TURNS = 60  # of one life, unless it is cut short


class StepSyncer(sync.Syncer):
    """Syncs when the round says so."""

    def _start(self) -> None:
        pass

    def step(self) -> None:
        """Do what the thread would do next."""
        self._step()

    def stop(self) -> None:
        self._step()


class World:
    """A round."""

    def __init__(self, seed: int, root: Path) -> None:
        self.chance = random.Random(seed)
        self.root = root
        self.history = History(PLAN)
        self.life = 0
        self.numbers = [0] * SENDERS
        self.wall_ms, self.up_ms = START_MS, 0
        (root / "graves").mkdir(parents=True)

    # -- a life -----------------------------------------------------------------------------------

    def run(self, crashes: int) -> History:
        """Live and die so many times, then drain everything."""
        for _ in range(crashes):
            self._live()
        self._drain()
        return self.history

    def _start(self, faults: bool) -> None:
        self.disk = Disk(self.chance, self.root / "graves")
        self.broker = Broker(
            CommitLog(self.root / str(self.life), segment_bytes=3000, files=self.disk, kept_ms=500),
            Clock(self.wall_ms, self.up_ms),
        )
        if faults:
            self.disk.crash_in = self.chance.randrange(1, 400)
        self.held: deque[tuple[str, Delivery]] = deque()
        self.settled: list[tuple[str, str]] = []
        self.broker.restore(lambda: None)
        for name, (kind, filters, policy) in QUEUES.items():
            queue, _ = self.broker.catalog.declare(name, kind, policy)
            queue.memory_messages_max = 7
            for topic_filter in filters:
                if topic_filter not in self.broker.catalog.bindings.get(name, {}):
                    self.broker.catalog.bind(queue, Binding(topic_filter, queue))
        if faults:
            self.disk.fail = self.chance.choice([0.0, 0.0, 0.02, 0.1])

    def _live(self) -> None:
        power = self.chance.random() < 0.6
        try:
            self._start(faults=True)
            self._attach()
            for _ in range(TURNS):
                self._work()
                self._turn()
        except (Crash, StorageError):
            pass  # an error while it starts is the end of it, too
        self.disk.dead = True
        if self.disk.syncs_failed:
            self.history.note("unsure")
        before, self.life = self.root / str(self.life), self.life + 1
        self.disk.survive(before, self.root / str(self.life), power)
        self.disk.close_all()
        if finder := getattr(self.broker.engine, "_finder", None):
            finder.close()  # what it has mapped is closed by nobody else
        shutil.rmtree(before)
        self.history.note("crash", how="power" if power else "kill")

    # -- clients ----------------------------------------------------------------------------------

    def _attach(self) -> None:
        for name in ("jobs", "both", "async", "none", "all"):
            queue = self.broker.catalog.get(name)
            for number in range(self.chance.choice([0, 1, 1, 2])):
                self._consume(queue, f"{name}-{number}", self.chance.choice([1, 5, 50]))

    def _consume(self, queue: Queue, who: str, window: int, group: str = "g", start: int | None = 0) -> None:
        name = f"{queue.name}/{group}" if queue.kind == "stream" else queue.name

        def deliver(batch: list[Delivery]) -> None:
            for delivery in batch:
                self._received(name, who, delivery)
                self.held.append((name, delivery))

        found = queue.group(group, start) if isinstance(queue, StreamQueue) else group_of(queue, "")
        self.broker.queues.attach(found, Consumer(who, window, deliver, Origin("test", "", who)))

    def _received(self, queue: str, who: str, delivery: Delivery) -> None:
        message = delivery.message
        story = message.properties.header(deadletter.QUEUE)
        about = {}
        if story is not None:
            if queue != "dead":
                return  # not sent there by us
            queue = str(story)
            about = {"letter": delivery.position}
        self._note(queue, who, message, **about)

    def _note(self, queue: str, who: str, message: Message, **about: int) -> None:
        text = hashlib.blake2b(message.body, digest_size=6).hexdigest()
        name = message.properties.message_id
        self.history.note("receive", id=name, queue=queue, who=who, text=text, **about)

    def _work(self) -> None:
        for _ in range(self.chance.randrange(6)):
            self._send()
        if self.chance.random() < 0.1:
            self._look()
        for _ in range(self.chance.randrange(len(self.held) + 1)):
            self._settle(*self.held.popleft())

    def _look(self) -> None:
        """Browse and search, which changes nothing."""
        broker, chance = self.broker, self.chance
        for queue in broker.catalog.queues.values():
            queue.browse(chance.randrange(50), 10)
        broker.engine.find(f"{chance.randrange(SENDERS)}-{chance.randrange(100)}", 3)

    def _send(self) -> None:
        chance = self.chance
        sender = chance.randrange(SENDERS)
        number, self.numbers[sender] = self.numbers[sender], self.numbers[sender] + 1
        name, kind, key = f"{sender}-{number}", chance.choice(TOPICS), f"{sender}/{chance.randrange(KEYS)}"
        body = f"{name} ".encode() + chance.randbytes(chance.choice([0, 10, 200, 2000]))
        to = [{"state": "last/replay", "kept": "retained"}.get(kind, kind)]
        if kind in ("jobs", "state"):
            to += ["both", "all/g", "all/replay"]
        text = hashlib.blake2b(body, digest_size=6).hexdigest()
        self.history.note("send", id=name, by=str(sender), n=number, to=to, key=key, text=text)
        properties = Properties(message_id=name, key=key)
        message = Message(f"{kind}/{key}", body, 1, kind == "kept", properties)
        position = self.broker.publish(message)
        if kind == "none":
            assert position == 0
            return  # nobody is told anything
        self.broker.engine.when_durable(
            position, lambda stored: self.history.note("stored" if stored else "refused", id=name)
        )

    def _settle(self, queue: str, delivery: Delivery) -> None:
        outcome = self.chance.choices(
            [Outcome.ACK, Outcome.REQUEUE, Outcome.RETRY, Outcome.REJECT], [80, 8, 6, 6]
        )[0]
        if queue != "jobs" and outcome == Outcome.REJECT:
            outcome = Outcome.ACK  # elsewhere it would be gone
        if not self.broker.settlement.settle(delivery, outcome):
            return
        if outcome == Outcome.ACK and "/" not in queue and queue != "dead":
            name = delivery.message.properties.message_id
            self.history.note("ack", id=name, queue=queue)
            self.settled.append((queue, str(name)))

    # -- turns ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """End a turn, as the shell does."""
        passed = self.chance.choice([1, 20, 200, 1100])
        self.wall_ms, self.up_ms = self.wall_ms + passed, self.up_ms + passed
        broker = self.broker
        broker.clock.set(self.wall_ms, self.up_ms)
        broker.scheduler.run_due()
        settled, self.settled = self.settled, []
        if settled:
            broker.engine.when_durable(broker.engine.position(), lambda stored: self._acked(settled, stored))
        broker.dispatch()
        try:
            broker.engine.flush()
        except NotStored:
            broker.rollback(broker.engine.failed_from())
            self.held = deque(each for each in self.held if each[1].group.unsettled.get(each[1].offset))
        else:
            broker.flushed()
        if self.chance.random() < 0.6:
            self._sync()
        broker.engine.completed()

    def _sync(self) -> None:
        log = self.broker.engine
        assert isinstance(log, CommitLog)
        assert isinstance(log._syncer, StepSyncer)
        log._syncer.step()

    def _acked(self, settled: list[tuple[str, str]], stored: bool) -> None:
        if stored:
            for queue, name in settled:
                self.history.note("acked", id=name, queue=queue)

    # -- the end ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Without faults: consume all there is, and read the streams from their beginning."""
        self._start(faults=False)
        self.history.note("drain")
        for name in ("jobs", "both", "async", "none", "dead", "all"):
            self._consume(self.broker.catalog.get(name), f"{name}-last", 1000)
        for name in ("all", "last"):
            stream = self.broker.catalog.get(name)
            assert isinstance(stream, StreamQueue)
            self._consume(stream, f"{name}-replay", 1000, "replay", stream.first_offset)
        quiet = 0
        while quiet < 5:
            self._turn()
            quiet = 0 if self.held else quiet + 1
            while self.held:
                _, delivery = self.held.popleft()
                self.broker.settlement.settle(delivery, Outcome.ACK)
        for message in self.broker.retained.all():
            self._note("retained", "store", message)
        self._check_books()
        self.history.note("end")
        self.broker.engine.close()

    def _check_books(self) -> None:
        metrics = self.broker.metrics
        waiting = self.broker.waiting()
        assert metrics.copies == metrics.delivered + metrics.streamed + sum(metrics.dropped) + waiting


engine_syncer = (engine, "Syncer", StepSyncer)  # what a round needs in place of the thread
