"""Observers (RFC 7641) with a clock that the test sets: who is silent, who stays, and what that frees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.errors import AuthenticationFailed
from gateway.protocols.coap.codec import Option
from gateway.protocols.coap.exchange import Response
from gateway.protocols.coap.numbers import DELETE, GET, OBSERVE, PUT, code_name, uint
from gateway.protocols.coap.topics import observation, observe
from tests.protocols.coap.doors import Device, Door, opened

REGISTER: list[Option] = [(OBSERVE, b"")]


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as made:
        yield made


def register(device: Device, path: str = "ps/a", *query: str) -> Response:
    answer = device.ask(GET, path, query, options=REGISTER)
    assert code_name(answer.code) == "2.05"
    return answer


def publish(door: Door, body: bytes, path: str = "ps/a", *query: str) -> None:
    other = Device(door, peer="127.0.0.2:2")
    assert code_name(other.ask(PUT, path, query, body).code) in ("2.01", "2.04")


def bodies(device: Device) -> list[bytes]:
    return [response.payload for _, response, _, _ in device.link.told]


def answer_last(door: Door, device: Device, arrived: bool) -> None:
    """What the message layer does when an acknowledgement has come, or has not."""
    device.link.told[-1][3](arrived)
    door.gateway.settle()


def observers(door: Door) -> int:
    return len(door.coap.observers)


def test_who_does_not_acknowledge_is_forgotten(door: Door) -> None:
    device = Device(door)
    register(device, "ps/a", "qos=1")
    publish(door, b"1")
    publish(door, b"2")
    assert bodies(device) == [b"1"], "one at a time"
    answer_last(door, device, False)
    assert observers(door) == 0
    assert device.link.held == 0
    publish(door, b"3")
    assert bodies(device) == [b"1"]


def test_each_ninth_and_one_after_a_minute_is_confirmable(door: Door) -> None:
    device = Device(door)
    register(device)
    for n in range(observation.UNCONFIRMED_MAX):
        publish(door, b"%d" % n)
    assert [confirmable for _, _, confirmable, _ in device.link.told] == [False] * 8
    publish(door, b"8")
    assert device.link.told[-1][2]
    answer_last(door, device, True)
    publish(door, b"9")
    assert not device.link.told[-1][2]
    door.pass_seconds(observation.CONFIRM_MS / 1000)
    publish(door, b"10")
    assert device.link.told[-1][2]


def test_who_has_been_silent_for_long_is_asked(door: Door) -> None:
    device = Device(door)
    publish(door, b"state")
    register(device)
    door.pass_seconds(observe.SILENT_MS / 1000 - 100)
    assert device.link.told == []
    door.pass_seconds(200)
    assert bodies(device) == [b"state"]
    assert device.link.told[-1][2]
    answer_last(door, device, True)
    door.pass_seconds(200)
    assert len(device.link.told) == 1


def test_what_waits_is_bounded_and_the_oldest_go(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "WAITING_MAX", 3)
    device = Device(door)
    register(device, "ps/a", "qos=1")
    for n in range(6):
        publish(door, b"%d" % n)
    for _ in range(3):
        answer_last(door, device, True)
    assert bodies(device) == [b"0", b"3", b"4", b"5"]


def test_a_client_has_so_many_observations(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "OBSERVATIONS_MAX", 2)
    device = Device(door)
    register(device, "ps/a")
    register(device, "ps/b")
    assert code_name(device.ask(GET, "ps/c", options=REGISTER).code) == "4.00"
    assert observers(door) == 2


def test_a_link_that_is_gone_takes_its_observations(door: Door) -> None:
    device, other = Device(door), Device(door, peer="127.0.0.3:3")
    register(device)
    register(other)
    device.leave()
    assert observers(door) == 1
    publish(door, b"1")
    assert bodies(device) == []
    assert bodies(other) == [b"1"]


def test_a_session_that_ends_says_so_to_its_observers(door: Door) -> None:
    device = Device(door)
    register(device)
    client = device.link.client
    assert client is not None
    client.session.end(AuthenticationFailed("log in again"))
    [(_, response, _, _)] = device.link.told
    assert code_name(response.code) == "4.01"
    assert not any(number == OBSERVE for number, _ in response.options)
    assert observers(door) == 0
    register(device)  # as somebody who has logged in again


def test_the_sequence_grows_over_a_restart(door: Door) -> None:
    first = dict(register(Device(door)).options)[OBSERVE]
    door.pass_seconds(1)
    later = dict(register(Device(door, peer="127.0.0.9:9")).options)[OBSERVE]
    assert (uint(later) - uint(first)) % (1 << 24) < 1 << 23
    assert later != first


def test_a_value_that_is_cleared_is_told(door: Door) -> None:
    device = Device(door)
    publish(door, b"1", "ps/a", "retain=true")
    register(device)
    Device(door, peer="127.0.0.2:2").ask(DELETE, "ps/a")
    assert bodies(device) == [b""]


def test_a_format_that_is_not_accepted_ends_it(door: Door) -> None:
    """RFC 7641, 4.2: notifications are of the format of the first answer, or the last one is an error."""
    device = Device(door)
    answer = device.ask(GET, "ps/a", options=[*REGISTER, (17, b"\x32")])
    assert code_name(answer.code) == "2.05"
    other = Device(door, peer="127.0.0.2:2")
    other.ask(PUT, "ps/a", payload=b"{}", options=[(12, b"\x32")])
    assert bodies(device) == [b"{}"]
    other.ask(PUT, "ps/a", payload=b"x", options=[(12, b"")])
    assert code_name(device.link.told[-1][1].code) == "4.06"
    door.pass_seconds(1)
    assert observers(door) == 0


# -- durable ----------------------------------------------------------------------------------


def test_a_durable_observer_that_does_not_answer_keeps_its_messages(door: Door) -> None:
    device = Device(door)
    register(device, "ps/a", "session=s", "expiry=100")
    for n in range(3):
        publish(door, b"%d" % n)
    assert bodies(device) == [b"0"]
    answer_last(door, device, True)
    answer_last(door, device, False)
    assert bodies(device) == [b"0", b"1"]
    assert observers(door) == 0
    door.pass_seconds(50)
    again = Device(door, peer="127.0.0.4:4")
    register(again, "ps/a", "session=s")
    assert bodies(again) == [b"1"]
    answer_last(door, again, True)
    assert bodies(again) == [b"1", b"2"]


def test_a_durable_observer_ends_with_its_time(door: Door) -> None:
    device = Device(door)
    register(device, "ps/a", "session=s", "expiry=100")
    device.leave()
    queues = door.gateway.broker.catalog.queues
    door.pass_seconds(99)
    assert "$session/coap/s" in queues
    door.pass_seconds(2)
    assert "$session/coap/s" not in queues
    assert door.gateway.broker.engine.get("coap/session/s") is None


def test_another_filter_replaces_that_of_a_session(door: Door) -> None:
    device = Device(door)
    register(device, "ps/a", "session=s")
    register(device, "ps/b", "session=s")
    publish(door, b"a", "ps/a")
    publish(door, b"b", "ps/b")
    assert bodies(device) == [b"b"]
    assert observers(door) == 1


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names_of_sessions(door: Door, name: str) -> None:
    answer = Device(door).ask(GET, "ps/a", [f"session={name}"], options=REGISTER)
    assert code_name(answer.code) == "4.00"


def test_a_session_under_another_filter_begins_anew(door: Door) -> None:
    """What waits may be something that whoever comes now must not see."""
    device = Device(door)
    register(device, "ps/a", "session=s")
    device.leave()
    publish(door, b"of a")
    again = Device(door, peer="127.0.0.5:5")
    register(again, "ps/b", "session=s")
    publish(door, b"of b", "ps/b")
    assert bodies(again) == [b"of b"]


# -- the same client from elsewhere -----------------------------------------------------------


def test_the_same_login_at_the_same_address_shares_a_session(door: Door) -> None:
    one, two = Device(door, "ann", "127.0.1.1:1"), Device(door, "ann", "127.0.1.1:2")
    register(one)
    register(two)
    [client] = one.link.clients.values()  # type: ignore[union-attr]
    assert two.link.clients is not None
    assert list(two.link.clients.values()) == [client]
    assert observers(door) == 1, "the same token"
    publish(door, b"x")
    assert (bodies(one), bodies(two)) == ([], [b"x"])


def test_from_another_address_it_is_asked_again_what_it_may(door: Door) -> None:
    one, two = Device(door, "ann", "127.0.1.1:1"), Device(door, "ann", "127.0.2.1:1")
    register(one, "ps/a", "qos=1")
    publish(door, b"1")
    publish(door, b"2")
    assert bodies(one) == [b"1"], "and it is gone"
    register(two, "ps/a", "qos=1")
    [first], [second] = one.link.clients.values(), two.link.clients.values()  # type: ignore[union-attr]
    assert first.session is not second.session
    assert second.session.origin.peer == "127.0.2.1:1"
    assert observers(door) == 1
    answer_last(door, two, True)
    assert bodies(two) == [b"1", b"2"], "what was on its way goes along"
    third = Device(door, "ann", "127.0.3.1:1")
    register(third, "ps/other")
    assert not second.session.ended, "it may come back"
    fourth = Device(door, "ann", "127.0.3.2:1")
    register(fourth, "ps/other")
    assert second.session.ended, "but not for ever"


def test_another_login_of_the_same_name_shares_nothing(door: Door) -> None:
    """A token may allow less than the password of the same user."""
    one, two = Device(door, "ann", "127.0.1.1:1"), Device(door, "ann", "127.0.1.1:2")
    register(one)
    [first] = one.link.clients.values()  # type: ignore[union-attr]
    first.session.principal.claims = ("wide",)
    register(two)
    [second] = two.link.clients.values()  # type: ignore[union-attr]
    assert second is not first
    assert second.session is not first.session
    assert second.session.principal.claims is None
