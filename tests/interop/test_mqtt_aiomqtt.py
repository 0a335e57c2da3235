"""aiomqtt with a real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes

from tests.interop.paho_client import properties, publish_properties
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
SECONDS_MAX = 20


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("aiomqtt")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def _client(door: GatewayProcess, name: str, version: aiomqtt.ProtocolVersion) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", door.mqtt_port, identifier=name, protocol=version)


async def _take(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    found: list[aiomqtt.Message] = []
    async with asyncio.timeout(SECONDS_MAX):
        async for message in client.messages:
            found.append(message)
            if len(found) == count:
                return found
    raise AssertionError("the stream of messages ended")


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_wildcards_and_order(door: GatewayProcess, version: aiomqtt.ProtocolVersion) -> None:
    async with _client(door, "reader", version) as reader, _client(door, "writer", version) as writer:
        await reader.subscribe("rooms/+/temperature", qos=1)
        for room in ("kitchen", "bath", "attic"):
            await writer.publish(f"rooms/{room}/temperature", room, qos=1)
            await writer.publish(f"rooms/{room}/humidity", "no", qos=1)
        got = await _take(reader, 3)
    assert [str(message.topic) for message in got] == [
        f"rooms/{room}/temperature" for room in ("kitchen", "bath", "attic")
    ]


async def test_many_at_once(door: GatewayProcess) -> None:
    version = aiomqtt.ProtocolVersion.V5
    async with _client(door, "reader", version) as reader, _client(door, "writer", version) as writer:
        await reader.subscribe("burst", qos=2)
        await asyncio.gather(*(writer.publish("burst", str(number), qos=2) for number in range(200)))
        got = await _take(reader, 200)
    assert sorted(int(message.payload) for message in got) == list(range(200))  # type: ignore[arg-type]


async def test_request_and_response(door: GatewayProcess) -> None:
    version = aiomqtt.ProtocolVersion.V5
    async with _client(door, "server", version) as server, _client(door, "asker", version) as asker:
        await server.subscribe("sum", qos=1)
        await asker.subscribe("answers/asker", qos=1)
        ask = publish_properties(ResponseTopic="answers/asker", CorrelationData=b"1")
        await asker.publish("sum", "20 22", qos=1, properties=ask)
        (question,) = await _take(server, 1)
        asked = question.properties
        assert asked is not None
        total = sum(int(word) for word in bytes(question.payload).split())  # type: ignore[arg-type]
        answer = properties(PacketTypes.PUBLISH, CorrelationData=asked.CorrelationData)
        await server.publish(asked.ResponseTopic, str(total), qos=1, properties=answer)
        (reply,) = await _take(asker, 1)
    assert reply.payload == b"42"
    assert reply.properties is not None
    assert reply.properties.CorrelationData == b"1"
