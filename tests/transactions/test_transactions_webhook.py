"""Questions by HTTP: which URLs may be asked, how they are signed, what counts as an answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api import InvalidValue
from gateway.outgoing.target import parse
from gateway.transactions.webhook import faults, read_secret
from tests.process import GatewayProcess, wait_for

SECRET = b"a secret of at least 24 bytes"

# -- which URLs ---------------------------------------------------------------------------------

ALLOWED = "https://shop.example/checks"
BELOW = [
    ("https://shop.example/checks", True),
    ("https://shop.example/checks/", True),
    ("https://shop.example/checks/orders?shard=1", True),
    ("https://SHOP.example:443/checks/orders", True),
    ("https://shop.example/checksum", False),
    ("https://shop.example/", False),
    ("https://shop.example/CHECKS", False),
    ("http://shop.example/checks", False),
    ("https://shop.example:8443/checks", False),
    ("https://shop.example.evil.test/checks", False),
    ("https://evil.test/checks?https://shop.example/checks", False),
    ("https://127.0.0.1/checks", False),
    ("https://[::1]/checks", False),
    ("https://169.254.169.254/checks", False),
]
UNCLEAR = [
    "",
    "shop.example/checks",
    "//shop.example/checks",
    "ftp://shop.example/checks",
    "file:///etc/passwd",
    "https:///checks",
    "https://shop.example@evil.test/checks",
    "https://user:password@shop.example/checks",
    "https://shop.example/checks/../admin",
    "https://shop.example/checks/%2e%2e/admin",
    "https://shop.example/checks/%2E./admin",
    "https://shop.example/checks%2f..%2fadmin",
    "https://shop.example\\@evil.test/checks",
    "https://shop.example/checks#fragment",
    "https://shop.example:99999/checks",
    "https://shop.example:0/checks",
    "https://shop.example:a/checks",
    "https://[::1/checks",
    "https://shop.example/checks\r\nx: y",
    "https://shop.example/che cks",
    "https://shöp.example/checks",
]


@pytest.mark.parametrize(("url", "expected"), BELOW)
def test_only_what_is_below_a_prefix_may_be_asked(url: str, expected: bool) -> None:
    assert parse(url).begins_with(parse(ALLOWED)) is expected
    assert parse(url).begins_with(parse(ALLOWED + "/")) is expected


@pytest.mark.parametrize("url", UNCLEAR)
def test_a_url_that_could_mean_something_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue):
        parse(url)


def test_an_origin_alone_is_all_below_it() -> None:
    assert parse("http://10.0.0.1:8080/any/thing").begins_with(parse("http://10.0.0.1:8080"))
    assert parse("http://10.0.0.1:8080").begins_with(parse("http://10.0.0.1:8080"))


# -- secrets ------------------------------------------------------------------------------------


def test_secrets_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    assert read_secret(str(file)) == SECRET
    file.write_text("whsec_" + base64.b64encode(SECRET).decode())
    assert read_secret(str(file)) == SECRET


@pytest.mark.parametrize("content", [b"", b"short", b"whsec_*", b"x" * 5000, None])
def test_secrets_that_are_none_are_faults(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    class Settings:
        check_urls = (ALLOWED, "https://a/?q", "ftp://a", "https://a/../b")
        check_secret_file = str(file)

    found = faults(Settings)
    assert [fault.partition(":")[0] for fault in found] == [*["check_urls"] * 3, "check_secret_file"]


# -- a real gateway, and producers that answer as they should not ---------------------------------


class Producer:
    """An HTTP server whose answers a test chooses by path."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        producer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                names = {name.lower(): value for name, value in self.headers.items()}
                producer.asked.append((self.path, names, body))
                status, answer, more = producer.answer(self.path, json.loads(body))
                self.send_response(status)
                for name, value in {"content-length": str(len(answer)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, path: str, question: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers."""
        ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
            "/checks/commit": (200, b'{"state": "commit"}', {}),
            "/checks/rollback": (200, b'{"state": "rollback", "why": "no money"}', {}),
            "/checks/unknown": (200, b'{"state": "unknown"}', {}),
            "/checks/500": (500, b'{"state": "commit"}', {}),
            "/checks/201": (201, b'{"state": "commit"}', {}),
            "/checks/redirect": (302, b'{"state": "commit"}', {"location": self.url + "/checks/commit"}),
            "/checks/garbage": (200, b"\xff\xfe commit", {}),
            "/checks/list": (200, b'["commit"]', {}),
            "/checks/other": (200, b'{"state": "COMMIT"}', {}),
            "/checks/empty": (200, b"", {}),
            "/checks/large": (200, b'{"state": "commit", "x": "' + b"x" * 100_000 + b'"}', {}),
            "/checks/short": (200, b'{"state": "commit"}', {"content-length": "1000"}),
            "/checks/second": (
                200,
                b'{"state": "%s"}' % (b"commit" if question["check"] > 1 else b"unknown"),
                {},
            ),
        }
        if path == "/checks/hang":
            self.released.wait(30)
            return ANSWERS["/checks/commit"]
        return ANSWERS[path]

    def close(self) -> None:
        """Let what hangs go, and stop."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(producer: Producer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("webhook")
    (directory / "secret").write_bytes(SECRET)
    sets = (
        f'transactions.check_urls=["{producer.url}/checks"]',
        f"transactions.check_secret_file={directory / 'secret'}",
        "transactions.check_first_seconds=0.1",
        "transactions.check_interval_seconds=0.2",
        "transactions.check_timeout_seconds=1",
        "transactions.checks_max=3",
    )
    process = GatewayProcess(directory / "data", sets).start()
    httpx.put(f"{process.url}/v1/queues/orders", json={"bindings": ["orders/#"]})
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def _begin(gateway: GatewayProcess, id: str, url: str) -> None:
    # Immune for as long as two requests may take on a busy machine.
    options = {"id": id, "check_url": url, "immunity": 1.5}
    made = httpx.post(f"{gateway.url}/v1/transactions", json=options)
    assert made.status_code == 201, made.text
    head = {"X-Message-Id": f"m-{id}", "X-Key": "k"}
    added = httpx.post(
        f"{gateway.url}/v1/transactions/{id}/topics/orders/{id}", content=id.encode(), headers=head
    )
    assert added.status_code == 200, added.text


def _ended(gateway: GatewayProcess, id: str) -> Callable[[], Any]:
    def ended() -> Any:
        found = httpx.get(f"{gateway.url}/v1/transactions/{id}").json()
        return None if found["state"] == "open" else found

    return ended


def _waiting(gateway: GatewayProcess) -> list[str]:
    found = httpx.get(f"{gateway.url}/v1/queues/orders/browse?limit=1000").json()
    return [message["body"] for message in found["messages"]]


def test_an_answer_ends_it_and_a_question_is_signed(gateway: GatewayProcess, producer: Producer) -> None:
    for path in ("commit", "rollback", "second"):
        _begin(gateway, path, f"{producer.url}/checks/{path}")
    expected = {"commit": ("committed", 1), "rollback": ("rolled-back", 1), "second": ("committed", 2)}
    for path, (state, checks) in expected.items():
        found = wait_for(_ended(gateway, path), what="an answer")
        assert (found["state"], found["cause"]) == (state, "check")
        assert found["checks"] >= checks
    assert sorted(set(_waiting(gateway)) & expected.keys()) == ["commit", "second"]
    mine = [each for each in producer.asked if each[0] == "/checks/second"]
    (_, head, body), (_, again, _) = mine[:2]
    expected = {"id": "second", "check": 1, "count": 1}
    expected["messages"] = [{"topic": "orders/second", "message_id": "m-second", "key": "k"}]  # type: ignore[assignment]
    assert json.loads(body) == expected
    signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + body
    proof = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert head["webhook-signature"] == f"v1,{proof}"
    assert abs(int(head["webhook-timestamp"]) - time.time()) < 60
    assert head["content-type"] == "application/json"
    assert head["webhook-id"] != again["webhook-id"]


NO_ANSWERS = [
    "unknown",
    "500",
    "201",
    "redirect",
    "garbage",
    "list",
    "other",
    "empty",
    "large",
    "short",
    "hang",
]


def test_what_is_no_answer_decides_nothing(gateway: GatewayProcess, producer: Producer) -> None:
    for path in NO_ANSWERS:
        _begin(gateway, f"no-{path}", f"{producer.url}/checks/{path}")
    for path in NO_ANSWERS:
        found = wait_for(_ended(gateway, f"no-{path}"), 20, what=path)
        assert (path, found["state"], found["cause"]) == (path, "rolled-back", "unresolved")
    assert not any(body.startswith("no-") for body in _waiting(gateway))
    redirected = [path for path, _, body in producer.asked if json.loads(body)["id"] == "no-redirect"]
    assert set(redirected) == {"/checks/redirect"}
    letters = httpx.get(f"{gateway.url}/v1/queues/%24dead%2F%24half/browse?limit=1000").json()["messages"]
    assert {f"no-{path}" for path in NO_ANSWERS} <= {letter["body"] for letter in letters}


def test_nobody_listening_is_no_answer(gateway: GatewayProcess) -> None:
    made = httpx.post(
        f"{gateway.url}/v1/transactions", json={"id": "gone", "check_url": "http://127.0.0.1:1/checks"}
    )
    assert made.status_code == 422
    assert "transactions.check_urls" in made.json()["detail"]


@pytest.mark.parametrize("path", ["/other", "/checks/../other", "/checksum", ""])
def test_a_url_that_is_not_allowed_is_refused_at_once(
    gateway: GatewayProcess, producer: Producer, path: str
) -> None:
    made = httpx.post(
        f"{gateway.url}/v1/transactions", json={"id": "refused", "check_url": producer.url + path}
    )
    assert made.status_code == 422, made.text
    assert httpx.get(f"{gateway.url}/v1/transactions/refused").status_code == 404


def test_without_prefixes_no_url_is_asked(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway().start()
    made = httpx.post(f"{process.url}/v1/transactions", json={"check_url": "https://shop.example/checks"})
    assert made.status_code == 422
    assert "asks no URLs" in made.json()["detail"]


def test_prefixes_need_a_secret(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway('transactions.check_urls=["https://shop.example"]')
    with pytest.raises(AssertionError, match=r"transactions\.check_secret_file"):
        process.start()
    process.kill()
