"""GET with Observe 0 on a queue: a competing consumer, whose acknowledgements settle.

Each message is a confirmable notification, the next one comes when it is acknowledged: ACK settles. RST,
and no acknowledgement in time, give the message back, which costs an attempt, and end the observation.
Who is gone would hold up what comes next: whoever is not heard of for long is a consumer no more.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from gateway.api import Consumer, Delivery, Gateway, GatewayError
from gateway.core.errors import QuotaExceeded
from gateway.core.message import Outcome

from ..answers import answer_to, refusal
from ..clients import Client
from ..exchange import Link, Request, Response
from ..numbers import CONTENT, MAX_AGE, SERVICE_UNAVAILABLE, uint_bytes
from ..topics.observation import Observation, Surroundings
from ..topics.observe import clients_of
from .pulls import Want, why_cut_off

WORKERS_OF_CLIENT_MAX: Final = 100  # queues that one device, or a gateway for some, works on
REGISTER_SECONDS: Final = 3600  # after so long without a message a client registers again (RFC 7641, 3.3.1)
SILENT_MS: Final = 2 * REGISTER_SECONDS * 1000  # and after so long without that it is gone
SILENT_CHECK_MS: Final = 60_000


class Worker:
    """One observation of a queue."""

    __slots__ = ("client", "consumer", "delivery", "observation", "want")

    def __init__(self, client: Client, observation: Observation, want: Want) -> None:
        self.client = client
        self.observation = observation
        self.want = want
        self.consumer: Consumer | None = None
        self.delivery: Delivery | None = None  # on its way, not acknowledged yet


class Workers(Surroundings):
    """All of the door. Implements `resources.ResetListener`."""

    __slots__ = "_all"

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._all: dict[Client, dict[bytes, Worker]] = {}  # by client and token
        gateway.scheduler.after(SILENT_CHECK_MS, self._leave_silent)

    def __len__(self) -> int:
        return sum(map(len, self._all.values()))

    # -- observation.Surroundings ---------------------------------------------------------------

    def ended(self, observation: Observation) -> None:
        """See `_answered`: messages of queues go out one by one."""

    # -- coming -----------------------------------------------------------------------------------

    def register(self, client: Client, request: Request, want: Want) -> None:
        """Begin to consume, or go on. Raise GatewayError."""
        of_client = self._all.setdefault(client, {})
        known = of_client.get(request.token)
        if known is not None and known.observation.link is request.link and known.want.same(want):
            known.observation.confirmed_ms = self.now_ms
            request.respond(self._first(known.observation))
            return
        if known is not None:
            self._end(known)  # what it has not acknowledged where it was, comes again where it is
            of_client = self._all.setdefault(client, {})
        try:
            worker = self._begin(client, request, want, of_client)
        finally:
            if not of_client:
                self._all.pop(client, None)
        request.respond(self._first(worker.observation))

    def _begin(self, client: Client, request: Request, want: Want, of_client: dict[bytes, Worker]) -> Worker:
        """Raise GatewayError."""
        if len(of_client) >= WORKERS_OF_CLIENT_MAX:
            raise QuotaExceeded(f"this client consumes {WORKERS_OF_CLIENT_MAX} queues, as many as it may")
        observation = Observation(self, 0, request.link, request.token, "", request.options, 1)
        worker = Worker(client, observation, want)
        worker.consumer = client.session.consume(
            want.queue, partial(self._deliver, worker), 1, want.group, 0, want.selector
        )
        worker.consumer.gone = partial(self._cut_off, worker)
        request.link.held += 1
        of_client[request.token] = worker
        return worker

    def _first(self, observation: Observation) -> Response:
        """Return the answer to a registration: no message, these are notifications."""
        return observation.first(Response(CONTENT, b"", [(MAX_AGE, uint_bytes(REGISTER_SECONDS))]))

    # -- messages -----------------------------------------------------------------------------------

    def _deliver(self, worker: Worker, batch: list[Delivery]) -> None:
        [delivery] = batch
        worker.delivery = delivery
        worker.observation.notify(delivery.message, True, partial(self._answered, worker, delivery))

    def _answered(self, worker: Worker, delivery: Delivery, arrived: bool) -> None:
        if worker.delivery is not delivery:
            return  # it was given back meanwhile
        self._gateway.begin_turn()
        if not arrived:
            self._end(worker)
            return
        worker.delivery = None
        worker.observation.confirmed_ms = self.now_ms
        worker.client.session.settle(delivery, Outcome.ACK)

    # -- going ----------------------------------------------------------------------------------------

    def deregister(self, client: Client, request: Request) -> None:
        """End an observation (RFC 7641, 3.6). One that is not there has ended, too."""
        known = self._all.get(client, {}).get(request.token)
        if known is not None:
            self._end(known)

    def _end(self, worker: Worker) -> None:
        """Consume no more; what is not acknowledged goes back."""
        client, observation = worker.client, worker.observation
        of_client = self._all.get(client)
        if of_client is None or of_client.pop(observation.token, None) is None:
            return
        if not of_client:
            del self._all[client]
        worker.delivery = None
        observation.close()
        consumer = worker.consumer
        if consumer is not None:
            consumer.gone = None
            client.session.cancel(consumer)

    def _tell(self, worker: Worker, response: Response) -> None:
        """End an observation by an error (RFC 7641, 4.2)."""
        self._end(worker)
        observation = worker.observation
        observation.fail(response)

    def _cut_off(self, worker: Worker) -> None:
        """The queue is gone, or rules have changed."""
        self._tell(worker, answer_to(why_cut_off(worker.client, worker.want)))

    def reset(self, link: Link, token: bytes) -> None:
        for client in clients_of(link):
            known = self._all.get(client, {}).get(token)
            if known is not None and known.observation.link is link:
                self._end(known)

    def gone(self, link: Link) -> None:
        for client in clients_of(link):
            for worker in list(self._all.get(client, {}).values()):
                if worker.observation.link is link:
                    self._end(worker)

    def client_gone(self, client: Client, error: GatewayError | None) -> None:
        """A session ends."""
        for worker in list(self._all.get(client, {}).values()):
            if error is not None:
                self._tell(worker, answer_to(error))
            else:
                self._end(worker)

    def _leave_silent(self) -> None:
        late_ms = self.now_ms - SILENT_MS
        for of_client in list(self._all.values()):
            for worker in list(of_client.values()):
                if worker.observation.confirmed_ms <= late_ms and worker.delivery is None:
                    self._tell(
                        worker, refusal(SERVICE_UNAVAILABLE, "not heard of for long; register again", 1)
                    )
        self._gateway.scheduler.after(SILENT_CHECK_MS, self._leave_silent)
