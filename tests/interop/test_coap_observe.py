"""Observations that last (RFC 7641): sequence, pace, ports that change, sessions that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from gateway.protocols.coap.numbers import ACK, CON, LOCATION_PATH, NON, OBSERVE, POST, RST, uint
from tests.coap_client import Answer, CoapClient
from tests.process import GatewayProcess, wait_for
from tests.udp_proxy import UdpProxy


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("observe") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def client(house: GatewayProcess) -> Iterator[CoapClient]:
    with CoapClient(house.coap_port) as made:
        yield made


@pytest.fixture
def publisher(house: GatewayProcess) -> Iterator[CoapClient]:
    with CoapClient(house.coap_port) as made:
        yield made


def publish(publisher: CoapClient, path: str, body: bytes, *query: str) -> None:
    assert publisher.request(POST, path, body, query).code in ("2.01", "2.04")


def sequence(answer: Answer) -> int:
    value = answer.option(OBSERVE)
    assert value is not None, "no notification"
    return uint(value)


SLOW = 'gateway_message_copies_dropped_total{cause="slow_subscriber"}'


def observers(house: GatewayProcess) -> float:
    return metric(house, "gateway_coap_observations")


def metric(house: GatewayProcess, name: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{house.http_port}/metrics").text
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")))


def test_a_notification_for_each_message_in_order(client: CoapClient, publisher: CoapClient) -> None:
    publish(publisher, "ps/o/a", b"0")
    first = client.observe("ps/o/a")
    assert (first.code, first.payload) == ("2.05", b"0")
    last = sequence(first)
    kinds = []
    for n in range(1, 20):
        publish(publisher, "ps/o/a", b"%d" % n)
        got = client.receive(first.token)
        assert (got.code, got.payload) == ("2.05", b"%d" % n)
        assert sequence(got) == last + 1
        last = sequence(got)
        kinds.append(got.kind)
    assert kinds.count(CON) == 2, "every ninth has to be acknowledged"
    assert kinds[:8] == [NON] * 8
    assert first.option(4) != got.option(4), "another ETag for another value"


def test_a_topic_without_value_is_observed(client: CoapClient, publisher: CoapClient) -> None:
    first = client.observe("ps/o/never")
    assert (first.code, first.payload, first.options.observe >= 0) == ("2.05", b"", True)
    publish(publisher, "ps/o/never", b"now")
    assert client.receive(first.token).payload == b"now"


def test_a_filter_says_which_topic(client: CoapClient, publisher: CoapClient) -> None:
    publish(publisher, "ps/w/kept/x", b"old", "retain=true")
    first = client.observe("ps", ["filter=w/+/x"])
    retained = client.receive(first.token)
    assert retained.payload == b"old"
    publish(publisher, "ps/w/1/x", b"one")
    publish(publisher, "ps/w/1/y", b"no")
    publish(publisher, "ps/w/2/x", b"two")
    got = [client.receive(first.token) for _ in range(2)]
    assert [each.payload for each in got] == [b"one", b"two"]
    path = [value for number, value in got[0].options.all if number == LOCATION_PATH]
    assert path == [b"ps", b"w", b"1", b"x"]
    publisher.request(4, "ps/w/kept/x")


def test_deregistration_and_a_wrong_one(
    client: CoapClient, publisher: CoapClient, house: GatewayProcess
) -> None:
    before = observers(house)
    first = client.observe("ps/o/b")
    wait_for(lambda: observers(house) == before + 1)
    assert client.observe("ps/o/b", token=b"zz", register=1).code == "4.04"  # no value, and no such token
    assert observers(house) == before + 1
    client.observe("ps/o/b", token=first.token, register=1)
    wait_for(lambda: observers(house) == before)
    publish(publisher, "ps/o/b", b"x")
    assert [each for each in client.ping() if each.token == first.token] == []


@pytest.mark.parametrize("confirmable", [False, True])
def test_rst_ends_it(
    client: CoapClient, publisher: CoapClient, house: GatewayProcess, confirmable: bool
) -> None:
    before = observers(house)
    client.answers_con = None
    first = client.observe("ps/o/c", ["qos=1"] if confirmable else [])
    publish(publisher, "ps/o/c", b"x")
    got = client.receive(first.token)
    assert got.kind == (CON if confirmable else NON)
    client.reset(got)
    wait_for(lambda: observers(house) == before)


def test_rst_of_somebody_else_ends_nothing(
    client: CoapClient, publisher: CoapClient, house: GatewayProcess
) -> None:
    before = observers(house)
    first = client.observe("ps/o/d")
    publish(publisher, "ps/o/d", b"1")
    got = client.receive(first.token)
    publisher.reset(got)  # the right id from another port
    got.mid ^= 0x1234
    client.reset(got)  # the right port with another id
    publisher.ping()
    assert observers(house) == before + 1
    publish(publisher, "ps/o/d", b"2")
    assert client.receive(first.token).payload == b"2"


def test_registering_again_renews_and_doubles_nothing(client: CoapClient, publisher: CoapClient) -> None:
    first = client.observe("ps/o/e")
    again = client.observe("ps/o/e", token=first.token)
    assert sequence(again) > sequence(first)
    publish(publisher, "ps/o/e", b"x")
    assert client.receive(first.token).payload == b"x"
    assert [each for each in client.ping() if each.token == first.token] == []


def test_two_tokens_are_two_observations(client: CoapClient, publisher: CoapClient) -> None:
    one, two = client.observe("ps/o/f"), client.observe("ps/o/f")
    publish(publisher, "ps/o/f", b"x")
    assert client.receive(one.token).payload == client.receive(two.token).payload == b"x"
    client.observe("ps/o/f", token=one.token, register=1)
    publish(publisher, "ps/o/f", b"y")
    assert client.receive(two.token).payload == b"y"
    assert [each for each in client.ping() if each.token == one.token] == []


def test_a_selector_chooses(client: CoapClient, publisher: CoapClient) -> None:
    first = client.observe("ps/o/g", ["selector=tag = 'a'"])
    assert first.code == "2.05", first
    publish(publisher, "ps/o/g", b"no", "tag=b")
    publish(publisher, "ps/o/g", b"yes", "tag=a")
    assert client.receive(first.token).payload == b"yes"
    assert client.observe("ps/o/g", ["selector=("]).code == "4.00"
    assert client.observe("ps/o/g", ["selector=tag = 'c'"]).code == "4.09"


@pytest.mark.parametrize(
    ("path", "query"),
    [("ps", []), ("ps/a", ["filter=b"]), ("ps", ["filter=a/#/b"]), ("ps", ["filter=$session/x"])],
)
def test_what_cannot_be_observed(client: CoapClient, path: str, query: list[str]) -> None:
    assert client.observe(path, query).code in ("4.00", "4.03")


def test_a_client_that_is_known_goes_on_at_another_port(
    client: CoapClient, publisher: CoapClient, house: GatewayProcess
) -> None:
    before = observers(house)
    with UdpProxy(house.coap_port) as proxy, CoapClient(proxy.port) as device:
        first = device.observe("ps/n/a", ["clientid=sensor-1"])
        publish(publisher, "ps/n/a", b"1")
        assert device.receive(first.token).payload == b"1"
        proxy.rebind()
        again = device.observe("ps/n/a", ["clientid=sensor-1"], token=first.token)
        assert sequence(again) > sequence(first)
        assert observers(house) == before + 1, "the old one is replaced"
        publish(publisher, "ps/n/a", b"2")
        assert device.receive(first.token).payload == b"2"
        assert [each for each in device.ping() if each.token == first.token] == [], "and nothing comes twice"


def test_what_was_on_its_way_comes_to_the_new_port(publisher: CoapClient, house: GatewayProcess) -> None:
    with CoapClient(house.coap_port) as device:
        device.answers_con = None
        first = device.observe("ps", ["filter=n/b/#", "clientid=sensor-2", "qos=1"])
        for n in range(3):
            publish(publisher, f"ps/n/b/{n}", b"%d" % n)
        assert device.receive(first.token).payload == b"0"  # never acknowledged
        device.move()
        device.answers_con = ACK
        device.observe("ps", ["filter=n/b/#", "clientid=sensor-2", "qos=1"], token=first.token)
        got = [device.receive(first.token).payload for _ in range(3)]
        assert got == [b"0", b"1", b"2"]


def test_a_slow_observer_delays_nobody_and_gets_the_newest(
    client: CoapClient, publisher: CoapClient, house: GatewayProcess
) -> None:
    dropped = metric(house, SLOW)
    with CoapClient(house.coap_port) as slow:
        slow.answers_con = None
        stuck = slow.observe("ps/s/a", ["qos=1"])
        quick = client.observe("ps/s/a", ["qos=1"])
        for n in range(1200):
            publish(publisher, "ps/s/a", b"%d" % n)
            assert client.receive(quick.token).payload == b"%d" % n
        assert metric(house, SLOW) >= dropped + 100
        got = slow.receive(stuck.token)
        assert got.payload == b"0"
        slow.answers_con = ACK
        slow.acknowledge(got)
        seen = [int(got.payload)]
        while seen[-1] != 1199:
            got = slow.receive(stuck.token)
            if int(got.payload) > seen[-1]:
                seen.append(int(got.payload))
        assert seen == sorted(seen)


# -- durable ----------------------------------------------------------------------------------


def test_a_named_observer_gets_what_it_missed(client: CoapClient, publisher: CoapClient) -> None:
    query = ["session=meter-1", "expiry=60"]
    first = client.observe("ps/d/a", query)
    publish(publisher, "ps/d/a", b"1")
    got = client.receive(first.token)
    assert (got.kind, got.payload) == (CON, b"1")
    publisher.ping()
    client.answers_con = RST
    publish(publisher, "ps/d/a", b"2")  # refused: the observation ends, the session does not
    assert client.receive(first.token).payload == b"2"
    client.answers_con = ACK
    publish(publisher, "ps/d/a", b"3")
    with CoapClient(client.sock.getpeername()[1]) as later:
        again = later.observe("ps/d/a", query)
        assert (again.code, again.payload) == ("2.05", b"")
        assert [later.receive(again.token).payload for _ in range(2)] == [b"2", b"3"]
        end = later.observe("ps/d/a", ["session=meter-1"], token=again.token, register=1)
        assert end.code == "2.05"
        assert later.observe("ps/d/a", ["session=meter-1"], register=1).code == "4.04"


def test_a_named_observer_survives_a_restart(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway().start()
    with CoapClient(process.coap_port) as device, CoapClient(process.coap_port) as publisher:
        first = device.observe("ps", ["filter=d/#", "session=meter-2"])
        publish(publisher, "ps/d/1", b"1")
        assert device.receive(first.token).payload == b"1"
        device.ping()
        device.move()
        publish(publisher, "ps/d/2", b"2")
        process.kill()
        process.start()
        publish(publisher, "ps/d/3", b"3")
        device.move()
        again = device.observe("ps", ["filter=d/#", "session=meter-2"], token=first.token)
        assert [device.receive(again.token).payload for _ in range(2)] == [b"2", b"3"]


def test_a_session_expires(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway().start()
    url = f"http://127.0.0.1:{process.http_port}/v1/queues/$session%2Fcoap%2Fbrief"
    with CoapClient(process.coap_port) as device, CoapClient(process.coap_port) as publisher:
        device.answers_con = RST
        first = device.observe("ps/d/e", ["session=brief", "expiry=1"])
        publish(publisher, "ps/d/e", b"1")
        device.receive(first.token)
        wait_for(lambda: httpx.get(url).status_code == 404, what="the end of the session")
        device.answers_con = ACK
        assert device.observe("ps/d/e", ["session=brief"], register=1).code == "4.04"


def test_an_mqtt_client_cannot_take_a_session(house: GatewayProcess, client: CoapClient) -> None:
    import paho.mqtt.client as paho

    client.observe("ps/d/f", ["session=mine"])
    codes: list[int] = []
    other = paho.Client(paho.CallbackAPIVersion.VERSION2, "coap/mine", protocol=paho.MQTTv5)
    other.on_connect = lambda *args: codes.append(args[3].value)
    other.connect("127.0.0.1", house.mqtt_port)
    other.loop_start()
    wait_for(lambda: codes)
    other.loop_stop()
    other.disconnect()
    assert codes[0] == 0x87
    client.observe("ps/d/f", ["session=mine"], register=1)


def test_a_thousand_observers_of_one_client(client: CoapClient, publisher: CoapClient) -> None:
    tokens = [client.observe("ps/m/a").token for _ in range(200)]
    publish(publisher, "ps/m/a", b"x")
    for token in tokens:
        assert client.receive(token).payload == b"x"
