"""Transactions: a message that nobody sees until its producer says commit, and the question if it does not.

Their ids are made here. Each begins with a mark of the producer's id, so that whoever comes back under that
id, also after a restart of either, is asked what is to become of what it left open.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from hashlib import sha256
from typing import Final

from gateway.api import Action, Gateway, GatewayError, HttpAnswer, InvalidValue, NotFound
from gateway.core.half import IMMUNITY_MS_MAX, Half, Options, State
from gateway.http_oms import Shown, Told

from .call import GROUP_DEFAULT, Call, json, nothing
from .producing import sent
from .pulling import WAIT_MS_MAX
from .refusals import UnknownHandle

MARK: Final = "oms-"  # begins our transactions' ids
MARK_CHARACTERS: Final = 16  # of what follows it, 64 bits: of one principal's producers no two share one
TOKEN_BYTES: Final = 8
PENDING_MAX: Final = 10_000  # questions that nobody has fetched: as many transactions may be open
WAITING_MAX: Final = 10_000  # producers that wait for questions: some 2 KB each

Key = tuple[str, str]  # a principal, and the mark of a producer of its


def mark_of(producer_id: str) -> str:
    """Return what the ids of a producer's transactions begin with."""
    return MARK + sha256(producer_id.encode()).hexdigest()[:MARK_CHARACTERS]


class Transactions:
    """All of the binding's: the questions wait here until their producer fetches them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pending: dict[Key, dict[int, Half]] = {}
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}
        gateway.broker.halves.check_back.checkers.append(self._ask)

    # -- what a producer does -------------------------------------------------------------------------

    async def prepare(self, call: Call) -> HttpAnswer:
        """Begin a transaction with the body as its first message."""
        told, body = call.brought()
        if "transactionId" in told.fields:
            raise InvalidValue("transactionId: it is made here; to add to a transaction, produce with its id")
        immunity_ms = call.number("x-oms-checkAfterMills", 0, 0, IMMUNITY_MS_MAX)
        id = f"{mark_of(_producer(call))}-{secrets.token_hex(TOKEN_BYTES)}"
        message = call.message(Told({**told.fields, "transactionId": id}, told.properties), body)
        halves = call.gateway.broker.halves
        halves.begin(call.session, id, Options(immunity_ms, check_url=call.text("x-oms-checkURL")))
        try:
            position = halves.add(call.session, id, message)
        except GatewayError:
            halves.resolve(call.session, id, False)
            raise
        await call.stored(position)
        made = message.properties
        return sent(call, {"messageId": made.message_id, "destination": message.topic, "transactionId": id})

    async def commit(self, call: Call) -> HttpAnswer:
        """Publish what a transaction holds: all of it at once."""
        return await self._end(call, True)

    async def rollback(self, call: Call) -> HttpAnswer:
        """Drop it."""
        return await self._end(call, False)

    async def _end(self, call: Call, commit: bool) -> HttpAnswer:
        halves, id = call.gateway.broker.halves, call.parts["transaction"]
        try:
            half = halves.find(call.session, id, None, Action.PUBLISH)
        except NotFound as error:
            raise UnknownHandle(error.detail) from error
        await call.stored(halves.resolve(call.session, id, commit))
        return json({"transactionId": id, "state": half.state.value})

    # -- what it is asked -----------------------------------------------------------------------------

    async def check(self, call: Call) -> HttpAnswer:
        """Answer with a message whose transaction its producer is asked about; 204 if there is none."""
        key = (call.session.principal.name, mark_of(_producer(call)))
        wait_ms = call.number("x-oms-waitMills", 0, 0, WAIT_MS_MAX)
        half = self._next(key)
        if half is None and wait_ms and await self._wait(call, key, wait_ms / 1000):
            call.gateway.begin_turn()
            half = self._next(key)
        if half is None:
            return nothing()
        try:
            message = call.gateway.broker.halves.messages(half)[0]
        except (NotFound, IndexError):  # the log has lost it, or it has none: an operator's matter
            return nothing()
        return call.shown(Shown(message, half.id, half.checks, None, call.gateway.clock.shown))

    async def _wait(self, call: Call, key: Key, seconds: float) -> bool:
        """Wait for a question; return whether it is worth looking for one."""
        if sum(map(len, self._waiting.values())) >= WAITING_MAX:
            return False
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(woken)
        over = asyncio.ensure_future(call.request.over())
        try:
            await asyncio.wait((woken, over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return woken.done()
        finally:
            over.cancel()
            self._forget(key, woken)

    def _forget(self, key: Key, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None and woken in waiting:
            waiting.remove(woken)
            if not waiting:
                del self._waiting[key]

    def _ask(self, half: Half) -> None:
        """A transaction's producer is to be asked: a `checkback.Checker`."""
        if not half.id.startswith(MARK):
            return
        key = (half.origin.principal, half.id[: len(MARK) + MARK_CHARACTERS])
        if sum(map(len, self._pending.values())) >= PENDING_MAX:
            self._tidy()
        self._pending.setdefault(key, {})[half.number] = half
        waiting = self._waiting.get(key)
        if waiting:
            woken = waiting.popleft()
            if not waiting:
                del self._waiting[key]
            if not woken.done():
                woken.set_result(None)

    def _next(self, key: Key) -> Half | None:
        """Return the next transaction to ask about, which is then not asked about until its next check."""
        pending = self._pending.get(key, {})
        while pending:
            half = pending.pop(next(iter(pending)))
            if half.state is State.OPEN:
                return half
        self._pending.pop(key, None)
        return None

    def _tidy(self) -> None:
        """Forget what nobody has fetched and was ended otherwise."""
        for key, pending in list(self._pending.items()):
            left = {number: half for number, half in pending.items() if half.state is State.OPEN}
            if left:
                self._pending[key] = left
            else:
                del self._pending[key]


def _producer(call: Call) -> str:
    return call.text("x-oms-producerId", GROUP_DEFAULT)
