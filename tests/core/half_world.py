"""A broker with producers of transactions, and a clock that tests set."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.engine import StorageEngine
from gateway.core.errors import NotStored
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.core.router import Binding
from gateway.core.session import OnPublish, Session, group_of
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class NotBelow:
    """Allows everything but what begins with `secret`, and admin areas."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        if resource.startswith("$admin/"):
            return Ruling(principal.name == "root")
        return Ruling(not resource.removeprefix("$queue/").startswith("secret"))


class World:
    """One gateway's core; `start` again, with what the last run left, is a restart."""

    def __init__(self, engine: StorageEngine | None = None, now_ms: int = NOW_MS) -> None:
        self.wall_ms, self.up_ms = now_ms, 0
        self.start(engine or MemoryEngine())

    def start(self, engine: StorageEngine) -> None:
        """Recover what an engine has."""
        self.broker = Broker(engine, Clock(self.wall_ms, self.up_ms))
        self.remarks = self.broker.restore(lambda: None)

    def producer(
        self, name: str = "alice", client: str = "c", intercept: Sequence[OnPublish] = ()
    ) -> Producer:
        """Return a session of a user."""
        origin = Origin("test", name, client, "peer")
        return Producer(self.broker, Principal(name), origin, Authority([NotBelow()]), intercept)

    def queue(
        self, name: str, *filters: str, policy: QueuePolicy | None = None, durable: bool = True
    ) -> Queue:
        """Return a queue bound to filters, as it was or new."""
        catalog = self.broker.catalog
        queue = catalog.queues.get(name) or catalog.declare(name, "classic", policy, durable)[0]
        for topic_filter in filters:
            if topic_filter not in catalog.bindings.get(name, {}):
                catalog.bind(queue, Binding(topic_filter, queue))
        return queue

    def bodies(self, name: str) -> list[bytes]:
        """Return what waits in a queue."""
        return [message.body for message in self.messages(name)]

    def messages(self, name: str) -> list[Message]:
        """Return the same as messages."""
        queue = self.broker.catalog.queues.get(name)
        return [message for _, message, _ in queue.browse(0, 10_000)] if queue is not None else []

    def consume(self, queue: Queue) -> list[Message]:
        """Acknowledge everything that comes to a queue; return where it is noted."""
        got: list[Message] = []

        def deliver(batch: list[Delivery]) -> None:
            for delivery in batch:
                got.append(delivery.message)
                self.broker.settlement.settle(delivery, Outcome.ACK)

        group = group_of(queue, "")
        self.broker.queues.attach(group, Consumer("eater", 1000, deliver, Origin("test")))
        return got

    def turn(self) -> bool:
        """End a turn as the shell does; False if it could not be written."""
        broker = self.broker
        while broker.dispatch():
            pass
        try:
            broker.engine.flush()
        except NotStored:
            broker.rollback(broker.engine.failed_from())
            return False
        broker.flushed()
        return True

    def later(self, ms: int) -> None:
        """Let time pass, in steps that miss no timer."""
        end_ms = self.up_ms + ms
        while self.up_ms < end_ms:
            step_ms = min(500, end_ms - self.up_ms)
            self.wall_ms, self.up_ms = self.wall_ms + step_ms, self.up_ms + step_ms
            self.broker.clock.set(self.wall_ms, self.up_ms)
            self.broker.scheduler.run_due()
            self.turn()

    def balanced(self) -> bool:
        """Tell whether the books balance."""
        metrics = self.broker.metrics
        waiting = self.broker.waiting()
        return metrics.copies == metrics.delivered + metrics.streamed + sum(metrics.dropped) + waiting


class Producer(Session):
    """A session that speaks of transactions as any door does: by topics."""

    def send(self, topic: str, body: bytes = b"", properties: Properties | None = None, **about: int) -> int:
        """Publish; `about` is of the message."""
        return self.publish(
            Message(topic, body, 1, properties=properties or Properties(), origin=self.origin, **about)  # type: ignore[arg-type]
        )

    def half(self, id: str, topic: str, body: bytes = b"x", **about: int) -> int:
        """Add a message to a transaction."""
        return self.send(f"$transaction/{id}/publish/{topic}", body, **about)

    def commit(self, id: str) -> int:
        """Say commit."""
        return self.send(f"$transaction/{id}/commit")

    def roll_back(self, id: str) -> int:
        """Say rollback."""
        return self.send(f"$transaction/{id}/rollback")
