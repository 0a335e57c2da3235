"""Requests of an access point: one pool of connections, the next server when one cannot be reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx

from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.key_value import KeyValue
from gateway.oms.uri import AccessPointURI
from gateway.oms.version import SPEC_VERSION

from .options import login, servers, tls
from .statuses import error_of, failure_of, problem_of

VERSION_FIELD: Final = "x-oms-version"
PREFIX: Final = "/oms/v1/"
REFUSED: Final = 400  # statuses from here on are problems
_SAFE: Final = "!#$&'()*+-./:;<=>?@[]^_`{|}~"  # printable ASCII that a header's value may have as it is

Headers = Mapping[str, str]


class Connection:
    """Open while the driver is started."""

    def __init__(self, uri: AccessPointURI, attributes: KeyValue) -> None:
        """Raise OMSError with BAD_PARAMETER."""
        self._servers = servers(uri, attributes)
        self._login = login(attributes)
        self._tls = tls(attributes)
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Open the pool; nothing is connected yet."""
        # Each consumer has a request waiting for each of its queues: the pool has no limit of its own.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(
            verify=self._tls, limits=limits, timeout=None, trust_env=False, **self._login
        )

    async def close(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ask(
        self, method: str, path: str, timeout: float, headers: Headers | None = None, body: bytes = b""
    ) -> httpx.Response:
        """Make a request of the binding; return its answer. Raise OMSError if there is none, or a refusal."""
        told = {VERSION_FIELD: SPEC_VERSION, **(headers or {})}
        answer = await self.request(method, PREFIX + path, timeout, told, body)
        if answer.status_code >= REFUSED:
            raise error_of(problem_of(answer))
        if VERSION_FIELD not in answer.headers:
            raise OMSError(f"{answer.url} is no OpenMessaging binding", ResponseStatus.SERVER_ERROR)
        return answer

    async def request(
        self, method: str, path: str, timeout: float, headers: Headers | None = None, body: bytes = b""
    ) -> httpx.Response:
        """Make a request; return its answer, whatever it says. Raise OMSError if there is none."""
        for _ in range(len(self._servers) - 1):
            server = self._servers[0]
            try:
                return await self._request(server, method, path, timeout, headers, body)
            except httpx.ConnectError:  # nothing was sent: another may be asked
                if self._servers[0] == server:
                    self._servers.append(self._servers.pop(0))
            except (httpx.HTTPError, TimeoutError) as error:
                raise failure_of(error, server) from error
        server = self._servers[0]
        try:
            return await self._request(server, method, path, timeout, headers, body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise failure_of(error, server) from error

    async def _request(
        self, server: str, method: str, path: str, timeout: float, headers: Headers | None, body: bytes
    ) -> httpx.Response:
        if self._client is None:
            raise OMSError("the access point is stopped", ResponseStatus.SERVICE_UNAVAILABLE)
        async with asyncio.timeout(timeout):
            return await self._client.request(method, server + path, headers=headers, content=body)

    async def rest(self, method: str, path: str, timeout: float, found: Any = None) -> Any:
        """Make a request of the door's own API, in JSON; return the answer's. Raise OMSError."""
        body = b"" if found is None else json.dumps(found).encode()
        answer = await self.request(method, path, timeout, {"content-type": "application/json"}, body)
        if answer.status_code >= REFUSED:
            raise error_of(problem_of(answer))
        return answer.json() if answer.content else None


def text(value: str) -> str:
    """Return a header's value: percent-encoded as far as it has to be."""
    return quote(value, safe=_SAFE)


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="")
