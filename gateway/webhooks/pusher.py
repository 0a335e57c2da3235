"""One webhook at work: a consumer, and the requests that are under way.

The consumer's window is the number of requests at a time. The breaker closes and opens that window; what
is in the queue meanwhile stays there, and counts no attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from ..api import Consumer, Delivery, Gateway, Session
from ..core.message import Message, Outcome
from ..core.scheduler import Timer
from ..http_oms import Shown
from ..outgoing.client import Client
from ..outgoing.destinations import Destinations
from ..outgoing.exchange import PushFailed
from ..outgoing.target import Target
from .attempts import Attempt, Attempts
from .breaker import Breaker, State
from .event import as_event
from .reading import Reading
from .request import head, message_id, openmessaging, prefix
from .secrets import Opened
from .verdict import Verdict, judge, no_answer
from .webhook import CLOUDEVENTS, OPENMESSAGING, Webhook

log = structlog.get_logger("gateway")

BUG: Final = "a bug in the gateway; its log has the details"
NOT_NOW: Final = Verdict(Outcome.RETRY)


class Shell(NamedTuple):
    """What all webhooks share."""

    gateway: Gateway
    client: Client
    destinations: Destinations
    run: str  # of this start of the gateway


class Pusher:
    """From `start` to `stop`. `gone` is called with a reason if the endpoint is no more."""

    def __init__(
        self,
        shell: Shell,
        webhook: Webhook,
        opened: Opened,
        attempts: Attempts,
        gone: Callable[[str], None],
    ) -> None:
        """Raise InvalidValue or NotAuthorized if it leads where it may not."""
        self.breaker = Breaker()
        self._shell = shell
        self._webhook = webhook
        self._opened = opened
        self._attempts = attempts
        self._gone = gone
        self._session: Session | None = None  # while it is at work
        self._consumer: Consumer | None = None
        self._under_way: dict[asyncio.Task[None], Delivery] = {}
        self._timer: Timer | None = None
        self._free_at = 0.0  # by the loop's clock: when the next request may be made
        self._target: Target = shell.destinations.check(webhook.url)
        self._begin = prefix(self._target, webhook.name, opened.authorization)

    @property
    def in_flight(self) -> int:
        """How many messages are in hand."""
        return len(self._under_way)

    # -- life -----------------------------------------------------------------------------------

    def start(self, reading: Reading) -> None:
        """Begin to consume. Raise a GatewayError."""
        self._consumer = reading.consume(self._deliver)
        self._session = reading.session

    def stop(self) -> None:
        """Give back what is in hand, without an attempt, and end."""
        session, consumer = self._session, self._consumer
        self._session = self._consumer = None
        self._shell.gateway.scheduler.cancel(self._timer)
        if session is None or consumer is None:
            return
        under_way, self._under_way = self._under_way, {}
        for task, delivery in under_way.items():
            task.cancel()
            session.settle(delivery, Outcome.RETRY, 0)
        session.cancel(consumer)

    # -- messages ---------------------------------------------------------------------------------

    def _deliver(self, batch: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for delivery in batch:
            task = loop.create_task(self._push(delivery))
            self._under_way[task] = delivery
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug: a webhook failed", webhook=self._webhook.name, exc_info=error)

    async def _push(self, delivery: Delivery) -> None:
        if self._webhook.rate:
            await self._pace()
        if self.breaker.state is State.OPEN:
            verdict = NOT_NOW
        else:
            name = message_id(delivery, self._shell.run)
            verdict = await self.ask(delivery.message, name, delivery.attempt)
        self._shell.gateway.begin_turn()
        self._settle(delivery, verdict)

    async def _pace(self) -> None:
        """Wait for this request's place in the rate."""
        now = asyncio.get_running_loop().time()
        at = max(self._free_at, now)
        self._free_at = at + 1 / self._webhook.rate
        if at > now:
            await asyncio.sleep(at - now)

    async def ask(self, message: Message, name: str, attempt: int) -> Verdict:
        """Make one request, note it, and return what its answer means."""
        started, clock = time.time(), asyncio.get_running_loop().time
        began = clock()
        keys = self._opened.active(int(started * 1000))
        try:
            if self._webhook.format == CLOUDEVENTS:
                message = as_event(message, name)
            fields = None
            if self._webhook.format == OPENMESSAGING:
                fields = openmessaging(Shown(message, name, attempt, None, self._shell.gateway.clock.shown))
            begin = head(self._begin, message, name, attempt, keys, int(started), fields)
            answer = await self._shell.client.post(self._target, begin, message.body, self._webhook.timeout)
            verdict = judge(answer, int(time.time() * 1000))
        except PushFailed as error:
            verdict = no_answer(error.reason)
        except Exception:
            log.exception("bug: a webhook's request failed", webhook=self._webhook.name)
            verdict = no_answer(BUG)
        taken_ms = int((clock() - began) * 1000)
        noted = (int(started * 1000), name, message.topic, attempt, verdict.status, taken_ms, verdict.reason)
        self._attempts.add(Attempt(*noted))
        return verdict

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        session, attempts = self._session, self._attempts
        if session is None:
            return  # stopped meanwhile, and given back
        if verdict.outcome is Outcome.ACK:
            attempts.delivered += 1
        elif verdict.outcome is Outcome.REQUEUE:
            attempts.failed += 1
        else:
            attempts.postponed += 1
        session.settle(delivery, verdict.outcome, verdict.delay_ms, verdict.reason)
        if verdict.gone:
            self._gone(f"the endpoint is gone ({verdict.reason})")
        elif verdict is not NOT_NOW:
            self._heed(verdict)

    # -- the breaker --------------------------------------------------------------------------------

    def _heed(self, verdict: Verdict) -> None:
        """Tell the breaker what a verdict says of the endpoint; make as many requests as it allows."""
        breaker = self.breaker
        if not verdict.down:
            was = breaker.state
            breaker.answered()
            if was is State.PROBING:
                self._open_window(self._webhook.concurrency)
            return
        later_ms = verdict.delay_ms
        self._wait(breaker.failed() if later_ms is None else breaker.hold(later_ms))

    def _wait(self, pause_ms: int) -> None:
        """Make no request for so long; 0: go on."""
        if not pause_ms or self._consumer is None:
            return
        self._consumer.congested = True
        scheduler = self._shell.gateway.scheduler
        scheduler.cancel(self._timer)
        self._timer = scheduler.after(pause_ms, self._probe)

    def _probe(self) -> None:
        self.breaker.probe()
        self._open_window(1)

    def _open_window(self, window: int) -> None:
        session, consumer = self._session, self._consumer
        if session is not None and consumer is not None:
            consumer.window = window
            session.broker.queues.resume(consumer)
