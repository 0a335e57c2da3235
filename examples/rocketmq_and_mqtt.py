"""A program written for RocketMQ 5, and a thermostat that speaks MQTT: they share topics, neither knows.

    pip install 'gateway[openmessaging]' rocketmq-python-client paho-mqtt
    gateway serve --dev
    python examples/rocketmq_and_mqtt.py                    # or --rocketmq HOST:PORT --mqtt PORT

To RocketMQ's clients the topic `rooms/7/set` is called `rooms%2F7%2Fset`. (Their client for Python writes a
log to ~/logs when it is imported.)
"""

from __future__ import annotations

import argparse
import threading

import paho.mqtt.client as mqtt
from rocketmq import ClientConfiguration, Credentials, FilterExpression, Message, Producer, SimpleConsumer

WANTED = ["20.5", "21.0", "19.0"]
SECONDS_MAX = 30


def thermostat(port: int, ready: threading.Event) -> mqtt.Client:
    """Connect a device that says which temperature it has been set to."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="thermostat-7", protocol=mqtt.MQTTv5)

    def on_message(client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        print(f"thermostat: {message.topic} {message.payload.decode()}")
        client.publish("rooms/7/is", message.payload, qos=1)

    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("rooms/7/set", 1)
    return client


def office(endpoints: str) -> list[str]:
    """Set the temperature, and wait for what the room says: plain RocketMQ."""
    configuration = ClientConfiguration(endpoints, Credentials())
    consumer = SimpleConsumer(configuration, "office", {"rooms%2F7%2Fis": FilterExpression()}, 1)
    producer = Producer(configuration, ["rooms%2F7%2Fset"])
    consumer.startup()
    producer.startup()
    consumer.receive(1, 15)  # the group is there from its first question on
    for wanted in WANTED:
        message = Message()
        message.topic, message.body, message.message_group = "rooms%2F7%2Fset", wanted.encode(), "room 7"
        producer.send(message)
    told: list[str] = []
    for _ in range(SECONDS_MAX):
        for message in consumer.receive(16, 15):
            told.append(message.body.decode())
            print(f"office: the room is at {told[-1]}, told at attempt {message.delivery_attempt}")
            consumer.ack(message)
        if len(told) == len(WANTED):
            break
    producer.shutdown()
    consumer.shutdown()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, default=1883)
    parser.add_argument("--rocketmq", default="127.0.0.1:8081")
    options = parser.parse_args()
    ready = threading.Event()
    device = thermostat(options.mqtt, ready)
    assert ready.wait(SECONDS_MAX)
    told = office(options.rocketmq)
    device.disconnect()
    device.loop_stop()
    assert sorted(told) == sorted(WANTED), told


if __name__ == "__main__":
    main()
