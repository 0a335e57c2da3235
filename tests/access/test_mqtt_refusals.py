"""MQTT: whose client identifier it is, what a refusal says, and that it does not cut the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pamqp import commands

from gateway.protocols.mqtt.encoder import PINGREQ
from gateway.protocols.mqtt.packets import V5, V311, Disconnect, Pingresp, Puback, Pubcomp, Pubrec, Will
from gateway.protocols.mqtt.reasons import Reason
from tests.access.guarded import Guarded, wait_for
from tests.mqtt_client import MqttClient

DENIED = Reason.NOT_AUTHORIZED
KEPT = {"session_expiry_interval": 600}
WHY = "ann may not publish 'no/t': rule 'never' denies it"


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    made = shared("ann", "bob", settings='[anonymous]\nsubscribe = ["a/#"]\n')
    rules(made)
    return made


def rules(gateway: Guarded) -> None:
    gateway.rule("base", "authenticated", ["publish", "subscribe", "consume"], "topic:#", "queue:*")
    gateway.rule("never", "everyone", "all", "topic:no/#", "queue:no", decision="deny")


# -- client identifiers ----------------------------------------------------------------------------


@pytest.mark.parametrize("thief", ["bob", None])
def test_a_connected_client_is_not_taken_over_by_another_user(gateway: Guarded, thief: str | None) -> None:
    owner = gateway.mqtt("mine", "ann")
    refused = gateway.mqtt("mine", thief).connack
    assert refused.reason == DENIED
    assert refused.properties["reason_string"] == (
        "client identifier 'mine' is used by another user; choose another"
    )
    assert gateway.mqtt("mine", thief, V311).connack.reason == Reason.NOT_AUTHORIZED, "3.1.1's code 5"
    assert owner.publish_stored("t", b"still here") < 0x80
    again = gateway.mqtt("mine", "ann")
    assert not again.connack.reason
    assert owner.expect(Disconnect).reason == Reason.SESSION_TAKEN_OVER
    admin = gateway.mqtt("mine", "root")
    assert not admin.connack.reason
    assert again.expect(Disconnect).reason == Reason.SESSION_TAKEN_OVER
    admin.close()


@pytest.mark.parametrize("clean", [True, False])
def test_a_kept_session_is_its_users(gateway: Guarded, clean: bool) -> None:
    name = f"kept-{clean}"
    owner = gateway.mqtt(name, "ann", properties=KEPT)
    owner.subscribe("mail/ann")
    owner.close()
    gateway.publish("mail/ann", "secret", params={"qos": 1})
    assert gateway.mqtt(name, "bob", clean=clean, properties=KEPT).connack.reason == DENIED
    assert gateway.mqtt(name, None, clean=clean).connack.reason == DENIED
    back = gateway.mqtt(name, "ann", clean=False, properties=KEPT)
    assert back.connack.session_present
    assert back.receive().payload == b"secret"
    back.close()


def test_a_kept_session_is_its_users_after_a_restart(guard: Callable[..., Guarded]) -> None:
    gateway = guard("ann", "bob")
    rules(gateway)
    owner = gateway.mqtt("kept", "ann", properties=KEPT)
    owner.subscribe("mail/ann")
    gateway.kill()
    gateway.start()
    assert gateway.mqtt("kept", "bob", clean=False).connack.reason == DENIED
    back = gateway.mqtt("kept", "ann", clean=False, properties=KEPT)
    assert back.connack.session_present
    back.close()


def test_an_identifier_is_free_once_its_session_is_over(gateway: Guarded) -> None:
    gateway.mqtt("free", "ann").close()

    def taken() -> bool:
        client = gateway.mqtt("free", "bob")
        client.close()
        return not client.connack.reason

    wait_for(taken, what="the identifier to be free")


# -- refusals do not cut ---------------------------------------------------------------------------


def still_there(client: MqttClient) -> None:
    client.send(PINGREQ)
    client.expect(Pingresp)
    assert client.publish_stored("t", b"x", 99) < 0x80


def test_a_refused_publish_says_why_and_the_connection_stays(gateway: Guarded) -> None:
    client = gateway.mqtt("five", "ann")
    client.publish("no/t", b"x", 0)
    client.publish("no/t", b"x", 1, 1)
    ack = client.expect(Puback)
    assert (ack.packet_id, ack.reason, ack.properties["reason_string"]) == (1, DENIED, WHY)
    client.publish("no/t", b"x", 2, 2)
    received = client.expect(Pubrec)
    assert (received.packet_id, received.reason, received.properties["reason_string"]) == (2, DENIED, WHY)
    client.publish("t", b"x", 2, 2)
    assert client.expect(Pubrec).reason < 0x80, "the identifier is free at once [MQTT-4.3.3-9]"
    still_there(client)
    client.close()


def test_3_1_1_has_no_no_so_it_is_acknowledged_and_dropped(gateway: Guarded) -> None:
    watcher = gateway.mqtt("watcher")
    watcher.subscribe("no/#", "yes")
    client = gateway.mqtt("three", "ann", V311)
    client.publish("no/t", b"x", 0)
    assert client.publish_stored("no/t", b"x", 1) == 0
    client.publish("no/t", b"x", 2, 2)
    assert client.expect(Pubrec).packet_id == 2
    client.send(bytes.fromhex("62020002"))  # PUBREL
    assert client.expect(Pubcomp).packet_id == 2
    still_there(client)
    gateway.publish("yes", "end")
    assert watcher.receive().payload == b"end", "nothing came before"
    for each in (client, watcher):
        each.close()


def test_a_refused_subscription_says_why(gateway: Guarded) -> None:
    client = gateway.mqtt("sub", "ann")
    assert client.subscribe("no/t", "yes/#", "#", "$queue/no", "$share/g/no/x") == [
        DENIED,
        1,
        DENIED,
        DENIED,
        DENIED,
    ]
    still_there(client)
    three = gateway.mqtt("sub3", "ann", V311)
    assert three.subscribe("no/t", "yes/#") == [0x80, 1]
    still_there(three)
    for each in (client, three):
        each.close()


def test_whoever_wants_no_reasons_is_given_none(gateway: Guarded) -> None:
    client = gateway.mqtt("quiet", "ann", properties={"request_problem_information": 0})
    client.publish("no/t", b"x", 1, 1)
    ack = client.expect(Puback)
    assert (ack.reason, dict(ack.properties)) == (DENIED, {})
    client.close()


@pytest.mark.parametrize("version", [V5, V311])
def test_a_will_that_may_not_be_published_is_refused_at_once(gateway: Guarded, version: int) -> None:
    connack = gateway.mqtt("w", "ann", version, will=Will("no/t", b"x")).connack
    assert connack.reason == DENIED
    if version == V5:
        assert connack.properties["reason_string"] == WHY


def test_a_will_that_may_not_be_published_any_more_is_not(gateway: Guarded) -> None:
    watcher = gateway.mqtt("watcher2")
    watcher.subscribe("will/#")
    client = gateway.mqtt("w2", "ann", will=Will("will/t", b"gone"))
    gateway.rule("later", "user:ann", "publish", "topic:will/#", decision="deny")
    client.close()
    found = wait_for(lambda: [e for e in gateway.audit("refused") if e["resource"] == "will/t"])
    assert found[0]["rule"] == "later"
    gateway.publish("will/end", "end")
    assert watcher.receive().payload == b"end"
    gateway.delete("/v1/admin/rules/later")
    watcher.close()


# -- unless it is configured so --------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("strict"), ("ann",), '[auth]\non_denied = "disconnect"\n')
    made.start()
    rules(made)
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_denied_publish_cuts_where_that_is_wanted(strict: Guarded, qos: int) -> None:
    client = strict.mqtt("five", "ann")
    client.publish("no/t", b"x", qos, 1)
    goodbye = client.expect(Disconnect)
    assert (goodbye.reason, goodbye.properties["reason_string"]) == (DENIED, WHY)
    assert client.closed_by_peer()
    assert not [p for p in client.inbox if isinstance(p, Puback | Pubrec)], "no acknowledgement as well"
    three = strict.mqtt("three", "ann", V311)
    three.publish("no/t", b"x", qos, 1)
    assert three.closed_by_peer()
    assert three.inbox == []


def test_a_denied_subscription_does_not_cut_even_then(strict: Guarded) -> None:
    client = strict.mqtt("sub", "ann")
    assert client.subscribe("no/t") == [DENIED]
    still_there(client)
    client.close()


# -- the other doors -------------------------------------------------------------------------------


def test_amqp_names_the_rule_as_it_closes_the_channel(gateway: Guarded) -> None:
    gateway.put("/v1/queues/no", {})
    amqp = gateway.amqp("ann")
    for number, method in enumerate(
        (
            commands.Basic.Get(queue="no"),
            commands.Basic.Consume(queue="no"),
            commands.Queue.Purge(queue="no"),
            commands.Queue.Delete(queue="no"),
        ),
        2,
    ):
        amqp.open_channel(number)
        amqp.send(method, channel=number)
        close = amqp.expect(commands.Channel.Close)
        assert close.reply_code == 403
        assert close.reply_text.startswith("ACCESS_REFUSED - ann may not ")
        assert close.reply_text.endswith("queue 'no': rule 'never' denies it")
        amqp.send(commands.Channel.CloseOk(), channel=number)
    amqp.send(commands.Queue.Declare(queue="new"))
    assert "no rule allows it" in amqp.expect(commands.Channel.Close).reply_text
    amqp.close()


def test_http_names_the_rule_in_the_problem(gateway: Guarded) -> None:
    problem = gateway.publish("no/t", "x", "ann").json()
    assert (problem["status"], problem["rule"], problem["detail"]) == (403, "never", WHY)
    silent = gateway.ask("PUT", "/v1/queues/new", "ann", json={}).json()
    assert (silent["status"], "rule" in silent) == (403, False)
    assert silent["detail"] == "ann may not manage queue 'new': no rule allows it"
