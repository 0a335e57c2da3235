"""RocketMQ's own clients with and without credentials, with rules, and over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from gateway.auth.hashes import hash_password
from tests.certificates import Pki
from tests.interop.rocketmq_client import KINDS, Failed, RocketPeer
from tests.process import RocketGateway, free_port, wait_for

pytestmark = pytest.mark.interop
PASSWORD, SECRET = "correct horse", "a secret of ann's, shared"
RULES = """
[[rules]]
id = "ann"
subject = "user:ann"
actions = ["publish", "subscribe", "consume", "manage"]
resources = ["topic:orders", "queue:$share/workers/orders", "topic:$dead/#"]

[[rules]]
id = "anybody"
subject = "everyone"
actions = ["publish", "subscribe", "consume", "manage"]
resources = ["topic:open/#", "queue:$share/workers/open/*"]

[[rules]]
id = "nobody"
subject = "anonymous"
actions = ["publish"]
resources = ["topic:open/#"]
"""


class House(RocketGateway):
    """A gateway where ann may use `orders`, bob is disabled, and anybody may use `open/#`."""

    tls_endpoints: str
    peer_kind: str

    def admin(self, method: str, path: str, **fields: object) -> None:
        """Ask as the administrator."""
        answer = httpx.request(method, f"{self.url}{path}", json=fields, auth=("root", PASSWORD))
        assert answer.status_code < 300, answer.text


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=KINDS)
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pki: Pki
) -> Iterator[House]:
    """One for each kind of client: whoever guesses is not heard for a while, nor are others there."""
    directory = tmp_path_factory.mktemp("logins")
    (directory / "rules.toml").write_text(RULES)
    (directory / "gateway.toml").write_text(
        f'[users.root]\npassword = "{hash_password(PASSWORD)}"\nadmin = true\n'
        f"[auth]\nrules = {json.dumps(str(directory / 'rules.toml'))}\n"
        '[anonymous]\nnetworks = ["127.0.0.0/8"]\n'
    )
    port = free_port()
    sets = (f"listeners.openmessagings=127.0.0.1:{port}", *pki.sets())
    process = House(directory / "data", sets, dev=False, config=directory / "gateway.toml")
    process.tls_endpoints, process.peer_kind = f"localhost:{port}", request.param
    process.start()
    for name in ("ann", "bob"):
        process.admin("PUT", f"/v1/admin/users/{name}", secret=SECRET, disabled=name == "bob")
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def peer(house: House, pki: Pki) -> Iterator[RocketPeer]:
    with RocketPeer(house.peer_kind, pki.path("ca.pem")) as process:
        yield process


def house_queues(house: House) -> object:
    """Return what queues there are."""
    return httpx.get(f"{house.url}/v1/queues", auth=("root", PASSWORD)).json()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_user_sends_and_receives_what_rules_allow(house: House, peer: RocketPeer, tls: bool) -> None:
    place = house.tls_endpoints if tls else house.endpoints
    who = {"access_key": "ann", "secret": SECRET, "tls": tls}
    with peer.producer(place, **who) as producer, peer.simple(place, "workers", "orders", **who) as consumer:
        future = consumer.begin()
        wait_for(lambda: "orders" in str(house_queues(house)), what="the group")
        producer.send("orders", b"hers")
        (found,) = consumer.messages(future)
        assert found.body == b"hers"
        consumer.ack(found)
        with pytest.raises(Failed):
            producer.send("others", b"not hers")


def test_without_a_login_what_anybody_may_is_possible(house: House, peer: RocketPeer) -> None:
    topic = "open%2Fdoor"
    with peer.producer(house) as producer, peer.simple(house, "workers", topic) as consumer:
        future = consumer.begin()
        wait_for(lambda: "open/door" in str(house_queues(house)), what="the group")
        producer.send(topic, b"anybody's")
        (found,) = consumer.messages(future)
        assert (found.topic, found.body) == (topic, b"anybody's")
        consumer.ack(found)
        with pytest.raises(Failed):
            producer.send("orders", b"hers alone")


def test_a_user_who_is_disabled_is_out(house: House, peer: RocketPeer) -> None:
    name = f"carol-{peer.kind}"
    house.admin("PUT", f"/v1/admin/users/{name}", secret=SECRET)
    who = {"access_key": name, "secret": SECRET}
    with peer.producer(house, f"producer of {name}", **who) as producer:
        producer.send("open%2Fdoor", b"while she is in")
        house.admin("PUT", f"/v1/admin/users/{name}", secret=SECRET, disabled=True)
        with pytest.raises(Failed) as caught:
            producer.send("open%2Fdoor", b"no more")
        assert caught.value.name == "UnauthorizedException"


@pytest.mark.parametrize(
    ("key", "secret", "why"),
    [
        ("ann", "not hers", "wrong"),
        ("bob", SECRET, "disabled"),
        ("eve", SECRET, "unknown"),
    ],
)
def test_a_wrong_login_is_refused_and_named_in_the_log(
    house: House, peer: RocketPeer, key: str, secret: str, why: str
) -> None:
    before = len(house.errors)
    with pytest.raises(Failed), peer.producer(house, why, access_key=key, secret=secret) as producer:
        producer.send("orders", b"never")
    said = wait_for(lambda: [line for line in house.errors[before:] if "UNAUTHORIZED" in line], what="a line")
    assert all(secret not in line for line in house.errors)
    assert "127.0.0.1" in said[0]
