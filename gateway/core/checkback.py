"""Asking the producer of a transaction that stays open what is to become of it, on RocketMQ's schedule.

First some seconds after it was begun, or when its own time of immunity is over, then again and again;
after the last question without an answer it is given up. The schedule goes on after a restart, once
producers have had time to come back. A question is a message to the transaction's reply-to address, and
whatever `checkers` do: a webhook, a protocol's own command. The answer is a commit or a rollback.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .errors import GatewayError
from .half import ID_HEADER, Half, topic_of
from .message import Message, Properties

if TYPE_CHECKING:
    from .broker import Broker

#: RocketMQ's transactionTimeOut, transactionCheckInterval, transactionCheckMax.
FIRST_MS: Final = 6000
INTERVAL_MS: Final = 30_000
CHECKS_MAX: Final = 15

LISTED_MAX: Final = 100  # messages that a question names: it is a question, not a copy
KEY: Final = "half/check/"  # and the transaction's number: how often it was asked, when it is next

CHECK_HEADER: Final = "transaction-check"

#: Asks in a way of its own; it must not wait for the answer.
Checker = Callable[[Half], None]


class CheckBack:
    """One for all transactions."""

    __slots__ = ("_broker", "_give_up", "asked", "checkers", "checks_max", "first_ms", "interval_ms")

    def __init__(self, broker: Broker, give_up: Callable[[Half], None]) -> None:
        self._broker = broker
        self._give_up = give_up
        self.checkers: list[Checker] = []
        self.first_ms = FIRST_MS
        self.interval_ms = INTERVAL_MS
        self.checks_max = CHECKS_MAX
        self.asked = 0  # since start

    def begun(self, half: Half) -> None:
        """A transaction is open from now on."""
        self._arm(half, half.begun_ms + (half.options.immunity_ms or self.first_ms))

    def restored(self, half: Half) -> None:
        """It was open when the last run ended: its schedule goes on, once its producer can be back."""
        broker = self._broker
        due_ms = half.begun_ms + (half.options.immunity_ms or self.first_ms)
        saved = broker.engine.get(f"{KEY}{half.number}")
        if saved is not None:
            half.checks, due_ms = (int(number) for number in saved.split())
        self._arm(half, max(due_ms, broker.clock.now_ms + self.first_ms))

    def ended(self, half: Half) -> None:
        """It is not open any more."""
        self._broker.scheduler.cancel(half.timer)
        half.timer = None
        if half.checks:
            self._broker.engine.delete(f"{KEY}{half.number}")

    def _arm(self, half: Half, due_ms: int) -> None:
        half.next_check_ms = due_ms
        delay_ms = due_ms - self._broker.clock.now_ms
        half.timer = self._broker.scheduler.after(delay_ms, lambda: self._due(half))

    def _due(self, half: Half) -> None:
        broker = self._broker
        broker.ready.wake()
        if half.checks >= self.checks_max:
            try:
                self._give_up(half)
            except GatewayError:  # a full queue, a full disk: it goes on waiting, and is not asked any more
                self._arm(half, broker.clock.now_ms + self.interval_ms)
            return
        half.checks += 1
        self.asked += 1
        self._arm(half, broker.clock.now_ms + self.interval_ms)
        broker.engine.put(f"{KEY}{half.number}", b"%d %d" % (half.checks, half.next_check_ms))
        for checker in self.checkers:
            try:
                checker(half)
            except Exception as error:
                broker.on_bug("a checker of transactions", error)
        if half.options.reply_to:
            self._send(half)

    def question(self, half: Half) -> dict[str, Any]:
        """Return what a producer is told that it may know which transaction is meant."""
        found = []
        for position in half.positions[:LISTED_MAX]:
            try:
                message = self._broker.engine.read(position)
            except GatewayError:
                continue  # the log has lost it: the transaction can only be rolled back
            properties = message.properties
            about = {"topic": topic_of(message), "message_id": properties.message_id, "key": properties.key}
            found.append({name: value for name, value in about.items() if value is not None})
        return {"id": half.id, "check": half.checks, "count": half.messages, "messages": found}

    def _send(self, half: Half) -> None:
        """Publish the question to the reply-to address; nobody may be there."""
        broker = self._broker
        headers = ((ID_HEADER, half.id), (CHECK_HEADER, half.checks))
        properties = Properties(content_type="application/json", text=True, headers=headers)
        body = json.dumps(self.question(half)).encode()
        question = Message(
            half.options.reply_to,
            body,
            properties=properties,
            timestamp_ms=broker.clock.wall_ms,
            expires_at_ms=half.next_check_ms,  # then comes the next one
        )
        try:
            broker.publish(question)
        except GatewayError:
            pass  # its queue is full and rejects: that is counted
