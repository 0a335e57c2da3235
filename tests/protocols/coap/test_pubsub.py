"""Configured topics and discovery in memory: who may do what, what is kept, what has a limit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import cbor2
import pytest
from aiocoap.util import linkformat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import Action, Credentials, Principal, Ruling
from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Origin
from gateway.core.policy import DEFAULT
from gateway.core.topic import matches
from gateway.protocols.coap.clients import Client, Clients
from gateway.protocols.coap.codec import Option, encode_options, read_options
from gateway.protocols.coap.content.splitting import Rule
from gateway.protocols.coap.discovery import discovery, topic_names
from gateway.protocols.coap.discovery.discovery import Discovery, topic_prefix
from gateway.protocols.coap.discovery.links import path_of
from gateway.protocols.coap.exchange import Link, Request, Response
from gateway.protocols.coap.numbers import (
    BAD_REQUEST,
    CHANGED,
    CONFLICT,
    CONTENT,
    CONTENT_FORMAT,
    CREATED,
    DELETE,
    DELETED,
    FETCH,
    FORBIDDEN,
    GET,
    INTERNAL_SERVER_ERROR,
    IPATCH,
    LOCATION_PATH,
    NOT_FOUND,
    POST,
    PUT,
    UNSUPPORTED_CONTENT_FORMAT,
    URI_PATH,
    URI_QUERY,
    code_name,
    uint_bytes,
)
from gateway.protocols.coap.pubsub import configurations, topic_config
from gateway.protocols.coap.pubsub.configurations import KEY, Configurations
from gateway.protocols.coap.pubsub.pubsub import PubSub
from gateway.protocols.coap.queues.pending import Pending
from gateway.protocols.coap.queues.pulls import Pulls
from gateway.protocols.coap.resources import Resources
from gateway.protocols.coap.topics.observe import Observers
from gateway.protocols.coap.topics.topics import Topics
from gateway.testing import TestGateway

PUBSUB = 606


class Table:
    """An authorizer: name -> what it may do, as (action, filter)."""

    def __init__(self) -> None:
        self.rules: dict[str, list[tuple[Action, str]]] = {}

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        found = self.rules.get(principal.name, [])
        if any(action is known and matches(pattern, resource) for known, pattern in found):
            return Ruling(True, "table")
        return None


class House:
    """The door's resources over a gateway in memory."""

    def __init__(self) -> None:
        self.table = Table()
        self.gateway = TestGateway(authorizers=(self.table,))
        self.clients: dict[str, Client] = {}
        self.start()

    def start(self) -> None:
        """Put the resources together, as the door does: again after a restart."""
        gateway = self.gateway
        self.configurations = Configurations(gateway)
        self.configurations.restore()
        listing = Discovery(gateway, self.configurations)
        pubsub = PubSub(gateway, self.configurations, listing)
        observers = Observers.__new__(Observers)
        topics = Topics(
            gateway,
            observers,
            [Rule("packs/#", "{topic}/{name}", False)],
            pubsub,
            Pending(gateway, Pulls(gateway)),
        )
        self.resources = Resources(gateway, NoClients())  # type: ignore[arg-type]
        self.resources.table |= {"ps": topics, "pst": pubsub, ".well-known": listing}

    def let(self, name: str, *rules: tuple[Action, str]) -> None:
        """Say what a client may do."""
        self.table.rules[name] = list(rules)
        self.gateway.rules_changed()

    def ask(
        self,
        name: str,
        code: int,
        path: str,
        said: object = None,
        *options: Option,
        payload: bytes = b"",
        content_format: int = -1,
        query: tuple[str, ...] = (),
    ) -> Response:
        """Return the answer to a request of a client."""
        client = self.clients.get(name)
        if client is None:
            session = self.gateway.open_session(Principal(name), Credentials("coap", "127.0.0.1:1", name))
            client = self.clients[name] = Client(Clients.__new__(Clients), session, None)
        if said is not None:
            payload, content_format = cbor2.dumps(said), PUBSUB
        found = [(URI_PATH, segment.encode()) for segment in path.strip("/").split("/")]
        found += [(URI_QUERY, item.encode()) for item in query]
        if content_format >= 0:
            found.append((CONTENT_FORMAT, uint_bytes(content_format)))
        answers: list[Response] = []
        read = read_options(encode_options([*found, *options]))
        request = Request(Link("127.0.0.1:1"), code, b"t", read, payload, True, answers.append)
        self.resources._serve(client, request)
        for _ in range(100):
            if answers:
                break
            self.gateway.broker.engine.flush()
            self.gateway.settle()
        (answer,) = answers
        assert answer.code != INTERNAL_SERVER_ERROR
        return answer

    def make(self, name: str, topic: str, **more: object) -> str:
        """Configure a topic; return its path."""
        keys = {"content_format": 3, "expires": 5, "subscribers": 6, "check": 7, "begin": 8}
        said = {0: topic, 2: "core.ps.data", **{keys[key]: value for key, value in more.items()}}
        answer = self.ask(name, POST, "ps", said)
        assert answer.code == CREATED, answer.payload
        return "/".join(value.decode() for number, value in answer.options if number == LOCATION_PATH)

    def links(self, name: str, path: str = ".well-known/core", *query: str) -> list[str]:
        """Return the targets of a list of links."""
        answer = self.ask(name, GET, path, query=query)
        assert answer.code == CONTENT, (code_name(answer.code), answer.payload)
        return (
            [link.href for link in linkformat.parse(answer.payload.decode()).links] if answer.payload else []
        )

    def publish(self, topic: str, body: bytes = b"x", retain: bool = False) -> None:
        """Publish as another door would."""
        self.gateway.broker.publish(Message(topic, body, 0, retain))


class NoClients:
    """Requests come with their client."""


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    assert house.gateway.errors == []
    house.gateway.close()


ALL = ((Action.MANAGE, "#"), (Action.PUBLISH, "#"), (Action.SUBSCRIBE, "#"), (Action.CONSUME, "$queue/#"))


# -- rights -----------------------------------------------------------------------------------


def test_without_rules_nothing_is_there(house: House) -> None:
    house.let("admin", *ALL)
    path = house.make("admin", "a/b", begin=b"x", content_format=0)
    assert house.ask("nobody", GET, path).code == FORBIDDEN
    assert house.ask("nobody", FETCH, path, payload=b"\x81\x00").code == FORBIDDEN
    assert house.ask("nobody", IPATCH, path, {6: 0}).code == FORBIDDEN
    assert house.ask("nobody", POST, path, {0: "a/b", 2: "core.ps.data"}).code == FORBIDDEN
    assert house.ask("nobody", DELETE, path).code == FORBIDDEN
    assert house.ask("nobody", POST, "ps", {0: "c", 2: "core.ps.data"}).code == FORBIDDEN
    assert house.ask("nobody", FETCH, "ps", {0: "a/b"}).payload == b""
    assert house.links("nobody", "ps") == []
    assert house.links("nobody", "ps", "rt=core.ps.data") == []
    assert house.links("nobody") == ["/ps", "/pst"]
    assert house.gateway.broker.retained.get("a/b") is not None
    assert len(house.configurations.all) == 1


@pytest.mark.parametrize("action", [Action.PUBLISH, Action.SUBSCRIBE, Action.MANAGE])
def test_whoever_has_to_do_with_a_topic_may_read_its_configuration(house: House, action: Action) -> None:
    house.let("admin", *ALL)
    path = house.make("admin", "a/b")
    house.let("device", (action, "a/b"))
    assert house.ask("device", GET, path).code == CONTENT
    assert "/" + path in house.links("device")
    may_change = action is Action.MANAGE
    assert house.ask("device", IPATCH, path, {6: 1}).code == (CHANGED if may_change else FORBIDDEN)
    assert house.ask("device", DELETE, path).code == (DELETED if may_change else FORBIDDEN)


def test_to_manage_is_not_to_publish(house: House) -> None:
    house.let("manager", (Action.MANAGE, "a/#"))
    said = {0: "a/b", 2: "core.ps.data", 3: 0, 8: b"x"}
    assert house.ask("manager", POST, "ps", said).code == FORBIDDEN
    assert house.configurations.all == {}
    path = house.make("manager", "a/b")
    house.publish("a/b", retain=True)
    assert house.ask("manager", DELETE, path).code == FORBIDDEN
    assert list(house.configurations.by_topic) == ["a/b"]
    house.let("manager", (Action.MANAGE, "a/#"), (Action.PUBLISH, "a/b"))
    assert house.ask("manager", DELETE, path).code == DELETED
    assert house.configurations.all == {}
    assert house.gateway.broker.retained.get("a/b") is None


def test_links_are_those_that_a_client_may_follow(house: House) -> None:
    for topic in ("a/1", "a/2", "b/1"):
        house.publish(topic)
    house.publish("kept", retain=True)
    house.publish("gone", retain=True)
    house.publish("gone", b"", retain=True)
    for queue in ("jobs", "mail/in"):
        house.gateway.broker.catalog.declare(queue, "classic", DEFAULT, True)
    house.let("device", (Action.SUBSCRIBE, "a/#"), (Action.CONSUME, "$queue/jobs"))
    assert house.links("device") == ["/ps", "/pst", "/queues/jobs", "/ps/a/1", "/ps/a/2"]
    house.let("device", *ALL)
    topics = ["/ps/a/1", "/ps/a/2", "/ps/b/1", "/ps/kept"]
    assert house.links("device") == ["/ps", "/pst", "/queues/jobs", "/queues/mail%2Fin", *topics]
    assert house.links("device", "ps", "rt=core.ps.data") == topics
    assert house.links("device", ".well-known/core", "rt=gateway.queue") == [
        "/queues/jobs",
        "/queues/mail%2Fin",
    ]


# -- what holds -------------------------------------------------------------------------------


def test_a_value_of_a_configured_topic_lasts(house: House) -> None:
    house.let("device", *ALL)
    house.make("device", "a", content_format=50)
    assert house.ask("device", PUT, "ps/a", payload=b"{}", content_format=50).code == CREATED
    assert house.gateway.broker.retained.get("a") is not None
    assert house.ask("device", PUT, "ps/a", payload=b"{}", content_format=50).code == CHANGED
    assert house.ask("device", PUT, "ps/a", payload=b"x", content_format=0).code == UNSUPPORTED_CONTENT_FORMAT
    envelope = b'{"body":"x","content_type":"text/plain"}'
    meta = house.ask("device", PUT, "ps/a", payload=envelope, query=("meta=1",))
    assert meta.code == UNSUPPORTED_CONTENT_FORMAT
    envelope = b'{"body":"[]","content_type":"application/json"}'
    assert house.ask("device", PUT, "ps/a", payload=envelope, query=("meta=1",)).code == CHANGED
    assert house.ask("device", DELETE, "ps/a").code == DELETED
    assert house.ask("device", GET, "ps/a").code == NOT_FOUND
    assert house.ask("device", DELETE, "ps/a").code == DELETED
    assert house.ask("device", PUT, "ps/b", payload=b"x").code == CREATED
    assert house.gateway.broker.retained.get("b") is None  # it is not configured


def test_data_that_another_door_published_is_deleted_too(house: House) -> None:
    house.let("device", *ALL)
    house.make("device", "a")
    house.publish("a")
    assert house.ask("device", GET, "ps/a").payload == b"x"
    assert house.ask("device", DELETE, "ps/a").code == DELETED
    assert house.ask("device", GET, "ps/a").code == NOT_FOUND


def test_records_of_a_pack_go_by_the_configuration_of_their_topics(house: House) -> None:
    house.let("device", *ALL)
    house.make("device", "packs/a", content_format=50)
    pack = b'[{"n":"other","v":1},{"n":"a","v":1}]'
    assert house.ask("device", PUT, "ps/packs", payload=pack, content_format=110).code == (
        UNSUPPORTED_CONTENT_FORMAT
    )
    assert house.ask("device", GET, "ps/packs/other").code == NOT_FOUND
    house.let("device", (Action.PUBLISH, "packs"), (Action.SUBSCRIBE, "#"))
    pack = b'[{"n":"b","v":1}]'
    assert house.ask("device", PUT, "ps/packs", payload=pack, content_format=110).code == FORBIDDEN
    keyed = house.ask("device", PUT, "ps/packs", payload=pack, content_format=110, query=("message_id=1",))
    assert keyed.code == BAD_REQUEST


def test_observers_ask_what_a_topic_allows(house: House) -> None:
    house.let("device", *ALL)
    told: list[str] = []
    house.configurations.on_change.append(told.append)
    path = house.make("device", "a", subscribers=2, check=60)
    assert (house.configurations.max_subscribers("a"), house.configurations.max_subscribers("b")) == (2, -1)
    assert (house.configurations.observer_check("a"), house.configurations.observer_check("b")) == (
        60,
        86_400,
    )
    house.ask("device", IPATCH, path, {6: 0})
    assert house.configurations.max_subscribers("a") == 0
    house.ask("device", DELETE, path)
    assert house.configurations.max_subscribers("a") == -1
    assert told == ["a", "a", "a"]


def test_a_topic_goes_when_its_time_comes(house: House) -> None:
    house.let("device", *ALL)
    clock = house.gateway.clock
    hours = 3 * 3600
    expires = cbor2.CBORTag(1, clock.wall_ms // 1000 + hours)
    path = house.make("device", "a", expires=expires, begin=b"x", content_format=0)
    past = house.make("device", "past", expires=cbor2.CBORTag(1, 5))

    def wait(seconds: int) -> None:
        clock.set(clock.wall_ms + seconds * 1000, clock.monotonic_ms + seconds * 1000)
        house.gateway.scheduler.run_due()

    wait(1)
    assert house.ask("device", GET, past).code == NOT_FOUND
    for _ in range(3):
        wait(hours // 3 - 1)
        assert house.ask("device", GET, path).code == CONTENT
    later = cbor2.CBORTag(1, clock.wall_ms // 1000 + 60)
    assert house.ask("device", IPATCH, path, {5: later}).code == CHANGED
    wait(59)
    assert house.ask("device", GET, "ps/a").payload == b"x"
    wait(2)
    assert house.ask("device", GET, path).code == NOT_FOUND
    assert house.ask("device", GET, "ps/a").code == NOT_FOUND


def test_configurations_are_kept_and_what_cannot_be_read_is_left_out(house: House) -> None:
    house.let("device", *ALL)
    path = house.make("device", "a/b", content_format=60, subscribers=7)
    before = house.ask("device", GET, path).payload
    gone = house.make("device", "gone")
    house.ask("device", DELETE, gone)
    house.gateway.broker.engine.put(KEY + "bad", b"\xff")
    house.start()
    assert list(house.configurations.by_topic) == ["a/b"]
    assert house.ask("device", GET, path).payload == before
    assert house.ask("device", POST, "ps", {0: "a/b", 2: "core.ps.data"}).code == CONFLICT


# -- limits -----------------------------------------------------------------------------------


def test_there_may_be_so_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "CONFIGURATIONS_MAX", 2)
    house.let("device", *ALL)
    house.make("device", "a")
    house.make("device", "b")
    assert house.ask("device", POST, "ps", {0: "c", 2: "core.ps.data"}).code == CONFLICT


def test_many_topics_are_listed_by_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.let("device", *ALL)
    for number in range(1200):
        house.publish(f"many/{number:04}")
    query = ("rt=core.ps.data", "href=/ps/many/*")
    first = house.links("device", ".well-known/core", *query)
    second = house.links("device", ".well-known/core", *query, "page=1")
    assert first + second == [f"/ps/many/{number:04}" for number in range(1200)]
    assert len(second) == 200
    monkeypatch.setattr(discovery, "CHECKS_MAX", 50)
    assert len(house.links("device", "ps", "rt=core.ps.data")) == 50
    assert house.links("device", "ps", "rt=core.ps.data", "href=/ps/many/1199") == ["/ps/many/1199"]


def test_very_many_are_sorted_in_a_thread_and_kept_for_a_moment(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_names, "AT_ONCE_MAX", 10)
    house.let("device", *ALL)
    for number in range(20):
        house.publish(f"a/{number:02}")
    query = ("rt=core.ps.data", "href=/ps/a/1*")
    wanted = [f"/ps/a/{number}" for number in range(10, 20)]
    assert house.links("device", ".well-known/core", *query) == wanted
    house.publish("a/1b")
    assert house.links("device", ".well-known/core", *query) == wanted
    clock = house.gateway.clock
    clock.set(clock.wall_ms + topic_names.KEPT_MS, clock.monotonic_ms + topic_names.KEPT_MS)
    assert house.links("device", ".well-known/core", *query) == [*wanted, "/ps/a/1b"]


def test_of_many_configurations_some_are_looked_at(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "CHECKS_MAX", 3)
    house.let("device", *ALL)
    paths = sorted("/" + house.make("device", f"t{number}") for number in range(5))
    assert house.links("device", "pst") == paths[:3]
    assert house.links("device", "pst", f"href={paths[4]}") == [paths[4]]
    assert house.links("device", ".well-known/core", "rt=core.ps.conf", f"href={paths[4][:-1]}*") == [
        paths[4]
    ]


_said = st.fixed_dictionaries(
    {0: st.text("abc/ü", min_size=1, max_size=5).filter(lambda name: name.strip("/") != "")},
    optional={
        3: st.integers(0, 65535),
        4: st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=5),
        5: st.integers(1, 4_000_000_000).map(lambda seconds: cbor2.CBORTag(1, seconds)),
        6: st.integers(0, 0xFFFFFFFF),
        7: st.integers(1, 0xFFFFFFFF),
    },
)


@given(_said)
def test_properties_come_back(said: dict[int, object]) -> None:
    read = topic_config.read(cbor2.dumps({**said, 2: "core.ps.data"}))
    config = topic_config.make("id", read)
    again = topic_config.read(topic_config.write(config.properties()))
    assert topic_config.make("id", again) == config
    assert config.matches(read)
    assert config.updated({}, False) == config


@given(st.binary(max_size=40))
def test_any_bytes_are_properties_or_refused(payload: bytes) -> None:
    for read in (topic_config.read, topic_config.read_keys):
        try:
            read(payload)
        except InvalidValue:
            pass


@given(st.lists(st.text("ab%/ ü", max_size=4), min_size=1, max_size=3).map("/".join), st.integers(0, 30))
def test_topics_are_not_ruled_out_that_a_prefix_has(topic: str, length: int) -> None:
    href = path_of(["ps", *topic.split("/")])
    prefix = topic_prefix(href[:length])
    assert prefix is not None
    assert topic.startswith(prefix)


@pytest.mark.parametrize("href", ["/queues/", "/px", "x", "/p%", "/ps%2F"])
def test_prefixes_of_no_topic(href: str) -> None:
    assert topic_prefix(href) is None


def test_cbor_is_not_loaded_before_somebody_speaks_it() -> None:
    code = "import sys, gateway.protocols.coap; print('cbor2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
