"""`GET /v1/admin/backup`: everything the log holds, as a tar archive, while the gateway goes on."""

from __future__ import annotations

import asyncio
import tarfile
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...core.access import ADMIN_PREFIX, Action
from ...core.engine import Backup
from .answers import Receive, Scope, Send
from .context import Context
from .problems import Refused
from .requests import Forward, problems, session_of

RESOURCE = ADMIN_PREFIX + "backup"  # who may view this may copy everybody's messages
CHUNK_BYTES = 1 << 20  # what is read at once, in a thread
BLOCK_BYTES = 512  # of a tar archive


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the route."""

    @routes.get(
        "/v1/admin/backup",
        summary="A copy of everything stored",
        response_class=Response,
        responses={
            200: {"description": "The files of a data directory", "content": {"application/x-tar": {}}},
            **problems(409, 501),
        },
    )
    async def backup(request: Request) -> Response:
        """As of now, while the gateway goes on; one at a time. For whoever may manage `$sys/backup`."""
        session = await session_of(context, request)
        session.check(Action.VIEW, RESOURCE)
        begun = context.gateway.broker.engine.backup()
        if begun is None:
            raise Refused("not-available", "this storage engine keeps nothing that could be copied")
        return Forward(_Archive(begun).send)


class _Archive:
    """The response: a tar archive, made file by file."""

    def __init__(self, backup: Backup) -> None:
        self._backup = backup

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, for as long as the client is there."""
        gone = asyncio.ensure_future(_gone(receive))
        try:
            headers = [
                (b"content-type", b"application/x-tar"),
                (b"content-length", b"%d" % self._size()),
                (b"cache-control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for number in range(len(self._backup.files)):
                await self._send_file(number, send, gone)
            if not gone.done():
                await send({"type": "http.response.body", "body": bytes(2 * BLOCK_BYTES)})
        finally:
            gone.cancel()
            self._backup.close()

    def _size(self) -> int:
        return sum(BLOCK_BYTES + _padded(size) for _, size in self._backup.files) + 2 * BLOCK_BYTES

    async def _send_file(self, number: int, send: Send, gone: asyncio.Future[None]) -> None:
        name, size = self._backup.files[number]
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, 0o600, int(time.time())
        part = header.tobuf(tarfile.USTAR_FORMAT)
        for offset in range(0, size, CHUNK_BYTES):
            part += await asyncio.to_thread(self._backup.read, number, offset, CHUNK_BYTES)
            if gone.done():
                return
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = b""
        part += bytes(_padded(size) - size)
        if part and not gone.done():
            await send({"type": "http.response.body", "body": part, "more_body": True})


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


async def _gone(receive: Receive) -> None:
    """Wait until the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
