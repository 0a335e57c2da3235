"""Publishing once at every door, by clients of others' make; and after kill -9."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import httpx
import paho.mqtt.client as mqtt
import pika
import pytest
from websockets.sync.client import connect

from gateway.protocols.coap.numbers import PUT
from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import Code, MessageType
from tests.coap_client import CoapClient
from tests.interop.paho_client import PahoClient, publish_properties
from tests.process import GatewayProcess, RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket

pytestmark = pytest.mark.interop
_numbers = count()
#: There is no TLS, and to read the certificates for it takes longer than a request.
get, post, put = (partial(getattr(httpx, name), verify=False) for name in ("get", "post", "put"))
LOGIN = ("guest", "guest")  # pika's own
SECRET = "what guest signs with"
#: A door: publishes to a topic with an idempotency key and a message id; tells whether it was marked a
#: duplicate, None if the door cannot tell.
Publish = Callable[[RocketGateway, str, str | None, str], bool | None]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    sets = ('dedup.message_ids={"ruled/#" = 300}',)
    process = RocketGateway(tmp_path_factory.mktemp("dedup"), sets)
    process.start()
    user = f"{process.url}/v1/admin/users/{LOGIN[0]}"
    put(user, json={"secret": SECRET}, auth=LOGIN).raise_for_status()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def by_mqtt(gateway: GatewayProcess, topic: str, key: str | None, message_id: str, qos: int = 1) -> bool:
    pairs = [("$message-id", message_id)] + ([("$idempotency-key", key)] if key else [])
    marks: list[bool] = []
    client = PahoClient(f"once-{next(_numbers)}")

    def published(client: mqtt.Client, data: object, mid: int, reason: object, properties: object) -> None:
        marks.append(("duplicate", "true") in getattr(properties, "UserProperty", []))

    client.client.username_pw_set(*LOGIN)
    with client.open(gateway.mqtt_port):
        client.client.on_publish = published
        client.client.publish(topic, "x", qos, properties=publish_properties(UserProperty=pairs))
        wait_for(lambda: marks, what="the acknowledgement")
    return marks[0]


def by_mqtt_twice(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> bool | None:
    by_mqtt(gateway, topic, key, message_id, 2)
    return None  # paho shows PUBCOMP, the mark is in PUBREC


def by_amqp(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> None:
    headers = {} if key is None else {"x-deduplication-header": key}
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(message_id=message_id, headers=headers, delivery_mode=2)
        channel.basic_publish("amq.topic", topic.replace("/", "."), b"x", properties)


def by_http(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> bool:
    headers = {"X-Message-Id": message_id} | ({"Idempotency-Key": key} if key else {})
    answer = post(f"{gateway.url}/v1/topics/{topic}", content=b"x", headers=headers, auth=LOGIN).json()
    assert answer["id"] == message_id
    return bool(answer["duplicate"])


def by_batch(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> bool:
    line = {"body": "x", "message_id": message_id} | ({"idempotency_key": key} if key else {})
    answer = post(f"{gateway.url}/v1/topics/{topic}/batch", content=json.dumps(line), auth=LOGIN).json()
    assert answer["accepted"] == 1
    return bool(answer.get("duplicates") == [1])


def by_websocket(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> bool:
    request = {"op": "publish", "topic": topic, "body": "x", "message_id": message_id}
    with connect(
        gateway.url.replace("http", "ws") + "/v1/ws",
        additional_headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="},
    ) as socket:
        socket.send(json.dumps(request | ({"idempotency_key": key} if key else {})))
        answer = json.loads(socket.recv(10))
    return bool(answer["duplicate"])


def by_rocketmq(gateway: RocketGateway, topic: str, key: str | None, message_id: str) -> None:
    system = {"message_id": message_id, "message_type": MessageType.NORMAL}
    users = {} if key is None else {"$idempotency-key": key}
    message = {"topic": {"name": escape(topic)}, "body": b"x", "user_properties": users}
    # Clients of their own: that one says the same twice is something else, which the door takes care of.
    with RawRocket(gateway.endpoints, f"once-{next(_numbers)}") as client:
        client.log_in(LOGIN[0], SECRET)
        (entry,) = client.call("SendMessage", messages=[{**message, "system_properties": system}]).entries
    assert (entry.status.code, entry.message_id) == (Code.OK, message_id), entry


def by_coap(gateway: GatewayProcess, topic: str, key: str | None, message_id: str) -> None:
    query = ["username=guest", "password=guest", f"message_id={message_id}"]
    query += [f"idempotency_key={key}"] if key else []
    with CoapClient(gateway.coap_port) as client:
        assert client.request(PUT, f"/ps/{topic}", b"x", query).code in ("2.01", "2.04")


DOORS: dict[str, Publish] = {
    "mqtt": by_mqtt,
    "mqtt qos 2": by_mqtt_twice,
    "amqp": by_amqp,
    "http": by_http,
    "batch": by_batch,
    "websocket": by_websocket,
    "coap": by_coap,
    "rocketmq": by_rocketmq,
}


def bind(gateway: GatewayProcess, topic: str) -> Callable[[], int]:
    """Have a queue take what is published to a topic; return what tells how much that is."""
    name = f"q{next(_numbers)}"
    url = f"{gateway.url}/v1/queues/{name}"
    put(url, json={"bindings": [topic]}).raise_for_status()
    return lambda: int(get(url).json()["depth"])


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", ["mqtt", "amqp", "http", "coap", "rocketmq"])
def test_what_one_door_took_another_does_not_take_again(door: RocketGateway, first: str, second: str) -> None:
    """By key: all are one user's."""
    topic, key = f"once/{next(_numbers)}", f"key-{next(_numbers)}"
    waiting = bind(door, topic)
    assert not DOORS[first](door, topic, key, "1")
    assert DOORS[second](door, topic, key, "1") in (True, None)
    assert waiting() == 1
    assert not DOORS[second](door, topic, key + "b", "1")
    wait_for(lambda: waiting() == 2, what="another key's message")


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", ["mqtt", "amqp", "batch", "rocketmq"])
def test_a_rule_goes_by_message_id(door: RocketGateway, first: str, second: str) -> None:
    topic, message_id = f"ruled/{next(_numbers)}", f"id-{next(_numbers)}"
    waiting = bind(door, topic)
    assert not DOORS[first](door, topic, None, message_id)
    assert DOORS[second](door, topic, None, message_id) in (True, None)
    assert waiting() == 1
    free = f"free/{next(_numbers)}"
    waiting = bind(door, free)
    assert not DOORS[second](door, free, None, message_id)
    assert not DOORS[second](door, free, None, message_id)
    wait_for(lambda: waiting() == 2, what="what no rule is for")


def test_a_client_that_wants_no_problem_information_gets_no_mark(door: RocketGateway) -> None:
    pairs = [("$idempotency-key", f"key-{next(_numbers)}")]
    client = PahoClient("quiet", connect={"RequestProblemInformation": 0})
    seen: list[object] = []
    with client.open(door.mqtt_port):
        client.client.on_publish = lambda client, data, mid, reason, props: seen.append(
            (reason.value, getattr(props, "UserProperty", []))
        )
        for number in range(2):
            client.client.publish("quiet", "x", 1, properties=publish_properties(UserProperty=pairs))
            wait_for(lambda n=number: len(seen) > n, what="the acknowledgement")
    assert [properties for _, properties in seen] == [[], []]  # type: ignore[misc]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none_is_refused(door: RocketGateway, key: str) -> None:
    answer = post(f"{door.url}/v1/topics/t", content=b"x", headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    line = json.dumps({"body": "x", "idempotency_key": key})
    assert post(f"{door.url}/v1/topics/t/batch", content=line).status_code == 400


def test_kill_9_forgets_nothing(make_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = make_gateway('dedup.message_ids={"ruled" = 300}').start()
    waiting = bind(gateway, "once/#"), bind(gateway, "ruled")
    for number in range(3):
        by_http(gateway, f"once/{number}", "key", "1")
        by_amqp(gateway, "ruled", None, f"id{number}")
    by_http(gateway, "nobody", "key", "first")
    gateway.kill()
    gateway.start()
    for number in range(3):
        assert by_mqtt(gateway, f"once/{number}", "key", "2")
        assert by_batch(gateway, "ruled", None, f"id{number}")
    assert by_batch(gateway, "nobody", "key", "second")
    assert not by_http(gateway, "once/3", "key", "1")
    assert [count() for count in waiting] == [4, 3]
    stored = get(f"{gateway.url}/v1/messages?from=0").json()["messages"]
    assert {one["topic"] for one in stored} == {*(f"once/{n}" for n in range(4)), "ruled", "nobody"}
