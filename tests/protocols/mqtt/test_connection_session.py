"""Sessions that outlive connections, and wills (MQTT 5 sections 3.1.2.4, 3.1.2.5, 3.1.2.11.2, 4.1)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.mqtt.clients import RECEIVED_KEY, RELEASED_KEY
from gateway.protocols.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Disconnect,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
)
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import VERSIONS, Client, House, house

KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 1000}}


def _kept(h: House, version: int = V5, clean: bool = False) -> Client:
    """Connect a client whose session outlives the connection."""
    return h.connect("kept", version, clean, **(KEPT if version == V5 else {}))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_while_a_client_is_away_waits(version: int) -> None:
    with house() as h:
        client, writer = _kept(h, version), h.connect("writer", version)
        assert not client.connack.session_present
        client.subscribe("t", qos=2)
        client.hang_up()
        for qos in (0, 1, 2):
            writer.publish("t", b"%d" % qos, qos)
        client = _kept(h, version)
        assert client.connack.session_present  # [MQTT-3.2.2-3]
        assert client.bodies() == [b"1", b"2"], "QoS 0 is for who is there"
        assert h.gateway.broker.metrics.dropped_by_cause()["subscriber_offline"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_start_forgets(version: int) -> None:
    with house() as h:
        client, writer = _kept(h, version), h.connect("writer", version)
        client.subscribe("t")
        client.hang_up()
        writer.publish("t", b"lost")
        assert not _kept(h, version, clean=True).connack.session_present  # [MQTT-3.1.2-4]
        again = _kept(h, version)
        assert again.bodies() == []
        writer.publish("t", b"unheard")
        assert again.bodies() == []


def test_a_session_ends_with_its_expiry() -> None:
    with house() as h:
        client = h.connect("c", properties={"session_expiry_interval": 5})
        client.subscribe("t")
        client.hang_up()
        h.wait(4)
        assert "$session/c" in h.gateway.broker.catalog.queues
        h.wait(2)
        assert "$session/c" not in h.gateway.broker.catalog.queues
        assert list(h.gateway.broker.engine.scan("mqtt/")) == []


def test_without_expiry_a_session_ends_with_its_connection() -> None:
    with house() as h:
        client = h.connect("c")
        client.subscribe("t")
        client.hang_up()
        assert not h.connect("c", clean=False).connack.session_present
        assert list(h.gateway.broker.engine.scan("mqtt/")) == []


def test_disconnect_may_change_the_expiry() -> None:
    with house() as h:
        client = _kept(h)
        client.subscribe("t")
        client.leave(session_expiry_interval=0)
        assert not _kept(h).connack.session_present
        client = h.connect("never")
        packets = client.send(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x05")
        assert client.only(Disconnect, packets).reason == Reason.PROTOCOL_ERROR  # [MQTT-3.14.2-2]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_not_acknowledged_comes_again_with_its_identifier(version: int) -> None:
    with house() as h:
        client, writer = _kept(h, version), h.connect("writer", version)
        client.subscribe("t", qos=2)
        for qos in (1, 2):
            writer.publish("t", b"%d" % qos, qos)
        first = client.messages()
        client.hang_up()
        client = _kept(h, version)
        again = client.messages()
        assert [(m.payload, m.packet_id) for m in again] == [(m.payload, m.packet_id) for m in first]
        assert all(m.dup for m in again)  # [MQTT-4.4.0-1] [MQTT-3.3.1-1]
        client.ack(PUBACK, again[0].packet_id)
        client.only(Pubrel, client.ack(PUBREC, again[1].packet_id))
        client.hang_up()
        client = _kept(h, version)
        assert client.only(Pubrel, client.take()).packet_id == again[1].packet_id, "PUBREL is repeated"
        client.ack(PUBCOMP, again[1].packet_id)
        client.hang_up()
        assert _kept(h, version).take() == []


def test_identifiers_of_qos_2_are_remembered_over_connections() -> None:
    with house() as h:
        reader = h.connect("reader")
        reader.subscribe("t", qos=1)
        client = _kept(h)
        client.only(Pubrec, client.publish("t", b"x", 2, 7))
        client.hang_up()
        client = _kept(h)
        client.only(Pubrec, client.publish("t", b"x", 2, 7, dup=True))
        assert reader.bodies() == [b"x"]
        client.only(Pubcomp, client.ack(PUBREL, 7))
        keys = [
            key for prefix in (RECEIVED_KEY, RELEASED_KEY) for key in h.gateway.broker.engine.scan(prefix)
        ]
        assert keys == []


def test_a_takeover_keeps_the_session() -> None:
    with house() as h:
        first, writer = _kept(h), h.connect("writer")
        first.subscribe("t")
        writer.publish("t", b"held")
        assert first.bodies() == [b"held"]
        second = _kept(h)
        assert first.only(Disconnect, first.take()).reason == Reason.SESSION_TAKEN_OVER
        assert second.connack.session_present
        (message,) = second.messages()
        assert (message.payload, message.dup) == (b"held", True)


def test_a_3_1_1_session_is_taken_up_by_an_mqtt_5_client() -> None:
    with house() as h:
        old = _kept(h, V311)
        old.subscribe("t")
        old.hang_up()
        h.connect("writer").publish("t", b"x")
        assert _kept(h, V5).bodies() == [b"x"]


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_survive_the_gateway(version: int) -> None:
    with house() as h:
        client = _kept(h, version)
        client.subscribe("t")
        client.hang_up()
        h.restart()
        client = _kept(h, version)
        assert client.connack.session_present
        h.connect("writer").publish("t", b"x")
        assert client.bodies() == [b"x"]


# -- wills ------------------------------------------------------------------------------------


def _watcher(h: House) -> Client:
    client = h.connect("watcher")
    client.subscribe("wills/#", qos=1)
    return client


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_sent_when_the_connection_breaks(version: int) -> None:
    with house() as h:
        watcher = _watcher(h)
        h.connect("c", version, will=Will("wills/c", b"gone", 1)).hang_up()
        (message,) = watcher.messages()
        assert (message.topic, message.payload, message.qos) == ("wills/c", b"gone", 1)  # [MQTT-3.1.2-8]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_forgotten_on_disconnect(version: int) -> None:
    with house() as h:
        watcher = _watcher(h)
        h.connect("c", version, will=Will("wills/c", b"gone", 1)).leave()
        assert watcher.bodies() == []  # [MQTT-3.1.2-10]


def test_disconnect_with_will() -> None:
    with house() as h:
        watcher = _watcher(h)
        h.connect("c", will=Will("wills/c", b"gone", 1)).leave(Reason.DISCONNECT_WITH_WILL_MESSAGE)
        assert watcher.bodies() == [b"gone"]


def test_a_will_is_sent_when_the_client_is_silent_or_makes_a_mistake() -> None:
    with house() as h:
        watcher = _watcher(h)
        silent = h.connect("silent", keep_alive=2, will=Will("wills/silent", b"1"))
        h.wait(5)
        silent.hang_up()
        wrong = h.connect("wrong", will=Will("wills/wrong", b"2"))
        wrong.send(b"\xff\xff\xff\xff")
        wrong.hang_up()
        assert watcher.bodies() == [b"1", b"2"]


def test_a_will_waits_for_its_delay() -> None:
    with house() as h:
        watcher = _watcher(h)
        will = Will("wills/c", b"gone", 1, False, {"will_delay_interval": 5})
        h.connect("c", will=will, **KEPT).hang_up()
        h.wait(4)
        assert watcher.bodies() == []
        h.wait(2)
        assert watcher.bodies() == [b"gone"]
        h.wait(10)
        assert watcher.bodies() == []


def test_coming_back_in_time_withdraws_the_will() -> None:
    with house() as h:
        watcher = _watcher(h)
        will = Will("wills/c", b"gone", 1, False, {"will_delay_interval": 5})
        h.connect("c", will=will, **KEPT).hang_up()
        h.wait(2)
        h.connect("c", clean=False, **KEPT)
        h.wait(10)
        assert watcher.bodies() == []  # [MQTT-3.1.3-9]


@pytest.mark.parametrize("ending", ["session", "clean start"])
def test_the_end_of_the_session_sends_the_will_before_its_delay(ending: str) -> None:
    with house() as h:
        watcher = _watcher(h)
        will = Will("wills/c", b"gone", 1, False, {"will_delay_interval": 100})
        properties = {"session_expiry_interval": 3 if ending == "session" else 1000}
        h.connect("c", will=will, properties=properties).hang_up()
        h.wait(2)
        assert watcher.bodies() == []
        if ending == "session":
            h.wait(2)
        else:
            h.connect("c", clean=True)
        assert watcher.bodies() == [b"gone"]  # [MQTT-3.1.3-9]


def test_a_will_is_a_message_like_any_other() -> None:
    with house() as h:
        watcher = _watcher(h)
        properties = {
            "content_type": "text/plain",
            "message_expiry_interval": 50,
            "user_property": [("a", "b")],
        }
        h.connect("c", will=Will("wills/c", b"gone", 1, True, properties)).hang_up()
        (message,) = watcher.messages()
        assert message.properties == properties
        late = h.connect("late")
        late.subscribe("wills/c")
        (kept,) = late.messages()
        assert isinstance(kept, Publish)
        assert kept.retain


def test_a_waiting_will_survives_the_gateway() -> None:
    with house() as h:
        will = Will("wills/c", b"gone", 1, False, {"will_delay_interval": 5, "content_type": "x/y"})
        h.connect("c", will=will, **KEPT).hang_up()
        h.protocol.clients._away.clear()  # what was to happen is forgotten with the process
        h.restart()
        watcher = _watcher(h)
        h.wait(7)
        (message,) = watcher.messages()
        assert (message.payload, message.properties) == (b"gone", {"content_type": "x/y"})


def test_a_will_that_was_sent_is_not_sent_again_after_a_restart() -> None:
    with house() as h:
        watcher = _watcher(h)
        h.connect("c", will=Will("wills/c", b"gone", 1), **KEPT).hang_up()
        assert watcher.bodies() == [b"gone"]
        watcher.hang_up()
        h.restart()
        watcher = _watcher(h)
        h.wait(5)
        assert watcher.bodies() == []
