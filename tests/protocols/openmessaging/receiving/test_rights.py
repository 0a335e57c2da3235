"""Who may receive, and whose a handle is: a gateway with users and rules, over a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc")

from gateway.auth.hashes import hash_password
from gateway.rocketmq.numbers import Code
from tests.process import RocketGateway
from tests.protocols.openmessaging.receiving.pop import bodies, forward, handle
from tests.rocketmq_raw import RawRocket, RefusedRaw

PASSWORD, SECRET = "correct horse", "a secret to sign with"
RULES = {
    "ann": ["topic:t", "queue:t", "group:read/hers"],
    "bob": ["topic:t"],
    "eve": ["topic:t", "queue:$dead/$share/g/t", "group:read/eves"],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    directory = tmp_path_factory.mktemp("rights")
    rules = "".join(
        f'[[rules]]\nid = "{name}"\nsubject = "user:{name}"\n'
        f'actions = ["publish", "subscribe", "consume"]\nresources = {json.dumps(resources)}\n'
        for name, resources in RULES.items()
    )
    (directory / "rules.toml").write_text(rules)
    (directory / "gateway.toml").write_text(
        f'[users.root]\npassword = "{hash_password(PASSWORD)}"\nadmin = true\n'
        f"[auth]\nrules = {json.dumps(str(directory / 'rules.toml'))}\n"
    )
    process = RocketGateway(directory / "data", dev=False, config=directory / "gateway.toml")
    process.start()
    for name in RULES:
        root(process, "PUT", f"/v1/admin/users/{name}", secret=SECRET)
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def root(house: RocketGateway, method: str, path: str, **fields: Any) -> None:
    answer = httpx.request(method, f"{house.url}{path}", json=fields, auth=("root", PASSWORD))
    assert answer.status_code < 300, answer.text


@pytest.fixture
def users(house: RocketGateway) -> Iterator[dict[str, RawRocket]]:
    found = {name: RawRocket(house.endpoints, f"client of {name}").log_in(name, SECRET) for name in RULES}
    yield found
    for client in found.values():
        client.close()


def refused(client: RawRocket, group: str, topic: str) -> int:
    with pytest.raises(RefusedRaw) as caught:
        client.receive(group, topic)
    return int(caught.value.code)


def test_who_may_subscribe_may_receive(users: dict[str, RawRocket]) -> None:
    assert refused(users["ann"], "g", "others") == Code.FORBIDDEN
    assert refused(users["bob"], "g", "%24queue%2Ft") in (Code.FORBIDDEN, Code.TOPIC_NOT_FOUND)
    assert users["bob"].receive("g", "t") == []


def test_a_handle_is_of_its_login(users: dict[str, RawRocket]) -> None:
    ann, bob = users["ann"], users["bob"]
    ann.receive("g", "t")
    ann.send("t", b"1")
    (message,) = ann.receive("g", "t")
    assert bob.ack("g", "t", message).status.code == Code.INVALID_RECEIPT_HANDLE
    assert forward(bob, "t", handle(message)) == Code.INVALID_RECEIPT_HANDLE
    assert ann.ack("g", "t", message).status.code == Code.OK


def test_dead_letters_are_for_who_may_consume_their_queues(users: dict[str, RawRocket]) -> None:
    ann, bob, eve = users["ann"], users["bob"], users["eve"]
    assert bob.receive("g", "%DLQ%g") == [], "there is nothing to be refused yet"
    ann.receive("g", "t")
    ann.send("t", b"dead")
    (message,) = ann.receive("g", "t")
    assert forward(ann, "t", handle(message)) == Code.OK
    assert refused(bob, "g", "%DLQ%g") == Code.FORBIDDEN
    assert bodies(eve.receive("g", "%DLQ%g")) == [b"dead"]


def test_offsets_are_for_who_may_consume_the_stream_and_are_kept(
    house: RocketGateway, users: dict[str, RawRocket]
) -> None:
    ann, bob, eve = users["ann"], users["bob"], users["eve"]
    queue = {"message_queue": {"topic": {"name": "t"}}}
    assert bob.code("QueryOffset", **queue) == Code.FORBIDDEN, "nor is one made for him"
    assert ann.code("QueryOffset", **queue) == Code.OK
    ann.send("t", b"0", b"1")
    update = {"group": {"name": "hers"}, **queue, "offset": 1}
    assert bob.code("UpdateOffset", **update) == Code.FORBIDDEN
    assert ann.code("UpdateOffset", **update) == Code.OK
    root(house, "PUT", "/v1/queues/read", kind="stream")
    other = {"message_queue": {"topic": {"name": "read"}}, "offset": 0}
    assert eve.code("UpdateOffset", group={"name": "hers"}, **other) == Code.FORBIDDEN
    assert eve.code("UpdateOffset", group={"name": "eves"}, **other) == Code.OK
    house.kill()
    house.start()
    found = ann.call("GetOffset", group={"name": "hers"}, **queue)
    assert (found.status.code, found.offset) == (Code.OK, 1)
