"""`/queues`: receive under a lease, settle, long polls, and who is told what when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.api import AuthenticationFailed, Principal, Ruling
from gateway.core.access import Action, Credentials
from gateway.core.message import Message, Origin, Properties
from gateway.protocols.coap.codec import decode, empty, encode
from gateway.protocols.coap.content import cbor
from gateway.protocols.coap.content.formats import CBOR, JSON
from gateway.protocols.coap.datagrams.messages import Peer
from gateway.protocols.coap.numbers import (
    ACCEPT,
    CON,
    CONTENT_FORMAT,
    DELETE,
    GET,
    MAX_AGE,
    POST,
    PUT,
    RST,
    code_name,
    uint_bytes,
)
from gateway.protocols.coap.queues import pulls
from tests.coap_client import options_of
from tests.protocols.coap.doors import Device, Door, location, opened, shown
from tests.protocols.coap.worlds import option


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as found:
        yield found


@pytest.fixture
def device(door: Door) -> Device:
    return Device(door, "d1")


# -- enqueue and look -------------------------------------------------------------------------


def test_what_is_posted_to_a_queue_is_in_it(door: Door, device: Device) -> None:
    options = [(CONTENT_FORMAT, uint_bytes(JSON))]
    assert shown(device.ask(POST, "queues/jobs", payload=b"{}", options=options)) == ("2.04", b"")
    assert door.queue.length() == 1
    [answer] = device.receive()
    assert shown(answer) == ("2.01", b"{}")
    assert option(answer, CONTENT_FORMAT) == uint_bytes(JSON)


def test_a_queue_shows_how_it_does_in_json_or_cbor(door: Door, device: Device) -> None:
    door.put(b"a", b"bc")
    device.receive()
    plain = device.ask(GET, "queues/jobs")
    expected = {"name": "jobs", "kind": "classic", "depth": 1, "bytes": 2, "unsettled": 1, "consumers": 0}
    assert json.loads(plain.payload) == expected
    assert option(plain, MAX_AGE) == b""
    small = device.ask(GET, "queues/jobs", options=[(ACCEPT, uint_bytes(CBOR))])
    assert cbor.decode(small.payload) == expected
    assert option(small, CONTENT_FORMAT) == uint_bytes(CBOR)
    refused = device.ask(GET, "queues/jobs", options=[(ACCEPT, uint_bytes(0))])
    assert shown(refused)[0] == "4.06"


# -- receive and settle -----------------------------------------------------------------------


def test_a_message_is_leased_and_acknowledged(door: Door, device: Device) -> None:
    door.put(b"one", b"two")
    [answer] = device.receive()
    assert shown(answer) == ("2.01", b"one")
    assert location(answer)[:3] == ["queues", "jobs", "deliveries"]
    assert (door.unsettled(), door.idle()) == (1, True)
    assert device.settle(answer, code=DELETE) == "2.02"
    assert door.unsettled() == 0
    assert device.settle(answer, code=DELETE) == "4.04"
    [answer] = device.receive()
    assert shown(answer) == ("2.01", b"two")
    assert device.settle(answer) == "2.04", "ack, if nothing is said"
    door.pass_seconds(100)
    assert [shown(each) for each in device.receive()] == [("2.04", b"")]


def test_an_empty_queue_answers_at_once_without_location(door: Door, device: Device) -> None:
    [answer] = device.receive()
    assert shown(answer) == ("2.04", b"")
    assert location(answer) == []
    assert door.idle()


def test_an_empty_message_is_known_by_its_code(door: Door, device: Device) -> None:
    door.put(b"")
    [answer] = device.receive()
    assert shown(answer) == ("2.01", b"")
    assert len(location(answer)) == 4


def test_a_lease_ends_and_the_message_comes_again(door: Door, device: Device) -> None:
    door.put(b"one")
    [first] = device.receive("jobs", "lease=2")
    door.pass_seconds(1.9)
    assert device.receive()[0].payload == b""
    door.pass_seconds(0.2)
    [second] = device.receive()
    assert second.payload == b"one"
    assert device.settle(first) == "4.04", "its lease was over"
    assert device.settle(second) == "2.04"


def test_a_lease_is_extended(door: Door, device: Device) -> None:
    door.put(b"one")
    [answer] = device.receive("jobs", "lease=2")
    door.pass_seconds(1.5)
    assert device.settle(answer, "lease=10", more="extend") == "2.04"
    door.pass_seconds(9.5)
    assert door.unsettled() == 1
    door.pass_seconds(1)
    assert door.unsettled() == 0
    assert device.settle(answer, more="extend") == "4.04"


def test_without_a_lease_the_message_is_done_with(door: Door, device: Device) -> None:
    door.put(b"one")
    [answer] = device.receive("jobs", "lease=9", "ack=auto")
    assert shown(answer) == ("2.01", b"one")
    assert location(answer) == []
    door.pass_seconds(0.001)
    assert (door.unsettled(), door.queue.length()) == (0, 0)


@pytest.mark.parametrize(
    ("query", "attempt"), [(["outcome=nack", "delay=5"], 2), (["outcome=retry", "delay=5"], 1)]
)
def test_given_back_it_comes_after_the_delay(
    door: Door, device: Device, query: list[str], attempt: int
) -> None:
    door.put(b"one")
    [answer] = device.receive()
    assert device.settle(answer, *query) == "2.04"
    door.pass_seconds(4.9)
    assert device.receive()[0].payload == b""
    door.pass_seconds(0.2)
    device.receive()
    [held] = [delivery for group in door.queue.groups() for delivery in group.unsettled.values()]
    assert held.attempt == attempt


def test_rejected_it_is_a_dead_letter(door: Door, device: Device) -> None:
    dead, queue = door.declare("graves"), door.declare("mortal", dead_letter="$queue/graves")
    door.put(b"one", queue="mortal")
    [answer] = device.receive("mortal")
    assert device.settle(answer, "outcome=reject", "reason=too old") == "2.04"
    assert (queue.length(), dead.length()) == (0, 1)


def test_two_devices_compete_for_one_message(door: Door, device: Device) -> None:
    other = Device(door, "d2", "127.0.0.1:2")
    first, second = device.receive("jobs", "wait=10"), other.receive("jobs", "wait=10")
    door.put(b"one")
    assert sorted(len(each) for each in (first, second)) == [0, 1]
    door.put(b"two")
    assert {first[0].payload, second[0].payload} == {b"one", b"two"}
    assert door.idle()


def test_only_its_principal_settles_a_delivery(door: Door, device: Device) -> None:
    door.declare("other")
    door.put(b"one")
    [answer] = device.receive()
    thief = Device(door, "d2", "127.0.0.1:2")
    assert thief.settle(answer, code=DELETE) == "4.04"
    assert thief.settle(answer, more="extend") == "4.04"
    *_, token = location(answer)
    for path in (f"queues/other/deliveries/{token}", f"queues/jobs/deliveries/{token}x"):
        assert shown(device.ask(DELETE, path))[0] == "4.04"
    again = Device(door, "d1", "127.0.0.1:3")
    assert again.settle(answer, code=DELETE) == "2.02", "the same device, behind another port"


# -- waiting ----------------------------------------------------------------------------------


def test_a_long_poll_gets_what_comes(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    door.pass_seconds(10)
    assert found == []
    door.put(b"one")
    assert [shown(answer) for answer in found] == [("2.01", b"one")]
    door.pass_seconds(60)
    assert len(found) == 1
    assert door.idle()


def test_a_long_poll_ends(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    assert device.link.held == 1
    door.pass_seconds(20.1)
    assert [shown(answer) for answer in found] == [("2.04", b"")]
    assert door.idle()
    assert device.link.held == 0
    door.put(b"one")
    assert door.queue.length() == 1


def test_who_has_left_takes_nothing_along(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    device.leave()
    assert door.idle()
    door.put(b"one")
    door.pass_seconds(30)
    assert (found, door.queue.length(), door.unsettled()) == ([], 1, 0)


def test_a_link_that_turns_out_to_be_closed_gives_the_message_back(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    device.link.is_open = False
    door.put(b"one")
    door.pass_seconds(0.01)
    assert (found, door.queue.length(), door.unsettled()) == ([], 1, 0)
    [answer] = Device(door, "d2", "127.0.0.1:2").receive()
    assert answer.payload == b"one"


def test_the_door_closes_over_a_long_poll(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    door.gateway.loop.run_until_complete(door.coap.stop())
    assert [shown(answer) for answer in found] == [("2.04", b"")]
    assert shown(device.receive("jobs", "wait=20")[0]) == ("2.04", b""), "nobody waits any more"
    assert door.idle()


def test_a_queue_that_is_deleted_meanwhile_is_not_found(door: Door, device: Device) -> None:
    found = device.receive("jobs", "wait=20")
    door.gateway.broker.queues.delete(door.queue)
    assert [shown(answer)[0] for answer in found] == ["4.04"]
    assert len(door.coap.pulls) == 0


def test_who_may_not_go_on_is_told_while_it_waits(door: Door, device: Device) -> None:
    found, other = device.receive("jobs", "wait=20"), Device(door, "d2", "127.0.0.1:2")
    waits = other.receive("jobs", "wait=20")
    [client] = (device.link.clients or {}).values()
    client.end(AuthenticationFailed("the login has expired"))
    assert [shown(answer)[0] for answer in found] == ["4.01"]
    door.put(b"one")
    assert [answer.payload for answer in waits] == [b"one"]
    assert door.idle()


def test_waiting_requests_have_a_limit(door: Door, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "WAITING_OF_LINK_MAX", 2)
    waiting = [device.receive("jobs", "wait=20") for _ in range(2)]
    [refused] = device.receive("jobs", "wait=20")
    assert shown(refused)[0] == "4.29"
    assert option(refused, MAX_AGE) == uint_bytes(5)
    other = Device(door, "d2", "127.0.0.1:2").receive("jobs", "wait=20")
    assert [*waiting, other] == [[], [], []]


class _Revocable:
    def __init__(self) -> None:
        self.allowed = True

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(self.allowed or action is not Action.CONSUME, "test")


def test_rules_that_change_end_a_long_poll(door: Door, device: Device) -> None:
    rules = _Revocable()
    door.gateway.authority.authorizers = (rules,)
    found = device.receive("jobs", "wait=20")
    rules.allowed = False
    door.gateway.rules_changed()
    assert [shown(answer)[0] for answer in found] == ["4.03"]
    assert shown(device.receive()[0])[0] == "4.03"
    assert door.idle()


# -- what comes back from the network ---------------------------------------------------------


class _Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, address: object) -> None:
        self.sent.append(data)


def _poll(door: Door, mid: int, *query: str, proven: bool = True) -> tuple[Peer, _Wire, bytes]:
    wire = _Wire()
    peer = Peer(wire, ("127.0.0.1", 5), "127.0.0.1:5", door.coap.layer, False)
    peer.proven = proven
    data = encode(CON, POST, mid, b"t", options_of("queues/jobs/receive", query), b"")
    door.coap.layer.receive(peer, data)
    door.gateway.settle()
    return (peer, wire, data)


def test_a_request_that_comes_twice_is_one_delivery(door: Door) -> None:
    door.put(b"one", b"two")
    peer, wire, data = _poll(door, 7)
    door.coap.layer.receive(peer, data)
    door.gateway.settle()
    assert len(wire.sent) == 2
    assert wire.sent[0] == wire.sent[1]
    assert (door.unsettled(), door.queue.length()) == (1, 1)


def test_who_has_not_shown_its_address_takes_nothing(door: Door) -> None:
    door.put(b"one")
    _, wire, _ = _poll(door, 7, proven=False)
    assert [code_name(decode(data).code) for data in wire.sent] == ["4.01"]
    assert (door.unsettled(), door.queue.length()) == (0, 1)


def test_a_refused_answer_gives_the_message_back(door: Door) -> None:
    peer, wire, _ = _poll(door, 7, "wait=30", "lease=1000")
    door.pass_seconds(1)
    door.pass_seconds(1)
    assert wire.sent == [empty(2, 7)], "acknowledged, so that its sender waits"
    door.put(b"one")
    answer = decode(wire.sent[-1])
    assert (answer.kind, answer.payload, door.unsettled()) == (CON, b"one", 1)
    door.coap.layer.receive(peer, empty(RST, answer.mid))
    assert (door.unsettled(), door.queue.length()) == (0, 1)


def test_an_answer_nobody_acknowledges_gives_the_message_back(door: Door) -> None:
    _, wire, _ = _poll(door, 7, "wait=30", "lease=1000")
    door.pass_seconds(1)
    door.pass_seconds(1)
    door.put(b"one")
    for _ in range(100):
        door.pass_seconds(1)
    assert len(wire.sent) == 6, "an acknowledgement, an answer and its repetitions"
    assert (door.unsettled(), door.queue.length()) == (0, 1)


# -- what is asked for ------------------------------------------------------------------------


def test_an_envelope_says_everything(door: Door, device: Device) -> None:
    properties = Properties(content_type="text/plain", reply_to="answers/7", key="k")
    door.gateway.broker.publish(Message("$queue/jobs", b"x", 1, properties=properties))
    [answer] = device.receive("jobs", "meta=1")
    found = json.loads(answer.payload)
    assert (found["body"], found["reply_to"], found["key"]) == ("x", "answers/7", "k")
    assert option(answer, CONTENT_FORMAT) == uint_bytes(JSON)
    device.settle(answer, "outcome=retry", "delay=0")
    options = [(ACCEPT, uint_bytes(CBOR))]
    answer = device.ask(POST, "queues/jobs/receive", ["meta=1"], options=options)
    assert cbor.decode(answer.payload)["reply_to"] == "answers/7"


def test_what_is_not_understood_goes_back(door: Door, device: Device) -> None:
    door.put(b"{}", properties=Properties(content_type="application/json"))
    accept = [(ACCEPT, uint_bytes(CBOR))]
    assert shown(device.ask(POST, "queues/jobs/receive", options=accept))[0] == "4.06"
    door.pass_seconds(0.01)
    assert (door.unsettled(), door.queue.length()) == (0, 1)
    accept = [(ACCEPT, uint_bytes(JSON))]
    assert shown(device.ask(POST, "queues/jobs/receive", options=accept)) == ("2.01", b"{}")


def test_a_stream_is_received_by_its_group(door: Door, device: Device) -> None:
    door.declare("log", "stream")
    high = ["group=high", "selector=priority = 9"]
    assert shown(device.receive("log")[0])[0] == "4.09"
    assert shown(device.receive("log", "group=g")[0])[0] == "2.04", "a group begins at the end"
    assert shown(device.receive("log", *high)[0])[0] == "2.04"
    door.put(b"1", b"2", b"3", queue="log")
    for body in (b"1", b"2"):
        [answer] = device.receive("log", "group=g")
        assert shown(answer) == ("2.01", body)
        assert device.settle(answer) == "2.04"
    door.gateway.broker.publish(Message("$queue/log", b"4", 1, properties=Properties(priority=9)))
    [answer] = device.receive("log", *high, "wait=1")
    assert shown(answer) == ("2.01", b"4")


def test_a_shared_subscription_is_a_queue_too(door: Door, device: Device) -> None:
    segments = ["queues", "$share/g/a/+", "receive"]
    assert shown(device.ask(POST, "", segments=segments)) == ("2.04", b"")
    door.gateway.broker.publish(Message("a/b", b"x", 1))
    answer = device.ask(POST, "", segments=segments)
    assert shown(answer) == ("2.01", b"x")
    assert device.settle(answer, code=DELETE) == "2.02"


@pytest.mark.parametrize(
    ("code", "path", "query", "expected"),
    [
        (POST, "queues", [], "4.04"),
        (POST, "queues/none/receive", [], "4.04"),
        (POST, "queues/none", [], "4.04"),
        (GET, "queues/none", [], "4.04"),
        (POST, "queues/jobs/other", [], "4.04"),
        (POST, "queues/jobs/deliveries", [], "4.04"),
        (POST, "queues/jobs/deliveries/x/y", [], "4.04"),
        (POST, "queues/jobs/deliveries/x", [], "4.04"),
        (POST, "queues/jobs/deliveries/x/extend", [], "4.04"),
        (POST, "queues/jobs/receive/more", [], "4.04"),
        (PUT, "queues/jobs", [], "4.05"),
        (DELETE, "queues/jobs", [], "4.05"),
        (GET, "queues/jobs/receive", [], "4.05"),
        (GET, "queues/jobs/deliveries/x", [], "4.05"),
        (DELETE, "queues/jobs/deliveries/x/extend", [], "4.05"),
        (POST, "queues/jobs", ["wait=1"], "4.00"),
        (GET, "queues/jobs", ["wait=1"], "4.00"),
        (POST, "queues/jobs/receive", ["max=2"], "4.00"),
        (POST, "queues/jobs/receive", ["wait=-1"], "4.00"),
        (POST, "queues/jobs/receive", ["wait=61"], "4.00"),
        (POST, "queues/jobs/receive", ["wait=nan"], "4.00"),
        (POST, "queues/jobs/receive", ["wait"], "4.00"),
        (POST, "queues/jobs/receive", ["lease=0"], "4.00"),
        (POST, "queues/jobs/receive", ["lease=43201"], "4.00"),
        (POST, "queues/jobs/receive", ["ack=yes"], "4.00"),
        (POST, "queues/jobs/receive", ["meta=2"], "4.00"),
        (POST, "queues/jobs/receive", ["group=$x"], "4.00"),
        (POST, "queues/jobs/receive", ["group=x"], "4.09"),
        (POST, "queues/jobs/receive", ["selector=a ="], "4.00"),
        (POST, "queues/jobs/receive", ["selector_language=sql"], "4.00"),
        (POST, "queues/jobs/receive", ["selector=a=1", "selector_language=x"], "4.00"),
        (POST, "queues/jobs/receive", ["outcome=ack"], "4.00"),
        (POST, "queues/jobs/deliveries/x", ["outcome=lost"], "4.00"),
        (POST, "queues/jobs/deliveries/x", ["delay=604801"], "4.00"),
        (POST, "queues/jobs/deliveries/x/extend", ["lease=x"], "4.00"),
        (DELETE, "queues/jobs/deliveries/x", ["outcome=reject"], "4.00"),
    ],
)
def test_mistakes(door: Door, device: Device, code: int, path: str, query: list[str], expected: str) -> None:
    door.put(b"one")
    answer = device.ask(code, path, query)
    assert shown(answer)[0] == expected, answer.payload
    assert answer.payload, "it says why"
    assert (door.unsettled(), door.queue.length()) == (0, 1)
    assert door.idle()


def test_the_gateways_own_queues_are_not_published_to(door: Door, device: Device) -> None:
    door.declare("$dead/jobs")
    assert shown(device.ask(POST, "", payload=b"x", segments=["queues", "$dead/jobs"]))[0] == "4.03"


def test_a_queue_that_goes_with_its_last_consumer_is_no_queue_to_poll(door: Door, device: Device) -> None:
    door.gateway.broker.catalog.declare("brief", auto_delete=True)
    assert shown(device.receive("brief")[0])[0] == "4.09"
    assert "brief" in door.gateway.broker.catalog.queues


def test_an_http_lease_is_settled_here(door: Door, device: Device) -> None:
    door.put(b"one")
    session = door.gateway.open_session(Principal("d1"), Credentials("http", "127.0.0.1:9", "web"))
    held = session.fetch(session.fetcher(), "jobs")
    assert held is not None
    door.gateway.broker.leases.hold("from-http", held, 10_000)
    assert shown(device.ask(DELETE, "queues/jobs/deliveries/from-http"))[0] == "2.02"
    assert door.unsettled() == 0
