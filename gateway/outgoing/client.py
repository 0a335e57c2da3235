"""All connections to endpoints: made to addresses that were checked, kept for a moment, used again."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

from ..api import NotAuthorized
from .destinations import Destinations
from .exchange import Answer, Exchange, PushFailed
from .target import Target

CONNECT_SECONDS_MAX: Final = 5.0  # to resolve, connect and agree on TLS: all addresses of a name together
#: How long a connection is kept for the next message. Common servers close theirs after 5 seconds.
IDLE_SECONDS_MAX: Final = 4.0

Origin = tuple[str, str, int]


class Client:
    """One for the gateway; who uses it says how many requests there are at a time."""

    def __init__(self, destinations: Destinations, ca: str = "") -> None:
        self._destinations = destinations
        self._ca = ca
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[Origin, list[tuple[Exchange, asyncio.TimerHandle]]] = {}

    async def post(self, target: Target, head: bytes, body: bytes, seconds: float) -> Answer:
        """Send a request and return the answer. Raise PushFailed.

        A connection that the endpoint closed while it was kept is no failure of the endpoint's: another
        one is made, once. A message may arrive twice by that, as by any repetition.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        exchange = self._kept(target.origin)
        try:
            if exchange is not None:
                try:
                    return await self._ask(exchange, target, head, body, deadline)
                except PushFailed as error:
                    if not error.stale:
                        raise
            return await self._ask(await self._connect(target, deadline), target, head, body, deadline)
        except TimeoutError:
            raise PushFailed(f"no answer within {seconds:g} seconds") from None

    async def _ask(
        self, exchange: Exchange, target: Target, head: bytes, body: bytes, deadline: float
    ) -> Answer:
        answer = await exchange.post(head, body, deadline)
        if exchange.usable:
            self._keep(target.origin, exchange)
        return answer

    async def _connect(self, target: Target, deadline: float) -> Exchange:
        """Return a connection to one of the target's addresses. Raise PushFailed."""
        loop = asyncio.get_running_loop()
        context = self._context() if target.scheme == "https" else None
        name = target.host if context is not None else None
        reason = "the name has no address"
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + CONNECT_SECONDS_MAX)):
                for address in await self._destinations.resolve(target):
                    try:
                        _, exchange = await loop.create_connection(
                            Exchange, address, target.port, ssl=context, server_hostname=name
                        )
                    except ssl.SSLError as error:
                        reason = f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
                    except OSError as error:
                        reason = os.strerror(error.errno) if error.errno else str(error)
                    else:
                        return exchange
        except TimeoutError:
            reason = "no connection in time"
        except NotAuthorized as error:
            reason = error.detail
        except OSError as error:  # of the resolver; its words say what it was
            reason = f"{target.host} cannot be resolved: {error.strerror or error}"
        raise PushFailed(reason)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            context = ssl.create_default_context()  # 20 ms: not before it is needed
            if self._ca:
                context.load_verify_locations(self._ca)
            self._tls = context
        return self._tls

    def _kept(self, origin: Origin) -> Exchange | None:
        """Return the connection that was used last, None if there is none."""
        kept = self._idle.get(origin)
        while kept:
            exchange, timer = kept.pop()
            timer.cancel()
            if exchange.usable:
                return exchange
        return None

    def _keep(self, origin: Origin, exchange: Exchange) -> None:
        kept = self._idle.setdefault(origin, [])
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS_MAX, self._drop, origin, exchange)
        kept.append((exchange, timer))

    def _drop(self, origin: Origin, exchange: Exchange) -> None:
        exchange.close()
        kept = [item for item in self._idle.get(origin, ()) if item[0] is not exchange]
        if kept:
            self._idle[origin] = kept
        else:
            self._idle.pop(origin, None)

    def close(self) -> None:
        """Close what is kept."""
        for kept in self._idle.values():
            for exchange, timer in kept:
                timer.cancel()
                exchange.close()
        self._idle.clear()
