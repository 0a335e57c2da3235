"""CoAP over TCP and WebSocket (RFC 8323) against a real gateway: aiocoap, libcoap, and bytes by hand."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.protocols.coap.codec import Packet
from gateway.protocols.coap.numbers import (
    ABORT,
    BAD_OPTION,
    CHANGED,
    CONTENT,
    CREATED,
    CSM,
    GET,
    NOT_FOUND,
    OBSERVE,
    PING,
    PONG,
    PUT,
    RELEASE,
)
from gateway.protocols.coap.streams.stream_codec import MessageDecoder, encode_frame, encode_message
from tests.certificates import Pki
from tests.coap_stream_client import CoapStreamClient, ps
from tests.interop.aiocoap_client import AiocoapClient, Failed
from tests.peers import coap_client
from tests.process import GatewayProcess, free_port, wait_for

pytestmark = pytest.mark.interop
CSM_FRAME = b"\x00\xe1"
LARGE = random.Random(8323).randbytes(100_000)
COAP = [Subprotocol("coap")]


class Doors:
    """A gateway that has every way in."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki(directory / "pki")
        self.coaps, self.https = free_port(), free_port()
        self.process = GatewayProcess(
            directory / "data",
            (
                f"listeners.coaps=127.0.0.1:{self.coaps}",
                f"listeners.https=127.0.0.1:{self.https}",
                *self.pki.sets("optional"),
                "limits.packet_bytes_max=2000000",
                "limits.handshake_seconds_max=3",
            ),
        ).start()

    @property
    def coap(self) -> int:
        return self.process.coap_port

    def port(self, scheme: str) -> int:
        doors = {"coap+tcp": self.coap, "coaps+tcp": self.coaps, "coap+ws": self.process.http_port}
        return doors.get(scheme, self.https)

    def files(self) -> int:
        """Return how many descriptors the gateway has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    doors = Doors(tmp_path_factory.mktemp("coap_stream"))
    yield doors
    bugs = doors.process.bugs()
    doors.process.stop()
    assert bugs == []


@pytest.fixture(scope="module")
def aiocoap(doors: Doors) -> Iterator[dict[str, AiocoapClient]]:
    """One process for each scheme; their TLS trusts the test's CA."""
    made: dict[str, AiocoapClient] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(doors.pki.path("ca.pem")))
        for scheme in SCHEMES:
            made[scheme] = AiocoapClient(doors.port(scheme), scheme)
    yield made
    for client in made.values():
        client.close()


SCHEMES = ("coap+tcp", "coaps+tcp", "coap+ws", "coaps+ws")


# -- aiocoap ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_aiocoap(doors: Doors, aiocoap: dict[str, AiocoapClient], scheme: str) -> None:
    client = aiocoap[scheme]
    topic = f"aiocoap/{scheme.replace('+', '-')}"
    assert client.get(f"/ps/{topic}").code == "4.04"
    assert client.put(f"/ps/{topic}", b"21.5").code == "2.01"
    assert client.get(f"/ps/{topic}").payload == b"21.5"
    assert httpx.get(f"{doors.process.url}/v1/topics/{topic}").content == b"21.5"
    assert client.put(f"/ps/{topic}", LARGE).code == "2.04"  # in blocks of many KiB
    reply = client.get(f"/ps/{topic}")
    assert reply.code == "2.05"
    assert reply.payload == LARGE


@pytest.mark.parametrize("scheme", SCHEMES)
def test_aiocoap_observes(doors: Doors, aiocoap: dict[str, AiocoapClient], scheme: str) -> None:
    """What HTTP publishes, from the first value to the last and in order, also when it comes in blocks."""
    client = aiocoap[scheme]
    topic = f"observed/{scheme.replace('+', '-')}"
    url = f"{doors.process.url}/v1/topics/{topic}"
    httpx.post(url, content=b"0").raise_for_status()
    assert client.observe(scheme, f"/ps/{topic}").payload == b"0"
    for n in range(1, 20):
        httpx.post(url, content=b"%d" % n).raise_for_status()
    assert [client.next(scheme).payload for n in range(1, 20)] == [b"%d" % n for n in range(1, 20)]
    httpx.post(url, content=LARGE).raise_for_status()
    assert client.next(scheme).payload == LARGE
    client.cancel(scheme)


# -- libcoap ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["coap+tcp", "coaps+tcp"])
def test_libcoap(doors: Doors, tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}://localhost:{doors.port(scheme)}/ps/libcoap/{doors.port(scheme)}"
    trust = ["-C", str(doors.pki.path("ca.pem"))] if scheme == "coaps+tcp" else []
    body, back = tmp_path / "body", tmp_path / "back"
    for content in (b"21.5", LARGE[:20_000]):
        body.write_bytes(content)
        put = [coap_client(), *trust, "-B", "10", "-m", "put", "-f", str(body), uri]
        assert subprocess.run(put, check=True, capture_output=True, timeout=20).stderr == b""
        get = [coap_client(), *trust, "-B", "10", "-o", str(back), uri]
        subprocess.run(get, check=True, capture_output=True, timeout=20)
        assert back.read_bytes() == content


# -- by hand ------------------------------------------------------------------------------------


def test_many_requests_in_one_write(doors: Doors) -> None:
    """More than may wait at once: each gets its answer, by its token."""
    with CoapStreamClient(doors.coap) as client:
        count = 3000
        stream = b"".join(
            encode_frame(PUT, n.to_bytes(3, "big"), ps("many"), b"%d" % n) for n in range(count)
        )
        sender = threading.Thread(target=client.raw, args=(stream,))
        sender.start()
        answers = client.expect(count)
        sender.join()
        assert {packet.code for packet in answers.values()} == {CREATED, CHANGED}
        assert client.get("many") == b"%d" % (count - 1)


def test_byte_by_byte(doors: Doors) -> None:
    with CoapStreamClient(doors.coap, csm=None) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CSM_FRAME + encode_frame(PUT, b"t", ps("slowly"), b"said"):
            client.raw(bytes((byte,)))
        assert client.expect(1)[b"t"].code == CREATED
        assert client.get("slowly") == b"said"


def test_answers_are_cut_for_who_takes_little(doors: Doors) -> None:
    """A client without a word on its limit gets blocks of 1024 bytes at most."""
    with CoapStreamClient(doors.coap) as publisher, CoapStreamClient(doors.coap, csm=()) as client:
        assert publisher.put("large", LARGE) == CREATED
        assert publisher.get("large") == LARGE
        packet = client.ask(GET, *ps("large"))
        assert packet.code == CONTENT
        assert packet.payload == LARGE[:1024]


def test_ping_release_and_unknown_options(doors: Doors) -> None:
    tls = doors.pki.context(alpn="coap")
    with CoapStreamClient(doors.coaps, tls=tls) as client:
        client.send(PING, b"p", (2, b""))
        assert client.expect(1)[b"p"].code == PONG
        assert client.ask(GET, (9, b"x" * 256), *ps("x")).code == BAD_OPTION
        client.send(PUT, b"1", *ps("released"), payload=b"x")
        client.send(RELEASE)
        client.send(PUT, b"2", *ps("released"), payload=b"y")
        assert client.expect(1)[b"1"].code == CREATED
        assert client.next() is None


BAD = [
    ("http", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("mqtt", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"),
    ("no csm", encode_frame(GET, b"t", ps("x"), b"")),
    ("critical csm option", encode_frame(CSM, b"", ((3, b""),), b"")),
    ("too long", CSM_FRAME + b"\xf0\x7f\xff\xff\xff\x03"),
    ("token of 15", CSM_FRAME + b"\x0f\x01" + b"x" * 15),
    ("reserved class", CSM_FRAME + b"\x00\xc1"),
    ("options over the end", CSM_FRAME + b"\x20\x01\xbf\x00"),
]


@pytest.mark.parametrize("data", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(doors: Doors, data: bytes) -> None:
    with CoapStreamClient(doors.coap) as other, CoapStreamClient(doors.coap, csm=None) as client:
        client.raw(data)
        packet = client.next()
        assert packet is not None
        assert packet.code == ABORT
        assert packet.payload
        assert client.next() is None
        assert other.ask(GET, *ps("nothing")).code == NOT_FOUND


def test_noise(doors: Doors) -> None:
    noise = random.Random(7)
    for _ in range(50):
        with CoapStreamClient(doors.coap, csm=() if noise.random() < 0.8 else None) as client:
            with suppress(ConnectionError):
                client.raw(noise.randbytes(noise.randrange(1, 3000)))
                client.socket.shutdown(socket.SHUT_WR)
                client.socket.recv(100)
    with CoapStreamClient(doors.coap) as client:
        assert client.ask(GET, *ps("nothing")).code == NOT_FOUND


def test_silence_is_cut_off(doors: Doors) -> None:
    """Without a CSM nobody stays; with one, silence is no fault."""
    with (
        CoapStreamClient(doors.coap) as patient,
        CoapStreamClient(doors.coap, csm=None) as silent,
        CoapStreamClient(doors.coap, csm=None) as empty,
    ):
        empty.raw(b"\x00\x00")
        assert silent.next() is None
        assert empty.next() is None
        assert patient.ask(GET, *ps("nothing")).code == NOT_FOUND


def test_cut_in_the_middle(doors: Doors) -> None:
    """A client goes in the middle of a message: half a message is none, and nothing is left of it."""
    httpx.get(doors.process.url)  # what is opened once is open
    before = doors.files()
    frame = encode_frame(PUT, b"t", ps("half"), b"x" * 1000)
    for cut in (1, 4, 10, 500, len(frame) - 1):
        with CoapStreamClient(doors.coap) as client:
            client.raw(frame[:cut])
    wait_for(lambda: doors.files() <= before, what="the end of every connection")
    assert httpx.get(f"{doors.process.url}/v1/topics/half").status_code == 404


def test_who_does_not_read_costs_little(doors: Doors) -> None:
    """Four hundred requests for a value of a megabyte, and nobody takes the answers."""
    with CoapStreamClient(doors.coap) as greedy, CoapStreamClient(doors.coap) as other:
        assert greedy.put("megabyte", b"v" * 1_000_000) == CREATED
        before = doors.process.rss_bytes()
        greedy.raw(b"".join(encode_frame(GET, b"", ps("megabyte"), b"") for _ in range(400)))
        for _ in range(50):  # as many turns as would write fifty answers
            assert other.ask(GET, *ps("nothing")).code == NOT_FOUND
        assert doors.process.rss_bytes() - before < 30_000_000
        received = 0
        while received < 400 * 1_000_000:  # who reads after all gets them all
            packet = greedy.next()
            assert packet is not None
            received += len(packet.payload)


def test_observations_end_by_request(doors: Doors) -> None:
    """There is no RST: GET with Observe 1 and the same token (RFC 8323, 7.4)."""
    with CoapStreamClient(doors.coap) as client, CoapStreamClient(doors.coap) as publisher:
        client.send(GET, b"o", (OBSERVE, b""), *ps("ended"))
        assert client.expect(1)[b"o"].code == CONTENT
        publisher.put("ended", b"1")
        assert client.expect(1)[b"o"].payload == b"1"
        client.send(GET, b"o", (OBSERVE, b"\x01"), *ps("ended"))
        assert client.expect(1)[b"o"].payload == b"1"
        publisher.put("ended", b"2")
        assert client.ask(GET, *ps("ended")).payload == b"2"


def test_a_slow_observer_delays_nobody(doors: Doors) -> None:
    """Forty megabytes for somebody who does not read: others get them, and memory stays as it is."""
    count, size = 4000, 10_000
    with (
        CoapStreamClient(doors.coap) as slow,
        CoapStreamClient(doors.coap) as quick,
        CoapStreamClient(doors.coap) as publisher,
    ):
        for client in (slow, quick):
            client.send(GET, b"o", (OBSERVE, b""), *ps("burst"))
            assert client.expect(1)[b"o"].code == CONTENT
        before = doors.process.rss_bytes()
        for n in range(count):
            publisher.send(PUT, n.to_bytes(2, "big"), *ps("burst"), payload=b"%010d" % n + bytes(size - 10))
            assert publisher.expect(1)
            packet = quick.next()
            assert packet is not None
            assert int(packet.payload[:10]) == n
        assert doors.process.rss_bytes() - before < 30_000_000
        numbers: list[int] = []
        while not numbers or numbers[-1] < count - 1:  # the oldest were left out, the newest arrives
            packet = slow.next()
            assert packet is not None
            numbers.append(int(packet.payload[:10]))
        assert numbers == sorted(set(numbers))
        assert len(numbers) < count


# -- WebSocket ----------------------------------------------------------------------------------


def websocket(doors: Doors) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{doors.process.http_port}/.well-known/coap", subprotocols=COAP)


def messages(socket: ClientConnection) -> Iterator[Packet]:
    """Return what comes until the end; each WebSocket message is one."""
    decoder = MessageDecoder(1 << 30)
    with suppress(ConnectionClosed):
        while True:
            data = socket.recv(20)
            assert isinstance(data, bytes)
            decoder.feed(data)
            packet = decoder.next()
            assert packet is not None, decoder.error
            yield packet


def test_a_websocket_message_is_one_message(doors: Doors) -> None:
    with websocket(doors) as socket:
        assert socket.subprotocol == "coap"
        socket.send(encode_message(CSM, b"", (), b""))
        for n in range(20):  # answered together, and not in one message
            socket.send(encode_message(PUT, bytes((n,)), ps("socket"), b"%d" % n))
        found = messages(socket)
        assert next(found).code == CSM
        assert sorted(next(found).token for _ in range(20)) == [bytes((n,)) for n in range(20)]


@pytest.mark.parametrize(
    "bad",
    [b"", b"\x00", encode_frame(GET, b"", ps("x"), b""), b"\x0f\x01" + b"x" * 15, b"\x00\x01\xff"],
    ids=["nothing", "one byte", "a length", "token of 15", "marker alone"],
)
def test_bad_websocket_messages(doors: Doors, bad: bytes) -> None:
    with websocket(doors) as socket:
        socket.send(encode_message(CSM, b"", (), b""))
        socket.send(bad)
        assert [packet.code for packet in messages(socket)] == [CSM, ABORT]
        assert socket.close_code == 1000


def test_text_and_other_paths(doors: Doors) -> None:
    with websocket(doors) as socket:
        socket.send("text")
        assert [packet.code for packet in messages(socket)] == [CSM]
        assert socket.close_code == 1003
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{doors.process.http_port}/.well-known/coap", subprotocols=None)


# -- the end ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that asks soon, and that a test may kill."""
    process = GatewayProcess(tmp_path_factory.mktemp("other"), ("coap.ping_seconds=0.3",)).start()
    yield process
    process.stop()


def test_a_silent_observer_is_asked(other: GatewayProcess) -> None:
    with CoapStreamClient(other.coap_port) as client:
        client.send(GET, b"o", (OBSERVE, b""), *ps("quiet"))
        assert client.expect(1)[b"o"].code == CONTENT
        for _ in range(2):
            packet = client.next()
            assert packet is not None
            assert packet.code == PING
            client.send(PONG, packet.token)


def test_what_was_answered_survives_a_kill(other: GatewayProcess) -> None:
    """kill -9 while a client publishes: what it was told is stored is there, and it goes on."""
    process = other
    answered: list[int] = []
    with (
        CoapStreamClient(process.coap_port) as client,
        AiocoapClient(process.coap_port, "coap+tcp") as aiocoap,
    ):
        assert aiocoap.put("/ps/other", b"1", "retain=true").code == "2.01"

        def publish() -> None:
            with suppress(OSError, AssertionError):
                for n in range(100_000):
                    client.put(f"kill/{n % 20}", b"%d" % n, "retain=true")
                    answered.append(n)

        publisher = threading.Thread(target=publish)
        publisher.start()
        wait_for(lambda: len(answered) > 50, what="fifty answers")
        process.kill()
        publisher.join()
        with pytest.raises(Failed):
            aiocoap.get("/ps/other")
        process.start()
        assert aiocoap.get("/ps/other").payload == b"1"
    with CoapStreamClient(process.coap_port) as client:
        last = answered[-1]
        for n in range(last - 19, last + 1):
            assert int(client.get(f"kill/{n % 20}")) >= n
        idle = CoapStreamClient(process.coap_port)
        with idle:
            assert idle.ask(GET, *ps("nothing")).code == NOT_FOUND
            stopping = threading.Thread(target=process.stop)
            stopping.start()
            goodbye = idle.next()
            assert goodbye is not None
            assert goodbye.code == RELEASE
            assert idle.next() is None
            stopping.join()
    assert process.bugs() == []
