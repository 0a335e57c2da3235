"""Members of one group, each through another door, with clients nobody here wrote.

Run as a program it is a member that takes what it is given and never settles it, to be killed:
`python -m tests.interop.group_member KIND MQTT_PORT AMQP_PORT HTTP_PORT ROCKETMQ_PORT QUEUE`. It prints each
body.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote

import httpx
import pika
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.rocketmq.names import escape
from tests.interop.paho_client import V5, V311, PahoClient
from tests.interop.rocketmq_client import RocketPeer
from tests.process import RocketGateway

WINDOW: Final = 10  # what a member may hold
POLL_SECONDS: Final = 0.5
LEASE_SECONDS: Final = 30  # of what a member holds that is polling
VICTIM_SECONDS: Final = 2  # the same of one that is to be killed: others wait for that


class Place(NamedTuple):
    """Where the group is: ports, and the queue as AMQP and HTTP name it."""

    mqtt_port: int
    amqp_port: int
    http_port: int
    rocketmq_port: int
    queue: str
    lease: int = LEASE_SECONDS

    @property
    def mqtt_filter(self) -> str:
        """As MQTT subscribes to it."""
        return self.queue if self.queue.startswith("$share/") else f"$queue/{self.queue}"

    @property
    def rocketmq_names(self) -> tuple[str, str]:
        """As RocketMQ's clients have it: a consumer group, and its topic."""
        if not self.queue.startswith("$share/"):
            return "any", escape(f"$queue/{self.queue}")
        _, group, topic = self.queue.split("/", 2)
        return group, escape(topic)


def place_of(gateway: RocketGateway, queue: str) -> Place:
    """Return where a gateway has a group."""
    return Place(gateway.mqtt_port, gateway.amqp_port, gateway.http_port, gateway.rocketmq_port, queue)


#: Gets each body; True: settle it.
Take = Callable[[bytes], bool]


class Stop(threading.Event):
    """Set when the members are to leave."""


def mqtt(version: int) -> Callable[[Place, Take, Stop, threading.Event], None]:
    """Return a member by paho; one that does not settle keeps its callback from returning."""

    def run(place: Place, take: Take, stop: Stop, joined: threading.Event) -> None:
        name = f"member-{version}"
        connect_properties = {"ReceiveMaximum": WINDOW} if version == V5 else None
        member = PahoClient(name, version, clean=version == V5, connect=connect_properties)
        member.client.manual_ack_set(True)

        def on_message(client: object, data: object, message: object) -> None:
            if take(message.payload):  # type: ignore[attr-defined]
                member.client.ack(message.mid, message.qos)  # type: ignore[attr-defined]

        member.client.on_message = on_message
        with member.open(place.mqtt_port):
            assert member.subscribe(place.mqtt_filter, 1) == [1]
            joined.set()
            stop.wait()

    return run


def amqp(place: Place, take: Take, stop: Stop, joined: threading.Event) -> None:
    """A member by pika."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", place.amqp_port))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=WINDOW)

    def on_message(channel: object, method: object, properties: object, body: bytes) -> None:
        if take(body):
            channel.basic_ack(method.delivery_tag)  # type: ignore[attr-defined]

    channel.basic_consume(place.queue, on_message)
    joined.set()
    while not stop.is_set():
        connection.process_data_events(0.05)
    connection.close()


def http(place: Place, take: Take, stop: Stop, joined: threading.Event) -> None:
    """A member by long polls; what it does not settle comes back with its lease."""
    path = f"/v1/queues/{quote(place.queue, safe='')}/receive"
    params = {"max": WINDOW, "wait": POLL_SECONDS, "lease": place.lease}
    with httpx.Client(base_url=f"http://127.0.0.1:{place.http_port}", timeout=10) as client:
        client.post(path, params={"max": 1, "wait": 0}).raise_for_status()
        joined.set()
        while not stop.is_set():
            answer = client.post(path, params=params).raise_for_status().json()
            for delivery in answer["deliveries"]:
                if take(delivery["body"].encode()):
                    client.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()


def websocket(place: Place, take: Take, stop: Stop, joined: threading.Event) -> None:
    """A member by WebSocket."""
    with connect(f"ws://127.0.0.1:{place.http_port}/v1/ws") as socket:
        socket.send(json.dumps({"op": "consume", "queue": place.queue, "window": WINDOW, "id": "1"}))
        while not stop.is_set():
            try:
                message = json.loads(socket.recv(0.05))
            except TimeoutError:
                continue
            except ConnectionClosed:
                return
            if message["op"] == "delivery" and take(message["body"].encode()):
                socket.send(json.dumps({"op": "ack", "delivery": message["delivery"]}))
            elif message["op"] == "consuming":
                joined.set()


def rocketmq(language: str) -> Callable[[Place, Take, Stop, threading.Event], None]:
    """Return a member by RocketMQ's own client; what it does not acknowledge comes back with its lease."""

    def run(place: Place, take: Take, stop: Stop, joined: threading.Event) -> None:
        with RocketPeer(language) as peer:
            member = peer.simple(f"127.0.0.1:{place.rocketmq_port}", *place.rocketmq_names, wait=1)
            while not stop.is_set():
                found = member.begin(WINDOW, place.lease)
                joined.set()
                settled = [message for message in member.messages(found) if take(message.body)]
                member.ack(*settled)

    return run


KINDS: Final[dict[str, Callable[[Place, Take, Stop, threading.Event], None]]] = {
    "mqtt3": mqtt(V311),
    "mqtt5": mqtt(V5),
    "amqp": amqp,
    "http": http,
    "websocket": websocket,
    "rocketmq": rocketmq("python"),
    "rocketmq-node": rocketmq("node"),
}


def hold_everything(body: bytes) -> bool:
    """Say what there is, and settle nothing."""
    print(body.decode(), flush=True)
    return False


if __name__ == "__main__":
    kind, *ports, queue = sys.argv[1:]
    KINDS[kind](Place(*map(int, ports), queue, VICTIM_SECONDS), hold_everything, Stop(), threading.Event())
