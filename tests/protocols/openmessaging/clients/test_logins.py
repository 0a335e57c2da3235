"""Who may, and who is whom: signatures, rules, quotas and certificates at a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

import grpc

from gateway.rocketmq.numbers import Code
from tests.access.guarded import Guarded
from tests.certificates import Pki
from tests.process import free_port, wait_for
from tests.rocketmq_raw import RawRocket, subscription

SECRET = "0123456789abcdef-of-a-service"
USERS = ("ann", "bob")


class House(Guarded):
    """ann and bob have secrets, and may use topics of their own name."""

    def __init__(self, directory: Path, settings: str = "", sets: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        super().__init__(directory, (), settings, (f"listeners.openmessaging=127.0.0.1:{self.port}", *sets))

    def people(self) -> None:
        for name in USERS:
            self.user(name, secret=f"{SECRET}-{name}")
            self.rule(f"own-{name}", f"user:{name}", ["publish", "subscribe"], f"topic:{name}/#")

    def raw(self, name: str = "", id: str = "", **metadata: str) -> RawRocket:
        """Return a client that signs as a user, or not at all."""
        found = RawRocket(f"127.0.0.1:{self.port}", id or f"{name or 'nobody'}@1", **metadata)
        return found.log_in(name, f"{SECRET}-{name}") if name else found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("house"))
    found.start()
    found.people()
    yield found
    assert found.bugs() == []
    assert found.stop() == 0


def refusals(house: House) -> list[dict[str, Any]]:
    return [entry for entry in house.audit("login.refused") if entry["door"] == "openmessaging"]


def clients(house: House) -> int:
    return int(house.metric("gateway_openmessaging_clients"))


def route(raw: RawRocket, topic: str) -> int:
    return raw.code("QueryRoute", topic={"name": topic}, endpoints={"addresses": [{"host": "a", "port": 1}]})


def test_a_signature_is_a_login_with_its_users_rights(house: House) -> None:
    with house.raw("ann") as ann, house.raw("bob") as bob:
        for raw, own, other in ((ann, "ann", "bob"), (bob, "bob", "ann")):
            assert route(raw, f"{own}%2Ft") == Code.OK
            assert route(raw, f"{other}%2Ft") == Code.FORBIDDEN
            for name, code in ((own, Code.OK), (other, Code.FORBIDDEN)):
                found = raw.call(
                    "QueryAssignment",
                    topic={"name": f"{name}%2Ft"},
                    group={"name": "g"},
                    endpoints={"addresses": [{"host": "a", "port": 1}]},
                )
                assert found.status.code == code
                assert raw.tell(**subscription("g", f"{name}%2Ft")).status.code == code


def test_dead_letters_are_for_who_may_consume_their_queues(house: House) -> None:
    with house.raw("ann") as ann, house.raw("bob") as bob:

        def assigned(raw: RawRocket) -> int:
            fields = {"topic": {"name": "%DLQ%workers"}, "group": {"name": "readers"}}
            return raw.code("QueryAssignment", endpoints={"addresses": [{"host": "a", "port": 1}]}, **fields)

        assert assigned(ann) == Code.OK  # there are none, which is nobody's secret
        assert bob.tell(**subscription("workers", "bob%2Ft")).status.code == Code.OK
        assert bob.send("bob%2Ft", b"x").status.code == Code.OK
        [message] = bob.receive("workers", "bob%2Ft", wait=5)
        forwarded = bob.code(
            "ForwardMessageToDeadLetterQueue",
            group={"name": "workers"},
            topic={"name": "bob%2Ft"},
            receipt_handle=message.system_properties.receipt_handle,
            message_id=message.system_properties.message_id,
        )
        assert forwarded == Code.OK
        assert assigned(ann) == assigned(bob) == Code.FORBIDDEN
        house.rule("letters", "user:bob", "consume", "queue:$dead/$share/workers/bob/t")
        assert (assigned(ann), assigned(bob)) == (Code.FORBIDDEN, Code.OK)
        assert [letter.body for letter in bob.receive("readers", "%DLQ%workers", wait=5)] == [b"x"]


@pytest.mark.parametrize("hours", [-14, 14])
def test_local_time_is_taken(house: House, hours: int) -> None:
    with house.raw() as raw:
        raw.log_in("ann", f"{SECRET}-ann", datetime.now(UTC) + timedelta(hours=hours))
        assert raw.code("Heartbeat") == Code.OK


def test_a_signature_may_be_repeated_by_another_connection(house: House) -> None:
    """It covers the time alone: that is RocketMQ's, and why it is for TLS."""
    with house.raw("ann") as first, house.raw("ann") as second:
        second.metadata = dict(first.metadata)
        assert first.code("Heartbeat") == second.code("Heartbeat") == Code.OK


def test_what_is_no_login(house: House) -> None:
    now = datetime.now(UTC)
    cases: list[tuple[str, str, datetime]] = [
        ("ann", "wrong", now),
        ("nobody", SECRET, now),
        ("ann", f"{SECRET}-ann", now - timedelta(days=2)),
        ("ann", f"{SECRET}-ann", now + timedelta(days=2)),
    ]
    before = len(refusals(house))
    for name, secret, when in cases:
        with house.raw(id="intruder@7") as raw:
            found = raw.log_in(name, secret, when).call("Heartbeat")
            assert found.status.code == Code.UNAUTHORIZED, found.status
            assert SECRET not in found.status.message
    assert len(refusals(house)) > before
    wait_for(lambda: [line for line in house.errors if "intruder@7" in line], 10, "a line of the log")
    assert not [line for line in house.errors if SECRET in line]


def test_headers_that_are_none(house: House) -> None:
    for authorization, date in (
        ("Bearer x", "20260101T000000Z"),
        ("MQv2-HMAC-SHA1 Credential=ann", "20260101T000000Z"),
        (house.raw("ann").metadata["authorization"], ""),
        (house.raw("ann").metadata["authorization"], "tomorrow"),
    ):
        with house.raw(id="odd@1", authorization=authorization, x_mq_date_time=date) as raw:
            assert raw.code("Heartbeat") == Code.UNAUTHORIZED


def test_nobody_is_nobody(house: House) -> None:
    with house.raw() as raw:
        assert raw.code("Heartbeat") == Code.UNAUTHORIZED
        raw.log_in("", "")  # what clients without credentials send
        assert raw.code("Heartbeat") == Code.UNAUTHORIZED
        settings = raw.tell(**subscription("g", "t"))
        assert (settings.status.code, settings.HasField("settings")) == (Code.UNAUTHORIZED, False)
        assert next(raw.commands(), None) is None  # a stream without a login ends


def test_a_wrong_signature_does_not_harm_whose_it_pretends_to_be(house: House) -> None:
    with house.raw("ann", "shared@1") as ann:
        assert ann.tell(**subscription("g", "ann%2Ft")).status.code == Code.OK
        count = clients(house)
        with house.raw(id="shared@1") as thief:
            thief.log_in("ann", "wrong")
            assert thief.code("NotifyClientTermination") == Code.UNAUTHORIZED
        assert clients(house) == count
        assert ann.tell(**subscription("g", "ann%2Ft")).status.code == Code.OK


def test_two_logins_by_one_client_id_are_two_clients(house: House) -> None:
    with house.raw("ann", "same@1") as ann, house.raw("bob", "same@1") as bob:
        assert ann.code("Heartbeat") == Code.OK
        count = clients(house)
        assert bob.code("Heartbeat") == Code.OK
        assert clients(house) == count + 1
        assert route(ann, "bob%2Ft") == route(bob, "ann%2Ft") == Code.FORBIDDEN
        with house.raw("ann", "same@1", x_mq_namespace="ann") as third:
            assert third.code("Heartbeat") == Code.OK
            assert clients(house) == count + 2
            assert route(third, "t") == Code.OK  # ann/t


def test_a_user_who_is_changed_logs_in_again(house: House) -> None:
    house.user("carl", secret=f"{SECRET}-carl")
    house.rule("carl", "user:carl", ["publish", "subscribe"], "topic:carl/#")
    with house.raw("carl") as carl:
        assert carl.tell(**subscription("g", "carl%2Ft")).status.code == Code.OK
        house.user("carl", secret=f"{SECRET}-another")
        found = next(carl.commands())  # the stream says why, and ends
        assert found.status.code == Code.UNAUTHORIZED
        assert next(carl.commands(), None) is None
        assert carl.code("Heartbeat") == Code.UNAUTHORIZED
        assert carl.log_in("carl", f"{SECRET}-another").code("Heartbeat") == Code.OK
        house.user("carl", secret=f"{SECRET}-another", disabled=True)
        assert carl.code("Heartbeat") == Code.UNAUTHORIZED
        house.user("carl", disabled=False)
        assert carl.code("Heartbeat") == Code.OK
        house.delete("/v1/admin/users/carl")
        assert carl.code("Heartbeat") == Code.UNAUTHORIZED


def test_rules_are_those_of_now(house: House) -> None:
    with house.raw("ann") as ann:
        assert route(ann, "later%2Ft") == Code.FORBIDDEN
        house.rule("later", "user:ann", "subscribe", "topic:later/#")
        assert route(ann, "later%2Ft") == Code.OK
        poll = ann.begin_receive("g", "later%2Ft", wait=10)
        wait_for(lambda: house.ask("GET", "/v1/queues/%24share%2Fg%2Flater%2Ft").status_code == 200)
        house.delete("/v1/admin/rules/later")
        codes = [one.status.code for one in poll if one.WhichOneof("content") == "status"]
        assert codes == [Code.FORBIDDEN]
        assert route(ann, "later%2Ft") == Code.FORBIDDEN


def test_a_quota_on_connections(house: House) -> None:
    house.user("dora", secret=f"{SECRET}-dora")
    house.quota("dora", "user:dora", connections=1)
    with house.raw("dora", "dora@1") as first, house.raw("dora", "dora@2") as second:
        assert first.code("Heartbeat") == Code.OK
        assert second.code("Heartbeat") == Code.TOO_MANY_REQUESTS
        assert first.code("NotifyClientTermination") == Code.OK
        wait_for(lambda: second.code("Heartbeat") == Code.OK, 10, "its turn")


def test_guessing_is_slow(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.start()
    try:
        house.people()
        codes = []
        for number in range(15):
            with house.raw(id=f"guesser@{number}") as raw:
                codes.append(raw.log_in("ann", f"guess-{number}").code("Heartbeat"))
        assert codes[0] == Code.UNAUTHORIZED
        assert codes[-1] == Code.TOO_MANY_REQUESTS
        with house.raw("bob") as bob:  # from there as well, until he has been seen there
            assert bob.code("Heartbeat") == Code.TOO_MANY_REQUESTS
    finally:
        house.stop()


def test_a_client_certificate_is_a_login(tmp_path: Path) -> None:
    pki, port = Pki(tmp_path / "pki"), free_port()
    sets = (f"listeners.openmessagings=127.0.0.1:{port}", *pki.sets("required"))
    house = House(tmp_path / "house", '[certificates]\nname = "cn"\n', sets)
    house.start()
    try:
        house.rule("devices", "user:device7", ["publish", "subscribe"], "topic:device7/#")
        authority = pki.path("ca.pem").read_bytes()
        for name, code in (("device7", Code.OK), ("device8", Code.FORBIDDEN)):
            certificate, key = (Path(path).read_bytes() for path in pki.client(name))
            credentials = grpc.ssl_channel_credentials(authority, key, certificate)
            with RawRocket(f"localhost:{port}", "device@1", credentials) as raw:
                assert route(raw, "device7%2Ft") == code
        assert clients(house) == 2  # of one client id, at one address
        assert house.bugs() == []
    finally:
        house.stop()
