"""A sensor publishes over MQTT; a web page's EventSource sees it over HTTP. No code in between.

    gateway serve --dev
    python examples/sensor_to_web.py                        # or --mqtt PORT --http URL

Needs `paho-mqtt` for the sensor and `httpx` for the "browser".
"""

from __future__ import annotations

import argparse
import json
import threading

import httpx
import paho.mqtt.client as mqtt

READINGS = [21.5, 21.7, 22.0]


def sensor(port: int) -> None:
    """Publish a few readings at QoS 1: each publish is confirmed before the next."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="sensor-1", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for reading in READINGS:
        client.publish("sensors/1/temperature", json.dumps({"celsius": reading}), qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def browser(url: str, ready: threading.Event) -> list[float]:
    """Do what `new EventSource("/v1/subscribe?filter=sensors/#")` does in a page."""
    seen: list[float] = []
    with httpx.stream("GET", f"{url}/v1/subscribe", params={"filter": "sensors/#"}, timeout=20) as page:
        ready.set()
        for line in page.iter_lines():
            if line.startswith("data:"):
                message = json.loads(line[5:])
                seen.append(json.loads(message["body"])["celsius"])
                print(f"{message['topic']}: {seen[-1]} °C")
                if len(seen) == len(READINGS):
                    break
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mqtt", type=int, default=1883)
    parser.add_argument("--http", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    ready = threading.Event()

    def publish_when_ready() -> None:
        ready.wait(20)
        sensor(options.mqtt)

    publisher = threading.Thread(target=publish_when_ready)
    publisher.start()
    seen = browser(options.http, ready)
    publisher.join()
    assert seen == READINGS, seen


if __name__ == "__main__":
    main()
