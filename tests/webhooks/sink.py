"""An endpoint for tests: a real HTTP server that keeps what it gets and answers as its path says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

HANG_SECONDS_MAX = 30.0


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float  # by the monotonic clock


class Sink:
    """A server on a free port. `answers` maps a path to what is done with the n-th request (from 1)."""

    def __init__(self, port: int = 0) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.take(self, Received(self.path, headers, body, time.monotonic()))

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the gateway hangs up: that is what some tests are about

        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._under_way: dict[str, int] = {}
        self.most: dict[str, int] = {}  # requests at a time, by path
        self.answers: dict[str, Callable[[Answering, int], None]] = {}
        self.ended = threading.Event()  # lets go of what hangs
        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        """Return a URL of this server."""
        return f"http://127.0.0.1:{self.port}{path}"

    def take(self, handler: BaseHTTPRequestHandler, received: Received) -> None:
        """Keep a request and answer it."""
        path = received.path.partition("?")[0]
        with self._lock:
            self._received.append(received)
            number = sum(1 for one in self._received if one.path == received.path)
            self._under_way[path] = self._under_way.get(path, 0) + 1
            self.most[path] = max(self.most.get(path, 0), self._under_way[path])
        try:
            self.answers.get(path, status(200))(Answering(self, handler), number)
        finally:
            with self._lock:
                self._under_way[path] -= 1

    def got(self, path: str) -> list[Received]:
        """Return what came to a path."""
        with self._lock:
            return [one for one in self._received if one.path.partition("?")[0] == path]

    def bodies(self, path: str) -> list[bytes]:
        """Return the bodies of that."""
        return [one.body for one in self.got(path)]

    def close(self) -> None:
        """Stop."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class Answering:
    """What an answer is made with."""

    def __init__(self, sink: Sink, handler: BaseHTTPRequestHandler) -> None:
        self.sink = sink
        self._handler = handler

    def send(self, code: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer; underscores in names are hyphens."""
        self._handler.send_response(code)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header("content-length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self._handler.wfile.write(data)

    def hang(self, seconds: float = HANG_SECONDS_MAX) -> None:
        """Do nothing until the test is over, or for a while."""
        self.sink.ended.wait(seconds)

    def cut(self) -> None:
        """Close the connection."""
        self._handler.close_connection = True


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Answering, int], None]:
    """Answer always the same."""
    return lambda answering, number: answering.send(code, body, **headers)


def first(*codes: int, then: int = 200) -> Callable[[Answering, int], None]:
    """Answer with some statuses first."""
    return lambda answering, number: answering.send(codes[number - 1] if number <= len(codes) else then)
