"""A gateway in the process of the test itself."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from pathlib import Path

import pytest

from gateway import Message
from gateway.api import Delivery
from gateway.config import ConfigError
from gateway.embedded import Embedded
from tests.process import free_port


async def test_in_memory_without_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Embedded() as embedded:
        assert embedded.doors == {}
        arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        consumer, producer = embedded.session("in"), embedded.session("out", "alice", "here")
        consumer.consume("$share/g/t", lambda batch: [arrived.put_nowait(d) for d in batch] and None, 10)
        embedded.gateway.begin_turn()
        producer.publish(Message("t", b"x", origin=producer.origin))
        message = (await arrived.get()).message
        origin = message.origin
        assert (message.body, origin.protocol, origin.principal, origin.client_id, origin.peer) == (
            b"x",
            "embedded",
            "alice",
            "out",
            "here",
        )
    assert os.listdir(tmp_path) == [], "what is in memory leaves nothing behind"


async def test_a_log_survives_and_it_can_be_started_again(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path / "data")
    async with embedded:
        session = embedded.session()
        session.consume("$share/g/t", lambda batch: None, 1)
        embedded.gateway.begin_turn()
        await embedded.gateway.durable(session.publish(Message("t", b"x")))
        session.close()
    async with embedded:
        assert embedded.gateway.broker.catalog.get("$share/g/t").length() == 1


async def test_doors_that_are_named_open(tmp_path: Path) -> None:
    port = free_port()
    async with Embedded(doors={"mqtt": f"127.0.0.1:{port}"}) as embedded:
        assert embedded.doors == {"mqtt": f"127.0.0.1:{port}"}
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), 1):
        pass


@pytest.mark.parametrize(
    ("doors", "settings"),
    [({"mqt": "127.0.0.1:1"}, []), ({"mqtt": "0.0.0.0:0"}, []), ({}, ["limits.connections_max=x"])],
)
async def test_what_cannot_be_is_said_at_the_start(doors: dict[str, str], settings: list[str]) -> None:
    with pytest.raises(ConfigError):
        await Embedded(doors=doors, settings=settings).start()


async def test_a_configuration_file_is_taken_as_it_is(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[anonymous]\nsubscribe = ['#']\n[storage]\nengine = 'memory'\n[listeners]\n")
    port = free_port()
    closed = [f"listeners.{name}=" for name in ("mqtt", "amqp", "coap", "openmessaging", "line")]
    async with Embedded(config=config, settings=[*closed, f"listeners.http=127.0.0.1:{port}"]) as embedded:
        assert list(embedded.doors) == ["http"]


async def test_the_interpreter_of_the_application_stays_as_it_is() -> None:
    before = (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval())
    async with Embedded():
        assert (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()) == before
