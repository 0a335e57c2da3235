"""Request and response over MQTT 5: response topic and correlation data, matched by the client.

gateway serve --dev
python examples/request_response.py                     # or --mqtt PORT
"""

from __future__ import annotations

import argparse
import asyncio
import uuid

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

QUESTIONS = [3, 5, 8]


async def server(port: int, ready: asyncio.Event) -> None:
    """Answer what comes to `square/request` on the topic that each request names."""
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier="server", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe("square/request", qos=1)
        ready.set()
        async for request in client.messages:
            assert request.properties is not None
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = request.properties.CorrelationData
            number = int(bytes(request.payload))  # type: ignore[arg-type]
            await client.publish(
                request.properties.ResponseTopic, str(number * number), 1, properties=properties
            )


async def ask(port: int) -> dict[int, int]:
    """Send all questions at once; put the answers back in place by their correlation data."""
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier="asker", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe("square/response/asker", qos=1)
        waiting: dict[bytes, int] = {}
        for number in QUESTIONS:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = "square/response/asker"
            properties.CorrelationData = uuid.uuid4().bytes
            waiting[properties.CorrelationData] = number
            await client.publish("square/request", str(number), 1, properties=properties)
        answers: dict[int, int] = {}
        async for response in client.messages:
            assert response.properties is not None
            number = waiting.pop(response.properties.CorrelationData)
            answers[number] = int(bytes(response.payload))  # type: ignore[arg-type]
            print(f"{number} squared is {answers[number]}")
            if not waiting:
                break
        return answers


async def main(port: int) -> None:
    ready = asyncio.Event()
    serving = asyncio.create_task(server(port, ready))
    await asyncio.wait_for(ready.wait(), 20)
    answers = await asyncio.wait_for(ask(port), 20)
    serving.cancel()
    assert answers == {number: number * number for number in QUESTIONS}, answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, default=1883)
    asyncio.run(main(parser.parse_args().mqtt))
