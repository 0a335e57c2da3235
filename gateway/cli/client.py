"""How commands talk to a running gateway: its HTTP door."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

EXIT_REFUSED = 1  # the gateway said no, or is not there
TIMEOUT_SECONDS = 10.0
DOWNLOAD_BYTES = 1 << 20


class Refused(Exception):
    """The gateway refused, or cannot be reached; the text is for people."""


class Client:
    """Requests to one gateway."""

    def __init__(self, url: str, user: str | None) -> None:
        self._url = url
        name, _, password = (user or "").partition(":")
        auth = httpx.BasicAuth(name, password) if user else None
        self._http = httpx.Client(base_url=url, auth=auth, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Return the decoded answer (None if empty). Raise Refused."""
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise Refused(problem_text(response.status_code, response.content))
        return response.json() if response.content else None

    def events(
        self, path: str, parameters: list[tuple[str, str | int | float | bool | None]]
    ) -> Iterator[Any]:
        """Yield the data of server-sent events of type `message`."""
        try:
            with self._http.stream("GET", path, params=parameters, timeout=None) as response:
                if response.is_error:
                    raise Refused(problem_text(response.status_code, response.read()))
                yield from _events(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def download(self, path: str) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Give (size in bytes, parts) of an answer that does not fit into memory. Raise Refused."""
        try:
            with self._http.stream("GET", path, timeout=TIMEOUT_SECONDS) as response:
                if response.is_error:
                    raise Refused(problem_text(response.status_code, response.read()))
                yield int(response.headers["content-length"]), response.iter_raw(DOWNLOAD_BYTES)
        except httpx.RemoteProtocolError as error:
            raise Refused(f"the gateway broke off: {error}") from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Refused:
        return Refused(
            f"no gateway answers at {self._url} ({error}); is it running? try: gateway serve --dev"
        )


def _events(lines: Iterator[str]) -> Iterator[Any]:
    event, data = "message", []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            event = line[6:].strip()
        elif not line:
            if data and event == "message":
                yield json.loads("\n".join(data))
            event, data = "message", []


def problem_text(status: int, content: bytes) -> str:
    """Return an RFC 9457 problem as one line."""
    try:
        problem = json.loads(content)
        if "reason" in problem:  # of RabbitMQ's management API, and of ours
            return str(problem["reason"])
        return f"{problem['title']}: {problem['detail']}" if "detail" in problem else str(problem["title"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered with status {status}"


def segment(name: str) -> str:
    """Quote a queue name as one path segment."""
    return quote(name, safe="")


def topic_path(topic: str) -> str:
    """Quote a topic as the rest of a path."""
    return quote(topic, safe="/$")


def fail(error: Refused) -> int:
    """Print why, return the exit status."""
    print(f"gateway: {error}", file=sys.stderr)
    return EXIT_REFUSED
