"""Devices that poll, and devices that sleep: aiocoap, libcoap and raw datagrams against a real gateway."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.protocols.coap.codec import decode
from gateway.protocols.coap.numbers import ACK, CON, DELETE, GET, LOCATION_PATH, POST, PUT, RST, URI_PATH
from tests.coap_client import Answer, CoapClient
from tests.interop.aiocoap_client import AiocoapClient
from tests.peers import coap_client
from tests.process import GatewayProcess, wait_for
from tests.udp_proxy import Faults, UdpProxy

pytestmark = pytest.mark.interop

SECONDS = 20.0
LOST = Faults(loss=0.1, duplication=0.2, reordering=0.1)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("queues")).start()
    yield process
    assert process.stop() == 0
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def peer(server: GatewayProcess) -> Iterator[AiocoapClient]:
    with AiocoapClient(server.coap_port) as client:
        yield client


@pytest.fixture
def device(server: GatewayProcess) -> Iterator[CoapClient]:
    with CoapClient(server.coap_port) as client:
        yield client


@pytest.fixture
def queue(server: GatewayProcess) -> str:
    return declare(server, f"jobs{next(_numbers)}")


def declare(server: GatewayProcess, name: str) -> str:
    """Make a queue by HTTP."""
    url = f"{server.url}/v1/queues/{name.replace('/', '%2F')}"
    assert httpx.put(url, json={}, timeout=SECONDS).status_code == 201
    return name


def put(server: GatewayProcess, queue: str, body: bytes) -> None:
    """Publish to a queue by HTTP."""
    url = f"{server.url}/v1/queues/{queue.replace('/', '%2F')}/messages"
    assert httpx.post(url, content=body, timeout=SECONDS).status_code == 200


def shown(server: GatewayProcess, queue: str) -> dict[str, int]:
    """Return what the gateway shows of a queue by CoAP."""
    with CoapClient(server.coap_port) as client:
        answer = client.get("queues", options=[(URI_PATH, queue.encode())])
        assert answer.code == "2.05"
        found: dict[str, int] = json.loads(answer.payload)
        return found


def waiting(server: GatewayProcess, queue: str, count: int = 1) -> Callable[[], bool]:
    """Return a condition: so many wait for a message."""
    return lambda: shown(server, queue)["consumers"] == count


def place(answer: Answer) -> str:
    """Return where to settle what was received."""
    return "/".join(value.decode() for number, value in answer.options.all if number == LOCATION_PATH)


# -- receive and settle -----------------------------------------------------------------------


def test_aiocoap_receives_and_acknowledges(server: GatewayProcess, peer: AiocoapClient, queue: str) -> None:
    assert peer.request("POST", f"/queues/{queue}", b'{"n": 1}', content_format=50).code == "2.04"
    got = peer.request("POST", f"/queues/{queue}/receive")
    assert (got.code, got.payload, got.content_format) == ("2.01", b'{"n": 1}', 50)
    assert shown(server, queue)["unsettled"] == 1
    path = "/" + "/".join(got.location)
    assert peer.request("DELETE", path).code == "2.02"
    assert shown(server, queue)["unsettled"] == 0
    assert peer.request("DELETE", path).code == "4.04"


def test_aiocoap_waits_for_a_message(server: GatewayProcess, peer: AiocoapClient, queue: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(peer.request, "POST", f"/queues/{queue}/receive", b"", ("wait=30",))
        wait_for(waiting(server, queue))
        put(server, queue, b"at last")
        assert found.result(SECONDS).payload == b"at last"


def test_libcoap_waits_longer_than_an_acknowledgement(server: GatewayProcess, queue: str) -> None:
    """The answer comes in a message of its own: after a second the request is acknowledged."""
    uri = f"coap://127.0.0.1:{server.coap_port}/queues/{queue}/receive?wait=2&ack=auto"
    done = subprocess.run(
        [coap_client(), "-B", "20", "-m", "post", uri], capture_output=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, b""), done.stderr
    put(server, queue, b"for libcoap")
    done = subprocess.run(
        [coap_client(), "-B", "20", "-m", "post", uri], capture_output=True, timeout=SECONDS, check=False
    )
    assert done.stdout.strip() == b"for libcoap", done.stderr
    wait_for(lambda: shown(server, queue)["unsettled"] == 0)


@pytest.mark.parametrize("outcome", ["nack", "retry"])
def test_what_is_given_back_comes_after_the_delay(
    server: GatewayProcess, device: CoapClient, queue: str, outcome: str
) -> None:
    put(server, queue, b"one")
    first = device.request(POST, f"queues/{queue}/receive")
    assert device.request(POST, place(first), query=[f"outcome={outcome}", "delay=0.5"]).code == "2.04"
    assert device.request(POST, f"queues/{queue}/receive").code == "2.04"
    again = device.request(POST, f"queues/{queue}/receive", query=["wait=20"])
    assert (again.code, again.payload) == ("2.01", b"one")
    assert place(again) != place(first)
    assert device.request(DELETE, place(again)).code == "2.02"


def test_a_lease_ends(server: GatewayProcess, device: CoapClient, queue: str) -> None:
    put(server, queue, b"one")
    first = device.request(POST, f"queues/{queue}/receive", query=["lease=0.3"])
    again = device.request(POST, f"queues/{queue}/receive", query=["wait=20"])
    assert again.payload == b"one"
    assert device.request(DELETE, place(first)).code == "4.04"
    assert device.request(DELETE, place(again)).code == "2.02"


def test_a_message_goes_to_one_of_two_who_wait(server: GatewayProcess, queue: str) -> None:
    with CoapClient(server.coap_port) as one, CoapClient(server.coap_port) as two:
        tokens = [
            decode(client.send(POST, f"queues/{queue}/receive", query=["wait=30"])).token
            for client in (one, two)
        ]
        wait_for(waiting(server, queue, 2))
        put(server, queue, b"a")
        wait_for(waiting(server, queue, 1))
        put(server, queue, b"b")
        answers = [client.receive(token) for client, token in zip((one, two), tokens, strict=True)]
        assert {answer.payload for answer in answers} == {b"a", b"b"}


def test_a_request_that_comes_twice_takes_one(server: GatewayProcess, device: CoapClient, queue: str) -> None:
    put(server, queue, b"a")
    put(server, queue, b"b")
    data = device.send(POST, f"queues/{queue}/receive")
    first = device.receive(decode(data).token)
    device.send_bytes(data)
    again = device.receive(decode(data).token)
    assert (first.mid, first.payload, place(first)) == (again.mid, again.payload, place(again))
    state = shown(server, queue)
    assert (state["depth"], state["unsettled"]) == (1, 1)


def test_a_refused_answer_gives_the_message_back(
    server: GatewayProcess, device: CoapClient, queue: str
) -> None:
    """A device that has started again does not know the token any more."""
    device.answers_con = RST
    data = device.send(POST, f"queues/{queue}/receive", query=["wait=30"])
    wait_for(lambda: device.pump(0.1) and device.inbox[-1].kind == ACK, what="the acknowledgement")
    put(server, queue, b"one")
    assert device.receive(decode(data).token).kind == CON
    wait_for(lambda: shown(server, queue)["depth"] == 1)
    device.answers_con = ACK
    assert device.request(POST, f"queues/{queue}/receive").payload == b"one"


def test_over_a_bad_network_every_message_is_handled(server: GatewayProcess, queue: str) -> None:
    bodies = [b"%d" % number for number in range(6)]
    for body in bodies:
        put(server, queue, body)
    found: list[bytes] = []
    with UdpProxy(server.coap_port, LOST, seed=3) as proxy, CoapClient(proxy.port) as client:
        while len(found) < len(bodies):
            answer = client.request(POST, f"queues/{queue}/receive", query=["wait=5"], seconds=40)
            assert answer.code == "2.01"
            assert client.request(DELETE, place(answer), seconds=40).code == "2.02"
            found.append(answer.payload)
    assert sorted(found) == sorted(bodies)
    state = shown(server, queue)
    assert (state["depth"], state["unsettled"]) == (0, 0)


def test_one_door_settles_what_the_other_has_handed_out(
    server: GatewayProcess, device: CoapClient, queue: str
) -> None:
    put(server, queue, b"one")
    token = place(device.request(POST, f"queues/{queue}/receive")).rpartition("/")[2]
    assert httpx.post(f"{server.url}/v1/deliveries/{token}/ack", timeout=SECONDS).status_code == 204
    assert shown(server, queue)["unsettled"] == 0


def test_many_who_wait_and_leave_take_nothing_along(server: GatewayProcess, queue: str) -> None:
    clients = [CoapClient(server.coap_port) for _ in range(20)]
    for client in clients:
        client.send(POST, f"queues/{queue}/receive", query=["wait=0.5", "lease=1000"])
    wait_for(waiting(server, queue, len(clients)))
    for client in clients:
        client.sock.close()
    wait_for(waiting(server, queue, 0))
    put(server, queue, b"one")
    assert shown(server, queue)["depth"] == 1


def test_a_large_message_comes_in_blocks(server: GatewayProcess, peer: AiocoapClient, queue: str) -> None:
    """And is taken once: the blocks behind the first are those of the same delivery."""
    body = bytes(range(256)) * 20
    put(server, queue, body)
    put(server, queue, body)
    got = peer.request("POST", f"/queues/{queue}/receive", b"", ("wait=5",))
    assert (got.code, got.payload == body) == ("2.01", True)
    state = shown(server, queue)
    assert (state["depth"], state["unsettled"]) == (1, 1)
    assert peer.request("DELETE", "/" + "/".join(got.location)).code == "2.02"
    got = peer.put("/ps/large", body, f"commands={queue}", "ttd=5")
    assert (got.code, got.payload == body) == ("2.04", True), "both ways in blocks"
    wait_for(lambda: shown(server, queue)["unsettled"] == 0)


# -- observe ----------------------------------------------------------------------------------


def test_aiocoap_observes_a_queue_and_competes(
    server: GatewayProcess, peer: AiocoapClient, device: CoapClient, queue: str
) -> None:
    assert peer.observe(queue, f"/queues/{queue}").code == "2.05"
    put(server, queue, b"a")
    put(server, queue, b"b")
    assert [peer.next(queue).payload for _ in range(2)] == [b"a", b"b"]
    device.answers_con = None
    token = device.observe(f"queues/{queue}").token
    put(server, queue, b"c")
    put(server, queue, b"d")
    mine = device.receive(token)
    theirs = peer.next(queue)
    assert ({mine.payload, theirs.payload}, mine.kind) == ({b"c", b"d"}, CON)
    device.reset(mine)
    assert peer.next(queue).payload == mine.payload, "refused, it goes to the other"
    wait_for(lambda: shown(server, queue)["unsettled"] == 0)
    assert shown(server, queue)["consumers"] == 1


def test_an_acknowledgement_settles_and_lets_the_next_come(
    server: GatewayProcess, device: CoapClient, queue: str
) -> None:
    put(server, queue, b"a")
    put(server, queue, b"b")
    device.answers_con = None
    token = device.observe(f"queues/{queue}").token
    first = device.receive(token)
    state = shown(server, queue)
    assert (first.payload, state["depth"], state["unsettled"]) == (b"a", 1, 1)
    device.acknowledge(first)
    second = device.receive(token)
    assert (second.payload, second.mid != first.mid) == (b"b", True)
    device.reset(second)
    wait_for(lambda: shown(server, queue)["depth"] == 1, what="the message to go back")
    assert shown(server, queue)["consumers"] == 0


def test_by_tcp_as_by_udp(server: GatewayProcess, queue: str) -> None:
    with AiocoapClient(server.coap_port, "coap+tcp") as peer:
        put(server, queue, b"a")
        got = peer.request("POST", f"/queues/{queue}/receive")
        assert (got.code, got.payload) == ("2.01", b"a")
        assert peer.request("DELETE", "/" + "/".join(got.location)).code == "2.02"
        assert peer.observe(queue, f"/queues/{queue}").code == "2.05"
        put(server, queue, b"b")
        assert peer.next(queue).payload == b"b"
        wait_for(lambda: shown(server, queue)["unsettled"] == 0)
    wait_for(waiting(server, queue, 0))


# -- the process stops ------------------------------------------------------------------------


def test_who_waits_is_answered_when_the_gateway_stops_and_a_lease_outlives_no_crash(tmp_path: Path) -> None:
    process = GatewayProcess(tmp_path / "data").start()
    try:
        declare(process, "jobs")
        put(process, "jobs", b"one")
        with CoapClient(process.coap_port) as client:
            assert client.request(POST, "queues/jobs/receive", query=["lease=1000"]).payload == b"one"
        process.kill()
        process.start()
        with CoapClient(process.coap_port) as client:
            again = client.request(POST, "queues/jobs/receive", query=["wait=10"])
            assert (again.code, again.payload) == ("2.01", b"one"), "nobody has settled it"
            assert client.request(DELETE, place(again)).code == "2.02"
            data = client.send(POST, "queues/jobs/receive", query=["wait=60"])
            wait_for(waiting(process, "jobs"))
            assert process.stop() == 0
            answer = client.receive(decode(data).token, 5)
            assert (answer.code, answer.payload) == ("2.04", b"")
        assert not process.bugs(), "\n".join(process.errors)
    finally:
        process.stop()


# -- sleepy devices ---------------------------------------------------------------------------


def test_a_command_comes_with_the_answer_to_a_publish(server: GatewayProcess, peer: AiocoapClient) -> None:
    declare(server, "commands/plant-7")
    query = ("clientid=plant-7", "ttd=30")
    put(server, "commands/plant-7", b"water")
    got = peer.put("/ps/plants/7", b"12", *query)
    assert (got.code, got.payload, got.location) == ("2.04", b"water", [])
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(peer.put, "/ps/plants/7", b"13", *query)
        wait_for(waiting(server, "commands/plant-7"))
        with CoapClient(server.coap_port) as other:
            assert other.get("ps/plants/7").payload == b"13", "it is published while its sender waits"
        put(server, "commands/plant-7", b"stop")
        assert found.result(SECONDS).payload == b"stop"
    got = peer.put("/ps/plants/7", b"14", "clientid=plant-7", "ttd=0.1")
    assert (got.code, got.payload) == ("2.04", b"")


def test_a_command_is_settled_by_hand(server: GatewayProcess, device: CoapClient, queue: str) -> None:
    put(server, queue, b"go")
    query = ["ttd=5", f"commands={queue}", "ack=manual", "lease=0.3"]
    first = device.request(PUT, "ps/by-hand", b"1", query)
    again = device.request(PUT, "ps/by-hand", b"2", query)
    assert (first.payload, again.payload) == (b"go", b"go")
    assert device.request(POST, place(again) + "/extend", query=["lease=100"]).code == "2.04"
    assert device.request(DELETE, place(again)).code == "2.02"
    assert device.request(PUT, "ps/by-hand", b"3", ["ttd=0", f"commands={queue}"]).payload == b""


def test_without_the_queue_nothing_is_published(server: GatewayProcess, device: CoapClient) -> None:
    assert device.request(PUT, "ps/nothing", b"1", ["ttd=5", "commands=none"]).code == "4.04"
    assert device.request(GET, "ps/nothing").code == "4.04"
