"""GET + Observe on a queue: a competing consumer; what settles, what gives back, who is not one any more."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.api import AuthenticationFailed, Principal, Ruling
from gateway.core.access import Action
from gateway.core.message import Origin, Properties
from gateway.protocols.coap.content.formats import JSON
from gateway.protocols.coap.numbers import (
    ACCEPT,
    CONTENT_FORMAT,
    GET,
    MAX_AGE,
    OBSERVE,
    code_name,
    uint_bytes,
)
from gateway.protocols.coap.queues import workers
from tests.protocols.coap.doors import Device, Door, opened, shown
from tests.protocols.coap.worlds import option

REGISTER = [(OBSERVE, b"")]
DEREGISTER = [(OBSERVE, b"\x01")]


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as found:
        yield found


@pytest.fixture
def device(door: Door) -> Device:
    return Device(door, "d1")


def observe(device: Device, queue: str = "jobs", *query: str, token: int = 7) -> None:
    """Begin to consume."""
    device._token = token - 1
    answer = device.ask(GET, f"queues/{queue}", query, options=REGISTER)
    assert shown(answer) == ("2.05", b"")
    assert option(answer, OBSERVE) is not None
    assert option(answer, MAX_AGE) == uint_bytes(workers.REGISTER_SECONDS)


def told(device: Device) -> list[bytes]:
    """Return the payloads of all notifications."""
    return [response.payload for _, response, _, _ in device.link.told]


def answer(device: Device, arrived: bool = True) -> None:
    """Acknowledge the last notification, or not."""
    device.link.told[-1][3](arrived)
    device.door.gateway.settle()


def test_each_message_comes_when_the_last_is_acknowledged(door: Door, device: Device) -> None:
    door.put(b"1", b"2", properties=Properties(content_type="application/json"))
    observe(device)
    assert told(device) == [b"1"]
    token, first, confirmable, _ = device.link.told[0]
    assert (token, confirmable, code_name(first.code)) == ((7).to_bytes(4, "big"), True, "2.05")
    assert option(first, CONTENT_FORMAT) == uint_bytes(JSON)
    assert (door.unsettled(), door.queue.length()) == (1, 1)
    answer(device)
    assert told(device) == [b"1", b"2"]
    numbers = [option(response, OBSERVE) for _, response, _, _ in device.link.told]
    assert int.from_bytes(numbers[0] or b"", "big") < int.from_bytes(numbers[1] or b"", "big")
    answer(device)
    assert (door.unsettled(), door.queue.length()) == (0, 0)
    door.put(b"3")
    assert told(device) == [b"1", b"2", b"3"]


def test_what_is_not_acknowledged_goes_to_another(door: Door, device: Device) -> None:
    observe(device)
    door.put(b"1")
    other = Device(door, "d2", "127.0.0.1:2")
    observe(other)
    answer(device, False)
    assert told(other) == [b"1"]
    [held] = [delivery for group in door.queue.groups() for delivery in group.unsettled.values()]
    assert held.attempt == 2
    assert len(door.coap.workers) == 1
    assert (device.link.held, other.link.held) == (0, 1)
    door.put(b"2")
    assert told(device) == [b"1"], "its observation has ended"


def test_two_compete(door: Door, device: Device) -> None:
    other = Device(door, "d2", "127.0.0.1:2")
    observe(device)
    observe(other)
    door.put(b"1", b"2", b"3")
    assert sorted(told(device) + told(other)) == [b"1", b"2"]
    answer(other)
    assert sorted(told(device) + told(other)) == [b"1", b"2", b"3"]


def test_to_register_again_changes_nothing(door: Door, device: Device) -> None:
    observe(device)
    door.put(b"1", b"2")
    observe(device)
    assert told(device) == [b"1"]
    assert (len(door.coap.workers), device.link.held) == (1, 1)
    answer(device)
    assert told(device) == [b"1", b"2"]


def test_from_another_port_it_goes_on_there(door: Door, device: Device) -> None:
    observe(device)
    door.put(b"1")
    moved = Device(door, "d1", "127.0.0.1:9")
    observe(moved)
    assert told(moved) == [b"1"]
    answer(device)
    assert door.unsettled() == 1, "too late, and from where it is not any more"
    answer(moved)
    assert door.unsettled() == 0
    assert (len(door.coap.workers), device.link.held, moved.link.held) == (1, 0, 1)


def test_the_same_token_for_another_queue_leaves_the_first(door: Door, device: Device) -> None:
    other = door.declare("other")
    observe(device)
    observe(device, "other")
    door.put(b"1")
    door.put(b"2", queue="other")
    assert told(device) == [b"2"]
    assert (door.queue.length(), other.length()) == (1, 0)
    assert device.link.held == 1


def test_deregistered_it_gets_no_more(door: Door, device: Device) -> None:
    observe(device)
    door.put(b"1")
    device._token = 6
    answered = device.ask(GET, "queues/jobs", options=DEREGISTER)
    assert json.loads(answered.payload)["name"] == "jobs"
    assert option(answered, OBSERVE) is None
    assert (door.unsettled(), door.queue.length(), len(door.coap.workers)) == (0, 1, 0)
    assert device.link.held == 0
    answer(device)
    assert door.queue.length() == 1
    assert shown(device.ask(GET, "queues/jobs", options=DEREGISTER))[0] == "2.05", "it has ended, too"


@pytest.mark.parametrize("how", ["reset", "leave", "gone"])
def test_who_is_gone_gives_back_what_it_had(door: Door, device: Device, how: str) -> None:
    observe(device)
    door.put(b"1")
    if how == "reset":
        door.coap.resources.reset(device.link, (7).to_bytes(4, "big"))
    elif how == "leave":
        device.leave()
    else:
        assert device.link.client is None
        [client] = (device.link.clients or {}).values()
        client.end(AuthenticationFailed("the login has expired"))
        assert shown(device.link.told[-1][1])[0] == "4.01"
    assert (door.unsettled(), door.queue.length(), len(door.coap.workers)) == (0, 1, 0)
    assert device.link.held == 0


def test_a_queue_that_is_deleted_ends_it(door: Door, device: Device) -> None:
    observe(device)
    door.gateway.broker.queues.delete(door.queue)
    _, last, confirmable, _ = device.link.told[-1]
    assert (shown(last)[0], option(last, OBSERVE), confirmable) == ("4.04", None, False)
    assert len(door.coap.workers) == 0


class _Revocable:
    allowed = True

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(self.allowed or action is not Action.CONSUME, "test")


def test_rules_that_change_end_it(door: Door, device: Device) -> None:
    rules = _Revocable()
    door.gateway.authority.authorizers = (rules,)
    observe(device)
    door.put(b"1")
    rules.allowed = False
    door.gateway.rules_changed()
    assert shown(device.link.told[-1][1])[0] == "4.03"
    assert (door.unsettled(), door.queue.length(), len(door.coap.workers)) == (0, 1, 0)


def test_who_is_silent_for_long_is_no_consumer_any_more(door: Door, device: Device) -> None:
    observe(device)
    other = Device(door, "d2", "127.0.0.1:2")
    observe(other)
    door.pass_seconds(workers.REGISTER_SECONDS)
    observe(other)
    door.pass_seconds(workers.REGISTER_SECONDS + 61)
    assert [shown(response)[0] for _, response, _, _ in device.link.told] == ["5.03"]
    assert (len(door.coap.workers), device.link.held, told(other)) == (1, 0, [])


def test_what_the_client_does_not_accept_goes_back(door: Door, device: Device) -> None:
    door.put(b"text", properties=Properties(content_type="text/plain"))
    device.ask(GET, "queues/jobs", options=[*REGISTER, (ACCEPT, uint_bytes(JSON))])
    door.pass_seconds(0.01)
    assert [shown(response)[0] for _, response, _, _ in device.link.told] == ["4.06"]
    assert (door.unsettled(), door.queue.length(), len(door.coap.workers)) == (0, 1, 0)


def test_an_envelope_says_everything(door: Door, device: Device) -> None:
    door.put(b"x", properties=Properties(reply_to="answers/7"))
    observe(device, "jobs", "meta=1")
    assert json.loads(told(device)[0])["reply_to"] == "answers/7"


def test_a_stream_is_consumed_by_a_group(door: Door, device: Device) -> None:
    door.declare("log", "stream")
    assert shown(device.ask(GET, "queues/log", options=REGISTER))[0] == "4.09"
    observe(device, "log", "group=g", "selector=priority = 9")
    door.put(b"1", queue="log")
    door.put(b"2", queue="log", properties=Properties(priority=9))
    assert told(device) == [b"2"]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("queues/none", [], "4.04"),
        ("queues/jobs", ["wait=1"], "4.00"),
        ("queues/jobs", ["group=g"], "4.09"),
        ("queues/jobs", ["selector=a ="], "4.00"),
    ],
)
def test_mistakes(door: Door, device: Device, path: str, query: list[str], expected: str) -> None:
    refused = device.ask(GET, path, query, options=REGISTER)
    assert (shown(refused)[0], option(refused, OBSERVE)) == (expected, None)
    assert (len(door.coap.workers), device.link.held) == (0, 0)


def test_one_client_consumes_so_much(door: Door, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORKERS_OF_CLIENT_MAX", 2)
    observe(device, token=1)
    observe(device, token=2)
    assert shown(device.ask(GET, "queues/jobs", options=REGISTER))[0] == "4.29"
    assert len(door.coap.workers) == 2
