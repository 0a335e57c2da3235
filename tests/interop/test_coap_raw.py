"""Datagrams that no client library would send: the RFC's answer or silence, and nobody else notices."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.protocols.coap.blockwise import block
from gateway.protocols.coap.codec import Option, decode, empty, encode, encode_options
from gateway.protocols.coap.numbers import (
    ACCEPT,
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    ECHO,
    ETAG,
    GET,
    HOP_LIMIT,
    IF_NONE_MATCH,
    MAX_AGE,
    NO_RESPONSE,
    NON,
    OBSERVE,
    POST,
    PROXY_SCHEME,
    PROXY_URI,
    PUT,
    REQUEST_TAG,
    RST,
    SIZE1,
    SIZE2,
    URI_PATH,
)
from tests.coap_client import Answer, CoapClient, options_of
from tests.process import GatewayProcess, wait_for

MID = 0x1234
TOPIC: list[Option] = [(URI_PATH, b"ps"), (URI_PATH, b"raw")]
VALID = encode(CON, PUT, MID, b"tokn", [*TOPIC, (CONTENT_FORMAT, b""), (SIZE1, b"\x05")], b"hello")
BODY = random.Random(7).randbytes(5000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One for all: it trusts two addresses, and takes 2,000 datagrams a second from each."""
    process = GatewayProcess(
        tmp_path_factory.mktemp("coap"),
        (
            "coap.trusted_networks=['127.0.0.1/32', '127.0.0.9/32']",
            "coap.requests_per_second_max=2000",
            "limits.body_bytes_max=20000",
        ),
    ).start()
    yield process
    assert process.stop() == 0
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(autouse=True)
def bystander(server: GatewayProcess) -> Iterator[CoapClient]:
    """Somebody who goes on working whatever others do; nothing is logged as a bug."""
    with CoapClient(server.coap_port) as client:
        assert client.request(PUT, "/ps/bystander", b"before").code in ("2.01", "2.04")
        yield client
        assert client.request(PUT, "/ps/bystander", b"after").code == "2.04"
        assert client.get("/ps/bystander").payload == b"after"
        assert not server.bugs(), "\n".join(server.errors)


@pytest.fixture
def raw(server: GatewayProcess) -> Iterator[CoapClient]:
    with CoapClient(server.coap_port) as client:
        client.get("/ps/bystander")  # somebody new is let in first, and answered a moment later
        yield client


def client_from(server: GatewayProcess, host: str) -> CoapClient:
    """Return a client with another address of this machine."""
    client = CoapClient(server.coap_port)
    client.sock.close()
    client.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.sock.bind((host, 0))
    client.sock.connect(("127.0.0.1", server.coap_port))
    return client


def answers(raw: CoapClient, *datagrams: bytes) -> list[Answer]:
    """Return what the server says to datagrams."""
    for datagram in datagrams:
        raw.send_bytes(datagram)
    found = raw.ping()
    assert raw.inbox == []
    return found


def said(found: list[Answer]) -> list[tuple[int, str]]:
    """Return kinds and codes."""
    return [(answer.kind, answer.code) for answer in found]


# -- datagrams that are no messages -----------------------------------------------------------


def test_every_cut_of_a_message(raw: CoapClient) -> None:
    """A cut message is reset (RFC 7252, 4.2), unless it is a message still: less payload, fewer options."""
    marker = VALID.index(b"\xff")
    whole = {len(VALID) - cut for cut in range(len(b"hello"))} | {marker}
    for length in range(len(VALID)):
        numbered = VALID[:2] + length.to_bytes(2, "big") + VALID[4:]  # or it would be a duplicate
        found = said(answers(raw, numbered[:length]))
        if length < 4:
            assert found == [], length
        elif length in whole:
            assert found in ([(ACK, "2.01")], [(ACK, "2.04")]), length
        elif length < 8:
            assert found == [(RST, "0.00")], length
        else:
            # Between two options there is a message, too.
            assert len(found) == 1, length
            assert found[0] == (RST, "0.00") or found[0][0] == ACK, length


#: What is sent, with what it says of its kind -> what comes back: None is nothing.
RESET = [(RST, "0.00")]
BYTES: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "nothing at all": (b"", []),
    "one byte": (b"\x40", []),
    "three bytes": (b"\x40\x01\x00", []),
    "version 0": (b"\x00" + VALID[1:], []),
    "version 2": (b"\x84" + VALID[1:], []),
    "version 3": (b"\xc4" + VALID[1:], []),
    "a token of 9 bytes": (b"\x49\x01\x12\x34" + b"t" * 20, RESET),
    "a token of 15 bytes": (b"\x4f\x01\x12\x34" + b"t" * 20, RESET),
    "a token of 9 bytes, not confirmable": (b"\x59\x01\x12\x34" + b"t" * 20, []),
    "a token longer than the message": (b"\x48\x01\x12\x34tok", RESET),
    "option delta 15": (b"\x40\x01\x12\x34\xf1x", RESET),
    "option length 15": (b"\x40\x01\x12\x34\xbfx", RESET),
    "option delta 15, not confirmable": (b"\x50\x01\x12\x34\xf1x", []),
    "an option longer than the message": (b"\x40\x01\x12\x34\xb5abcd", RESET),
    "an extended delta that is cut": (b"\x40\x01\x12\x34\xd0", RESET),
    "an extended delta of two bytes that is cut": (b"\x40\x01\x12\x34\xe0\x00", RESET),
    "an extended length that is cut": (b"\x40\x01\x12\x34\xbd", RESET),
    "an extended length of two bytes that is cut": (b"\x40\x01\x12\x34\xbe\x00", RESET),
    "an option beyond 65,535": (b"\x40\x01\x12\x34\xe0\xff\xff\xe0\xff\xff", [(ACK, "4.04")]),
    "a marker without payload": (b"\x40\x01\x12\x34\xff", RESET),
    "a marker without payload after options": (b"\x40\x01\x12\x34\xb2ps\xff", RESET),
    "a marker without payload, not confirmable": (b"\x50\x01\x12\x34\xff", []),
    "a ping": (empty(CON, MID), RESET),
    "a ping with a token": (b"\x44\x00\x12\x34tokn", RESET),
    "a ping with a payload": (b"\x40\x00\x12\x34\xffx", RESET),
    "an empty one, not confirmable": (empty(NON, MID), []),
    "an ACK of nothing": (empty(ACK, MID), []),
    "an RST of nothing": (empty(RST, MID), []),
    "an ACK with a request": (encode(ACK, GET, MID, b"t", TOPIC, b""), []),
    "an RST with a request": (encode(RST, GET, MID, b"t", TOPIC, b""), []),
    "an ACK with an answer to nothing": (encode(ACK, 0x45, MID, b"t", [], b"x"), []),
    "a malformed ACK": (b"\x6f\x45\x12\x34", []),
    "an answer to nothing": (encode(CON, 0x45, MID, b"t", [], b"x"), RESET),
    "an answer to nothing, not confirmable": (encode(NON, 0x45, MID, b"t", [], b"x"), []),
    "an error that answers nothing": (encode(CON, 0x84, MID, b"t", [], b"x"), RESET),
    "a notification of nothing": (encode(CON, 0x45, MID, b"t", [(OBSERVE, b"\1")], b"x"), RESET),
    "class 1": (encode(CON, 0x21, MID, b"t", TOPIC, b""), RESET),
    "class 3": (encode(CON, 0x61, MID, b"t", TOPIC, b""), RESET),
    "class 6": (encode(CON, 0xC1, MID, b"t", TOPIC, b""), RESET),
    "class 7, a CSM": (encode(CON, 0xE1, MID, b"", [], b""), RESET),
    "class 1, not confirmable": (encode(NON, 0x21, MID, b"t", TOPIC, b""), []),
    "class 6, not confirmable": (encode(NON, 0xC1, MID, b"t", TOPIC, b""), []),
    "class 7, not confirmable": (encode(NON, 0xE1, MID, b"", [], b""), []),
    "method 0.08": (encode(CON, 8, MID, b"t", TOPIC, b""), [(ACK, "4.05")]),
    "method 0.31": (encode(CON, 31, MID, b"t", TOPIC, b""), [(ACK, "4.05")]),
}


@pytest.mark.parametrize("case", BYTES)
def test_what_is_no_request(raw: CoapClient, case: str) -> None:
    datagram, wanted = BYTES[case]
    found = answers(raw, datagram)
    assert said(found) == wanted
    for answer in found:
        assert answer.mid == MID


# -- requests with options that are wrong -------------------------------------------------------

#: Options -> the code of the answer to a PUT with them.
OPTIONS: dict[str, tuple[list[Option], str]] = {
    "an unknown critical option": ([(2049, b"x")], "4.02"),
    "an unknown critical option of many bytes": ([(65001, b"x" * 300)], "4.02"),
    "an unknown elective option": ([(2050, b"x")], "2.04"),
    "Accept of three bytes": ([(ACCEPT, b"\0\0\0")], "4.02"),
    "If-None-Match with a value": ([(IF_NONE_MATCH, b"x")], "4.02"),
    "Block1 of four bytes": ([(BLOCK1, b"\1\2\3\4")], "4.02"),
    "Block1 of exponent 7": ([(BLOCK1, b"\7")], "4.00"),
    "Block2 of exponent 7": ([(BLOCK2, b"\7")], "4.00"),
    "Block1 with less than it says": ([(BLOCK1, block(0, True, 6))], "4.00"),
    "Block1 that is not the first": ([(BLOCK1, block(7, False, 6))], "4.08"),
    "Accept twice": ([(ACCEPT, b""), (ACCEPT, b"")], "4.02"),
    "Content-Format twice": ([(CONTENT_FORMAT, b""), (CONTENT_FORMAT, b"\x32")], "2.04"),
    "Content-Format of three bytes": ([(CONTENT_FORMAT, b"\0\0\0")], "2.04"),
    "an ETag of nine bytes": ([(ETAG, b"x" * 9)], "2.04"),
    "a path that is not UTF-8": ([(URI_PATH, b"\xff\xfe")], "4.00"),
    "a path with a surrogate": ([(URI_PATH, b"\xed\xa0\x80")], "4.00"),
    "a path with a zero": ([(URI_PATH, b"a\0b")], "4.00"),
    "a path segment of 256 bytes": ([(URI_PATH, b"x" * 256)], "4.02"),
    "a wildcard in a path": ([(URI_PATH, b"#")], "4.00"),
    "Hop-Limit 0": ([(HOP_LIMIT, b"\0")], "4.00"),
    "Hop-Limit 16": ([(HOP_LIMIT, b"\x10")], "2.04"),
    "Proxy-Uri": ([(PROXY_URI, b"coap://example.org/")], "5.05"),
    "Proxy-Scheme": ([(PROXY_SCHEME, b"http")], "5.05"),
    "a body that is announced as too large": ([(BLOCK1, block(0, True, 0)), (SIZE1, b"\xff" * 4)], "4.00"),
    "a strange Echo": ([(ECHO, b"guess")], "2.04"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_are_wrong(raw: CoapClient, case: str) -> None:
    options, wanted = OPTIONS[case]
    raw.request(PUT, "/ps/raw", b"there is a value")
    answer = raw.request(PUT, "/ps/raw", b"x", options=options)
    assert answer.code == wanted, answer
    assert answer.kind == ACK
    if wanted[0] in "45":
        assert answer.payload.decode(), "an error says why"


@pytest.mark.parametrize("critical", [[(2049, b"x")], [(ACCEPT, b"\0\0\0")], [(IF_NONE_MATCH, b"x")]])
def test_a_critical_option_in_what_is_not_confirmable_is_rejected(
    raw: CoapClient, critical: list[Option]
) -> None:
    """RFC 7252, 5.4.1 with 4.3: silence. Nothing is published."""
    raw.request(PUT, "/ps/raw", b"old")
    assert answers(raw, encode(NON, PUT, MID, b"t", [*TOPIC, *critical], b"new")) == []
    assert raw.get("/ps/raw").payload == b"old"


def test_long_values_and_many_options(raw: CoapClient) -> None:
    assert raw.request(PUT, "/ps/" + "y" * 255, b"long").code in ("2.01", "2.04")
    assert raw.get("/ps/" + "y" * 255).payload == b"long"
    many = encode(CON, PUT, MID, b"t", [*TOPIC, *((2050, b"") for _ in range(20_000))], b"x")
    assert said(answers(raw, many)) == [(ACK, "2.04")]
    deep = encode(
        CON, GET, MID + 1, b"t", [(URI_PATH, b"ps"), *((URI_PATH, b"a") for _ in range(20_000))], b""
    )
    assert said(answers(raw, deep)) in ([(ACK, "4.00")], [(ACK, "4.04")])


def test_a_datagram_of_the_largest_size(raw: CoapClient) -> None:
    large = encode(CON, PUT, MID, b"t", TOPIC, b"")
    large += b"\xff" + b"x" * (65_507 - len(large) - 1)
    found = answers(raw, large)
    assert said(found) == [(ACK, "4.13")]
    assert found[0].options.size1 == 20_000


# -- duplicates -------------------------------------------------------------------------------


def test_a_duplicate_gets_the_same_answer_and_is_done_once(raw: CoapClient) -> None:
    raw.request(PUT, "/ps/raw", b"0")
    first = raw.send(PUT, "/ps/raw", b"once")
    found = [*raw.ping()]
    raw.request(PUT, "/ps/raw", b"newer")
    for _ in range(5):
        raw.send_bytes(first)
    found += raw.ping()
    assert said(found) == [(ACK, "2.04")] * 6
    assert len({(answer.mid, answer.token) for answer in found}) == 1
    assert raw.get("/ps/raw").payload == b"newer"


def test_a_duplicate_that_is_not_confirmable_is_ignored(raw: CoapClient) -> None:
    datagram = encode(NON, PUT, MID + 9, b"dupl", TOPIC, b"once")
    assert len(answers(raw, datagram, datagram, datagram)) == 1


def test_a_large_answer_is_the_same_again(raw: CoapClient) -> None:
    assert put_in_blocks(raw, "/ps/large", BODY).code in ("2.01", "2.04")
    datagram = encode(CON, GET, MID + 10, b"t", options_of("/ps/large"), b"")
    first, second = answers(raw, datagram, datagram)
    assert (first.payload, first.options.all) == (second.payload, second.options.all)
    assert len(first.payload) == 1024


# -- answers that nobody wants, and acknowledgements nobody waits for ---------------------------


@pytest.mark.parametrize(
    ("value", "path", "wanted"),
    [
        (b"\x02", "/ps/raw", [(ACK, "0.00")]),
        (b"\x08", "/ps/raw", [(ACK, "2.04")]),
        (b"\x08", "/nowhere", [(ACK, "0.00")]),
        (b"\x02", "/nowhere", [(ACK, "4.04")]),
        (b"\x1a", "/nowhere", [(ACK, "0.00")]),
        (b"", "/ps/raw", [(ACK, "2.04")]),
    ],
)
def test_no_response(raw: CoapClient, value: bytes, path: str, wanted: list[tuple[int, str]]) -> None:
    raw.request(PUT, "/ps/raw", b"0")
    options = [*options_of(path), (NO_RESPONSE, value)]
    mid = random.randrange(1 << 16)
    datagram = encode(CON, PUT, mid, b"norp", options, b"quiet")
    wait_for(lambda: said(answers(raw, datagram)) == wanted, 3, f"the answer {wanted}")
    silent = [] if wanted == [(ACK, "0.00")] else [(NON, wanted[0][1])]
    found = answers(raw, encode(NON, PUT, mid ^ 1, b"norq", options, b"quiet"))
    assert said(found) == silent
    if path == "/ps/raw":
        wait_for(lambda: raw.get(path).payload == b"quiet", 3, "what was published without an answer")


def test_spoofed_acknowledgements_and_resets(raw: CoapClient) -> None:
    datagrams = [empty(kind, mid) for mid in range(0, 1 << 16, 331) for kind in (ACK, RST)]
    assert answers(raw, *datagrams) == []


# -- blocks -----------------------------------------------------------------------------------


def put_in_blocks(
    raw: CoapClient, path: str, body: bytes, szx: int = 6, more: tuple[Option, ...] = ()
) -> Answer:
    """Send a body in blocks, each when the one before is acknowledged; return the last answer."""
    size = 16 << szx
    for at in range(0, len(body), size):
        last = at + size >= len(body)
        value = block(at // size, not last, szx)
        answer = raw.request(PUT, path, body[at : at + size], options=[(BLOCK1, value), *more])
        if last or answer.code != "2.31":
            return answer
        assert answer.option(BLOCK1) == value
    raise AssertionError


def get_in_blocks(raw: CoapClient, path: str, szx: int = 6) -> bytes:
    """Fetch a representation block by block."""
    body, number = b"", 0
    while True:
        answer = raw.get(path, options=[(BLOCK2, block(number, False, szx))])
        assert answer.code == "2.05", answer
        body += answer.payload
        if not answer.options.block2 & 8:
            return body
        number += 1


@pytest.mark.parametrize("szx", [2, 4, 6])
def test_a_large_message_there_and_back(raw: CoapClient, szx: int) -> None:
    assert put_in_blocks(raw, "/ps/large", BODY, szx).code in ("2.01", "2.04")
    assert get_in_blocks(raw, "/ps/large", szx) == BODY


def test_blocks_out_of_order_and_what_was_missing(raw: CoapClient) -> None:
    def send(number: int, more: bool = True) -> str:
        options = [(BLOCK1, block(number, more, 6)), (REQUEST_TAG, b"mix")]
        return raw.request(PUT, "/ps/mixed", b"%d" % number * 1024, options=options).code

    assert send(3) == "4.08"
    assert send(0) == "2.31"
    assert send(2) == "4.08"
    assert send(1) == "2.31"
    assert send(1) == "2.31"
    assert send(3, False) == "4.08"
    assert send(2) == "2.31"
    assert send(3, False) in ("2.01", "2.04")
    assert get_in_blocks(raw, "/ps/mixed") == b"".join(b"%d" % number * 1024 for number in range(4))


def test_a_body_that_is_too_large(raw: CoapClient) -> None:
    answer = put_in_blocks(raw, "/ps/large", b"x" * 21_000)
    assert answer.code == "4.13"
    assert answer.options.size1 == 20_000
    announced = raw.request(
        PUT, "/ps/large", b"x" * 1024, options=[(BLOCK1, block(0, True, 6)), (SIZE1, b"\xff\xff")]
    )
    assert announced.code == "4.13"


def test_a_block_beyond_the_end(raw: CoapClient) -> None:
    put_in_blocks(raw, "/ps/large", BODY)
    assert raw.get("/ps/large", options=[(BLOCK2, block(5, False, 6))]).code == "4.00"
    assert raw.get("/ps/large", options=[(BLOCK2, block(0xFFFFF, False, 6))]).code == "4.00"
    assert raw.get("/ps/large", options=[(BLOCK2, block(4, False, 6)), (SIZE2, b"")]).options.size2 == 5000


def test_a_value_that_changes_between_blocks_is_told_by_its_etag(
    raw: CoapClient, bystander: CoapClient
) -> None:
    put_in_blocks(raw, "/ps/large", BODY)
    first = raw.get("/ps/large")
    put_in_blocks(bystander, "/ps/large", BODY[::-1])
    second = raw.get("/ps/large", options=[(BLOCK2, block(1, False, 6))])
    assert second.options.etags == first.options.etags
    assert second.payload == BODY[1024:2048]  # still of the representation that was begun
    assert bystander.get("/ps/large").options.etags != first.options.etags


def test_transfers_that_are_never_finished_are_forgotten(raw: CoapClient) -> None:
    """300 beginnings by one client, of which 16 are kept."""
    for number in range(300):
        options = [(BLOCK1, block(0, True, 6)), (REQUEST_TAG, number.to_bytes(2, "big"))]
        raw.send(PUT, "/ps/endless", b"x" * 1024, options=options)
        if number % 50 == 49:
            assert {answer.code for answer in raw.ping()} == {"2.31"}
    late = [(BLOCK1, block(1, False, 6)), (REQUEST_TAG, (0).to_bytes(2, "big"))]
    assert raw.request(PUT, "/ps/endless", b"x", options=late).code == "4.08"
    kept = [(BLOCK1, block(1, False, 6)), (REQUEST_TAG, (299).to_bytes(2, "big"))]
    assert raw.request(PUT, "/ps/endless", b"x", options=kept).code == "2.01"


# -- amplification ----------------------------------------------------------------------------


def test_a_stranger_gets_little_until_the_address_is_proven(server: GatewayProcess, raw: CoapClient) -> None:
    raw.request(PUT, "/ps/readings", b"r" * 1000)
    raw.request(PUT, "/ps/reading", b"21.5")
    with client_from(server, "127.0.0.5") as stranger:
        assert stranger.get("/ps/reading").payload == b"21.5"
        assert stranger.request(PUT, "/ps/from-a-stranger", b"x").code == "2.01"
        datagram = stranger.send(GET, "/ps/readings")
        challenged = stranger.ping()[0]
        echo = challenged.option(ECHO)
        assert (challenged.code, challenged.kind) == ("4.01", ACK)
        assert echo
        assert len(encode_options(challenged.options.all)) + len(challenged.payload) < 100
        assert len(datagram) < 100
        wrong = bytes((echo[0] ^ 1, *echo[1:]))
        assert stranger.get("/ps/readings", options=[(ECHO, wrong)]).code == "4.01"
        assert stranger.get("/ps/readings", options=[(ECHO, echo)]).payload == b"r" * 1000
        assert stranger.get("/ps/readings").payload == b"r" * 1000  # is proven from now on
        stranger_again = client_from(server, "127.0.0.5")
        with stranger_again:  # another port, which is not
            assert stranger_again.get("/ps/readings").code == "4.01"
            assert stranger_again.get("/ps/readings", options=[(ECHO, echo)]).code == "4.01"


def test_a_long_request_may_have_a_long_answer(server: GatewayProcess, raw: CoapClient) -> None:
    raw.request(PUT, "/ps/readings", b"r" * 400)
    with client_from(server, "127.0.0.6") as stranger:
        assert stranger.get("/ps/readings").code == "4.01"
        assert stranger.get("/ps/readings", options=[(2050, b"x" * 200)]).code == "2.05"


def test_a_stranger_does_not_observe_and_takes_nothing(server: GatewayProcess, raw: CoapClient) -> None:
    raw.request(PUT, "/ps/reading", b"21.5")
    with client_from(server, "127.0.0.7") as stranger:
        challenged = stranger.observe("/ps/reading")
        assert challenged.code == "4.01"
        assert challenged.options.observe == -1
        assert stranger.request(POST, "/queues/q/receive").code == "4.01"
        assert stranger.request(PUT, "/ps/reading", b"1", query=["ttd=1"]).code == "4.01"
        assert raw.get("/ps/reading").payload == b"21.5"


def test_acknowledgements_prove_nothing(server: GatewayProcess, raw: CoapClient) -> None:
    raw.request(PUT, "/ps/readings", b"r" * 1000)
    with client_from(server, "127.0.0.8") as stranger:
        for mid in range(0, 1 << 16, 97):
            stranger.send_bytes(empty(ACK, mid))
        assert stranger.get("/ps/readings").code == "4.01"


# -- floods -----------------------------------------------------------------------------------


def test_a_flood_is_told_so_and_others_go_on(server: GatewayProcess, bystander: CoapClient) -> None:
    memory = server.rss_bytes()
    with client_from(server, "127.0.0.9") as flooder:
        flooder.get("/ps/bystander")
        flooder.sock.setblocking(False)
        codes: dict[str, int] = {}
        sizes: set[int] = set()
        for number in range(12_000):
            datagram = encode(CON, PUT, number, b"tk", TOPIC, b"flood")
            with suppress(BlockingIOError, ConnectionRefusedError):
                flooder.sock.send(datagram)
            with suppress(BlockingIOError, ConnectionRefusedError):
                data = flooder.sock.recv(2000)
                sizes.add(len(data))
                packet = decode(data)
                codes[str(packet.code)] = codes.get(str(packet.code), 0) + 1
                if packet.code == 0x9D:
                    assert encode_options([(MAX_AGE, b"\1")]) == packet.block
            if number % 3000 == 1500:
                assert bystander.request(PUT, "/ps/bystander", b"meanwhile").code == "2.04"
        assert codes.get(str(0x9D), 0) > 100
        assert max(sizes) <= len(datagram)
        # What is not confirmable is dropped without a word; after a while all is well again.
        flooder.sock.setblocking(True)
        flooder.inbox.clear()
        wait_for(lambda: flooder.request(PUT, "/ps/raw", b"slowly").code == "2.04", 5, "the flooder's turn")
    assert server.rss_bytes() - memory < 32 << 20


def test_a_flood_of_rubbish(server: GatewayProcess) -> None:
    chance = random.Random(1)
    with client_from(server, "127.0.0.4") as flooder:
        for _ in range(6000):
            with suppress(ConnectionRefusedError):
                flooder.send_bytes(chance.randbytes(chance.randrange(60)))
