"""A producer: one request at a time, with everything that was sent while the one before was under way.

So messages of one producer keep their order, and many senders cost few requests.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.oms.driver import Check, ClientOptions, Sender, SendResult, TransactionStatus
from gateway.oms.errors import (
    OMSDestinationError,
    OMSError,
    OMSTimeoutError,
    OMSTransactionError,
    OMSUnsupportedError,
    ResponseStatus,
)
from gateway.oms.keys import ExtensionKeys
from gateway.oms.message import Message, QoS

from .connection import PREFIX, REFUSED, VERSION_FIELD, segment, text
from .lines import from_line, to_line
from .statuses import error_of, problem_of

if TYPE_CHECKING:
    from .driver import HttpDriver

STRUCTURED: Final = "application/openmessaging+json"
LINES_MAX: Final = 1000  # of one request: others' have their turn at the server, and a failure costs so many
BYTES_MAX: Final = 4 << 20  # of one request; a message alone may be larger
WAITING_MAX: Final = (
    4 * LINES_MAX
)  # messages sent one way that wait for their request; then the producer does
ATTEMPTS_MAX: Final = 3  # of a request whose messages are known by their ids
RETRY_SECONDS: Final = 0.2
CHECK_SECONDS: Final = 30.0  # of one wait for questions: proxies cut idle requests off at about a minute
CHECK_PAUSE_SECONDS: Final = 1.0  # after one that failed


class _Waiting(NamedTuple):
    """A message on its way. `repeatable`: a repetition is known by its id."""

    line: bytes
    sent: asyncio.Future[SendResult]
    repeatable: bool


class HttpSender(Sender):
    """One producer."""

    def __init__(self, driver: HttpDriver, options: ClientOptions, check: Check | None) -> None:
        self._driver = driver
        self._connection = driver.connection
        self._options = options
        self._waiting: deque[_Waiting] = deque()
        self._room = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._checking = asyncio.ensure_future(self._ask(check)) if check is not None else None

    def send(self, message: Message) -> asyncio.Future[SendResult]:
        repeatable = message.header.qos == QoS.EXACTLY_ONCE
        message_id = ""
        if repeatable:
            message_id = message.header.message_id or secrets.token_hex(16).upper()
        line = to_line(message, self._driver.topic_of(message.header.destination), message_id)
        sent: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(line, sent, repeatable))
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._send())
        return sent

    async def send_oneway(self, messages: Sequence[Message]) -> None:
        for message in messages:
            while len(self._waiting) >= WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            try:
                self.send(message).add_done_callback(_look_away)
            except OMSError:
                pass  # nobody is told

    # -- requests -----------------------------------------------------------------------------------

    async def _send(self) -> None:
        together: list[_Waiting] = []
        try:
            while self._waiting:
                together = self._together()
                self._room.set()
                try:
                    results = await self._post(together)
                except OMSError as error:
                    results = [error] * len(together)
                for each, result in zip(together, results, strict=True):
                    _tell(each.sent, result)
        finally:
            self._sending = None
            for each in (*together, *self._waiting):
                _tell(each.sent, OMSError("the producer was stopped", ResponseStatus.SERVICE_UNAVAILABLE))
            self._waiting.clear()

    def _together(self) -> list[_Waiting]:
        """Return what goes in the next request."""
        found = [self._waiting.popleft()]
        size = len(found[0].line)
        while self._waiting and len(found) < LINES_MAX:
            size += len(self._waiting[0].line)
            if size > BYTES_MAX:
                break
            found.append(self._waiting.popleft())
        return found

    async def _post(self, together: list[_Waiting]) -> Sequence[SendResult | OMSError]:
        """Send messages; return what became of each. Raise OMSError if that is not known."""
        attempts = ATTEMPTS_MAX if all(each.repeatable for each in together) else 1
        while True:
            try:
                return await self._post_once(together)
            except OMSError as error:
                attempts -= 1
                lost = isinstance(error, OMSTimeoutError) or error.code == ResponseStatus.SERVICE_UNAVAILABLE
                if not attempts or not lost:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _post_once(self, together: list[_Waiting]) -> Sequence[SendResult | OMSError]:
        timeout = self._options.operation_timeout
        if len(together) == 1:
            return [result_of(await self._post_whole("messages", together[0].line))]
        body = b"\n".join(each.line for each in together)
        answer = await self._connection.request(
            "POST", PREFIX + "messages/batch", timeout, {VERSION_FIELD: self._driver.version}, body
        )
        found = problem_of(answer)
        results = found.get("results")
        if not isinstance(results, list) or len(results) != len(together):
            raise error_of(found)
        return [_caught(result) for result in results]

    async def _post_whole(self, path: str, line: bytes, **headers: str) -> dict[str, Any]:
        """Send a message that is the whole body; return what is said of it. Raise OMSError."""
        told = {"content-type": STRUCTURED, **{f"x-oms-{name}": value for name, value in headers.items()}}
        answer = await self._connection.ask("POST", path, self._options.operation_timeout, told, line)
        found: dict[str, Any] = json.loads(answer.content)
        return found

    # -- transactions and delays ----------------------------------------------------------------------

    async def prepare(self, message: Message) -> SendResult:
        message.extension_header.transaction_id = None
        line = to_line(message, self._driver.topic_of(message.header.destination))
        headers = {"producerId": text(self._options.client_id)}
        check_ms = self._options.attributes.get_int(ExtensionKeys.CHECK_DELAY)
        if check_ms:
            headers["checkAfterMills"] = str(check_ms)
        found = await self._post_whole("transactions", line, **headers)
        message.extension_header.transaction_id = found["transactionId"]
        return SendResult(found["messageId"], found["transactionId"])

    async def end(self, prepared: SendResult, status: TransactionStatus) -> None:
        assert prepared.transaction_id is not None
        path = f"{PREFIX}transactions/{segment(prepared.transaction_id)}/{status.value}"
        told = {VERSION_FIELD: self._driver.version}
        answer = await self._connection.request("POST", path, self._options.operation_timeout, told)
        if answer.status_code in (404, 409):
            raise OMSTransactionError(str(problem_of(answer).get("detail", "")))
        if answer.status_code >= REFUSED:
            raise error_of(problem_of(answer))

    async def recall(self, sent: SendResult) -> None:
        if not isinstance(sent.handle, str):
            raise OMSError("only what was sent with a delay can be recalled", ResponseStatus.BAD_PARAMETER)
        path = f"/v1/schedules/{segment(sent.handle)}"
        await self._connection.rest("DELETE", path, self._options.operation_timeout)

    async def _ask(self, check: Check) -> None:
        """Fetch questions about what this producer has left open, and do as the application says."""
        told = {
            "x-oms-producerId": text(self._options.client_id),
            "x-oms-waitMills": str(round(CHECK_SECONDS * 1000)),
            "accept": STRUCTURED,
        }
        timeout = CHECK_SECONDS + self._options.operation_timeout
        while True:
            try:
                answer = await self._connection.ask("GET", "transactions/checks", timeout, told)
                if answer.content:
                    await self._answer(check, answer.content)
            except OMSUnsupportedError:
                return  # a server without the binding: what is sent fails, and says so
            except OMSError:
                await asyncio.sleep(CHECK_PAUSE_SECONDS)

    async def _answer(self, check: Check, line: bytes) -> None:
        message = from_line(line, "")
        topic = json.loads(line)["header"]["destination"]
        message.header.destination = self._driver.name_of(topic)
        status = await check(message)
        if status is not TransactionStatus.UNKNOWN:
            prepared = SendResult(message.header.message_id, message.extension_header.transaction_id)
            await self.end(prepared, status)

    async def close(self) -> None:
        """Wait for what is on its way, as long as a request may take; then give it up."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=self._options.operation_timeout)
        for task in (self._sending, self._checking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})


def result_of(found: dict[str, Any]) -> SendResult:
    """Return what is said of a message that was sent. Raise OMSDestinationError if nobody gets it."""
    if found.get("subscribers") is False:
        raise OMSDestinationError(
            f"nobody receives from {found['destination']!r}: create the queue, or bind a consumer first"
        )
    return SendResult(found["messageId"], found.get("transactionId"), handle=found.get("schedule"))


def _caught(found: dict[str, Any]) -> SendResult | OMSError:
    if "messageId" not in found:
        return error_of(found)
    try:
        return result_of(found)
    except OMSError as error:
        return error


def _tell(sent: asyncio.Future[SendResult], result: SendResult | OMSError) -> None:
    if sent.done():
        return
    if isinstance(result, SendResult):
        sent.set_result(result)
    else:
        sent.set_exception(result)


def _look_away(sent: asyncio.Future[SendResult]) -> None:
    if not sent.cancelled():
        sent.exception()
