"""aiocoap's client with OSCORE against a real gateway, and datagrams that nobody should send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.access.guarded import Guarded

aiocoap = pytest.importorskip("aiocoap")
oscore = pytest.importorskip("aiocoap.oscore")


pytestmark = pytest.mark.interop

NAME = "sensor-17.greenhouse"  # more than a sender id may have
KEY = "k" * 32
SECONDS = 10


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("oscore"))
    made.start()
    for name in (NAME, "lamp"):
        made.user(name, secret=KEY)
        made.rule(name, f"user:{name}", ["publish", "subscribe"], "topic:room/#")
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


class Client:
    """aiocoap with a directory of its own for its context, as its command has it."""

    def __init__(self, gateway: Guarded, directory: Path, context: Any) -> None:
        self.base = f"coap://127.0.0.1:{gateway.coap_port}"
        self.directory = directory
        self.context = context

    def load(self, kid: str = "", id_context: str | None = NAME, key: str = KEY) -> None:
        """Use another context from now on."""
        self.directory.mkdir()
        settings = {"sender-id_ascii": kid, "recipient-id_ascii": "gateway"}
        if id_context is not None:
            settings["id-context_ascii"] = id_context
        (self.directory / "settings.json").write_text(json.dumps(settings))
        (self.directory / "secret.json").write_text(json.dumps({"secret_ascii": key}))
        entry = {"oscore": {"basedir": str(self.directory)}}
        self.context.client_credentials.load_from_dict({f"{self.base}/*": entry})

    async def ask(self, code: Any, path: str, payload: bytes = b"", **options: Any) -> Any:
        message = aiocoap.Message(code=code, uri=self.base + path, payload=payload, **options)
        async with asyncio.timeout(SECONDS):
            return await self.context.request(message).response


Connect = Callable[..., Any]


@pytest.fixture
def connect(gateway: Guarded, tmp_path: Path) -> Connect:
    @asynccontextmanager
    async def made(**settings: Any) -> AsyncIterator[Client]:
        context = await aiocoap.Context.create_client_context(transports=["oscore", "udp6"])
        try:
            client = Client(gateway, tmp_path / "context", context)
            client.load(**settings)
            yield client
        finally:
            await context.shutdown()

    return made


# -- aiocoap ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kid", "id_context", "user"), [("", NAME, NAME), ("2", NAME, NAME), ("lamp", None, "lamp")]
)
async def test_publish_and_read(
    gateway: Guarded, connect: Connect, kid: str, id_context: str | None, user: str
) -> None:
    async with connect(kid=kid, id_context=id_context) as client:
        topic = f"room/{user}/{kid}x"
        answer = await client.ask(aiocoap.PUT, f"/ps/{topic}?retain=1", b"21.5")
        assert answer.code.is_successful(), answer.payload
        answer = await client.ask(aiocoap.GET, f"/ps/{topic}")
        assert (answer.code, answer.payload) == (aiocoap.CONTENT, b"21.5")
        answer = await client.ask(aiocoap.PUT, "/ps/elsewhere", b"x")
        assert answer.code == aiocoap.FORBIDDEN
    retained = gateway.ask("GET", f"/v1/topics/{topic}")
    assert retained.content == b"21.5", retained.text
