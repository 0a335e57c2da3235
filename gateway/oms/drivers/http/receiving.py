"""A consumer: a long poll for each queue that is bound, as long as somebody waits.

What polls bring beyond what was asked for stays in the inbox for the next call. If none comes soon, or who
waited was cancelled, polls end and what they brought goes back, so that others may have it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.oms.driver import ClientOptions, MessageSelector, Receiver, SelectorType
from gateway.oms.errors import OMSError, OMSMessageFormatError, ResponseStatus
from gateway.oms.message import Message, MessageReceipt

from .connection import segment, text
from .lines import from_line, receipt_of

if TYPE_CHECKING:
    from .driver import HttpDriver

log = logging.getLogger("gateway.oms")

IDLE_SECONDS: Final = 1.0  # after so long without a call nothing is fetched ahead
WAIT_SECONDS_MAX: Final = 60.0  # what the binding allows
ANSWER_SECONDS: Final = 1.0  # for an answer that is on its way
POLL_BYTES: Final = 8  # of a poll's name, among those of one login
BROADCAST_MS: Final = 300_000  # after so long without its consumer a broadcasting group is gone
RENEWALS: Final = 3  # times that a lease is renewed before it would end: two may fail
LANGUAGES: Final = {SelectorType.SQL: "sql", SelectorType.TAG: "tags"}


class _Source:
    """One bound queue: what its polls say, and the one under way."""

    __slots__ = ("headers", "name", "poll", "poll_id")

    def __init__(self, name: str, headers: dict[str, str]) -> None:
        self.name = name
        self.headers = headers
        self.poll: asyncio.Task[None] | None = None
        self.poll_id = ""


class HttpReceiver(Receiver):
    """One consumer."""

    def __init__(self, driver: HttpDriver, options: ClientOptions) -> None:
        self._driver = driver
        self._connection = driver.connection
        self._options = options
        self._lease_ms = max(1, round(options.invisible * 1000))
        self._sources: dict[str, _Source] = {}
        self._inbox: deque[tuple[Message, float]] = deque()  # and when it came
        self._changed = asyncio.Event()  # another queue is bound
        self._asking = 0  # calls of `receive` under way
        self._idle: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()  # receipts that are renewed until they are settled
        self._renewing = asyncio.ensure_future(self._renew()) if options.push else None

    # -- binding --------------------------------------------------------------------------------------

    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        headers = {
            "x-oms-source": text(self._driver.topic_of(queue)),
            "x-oms-consumerId": text(self._options.group),
        }
        if selector is not None:
            headers["x-oms-selector"] = text(selector.expression)
            headers["x-oms-selectorLanguage"] = LANGUAGES[selector.type]
        await self.unbind(queue)
        made = {**headers, "x-oms-expiresMills": str(BROADCAST_MS)} if self._options.broadcast else headers
        await self._connection.ask("PUT", "groups", self._options.operation_timeout, made)
        self._sources[queue] = _Source(queue, headers)
        self._changed.set()

    async def unbind(self, queue: str) -> None:
        source = self._sources.pop(queue, None)
        if source is None:
            return
        await self._end(source)
        left = [message for message, _ in self._inbox if _queue(message) == queue]
        self._inbox = deque(item for item in self._inbox if _queue(item[0]) != queue)
        await self._give_back(left)

    async def _give_back(self, messages: Sequence[Message]) -> None:
        """Nobody has seen these: that costs them no attempt."""
        for message in messages:
            assert message.receipt is not None
            self._held.discard(message.receipt.handle)
            try:
                await self._nack(message.receipt, {"x-oms-outcome": "retry", "x-oms-delayMills": "0"})
            except OMSError:
                pass  # it comes when its lease is over

    # -- receiving ------------------------------------------------------------------------------------

    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        self._asking += 1
        if self._idle is not None:
            self._idle.cancel()
        ended = False
        try:
            found = await self._receive(messages_max, timeout)
            ended = True
            return found
        finally:
            self._asking -= 1
            if not self._asking:
                later = asyncio.get_running_loop().call_later
                self._idle = later(IDLE_SECONDS if ended else 0, self._let_go)

    def _let_go(self) -> None:
        """Nobody waits any more: have what polls have brought go back."""
        if not self._asking:
            task = asyncio.ensure_future(self._stop())
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _end(self, source: _Source) -> None:
        """Have a poll answered now: what is on its way already would be missed by who breaks off."""
        poll, source.poll = source.poll, None
        if poll is None:
            return
        timeout = self._options.operation_timeout
        if not poll.done():
            try:
                await self._connection.ask("DELETE", f"polls/{source.poll_id}", timeout)
            except OMSError:  # it was answered already, and that is on its way; or it did not begin
                timeout = min(timeout, ANSWER_SECONDS)
        await asyncio.wait({poll}, timeout=timeout)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)  # nobody is there to be told

    async def _stop(self) -> None:
        """End all polls, and give back what they have brought."""
        await asyncio.gather(*(self._end(source) for source in self._sources.values()))
        left, self._inbox = [message for message, _ in self._inbox], deque()
        await self._give_back(left)

    async def _receive(self, messages_max: int, timeout: float) -> list[Message]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        asked = False
        while True:
            found = self._taken(messages_max)
            if found:
                return found
            left = deadline - clock()
            if left <= 0 and asked:
                return []
            asked = True
            await self._wait(messages_max, max(left, 0.0))

    def _taken(self, messages_max: int) -> list[Message]:
        """Return what has come; not what is another's by now."""
        late = asyncio.get_running_loop().time() - self._options.invisible
        found: list[Message] = []
        while self._inbox and len(found) < messages_max:
            message, came_at = self._inbox.popleft()
            if came_at > late or self._options.push:
                found.append(message)
        return found

    async def _wait(self, messages_max: int, seconds: float) -> None:
        """Wait until something has come, a queue more is bound, or so long. Raise what a poll has raised."""
        self._changed.clear()
        sources = list(self._sources.values())
        began = [source.poll for source in sources if self._poll(source, messages_max, seconds)]
        # Those that begin now are answered in time; one that another call began may take longer.
        longest = seconds + self._options.operation_timeout if began else seconds
        if began and not seconds:
            await asyncio.wait(_tasks(began), timeout=longest)  # only what is there, but of all queues
        else:
            changed = asyncio.ensure_future(self._changed.wait())
            polls = _tasks([source.poll for source in sources])
            try:
                await asyncio.wait({*polls, changed}, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        self._look_after_polls()

    def _look_after_polls(self) -> None:
        """Forget polls that are over. Raise what one has raised, unless another has brought something."""
        failed: BaseException | None = None
        for source in self._sources.values():
            if source.poll is not None and source.poll.done():
                poll, source.poll = source.poll, None
                failed = failed or (None if poll.cancelled() else poll.exception())
        if failed is not None and not self._inbox:
            raise failed

    def _poll(self, source: _Source, messages_max: int, seconds: float) -> bool:
        """See to it that there is a poll for a queue; return whether it begins now."""
        if source.poll is not None:
            if not source.poll.done():
                return False
            if not source.poll.cancelled():
                source.poll.exception()  # of a call before: if it still holds, the next has it, too
        source.poll_id = secrets.token_hex(POLL_BYTES)
        source.poll = asyncio.ensure_future(self._fetch(source, messages_max, min(seconds, WAIT_SECONDS_MAX)))
        return True

    async def _fetch(self, source: _Source, messages_max: int, seconds: float) -> None:
        told = {
            **source.headers,
            "x-oms-pollId": source.poll_id,
            "x-oms-ack": "true",
            "x-oms-max": str(messages_max),
            "x-oms-waitMills": str(round(seconds * 1000)),
            "x-oms-leaseMills": str(self._lease_ms),
        }
        timeout = seconds + self._options.operation_timeout
        answer = await self._connection.ask("GET", "messages", timeout, told)
        now = asyncio.get_running_loop().time()
        for line in answer.content.split(b"\n"):
            if line:
                await self._take(line, source, now)

    async def _take(self, line: bytes, source: _Source, now: float) -> None:
        """Put a message into the inbox; what cannot be read goes to the dead letters."""
        try:
            message = from_line(line, source.name)
        except OMSMessageFormatError as error:
            receipt = receipt_of(line, source.name)
            log.warning("a message of %r cannot be read, and is rejected: %s", source.name, error.reason)
            await self._nack(receipt, {"x-oms-outcome": "reject"})
            return
        assert message.receipt is not None
        if self._options.push:
            self._held.add(message.receipt.handle)
        self._inbox.append((message, now))

    # -- settling -------------------------------------------------------------------------------------

    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        handles = [receipt.handle for receipt in receipts]
        self._held.difference_update(handles)
        unknown = await self._together("receipts/ack", handles)
        if unknown:
            raise _late(len(unknown))

    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        self._held.discard(receipt.handle)
        await self._nack(receipt, {} if delay is None else {"x-oms-delayMills": str(round(delay * 1000))})

    async def _nack(self, receipt: MessageReceipt, headers: dict[str, str]) -> None:
        await self._settle(receipt, "nack", headers)

    async def extend(self, receipt: MessageReceipt, seconds: float) -> MessageReceipt:
        lease_ms = max(1, round(seconds * 1000))
        await self._settle(receipt, "extend", {"x-oms-leaseMills": str(lease_ms)})
        return receipt

    async def _settle(self, receipt: MessageReceipt, what: str, headers: dict[str, str]) -> None:
        path = f"receipts/{segment(receipt.handle)}/{what}"
        try:
            await self._connection.ask("POST", path, self._options.operation_timeout, headers)
        except OMSError as error:
            if error.code == ResponseStatus.DESTINATION_NOT_FOUND:
                raise _late(1) from error
            raise

    async def _together(self, path: str, handles: Sequence[str], **headers: str) -> list[str]:
        """Do something with many receipts; return those that are not known any more."""
        body = json.dumps({"receipts": handles}).encode()
        told = {f"x-oms-{name}": value for name, value in headers.items()}
        answer = await self._connection.ask("POST", path, self._options.operation_timeout, told, body)
        unknown: list[str] = json.loads(answer.content)["unknown"]
        return unknown

    async def _renew(self) -> None:
        """Keep what a push consumer has in hand its own."""
        while True:
            await asyncio.sleep(self._options.invisible / RENEWALS)
            held = list(self._held)
            if not held:
                continue
            try:
                unknown = await self._together("receipts/extend", held, leaseMills=str(self._lease_ms))
                self._held.difference_update(unknown)
            except OMSError:
                continue  # the next renewal is in time as well

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        await self._stop()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        while self._returning:
            await asyncio.wait(set(self._returning))
        sources, self._sources = self._sources, {}
        if self._options.broadcast:
            for source in sources.values():
                try:
                    timeout = self._options.operation_timeout
                    await self._connection.ask("DELETE", "groups", timeout, source.headers)
                except OMSError:
                    pass  # it goes by itself


def _tasks(polls: Sequence[asyncio.Task[None] | None]) -> set[asyncio.Task[None]]:
    return {poll for poll in polls if poll is not None}


def _queue(message: Message) -> str:
    assert message.receipt is not None
    return message.receipt.queue


def _late(count: int) -> OMSError:
    which = "a delivery was" if count == 1 else f"{count} deliveries were"
    return OMSError(f"{which} settled already, or came again since", ResponseStatus.BAD_PARAMETER)
