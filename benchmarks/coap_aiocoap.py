"""aiocoap's own server, run by an interpreter that has it: takes a PUT anywhere and keeps the payload.

    python benchmarks/coap_aiocoap.py PORT TRANSPORT LOOP     e.g. 5683 simplesocketserver uvloop

What any broker built on it could reach at most: nothing is stored, nobody is asked. Imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import aiocoap  # type: ignore[import-untyped, import-not-found, unused-ignore]
from aiocoap import resource  # type: ignore[import-untyped, import-not-found, unused-ignore]


class Kept(resource.Resource):  # type: ignore[misc, unused-ignore]
    """A resource with the last payload."""

    def __init__(self) -> None:
        super().__init__()
        self.payload = b""

    async def render_put(self, request: Any) -> Any:
        """Keep it."""
        self.payload = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_get(self, request: Any) -> Any:
        """Give it back."""
        return aiocoap.Message(payload=self.payload)


async def serve(port: int, transport: str) -> None:
    """Listen until the process ends."""
    logging.disable(logging.CRITICAL)
    site = resource.Site()
    site.add_resource(["ps", "bench"], Kept())
    await aiocoap.Context.create_server_context(site, ("127.0.0.1", port), transports=[transport])
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


def main(port: str, transport: str, loop: str) -> None:
    """Run on asyncio's loop or on uvloop."""
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve(int(port), transport))
    else:
        asyncio.run(serve(int(port), transport))


if __name__ == "__main__":
    main(*sys.argv[1:])
