"""OSCORE around a handler: aiocoap protects and unprotects, requests are handed over by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiocoap import FETCH, GET, PUT, UNAUTHORIZED
from aiocoap import oscore as library
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.codec import decode, encode, split_options
from gateway.protocols.coap.exchange import SILENCE, Response
from gateway.protocols.coap.numbers import (
    BAD_OPTION,
    BAD_REQUEST,
    BLOCK1,
    CHANGED,
    CON,
    CONTENT,
    ETAG,
    MAX_AGE,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    OBSERVE,
    OSCORE,
    URI_PATH,
)
from gateway.protocols.coap.oscore import oscore, oscore_contexts
from gateway.testing import TestGateway
from tests.protocols.coap.oscore_support import SECRET, Device, Inner, Talk, Users, Wire, make

LONG = b"sensor-17.greenhouse"  # more than a sender id may have


class World:
    """A layer with two users."""

    def __init__(self) -> None:
        self.inner = Inner()
        self.first = -1  # the number of the answer to a registration
        self.users = Users({b"lamp": SECRET, LONG: SECRET[::-1]})
        self.gateway: TestGateway
        self.gateway, self.layer = make(self.users, self.inner)

    def talk(self, device: Device | None = None, peer: str = "127.0.0.1:5000") -> Talk:
        return Talk(self.layer, device or Device(), Wire(peer))


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.gateway.close()


def tampered(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def outside(response: Response) -> dict[int, bytes]:
    return dict(response.options)


# -- requests and answers ---------------------------------------------------------------------


def test_a_request_and_its_answer(world: World) -> None:
    world.inner.answer = Response(CONTENT, b"on", ((ETAG, b"e1"), (MAX_AGE, b"\x3c")))
    talk = world.talk()
    answer = talk.ask(code=GET, uri_path=("ps", "lamp", "state"), uri_query=("qos=1",))
    assert (answer.code, answer.payload, answer.opt.etag, answer.opt.max_age) == (CONTENT, b"on", b"e1", 60)
    [request] = world.inner.requests
    assert (request.code, request.token, request.confirmable) == (GET, b"t", True)
    assert request.options.path == ("ps", "lamp", "state")
    assert request.options.query == ("qos=1",)
    assert request.options.oscore is None
    link = request.link
    assert link.secure
    assert link.principal is not None
    assert (link.principal.name, link.principal.method, link.peer) == ("lamp", "oscore", "127.0.0.1:5000")


def test_nothing_is_to_be_seen_outside(world: World) -> None:
    world.inner.answer = Response(NOT_FOUND, b"no such topic", ((MAX_AGE, b"\x05"),))
    talk = world.talk()
    assert talk.ask(code=GET, uri_path=("a",)).code == NOT_FOUND
    data, _ = talk.protect(code=PUT, uri_path=("secret",), payload=b"secret")
    [answer] = talk.feed(data)
    assert b"secret" not in data
    assert (answer.code, outside(answer)) == (CHANGED, {OSCORE: b""})
    assert b"topic" not in answer.payload


def test_a_fetch_outside_is_answered_as_one(world: World) -> None:
    world.inner.answer = Response(CONTENT, b"on")
    talk = world.talk()
    talk.ask(code=GET)
    data, _ = talk.protect(code=GET, observe=0)
    assert decode(data).code == FETCH
    assert talk.feed(data)[0].code == CONTENT


def test_what_is_not_protected_passes_through(world: World) -> None:
    talk = world.talk()
    [answer] = talk.feed(encode(CON, PUT, 7, b"t", [(URI_PATH, b"a")], b"x"))
    assert (answer.code, world.inner.requests[0].link) == (CHANGED, talk.wire)


def test_a_kid_context_names_the_user(world: World) -> None:
    first = world.talk(Device(b"1", LONG, SECRET[::-1]))
    second = world.talk(Device(b"2", LONG, SECRET[::-1]))
    for talk in (first, second):
        assert talk.ask(code=GET).code == CHANGED
    links = [request.link for request in world.inner.requests]
    assert [link.principal.name for link in links if link.principal] == [LONG.decode()] * 2
    assert links[0] is not links[1]


def test_an_answer_may_come_later(world: World) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    world.inner.answer = None
    data, bound = talk.protect(code=GET)
    other, other_bound = talk.protect(code=GET)
    first, second = talk.feed(data), talk.feed(other)
    assert first == second == []
    world.inner.requests[-1].respond(Response(CONTENT, b"2"))
    world.inner.requests[-2].respond(Response(CONTENT, b"1"))
    assert talk.read(first[0], bound).payload == b"1"
    assert talk.read(second[0], other_bound).payload == b"2"


# -- replay -----------------------------------------------------------------------------------


def test_the_first_request_is_challenged(world: World) -> None:
    talk = world.talk(Device(number=500))
    data, bound = talk.protect(code=GET)
    [answer] = talk.feed(data)
    assert len(outside(answer)[OSCORE]) > 1, "an old request's nonce must not be used again"
    challenge = talk.read(answer, bound)
    assert (challenge.code, len(challenge.opt.echo)) == (UNAUTHORIZED, 8)
    assert world.inner.requests == []
    assert not talk.wire.proven
    wrong, _ = talk.protect(code=GET, echo=tampered(challenge.opt.echo))
    assert talk.read(talk.feed(wrong)[0], _).opt.echo == challenge.opt.echo
    right, bound = talk.protect(code=GET, echo=challenge.opt.echo)
    assert talk.read(talk.feed(right)[0], bound).code == CHANGED
    assert talk.wire.proven
    assert len(world.inner.requests) == 1


def test_challenges_never_use_a_number_twice(world: World) -> None:
    talk = world.talk()
    data, _ = talk.protect(code=GET)
    seen = [outside(answer)[OSCORE] for _ in range(100) for answer in talk.feed(data)]
    assert len(set(seen)) == 100


def test_what_has_come_does_not_come_again(world: World) -> None:
    talk = world.talk()
    talk.ask(code=PUT, payload=b"open")
    data, _ = talk.sent
    other = world.talk(peer="10.0.0.1:99")
    for again in (talk, other):
        [answer] = again.feed(data)
        assert (answer.code, answer.payload) == (UNAUTHORIZED, b"Replay detected")
        assert outside(answer) == {MAX_AGE: b""}
    assert len(world.inner.requests) == 1
    assert [why for _, why in world.gateway.refused_logins] == ["OSCORE: Replay detected"] * 2


def test_requests_may_overtake_one_another(world: World) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    sent = [talk.protect(code=GET) for _ in range(32)]
    for data, bound in reversed(sent):
        assert talk.read(talk.feed(data)[0], bound).code == CHANGED
    for data, _ in sent:
        assert talk.feed(data)[0].payload == b"Replay detected"
    late, _ = talk.protect(code=GET)
    for _ in range(32):
        talk.feed(talk.protect(code=GET)[0])
    assert talk.feed(late)[0].payload == b"Replay detected", "it is behind the window"


def test_what_fails_does_not_move_the_window(world: World) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    wrong = Talk(world.layer, Device(secret=b"x" * 16, number=2**39))
    assert wrong.feed(wrong.protect(code=GET)[0])[0].payload == b"Decryption failed"
    data, bound = talk.protect(code=GET)
    assert talk.read(talk.feed(data)[0], bound).code == CHANGED


def test_observers_show_where_they_are_first(world: World) -> None:
    device = Device()
    world.talk(device).ask(code=GET)
    talk = world.talk(device, "10.0.0.1:99")
    data, bound = talk.protect(code=GET, observe=0)
    challenge = talk.read(talk.feed(data)[0], bound)
    assert (challenge.code, len(world.inner.requests)) == (UNAUTHORIZED, 1)
    data, bound = talk.protect(code=GET, observe=0, echo=challenge.opt.echo)
    assert talk.read(talk.feed(data)[0], bound).code == CHANGED
    assert len(world.inner.requests) == 2


@pytest.mark.parametrize(("wish", "silent"), [(2, True), (24, False), (26, True), (0, False)])
def test_who_wants_no_answer_gets_none(world: World, wish: int, silent: bool) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    data, bound = talk.protect(code=PUT, no_response=wish)
    [answer] = talk.feed(data)
    if silent:
        assert answer is SILENCE
    else:
        assert talk.read(answer, bound).code == CHANGED


def test_much_is_told_to_those_who_are_there(world: World) -> None:
    """An address from which a datagram seems to come is told little, until it repeats an Echo."""
    device = Device()
    world.talk(device).ask(code=GET)
    talk = world.talk(device, "10.0.0.1:99")
    world.inner.answer = Response(CONTENT, b"x" * 1000)
    data, bound = talk.protect(code=GET)
    challenge = talk.read(talk.feed(data)[0], bound)
    assert (challenge.code, challenge.payload) == (UNAUTHORIZED, b"")
    assert not talk.wire.proven
    third = world.talk(device, "10.0.0.2:99")
    data, bound = third.protect(code=GET, echo=challenge.opt.echo)
    assert third.read(third.feed(data)[0], bound).code == UNAUTHORIZED, "it is of another address"
    data, bound = talk.protect(code=GET, echo=challenge.opt.echo)
    assert talk.read(talk.feed(data)[0], bound).payload == b"x" * 1000
    assert talk.wire.proven
    data, bound = third.protect(code=PUT)
    assert third.read(third.feed(data)[0], bound).code == CONTENT, "nothing is done twice for it"


# -- Observe ----------------------------------------------------------------------------------


def observing(world: World, token: bytes = b"o") -> tuple[Talk, object]:
    talk = world.talk()
    talk.ask(code=GET)
    world.inner.answer = Response(CONTENT, b"0", ((OBSERVE, b"\x01"),))
    answer = talk.ask(token, code=GET, observe=0)
    assert (answer.payload, answer.opt.observe >= 0) == (b"0", True)
    assert world.inner.requests[-1].options.observe == 0
    world.first = answer.opt.observe
    return talk, talk.sent[1]


def test_notifications(world: World) -> None:
    talk, bound = observing(world)
    link = world.inner.requests[-1].link
    done: list[bool] = []
    for number in range(2, 5):
        note = Response(CONTENT, b"%d" % number, ((OBSERVE, bytes((number,))),))
        link.notify(b"o", note, number == 3, done.append)
    numbers = [world.first]
    for wanted, (token, response, confirmable, end) in enumerate(talk.wire.told, 2):
        plain = talk.read(response, bound)
        assert (token, plain.payload, confirmable) == (b"o", b"%d" % wanted, wanted == 3)
        assert outside(response)[OBSERVE] == bytes((wanted,))
        numbers.append(plain.opt.observe)
        end(True)
    assert done == [True] * 3
    assert numbers == list(range(world.first, world.first + 4)), "some clients mind large steps"


def test_the_last_notification_ends_it(world: World) -> None:
    talk, bound = observing(world)
    link = world.inner.requests[-1].link
    done: list[bool] = []
    link.notify(b"o", Response(NOT_FOUND, b"gone"), True, done.append)
    assert talk.read(talk.wire.told[0][1], bound).code == NOT_FOUND
    link.notify(b"o", Response(CONTENT, b"1", ((OBSERVE, b"\x02"),)), True, done.append)
    assert len(talk.wire.told) == 1
    assert done == [], "never before notify has returned"
    world.gateway.clock.monotonic_ms += 1
    world.gateway.scheduler.run_due()
    assert done == [False]


@pytest.mark.parametrize("how", ["refused", "ended", "reset"])
def test_an_observation_that_is_none_any_more(world: World, how: str) -> None:
    talk, _ = observing(world)
    link = world.inner.requests[-1].link
    assert isinstance(link, oscore.OscoreLink)
    world.inner.answer = Response(CONTENT, b"0")
    if how == "refused":
        talk.ask(b"o", code=GET, observe=0)
    elif how == "ended":
        talk.ask(b"o", code=GET, observe=1)
    else:
        world.layer.reset(talk.wire, b"o")
        assert world.inner.resets == [(link, b"o")]
    assert link.registered == {}
    world.layer.reset(talk.wire, b"o")
    assert world.inner.resets[-1] == (talk.wire, b"o")


def test_an_observe_taken_off_on_the_way(world: World) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    data, bound = talk.protect(code=GET, observe=0)
    packet = decode(data)
    options = [option for option in split_options(packet.block) if option[0] != OBSERVE]
    data = encode(CON, packet.code, 7, b"t", options, packet.payload)
    assert talk.read(talk.feed(data)[0], bound).code == CHANGED
    assert world.inner.requests[-1].options.observe == -1


def test_observations_have_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore, "OBSERVATIONS_MAX", 1)
    talk, _ = observing(world)
    world.inner.answer = Response(CONTENT, b"0")
    talk.ask(b"p", code=GET, observe=0, uri_path=("a",))
    assert world.inner.requests[-1].options.observe == -1
    assert world.inner.requests[-1].options.path == ("a",)
    talk.ask(b"o", code=GET, observe=0)
    assert world.inner.requests[-1].options.observe == 0


def test_what_holds_a_link_holds_the_address(world: World) -> None:
    talk, _ = observing(world)
    link = world.inner.requests[-1].link
    link.held += 2
    assert talk.wire.held == 2
    link.held -= 2
    assert talk.wire.held == 0
    link.drop_pending(b"o")
    assert talk.wire.dropped == [b"o"]


# -- links, contexts, keys --------------------------------------------------------------------


def test_an_address_that_is_gone_takes_its_links_along(world: World) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    link = world.inner.requests[-1].link
    world.layer.gone(talk.wire)
    assert world.inner.went == [link, talk.wire]
    talk.ask(code=GET)  # the window is still there: no challenge
    assert len(world.inner.requests) == 2
    assert world.inner.requests[-1].link is not link


def test_a_device_moves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore, "LINKS_MAX", 2)
    device = Device()
    for port in range(4):
        world.talk(device, f"127.0.0.1:{port}").ask(code=GET)
    links = [request.link for request in world.inner.requests]
    assert [link.peer for link in links] == [f"127.0.0.1:{port}" for port in range(4)]
    assert world.inner.went == links[:2]


@pytest.mark.parametrize("how", ["removed", "changed", "groups"])
def test_what_an_administrator_does_counts_at_once(world: World, how: str) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    link = world.inner.requests[-1].link
    data, bound = talk.protect(code=GET)
    if how == "removed":
        del world.users.keys[b"lamp"]
    elif how == "changed":
        world.users.keys[b"lamp"] = b"another key here"
    else:
        world.users.groups = frozenset({"g"})
    [answer] = talk.feed(data)
    assert world.inner.went == [link]
    if how == "groups":
        assert talk.read(answer, bound).code == CHANGED
        principal = world.inner.requests[-1].link.principal
        assert principal is not None
        assert principal.groups == {"g"}
    else:
        wanted = b"Security context not found" if how == "removed" else b"Decryption failed"
        assert (answer.payload, len(world.inner.requests)) == (wanted, 1)


def test_contexts_have_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore_contexts, "CONTEXTS_MAX", 3)
    devices = [Device(b"%d" % number, LONG, SECRET[::-1]) for number in range(4)]
    talks = [world.talk(device) for device in devices]
    for number in (0, 1, 2, 0, 3):
        talks[number].ask(code=GET)
    assert [link.context.name[1] for link in world.inner.went if isinstance(link, oscore.OscoreLink)] == [
        b"1"
    ]
    data, bound = talks[1].sent
    assert talks[1].read(talks[1].feed(data)[0], bound).opt.echo, "what is forgotten is challenged"


def test_one_key_crowds_out_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore_contexts, "CONTEXTS_OF_KEY_MAX", 2)
    talk = world.talk()
    talk.ask(code=GET)
    for number in range(5):
        world.talk(Device(b"%d" % number, LONG, SECRET[::-1])).ask(code=GET)
    gone = [link.context.name[1] for link in world.inner.went if isinstance(link, oscore.OscoreLink)]
    assert gone == [b"0", b"1", b"2"]


def test_strangers_take_no_place(world: World) -> None:
    for number in range(50):
        stranger = Device(b"%d" % number, LONG, b"x" * 16)
        assert world.talk(stranger).feed(world.talk(stranger).protect(code=GET)[0])[0].code == BAD_REQUEST
    assert len(world.layer.contexts) == 0


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device",
    [Device(b"nobody"), Device(b"", None), Device(b"1", b"nobody"), Device(b"1", b""), Device(b"\xff")],
    ids=["kid", "no kid", "kid context", "no kid context", "no text"],
)
def test_nobody_known(world: World, device: Device) -> None:
    talk = world.talk(device)
    [answer] = talk.feed(talk.protect(code=GET)[0])
    assert (answer.code, answer.payload) == (UNAUTHORIZED, b"Security context not found")
    assert outside(answer) == {MAX_AGE: b""}


def test_our_own_id_is_nobodys(world: World) -> None:
    world.users.keys[b"gateway"] = SECRET
    talk = world.talk(Device(b"gateway"))
    assert talk.feed(talk.protect(code=GET)[0])[0].payload == b"Security context not found"


def test_the_wrong_key(world: World) -> None:
    talk = world.talk(Device(secret=b"x" * 16))
    [answer] = talk.feed(talk.protect(code=GET)[0])
    assert (answer.code, answer.payload) == (BAD_REQUEST, b"Decryption failed")
    assert outside(answer) == {MAX_AGE: b""}
    assert [why for _, why in world.gateway.refused_logins] == ["OSCORE: Decryption failed"]


def test_a_datagram_changed_or_cut_anywhere(world: World) -> None:
    """Every answer is one of the RFC's, and nothing gets through."""
    talk = world.talk()
    talk.ask(code=GET)
    data, bound = talk.protect(code=PUT, uri_path=("a",), payload=b"x")
    packet = decode(data)
    value = dict(split_options(packet.block))[OSCORE]
    for end in range(len(value)):
        [answer] = talk.feed(encode(CON, packet.code, 7, b"t", [(OSCORE, value[:end])], packet.payload))
        assert answer.code in (BAD_OPTION, UNAUTHORIZED, BAD_REQUEST)
    for end in range(len(packet.payload)):
        [answer] = talk.feed(encode(CON, packet.code, 7, b"t", [(OSCORE, value)], packet.payload[:end]))
        assert (answer.code, answer.payload) == (BAD_REQUEST, b"Decryption failed")
    for at in range(len(packet.payload)):
        changed = encode(CON, packet.code, 7, b"t", [(OSCORE, value)], tampered(packet.payload, at))
        assert talk.feed(changed)[0].payload == b"Decryption failed"
    assert len(world.inner.requests) == 1
    assert talk.read(talk.feed(data)[0], bound).code == CHANGED


@given(value=st.binary(max_size=30), payload=st.binary(max_size=60), known=st.booleans())
def test_anything_gets_one_answer(value: bytes, payload: bytes, known: bool) -> None:
    world = World()
    option = bytes((0x18 | len(value) % 8,)) + value[: len(value) % 8] + b"\x00lamp" if known else value
    [answer] = world.talk().feed(encode(CON, PUT, 7, b"t", [(OSCORE, option)], payload))
    assert answer.code in (BAD_OPTION, BAD_REQUEST, UNAUTHORIZED)
    assert world.inner.requests == []
    world.gateway.close()


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x08", b"\x0e123456k", b"\x29\x01lamp", b"\x19\x01\x09l"])
def test_no_option(world: World, value: bytes) -> None:
    [answer] = world.talk().feed(encode(CON, PUT, 7, b"t", [(OSCORE, value)], b"x" * 20))
    assert answer.code == BAD_OPTION
    assert answer.payload.startswith(b"Failed to decode COSE")


def test_fragments_outside(world: World) -> None:
    talk = world.talk()
    packet = decode(talk.protect(code=GET)[0])
    options = [*split_options(packet.block), (BLOCK1, b"\x08")]
    [answer] = talk.feed(encode(CON, packet.code, 7, b"t", options, packet.payload))
    assert answer.code == BAD_OPTION


@pytest.mark.parametrize(
    ("plaintext", "code"),
    [
        (b"\x03\xff", BAD_REQUEST),  # a marker without a payload
        (b"\x03\xb3ab", BAD_REQUEST),  # options that do not end
        (b"\x03\xb1\xff", BAD_REQUEST),  # a path that is no text
        (b"\x45\xffx", BAD_REQUEST),  # a response
        (b"\x00", BAD_REQUEST),
        (b"\x03\x90", BAD_REQUEST),  # OSCORE again
        (b"\x01\xd0\x00", BAD_OPTION),  # a critical option that nobody knows
    ],
)
def test_what_is_wrong_inside_is_said_inside(world: World, plaintext: bytes, code: int) -> None:
    talk = world.talk()
    talk.ask(code=GET)
    device = talk.device
    data, bound = talk.protect(code=PUT)
    packet = decode(data)
    value = dict(split_options(packet.block))[OSCORE]
    aad = library.cbor.dumps(
        ["Encrypt0", b"", library.cbor.dumps([1, [10], device.sender_id, bound.partial_iv, b""])]
    )
    nonce = device._construct_nonce(bound.partial_iv, device.sender_id, device.alg_aead)
    sealed = device.alg_aead.encrypt(plaintext, aad, device.sender_key, nonce)
    changed = encode(CON, packet.code, 7, b"t", [(OSCORE, value)], sealed)
    answer = talk.feed(changed)[0]
    assert talk.read(answer, bound).code == code
    assert len(world.inner.requests) == 1
    assert talk.feed(changed)[0].payload == b"Replay detected"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(oscore, "library_found", lambda: False)
    world = World()
    talk = world.talk()
    [answer] = talk.feed(talk.protect(code=GET)[0])
    assert answer.code == NOT_IMPLEMENTED
    assert b"oscore" in answer.payload
    assert "OSCORE is off" in capsys.readouterr().out
    [answer] = talk.feed(encode(CON, PUT, 7, b"t", [(URI_PATH, b"a")], b"x"))
    assert answer.code == CHANGED
    world.gateway.close()


def test_a_library_that_does_not_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setattr("gateway.protocols.coap.oscore.oscore_codec.import_module", broken)
    talk = world.talk()
    for _ in range(2):
        [answer] = talk.feed(talk.protect(code=GET)[0])
        assert answer.code == NOT_IMPLEMENTED
