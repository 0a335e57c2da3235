"""paho-mqtt, MQTT 3.1.1 and 5, with a real gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.interop.paho_client import V5, V311, PahoClient, properties, publish_properties
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
VERSIONS = [V311, V5]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("paho")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


@pytest.fixture
def client(door: GatewayProcess) -> Iterator[Callable[..., PahoClient]]:
    made: list[PahoClient] = []

    def make(client_id: str, *args: int, **options: object) -> PahoClient:
        made.append(PahoClient(client_id, *args, **options).open(door.mqtt_port))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., PahoClient]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_there_and_back(client: Make, version: int, qos: int) -> None:
    reader, writer = client("reader", version), client("writer", version)
    assert reader.subscribe("round/trip", qos) == [qos]
    bodies = [b"%d" % number for number in range(50)] + [b"", b"\x00\xff" * 50_000]
    for body in bodies:
        assert writer.publish("round/trip", body, qos) in (0, 0x10)
    assert reader.bodies(len(bodies)) == bodies


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_are_kept_and_cleared(client: Make, version: int) -> None:
    writer = client("writer", version)
    writer.publish(f"kept/{version}/a", b"value", retain=True)
    reader = client("reader", version)
    reader.subscribe(f"kept/{version}/+", 1)
    message = reader.receive()
    assert (message.payload, message.retain) == (b"value", True)
    writer.publish(f"kept/{version}/a", b"", retain=True)
    assert reader.receive().payload == b""
    late = client("late", version)
    late.subscribe(f"kept/{version}/#", 1)
    writer.publish(f"kept/{version}/b", b"live")
    assert late.receive().payload == b"live", "nothing retained came before it"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_sent_when_the_connection_breaks(client: Make, version: int) -> None:
    reader = client("reader", version)
    reader.subscribe("wills/#", 1)
    doomed = client("doomed", version, will={"topic": "wills/x", "payload": b"gone", "qos": 1})
    doomed.cut()
    assert reader.receive().payload == b"gone"


def test_a_will_is_not_sent_on_disconnect(client: Make, door: GatewayProcess) -> None:
    reader, writer = client("reader"), client("writer")
    reader.subscribe("quiet/#", 1)
    client("polite", will={"topic": "quiet/x", "payload": b"gone", "qos": 1}).close()
    writer.publish("quiet/y", b"after")
    assert reader.receive().payload == b"after"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("crash", [False, True], ids=["SIGTERM", "kill -9"])
def test_a_persistent_session_survives_the_gateway(
    make_gateway: Callable[..., GatewayProcess], version: int, crash: bool
) -> None:
    gateway = make_gateway().start()
    kept = {"clean": False, "expiry": 3600}
    with PahoClient("keeper", version, **kept).open(gateway.mqtt_port) as keeper:  # type: ignore[arg-type]
        assert not keeper.session_present
        keeper.subscribe([("stays/1", 1), ("stays/2", 2)])
    with PahoClient("writer", version).open(gateway.mqtt_port) as writer:
        for qos in (1, 2):
            for number in range(3):
                writer.publish(f"stays/{qos}", b"%d-%d" % (qos, number), qos)
        gateway.kill() if crash else gateway.stop()
    gateway.start()
    with PahoClient("keeper", version, **kept).open(gateway.mqtt_port) as keeper:  # type: ignore[arg-type]
        assert keeper.session_present
        assert keeper.bodies(6) == [b"%d-%d" % (qos, n) for qos in (1, 2) for n in range(3)]
        with PahoClient("writer", version).open(gateway.mqtt_port) as writer:
            writer.publish("stays/2", b"new", 2)
        assert keeper.receive().payload == b"new", "its subscriptions are there too"


def test_properties_arrive_as_they_were_sent(client: Make) -> None:
    reader, writer = client("reader"), client("writer")
    reader.subscribe("properties", 1, properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=7))
    sent = publish_properties(
        ContentType="text/plain",
        ResponseTopic="answers/1",
        CorrelationData=b"\x01\x02",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=100,
        UserProperty=[("a", "1"), ("a", "2"), ("é", "ü")],
    )
    writer.publish("properties", "text", properties=sent)
    got = reader.receive().properties
    assert got is not None
    assert got.ContentType == "text/plain"
    assert got.ResponseTopic == "answers/1"
    assert got.CorrelationData == b"\x01\x02"
    assert got.PayloadFormatIndicator == 1
    assert 90 < got.MessageExpiryInterval <= 100
    assert got.UserProperty == [("a", "1"), ("a", "2"), ("é", "ü")]
    assert got.SubscriptionIdentifier == [7]


def test_shared_subscriptions_divide_the_work(client: Make) -> None:
    members = [client(f"member-{number}") for number in range(2)]
    for member in members:
        assert member.subscribe("$share/team/work/#", 1) == [1]
    writer = client("writer")
    sent = {b"%d" % number for number in range(40)}
    for body in sorted(sent):
        writer.publish("work/x", body)
    got = [member.messages for member in members]
    total: list[bytes] = []
    while len(total) < 40:
        for inbox in got:
            while not inbox.empty():
                total.append(inbox.get().payload)
    assert set(total) == sent
    assert len(total) == 40, "each message went to one member"


def test_topic_aliases_are_resolved(client: Make) -> None:
    reader, writer = client("reader"), client("writer")
    reader.subscribe("alias/long/name", 1)
    assert writer.connack.TopicAliasMaximum >= 1
    writer.publish("alias/long/name", b"1", properties=publish_properties(TopicAlias=1))
    writer.publish("", b"2", properties=publish_properties(TopicAlias=1))
    assert [reader.receive().topic for _ in range(2)] == ["alias/long/name"] * 2


def test_options_of_subscriptions(client: Make) -> None:
    me, other = client("me"), client("other")
    me.publish("options/kept", b"old", retain=True)
    quiet = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=2)
    assert me.subscribe("options/#", options=quiet) == [1]
    me.publish("options/mine", b"mine")
    other.publish("options/theirs", b"theirs", retain=True)
    message = me.receive()
    assert (message.payload, message.retain) == (b"theirs", True)


def test_refusals_have_reason_codes(client: Make) -> None:
    reader = client("reader")
    assert reader.subscribe([("fine", 1), ("$queue/missing", 1), ("$session/other", 1)]) == [1, 0x8F, 0x87]
    assert reader.publish("nobody/listens", b"") == 0x10
    assert reader.publish("$sys/mine", b"") == 0x87


def test_a_malformed_filter_ends_the_connection_with_its_reason(client: Make) -> None:
    reader = client("reader")
    reader.client.subscribe("$share//x", 1)
    assert reader.disconnected.get(timeout=10).value == 0x81  # malformed packet [MQTT-4.8.2-1]


def test_another_client_with_the_same_name_takes_over(client: Make) -> None:
    first = client("twin", clean=False, expiry=100)
    first.subscribe("twins", 1)
    second = client("twin", clean=False, expiry=100)
    assert second.session_present
    assert first.disconnected.get(timeout=10).value == 0x8E  # session taken over
    client("writer").publish("twins", b"to the second")
    assert second.receive().payload == b"to the second"


def test_request_and_response(client: Make) -> None:
    server, asker = client("server"), client("asker", connect={"RequestResponseInformation": 1})
    base = asker.connack.ResponseInformation
    asker.subscribe(f"{base}/#", 1)
    server.subscribe("questions", 1)
    ask = publish_properties(ResponseTopic=f"{base}/1", CorrelationData=b"42")
    asker.publish("questions", b"six times seven?", properties=ask)
    question = server.receive().properties
    assert question is not None
    answer = publish_properties(CorrelationData=question.CorrelationData)
    server.publish(question.ResponseTopic, b"forty-two", properties=answer)
    message = asker.receive()
    assert message.properties is not None
    assert (message.payload, message.properties.CorrelationData) == (b"forty-two", b"42")


def test_mqtt_and_http_meet(client: Make, door: GatewayProcess) -> None:
    reader = client("reader")
    reader.subscribe("cross/#", 1)
    httpx.post(
        f"{door.url}/v1/topics/cross/web", content=b"from HTTP", headers={"content-type": "text/plain"}
    ).raise_for_status()
    message = reader.receive()
    assert message.properties is not None
    assert (message.topic, message.payload) == ("cross/web", b"from HTTP")
    assert message.properties.ContentType == "text/plain"
    reader.publish("cross/mqtt", b"from MQTT", properties=publish_properties(ContentType="text/x-test"))
    got = httpx.get(f"{door.url}/v1/topics/cross/mqtt")
    assert (got.content, got.headers["content-type"]) == (b"from MQTT", "text/x-test")
