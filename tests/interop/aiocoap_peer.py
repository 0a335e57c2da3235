"""Run by an interpreter that has aiocoap: does what lines of JSON say, and answers each with one.

Its WebSocket needs an older library than ours, so it has an environment of its own: this file imports
nothing of ours. Each command names the context (a client with a socket of its own) that it is for.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
from typing import Any

import aiocoap
from aiocoap.numbers.constants import TransportTuning

#: Options as the lines call them -> as aiocoap does. Bytes are in hexadecimal.
NUMBERS = ("content_format", "accept", "max_age", "observe", "no_response", "hop_limit", "size1", "size2")


class Impatient(TransportTuning):
    """Sends again sooner, so that a test that loses datagrams ends before its reader does."""

    ACK_TIMEOUT = 0.1
    MAX_RETRANSMIT = 8


def message_of(line: dict[str, Any]) -> aiocoap.Message:
    """Return the request that a line describes."""
    payload = base64.b64decode(line.get("payload", ""))
    tuning = Impatient() if line.get("impatient") else None
    if line.get("unreliable"):
        tuning = aiocoap.Unreliable
    message = aiocoap.Message(
        code=getattr(aiocoap, line["code"]), uri=line["uri"], payload=payload, transport_tuning=tuning
    )
    for name in NUMBERS:
        if name in line:
            setattr(message.opt, name, line[name])
    if "etags" in line:
        message.opt.etags = [bytes.fromhex(text) for text in line["etags"]]
    if "if_match" in line:
        message.opt.if_match = [bytes.fromhex(text) for text in line["if_match"]]
    if line.get("if_none_match"):
        message.opt.if_none_match = True
    return message


def told(message: aiocoap.Message) -> dict[str, Any]:
    """Return a response as a line has it."""
    options = message.opt
    found: dict[str, Any] = {
        "code": message.code.dotted,
        "payload": base64.b64encode(message.payload).decode(),
        "etag": options.etag.hex() if options.etag is not None else None,
        "location": list(options.location_path or ()),
    }
    for name in ("content_format", "max_age", "observe"):
        value = getattr(options, name)
        found[name] = int(value) if value is not None else None
    return found


class Peer:
    """All contexts and observations of a test."""

    def __init__(self) -> None:
        self._contexts: dict[str, aiocoap.Context] = {}
        self._requests: dict[str, Any] = {}
        self._notified: dict[str, asyncio.Queue[Any]] = {}

    async def _context(self, line: dict[str, Any]) -> aiocoap.Context:
        name = line.get("context", "")
        if name not in self._contexts:
            self._contexts[name] = await aiocoap.Context.create_client_context()
            for pattern, credentials in line.get("credentials", {}).items():
                self._contexts[name].client_credentials.load_from_dict({pattern: credentials})
        return self._contexts[name]

    async def credentials(self, line: dict[str, Any]) -> dict[str, Any]:
        """Give a context keys."""
        context = await self._context(line)
        context.client_credentials.load_from_dict(line["values"])
        return {}

    async def request(self, line: dict[str, Any]) -> dict[str, Any]:
        """Send one and return its response."""
        context = await self._context(line)
        seconds = line.get("seconds", 20)
        return told(await asyncio.wait_for(context.request(message_of(line)).response, seconds))

    async def many(self, line: dict[str, Any]) -> dict[str, Any]:
        """Send several, those of one context in turn and the contexts side by side."""
        lanes: dict[str, list[dict[str, Any]]] = {}
        for each in line["requests"]:
            lanes.setdefault(each.get("context", ""), []).append(each)
        answers: dict[int, Any] = {}

        async def run(lane: list[dict[str, Any]]) -> None:
            for each in lane:
                try:
                    answers[each["id"]] = (await self.request(each))["code"]
                except (TimeoutError, aiocoap.error.Error) as error:
                    answers[each["id"]] = type(error).__name__

        await asyncio.gather(*(run(lane) for lane in lanes.values()))
        return {"codes": [answers[each["id"]] for each in line["requests"]]}

    async def observe(self, line: dict[str, Any]) -> dict[str, Any]:
        """Begin an observation under a name; return the first response."""
        context = await self._context(line)
        message = message_of(line)
        message.opt.observe = 0
        request = context.request(message)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        request.observation.register_callback(queue.put_nowait)
        request.observation.register_errback(queue.put_nowait)
        self._requests[line["name"]], self._notified[line["name"]] = request, queue
        return told(await asyncio.wait_for(request.response, line.get("seconds", 20)))

    async def next(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the next notification of an observation."""
        found = await asyncio.wait_for(self._notified[line["name"]].get(), line.get("seconds", 20))
        if isinstance(found, Exception):
            return {"ended": type(found).__name__}
        return told(found)

    async def cancel(self, line: dict[str, Any]) -> dict[str, Any]:
        """End an observation."""
        self._requests.pop(line["name"]).observation.cancel()
        return {}

    async def close(self, line: dict[str, Any]) -> dict[str, Any]:
        """Close a context."""
        await self._contexts.pop(line.get("context", "")).shutdown()
        return {}

    async def end(self) -> None:
        """Close all."""
        for context in self._contexts.values():
            await context.shutdown()


async def main() -> None:
    logging.disable(logging.CRITICAL)
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    peer = Peer()
    while text := await reader.readline():
        line = json.loads(text)
        try:
            answer = await getattr(peer, line["do"])(line)
        except (TimeoutError, aiocoap.error.Error) as error:
            answer = {"failed": type(error).__name__, "why": str(error)}
        print(json.dumps(answer), flush=True)
    await peer.end()


asyncio.run(main())
