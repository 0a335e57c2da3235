"""A web service decides who logs in: with a real service on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_callback import Callback, gateway_authenticators

from gateway import AuthenticationFailed, Credentials, Principal

ANSWERS: dict[str, tuple[int, Any]] = {
    "ann": (200, {"groups": ["sensors"]}),
    "root": (200, {"name": "the root", "admin": True}),
    "almost": (200, {"admin": "yes"}),
    "bob": (403, {}),
    "stranger": (404, {}),
    "broken": (500, {}),
    "list": (200, []),
    "number": (200, {"name": 7}),
    "empty": (200, {"name": ""}),
}


class Service(BaseHTTPRequestHandler):
    """Answers by name, if the password is right."""

    asked: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(asked)
        status, body = ANSWERS[asked["username"]]
        if asked["password"] != "right":
            status, body = 401, {}
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Service.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/login"
    server.shutdown()
    thread.join()
    server.server_close()


def log_in(callback: Callback, name: str | None, password: bytes = b"right", times: int = 1) -> Any:
    async def ask() -> Principal | None:
        found = None
        for _ in range(times):
            credentials = Credentials("mqtt", "127.0.0.1:5", "c7", name, password)
            found = await callback.authenticate(credentials)
        await callback._http.aclose()
        return found

    return asyncio.run(ask())


def test_who_is_known_gets_in_with_groups(url: str) -> None:
    principal = log_in(Callback(url), "ann", times=3)
    assert (principal.name, principal.groups, principal.admin) == ("ann", {"sensors"}, False)
    assert Service.asked == [
        {"username": "ann", "password": "right", "client_id": "c7", "door": "mqtt", "peer": "127.0.0.1:5"}
    ], "asked once"
    assert log_in(Callback(url), "root").admin
    assert not log_in(Callback(url), "almost").admin, "true alone makes an administrator"


def test_nothing_is_remembered_where_that_is_not_wanted(url: str) -> None:
    log_in(Callback(url, cache_seconds=-1), "ann", times=3)
    assert len(Service.asked) == 3


@pytest.mark.parametrize("name", ["bob", "broken", "list", "number", "empty"])
def test_anything_else_is_a_refusal(url: str, name: str) -> None:
    with pytest.raises(AuthenticationFailed):
        log_in(Callback(url), name)


def test_a_wrong_password_is_not_let_in_by_an_earlier_right_one(url: str) -> None:
    callback = Callback(url)

    async def ask() -> None:
        await callback.authenticate(Credentials("mqtt", "", "c", "ann", b"right"))
        with pytest.raises(AuthenticationFailed):
            await callback.authenticate(Credentials("mqtt", "", "c", "ann", b"wrong"))
        await callback._http.aclose()

    asyncio.run(ask())


@pytest.mark.parametrize(("name", "password"), [("stranger", b"right"), (None, b"right")])
def test_whom_it_does_not_know_others_may(url: str, name: str | None, password: bytes) -> None:
    assert log_in(Callback(url), name, password) is None


def test_a_service_that_is_not_there_lets_nobody_in() -> None:
    with pytest.raises(AuthenticationFailed, match="try again later"):
        log_in(Callback("http://127.0.0.1:9/login", timeout_seconds=0.5), "ann")


def test_the_hook_offers_it_where_it_is_configured() -> None:
    def config(dev: bool = False, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(dev=dev, plugin=lambda name: settings)

    assert gateway_authenticators(config()) == []
    assert gateway_authenticators(config(dev=True, url="http://x")) == []
    assert len(gateway_authenticators(config(url="http://x"))) == 1
    with pytest.raises(TypeError):
        gateway_authenticators(config(url="http://x", tiemout=1))
