"""Run by an interpreter that has amqtt: talk to a gateway and print what happened as JSON.

amqtt needs an old websockets, so it has an environment of its own: this file imports nothing of ours.
"""

import asyncio
import json
import sys

from amqtt.client import MQTTClient

BODIES = [b"zero", b"one", b"two", bytes(range(256)) * 300]


async def main(url: str) -> None:
    reader, writer = MQTTClient(client_id="amqtt-reader"), MQTTClient(client_id="amqtt-writer")
    await reader.connect(url)
    await writer.connect(url)
    granted = await reader.subscribe([("amqtt/0", 0), ("amqtt/1", 1), ("amqtt/2", 2)])
    got = []
    for qos in range(3):
        for body in BODIES:
            await writer.publish(f"amqtt/{qos}", body, qos=qos)
            message = await reader.deliver_message(timeout_duration=15)
            got.append([message.topic, bytes(message.data) == body])
    await writer.publish("amqtt/kept", b"value", qos=1, retain=True)
    await reader.subscribe([("amqtt/kept", 1)])
    kept = await reader.deliver_message(timeout_duration=15)
    await reader.unsubscribe(["amqtt/0"])
    await reader.disconnect()
    await writer.disconnect()
    print(json.dumps({"granted": list(granted), "got": got, "kept": bytes(kept.data).decode()}))


asyncio.run(main(sys.argv[1]))
