"""Commands that come with the answer to a publish: there, later, never, and what must not happen before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.api import Principal, Ruling
from gateway.core.access import Action
from gateway.core.message import Message, Origin, Properties
from gateway.core.queue import Queue
from gateway.protocols.coap.content.formats import CBOR, JSON
from gateway.protocols.coap.numbers import ACCEPT, CONTENT_FORMAT, DELETE, POST, PUT, uint_bytes
from gateway.protocols.coap.queues import pulls
from tests.protocols.coap.doors import Device, Door, location, opened, shown
from tests.protocols.coap.worlds import option


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as found:
        yield found


@pytest.fixture
def commands(door: Door) -> Queue:
    return door.declare("commands/d1")


@pytest.fixture
def device(door: Door, commands: Queue) -> Device:
    device = Device(door, "d1")
    device.ask(PUT, "ps/t", payload=b"0")  # it has a value from now on: publishes are answered with 2.04
    return device


def published(door: Door) -> int:
    """Return how many messages were published."""
    return door.gateway.broker.metrics.published


def test_a_command_that_is_there_comes_at_once(door: Door, device: Device, commands: Queue) -> None:
    door.put(b"{}", queue="commands/d1", properties=Properties(content_type="application/json"))
    answer = device.ask(PUT, "ps/t", ["ttd=10"], b"1")
    assert shown(answer) == ("2.04", b"{}")
    assert option(answer, CONTENT_FORMAT) == uint_bytes(JSON)
    assert location(answer) == [], "done with: nothing to settle"
    door.pass_seconds(0.001)
    assert (commands.length(), len(commands.groups()[0].unsettled)) == (0, 0)
    assert door.gateway.broker.router.last("t").body == b"1"


def test_a_command_that_comes_later_is_waited_for(door: Door, device: Device) -> None:
    found = device.start(POST, "ps/t", ["ttd=10"], b"1")
    assert found == []
    assert door.gateway.broker.router.last("t").body == b"1", "that does not wait"
    door.pass_seconds(9)
    assert found == []
    door.put(b"go", queue="commands/d1")
    assert [shown(answer) for answer in found] == [("2.04", b"go")]


def test_without_a_command_the_publish_is_answered_all_the_same(door: Door, device: Device) -> None:
    found = device.start(PUT, "ps/new", ["ttd=10"], b"1")
    door.pass_seconds(10.1)
    assert [shown(answer) for answer in found] == [("2.01", b"")]
    assert shown(device.ask(PUT, "ps/t", ["ttd=0"], b"1")) == ("2.04", b""), "nothing there, and no wait"
    assert len(door.coap.pulls) == 0


def test_a_command_can_be_settled_by_hand(door: Door, device: Device, commands: Queue) -> None:
    door.put(b"go", queue="commands/d1")
    answer = device.ask(PUT, "ps/t", ["ttd=10", "ack=manual", "lease=5"], b"1")
    assert location(answer)[:3] == ["queues", "commands/d1", "deliveries"]
    door.pass_seconds(5.1)
    again = device.ask(PUT, "ps/t", ["ttd=10", "ack=manual"], b"2")
    assert shown(again) == ("2.04", b"go"), "its lease was over"
    assert device.settle(again, code=DELETE) == "2.02"
    assert commands.length() == 0


def test_another_queue_can_be_named(door: Door, device: Device) -> None:
    door.put(b"go")
    assert shown(device.ask(PUT, "ps/t", ["ttd=1", "commands=jobs"], b"1")) == ("2.04", b"go")
    nameless = Device(door, peer="127.0.0.1:2")
    door.put(b"on")
    assert shown(nameless.ask(PUT, "ps/t", ["ttd=1", "commands=jobs"], b"1")) == ("2.04", b"on")


def test_a_shared_subscription_keeps_commands_without_a_queue(door: Door, device: Device) -> None:
    query = ["ttd=0", "commands=$share/d1/commands/d1/+"]
    assert shown(device.ask(PUT, "ps/t", query, b"1")) == ("2.04", b"")
    door.gateway.broker.publish(Message("commands/d1/led", b"on", 1))
    assert shown(device.ask(PUT, "ps/t", query, b"1")) == ("2.04", b"on")


def test_a_publish_to_a_queue_may_ask_too(door: Door, device: Device) -> None:
    door.put(b"go", queue="commands/d1")
    assert shown(device.ask(POST, "queues/jobs", ["ttd=1"], b"1")) == ("2.04", b"go")
    assert door.queue.length() == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (["ttd=10", "commands=none"], "4.04"),
        (["ttd=10", "commands=log"], "4.09"),
        (["ttd=10", "commands=brief"], "4.09"),
        (["ttd=10", "commands="], "4.00"),
        (["ttd=10", "commands=$session/d1"], "4.03"),
        (["commands=jobs"], "4.00"),
        (["ttd=61"], "4.00"),
        (["ttd=-1"], "4.00"),
        (["ttd=soon"], "4.00"),
        (["ttd=1", "ack=maybe"], "4.00"),
        (["ttd=1", "lease=0"], "4.00"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_published(
    door: Door, device: Device, query: list[str], expected: str
) -> None:
    door.declare("log", "stream")
    door.gateway.broker.catalog.declare("brief", auto_delete=True)
    before = published(door)
    answer = device.ask(PUT, "ps/t", query, b"1")
    assert shown(answer)[0] == expected, answer.payload
    assert published(door) == before


def test_who_has_no_queue_of_its_own_and_names_none_is_told_so(door: Door, device: Device) -> None:
    assert shown(Device(door, "d2", "127.0.0.1:2").ask(PUT, "ps/t", ["ttd=1"], b"1"))[0] == "4.04"
    assert shown(Device(door, peer="127.0.0.1:3").ask(PUT, "ps/t", ["ttd=1"], b"1"))[0] == "4.00"
    assert door.gateway.broker.router.last("t").body == b"0"


class _MayPublish:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(action is Action.PUBLISH, "test")


def test_who_may_not_consume_publishes_nothing(door: Door, device: Device) -> None:
    door.gateway.authority.authorizers = (_MayPublish(),)
    door.gateway.rules_changed()
    before = published(door)
    assert shown(device.ask(PUT, "ps/t", ["ttd=1"], b"1"))[0] == "4.03"
    assert published(door) == before
    assert shown(device.ask(PUT, "ps/t", [], b"1"))[0] == "2.04"


# -- once it is published, it is a success ----------------------------------------------------


def test_a_queue_that_is_deleted_meanwhile_does_no_harm(door: Door, device: Device, commands: Queue) -> None:
    found = device.start(PUT, "ps/t", ["ttd=10"], b"1")
    door.gateway.broker.queues.delete(commands)
    assert [shown(answer) for answer in found] == [("2.04", b"")]


def test_too_many_who_wait_do_no_harm(door: Door, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "WAITING_MAX", 0)
    assert shown(device.ask(PUT, "ps/t", ["ttd=10"], b"1")) == ("2.04", b"")


def test_a_command_that_is_not_understood_stays(door: Door, device: Device, commands: Queue) -> None:
    door.put(b"{}", queue="commands/d1", properties=Properties(content_type="application/json"))
    options = [(ACCEPT, uint_bytes(CBOR))]
    assert shown(device.ask(PUT, "ps/t", ["ttd=10"], b"1", options)) == ("2.04", b"")
    door.pass_seconds(0.001)
    assert commands.length() == 1


def test_who_has_left_takes_no_command_along(door: Door, device: Device, commands: Queue) -> None:
    found = device.start(PUT, "ps/t", ["ttd=10"], b"1")
    device.leave()
    door.put(b"go", queue="commands/d1")
    assert (found, commands.length()) == ([], 1)


def test_the_door_closes_over_a_waiting_publish(door: Door, device: Device) -> None:
    found = device.start(PUT, "ps/t", ["ttd=10"], b"1")
    door.gateway.loop.run_until_complete(door.coap.stop())
    assert [shown(answer) for answer in found] == [("2.04", b"")]


def test_two_publishes_get_a_command_each(door: Door, device: Device) -> None:
    first, second = (device.start(PUT, "ps/t", ["ttd=10"], b"1") for _ in range(2))
    door.put(b"a", queue="commands/d1")
    door.put(b"b", queue="commands/d1")
    assert {first[0].payload, second[0].payload} == {b"a", b"b"}


def test_a_pack_of_records_may_ask_too(door: Door, device: Device) -> None:
    """SenML packs that are split go another way through the door."""
    from gateway.protocols.coap.content.splitting import read_rules

    topics = door.coap.resources.table["ps"]
    topics._packs = read_rules({"packs/+": "{topic}/{name}"}, {})
    door.put(b"go", queue="commands/d1")
    pack = b'[{"n":"t","v":1}]'
    options = [(CONTENT_FORMAT, uint_bytes(110))]
    assert shown(device.ask(PUT, "ps/packs/a", ["ttd=10"], pack, options)) == ("2.04", b"go")
    assert door.gateway.broker.router.last("packs/a/t") is not None
