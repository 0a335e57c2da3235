"""aiocoap's client in a process of its own, for tests: see `aiocoap_peer.py` for what it is told."""

from __future__ import annotations

import base64
import json
import select
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.peers import aiocoap_python

PEER = Path(__file__).with_name("aiocoap_peer.py")
ANSWER_SECONDS_MAX = 60.0


class Failed(Exception):
    """aiocoap raised something: the name of its exception is the first argument."""


class Reply:
    """A response. `code` as people write it."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.code: str = line["code"]
        self.payload: bytes = base64.b64decode(line["payload"])
        self.etag: str | None = line["etag"]
        self.content_format: int | None = line["content_format"]
        self.max_age: int | None = line["max_age"]
        self.observe: int | None = line["observe"]
        self.location: list[str] = line["location"]

    def __repr__(self) -> str:
        return f"<{self.code} {self.payload[:60]!r}>"


class AiocoapClient:
    """One process. `context` chooses a socket of its own in it; options are those of `aiocoap_peer`."""

    def __init__(self, port: int, scheme: str = "coap", host: str = "127.0.0.1") -> None:
        self.base = f"{scheme}://{host}:{port}"
        self._process = subprocess.Popen(
            [aiocoap_python(), "-P", str(PEER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr:
            self.errors += self._process.stderr

    def __enter__(self) -> AiocoapClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _ask(self, do: str, **line: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **line}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS_MAX)
        text = self._process.stdout.readline() if ready else ""
        assert text, f"aiocoap did not answer: {''.join(self.errors)}"
        found: dict[str, Any] = json.loads(text)
        if "failed" in found:
            raise Failed(found["failed"], found["why"])
        return found

    def uri(self, path: str, *query: str) -> str:
        """Return the URI of a path with a query; the base is where the client was made for."""
        asked = "&".join(quote(text, safe="=/") for text in query)
        return f"{self.base}{quote(path)}" + (f"?{asked}" if asked else "")

    def _line(self, code: str, path: str, payload: bytes, query: tuple[str, ...]) -> dict[str, Any]:
        return {
            "code": code,
            "uri": self.uri(path, *query),
            "payload": base64.b64encode(payload).decode(),
        }

    def credentials(self, values: dict[str, Any], context: str = "") -> None:
        """Give a context keys: what aiocoap's credentials file has."""
        self._ask("credentials", values=values, context=context)

    def request(
        self, code: str, path: str, payload: bytes = b"", query: tuple[str, ...] = (), **more: Any
    ) -> Reply:
        """Send a request and return its response."""
        return Reply(self._ask("request", **self._line(code, path, payload, query), **more))

    def get(self, path: str, *query: str, **more: Any) -> Reply:
        """GET."""
        return self.request("GET", path, b"", query, **more)

    def put(self, path: str, payload: bytes, *query: str, **more: Any) -> Reply:
        """PUT."""
        return self.request("PUT", path, payload, query, **more)

    def put_many(self, puts: list[tuple[str, str, bytes]], *query: str, **more: Any) -> list[str]:
        """PUT (context, path, payload), contexts side by side; return codes, or names of exceptions."""
        lines = [
            {**self._line("PUT", path, payload, query), **more, "context": context, "id": number}
            for number, (context, path, payload) in enumerate(puts)
        ]
        codes: list[str] = self._ask("many", requests=lines)["codes"]
        return codes

    def observe(self, name: str, path: str, *query: str, **more: Any) -> Reply:
        """Begin an observation; return the first response."""
        return Reply(self._ask("observe", name=name, **self._line("GET", path, b"", query), **more))

    def next(self, name: str, seconds: float = 20) -> Reply:
        """Return the next notification."""
        return Reply(self._ask("next", name=name, seconds=seconds))

    def ended(self, name: str, seconds: float = 20) -> str:
        """Return by which exception an observation ended."""
        text: str = self._ask("next", name=name, seconds=seconds)["ended"]
        return text

    def cancel(self, name: str) -> None:
        """Lose interest: the next notification is answered RST."""
        self._ask("cancel", name=name)

    def close_context(self, context: str = "") -> None:
        """Close the socket of a context."""
        self._ask("close", context=context)
