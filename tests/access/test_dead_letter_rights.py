"""Who may look at dead letters, mend them, and send them on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.access.guarded import Guarded


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("dead"), ("viewer", "keeper", "nobody"))
    made.start()
    made.rule("look", "user:viewer", "view", "admin:dead-letters")
    made.rule("all", "user:keeper", ["view", "manage"], "admin:dead-letters")
    made.rule("to", "user:keeper", "publish", "topic:open/#")
    made.put("/v1/queues/q", {})
    yield made
    bugs = made.bugs()
    made.stop()
    assert bugs == []


@pytest.fixture
def letter(gateway: Guarded) -> int:
    """Return the position of a letter in the dead letters of `q`."""
    gateway.ask("POST", "/v1/queues/q/messages", content=b"x").raise_for_status()
    (delivery,) = gateway.ask("POST", "/v1/queues/q/receive?wait=5").json()["deliveries"]
    gateway.ask(
        "POST", f"/v1/deliveries/{delivery['id']}/nack", json={"outcome": "reject"}
    ).raise_for_status()
    return int(gateway.get("/v1/dead-letters/q/letters")["letters"][-1]["position"])


MANAGED: list[tuple[str, str, Any]] = [
    ("PUT", "/q/letters/{letter}", {"headers": {"a": 1}}),
    ("POST", "/q/replay", {"dry_run": True}),
    ("POST", "/q/replay", {"to": "open/x", "dry_run": True}),
    ("POST", "/q/purge", {"count": 10_000}),
    ("DELETE", "-replays/1", None),
]


@pytest.mark.parametrize("path", ["", "/q/letters", "/q/letters/{letter}", "-replays"])
def test_who_may_look(gateway: Guarded, letter: int, path: str) -> None:
    path = "/v1/dead-letters" + path.format(letter=letter)
    found = [gateway.ask("GET", path, user).status_code for user in ("root", "keeper", "viewer", "nobody")]
    assert found == [200, 200, 200, 403]


@pytest.mark.parametrize(("method", "path", "body"), MANAGED)
def test_who_may_change(gateway: Guarded, letter: int, method: str, path: str, body: Any) -> None:
    path = "/v1/dead-letters" + path.format(letter=letter)
    found = [
        gateway.ask(method, path, user, json=body).status_code for user in ("viewer", "nobody", "keeper")
    ]
    assert found[:2] == [403, 403]
    assert found[2] in (200, 404, 409)


def test_elsewhere_is_where_one_may_publish(gateway: Guarded, letter: int) -> None:
    path = "/v1/dead-letters/q/replay"
    for to, status in {"open/x": 201, "closed/x": 403, "$queue/q": 403, "$dead/q": 403}.items():
        answer = gateway.ask("POST", path, "keeper", json={"to": to, "positions": [1]})
        assert answer.status_code == status, to


def test_changes_are_in_the_audit_log(gateway: Guarded, letter: int) -> None:
    path = f"/v1/dead-letters/q/letters/{letter}"
    gateway.ask("PUT", path, "keeper", json={"tag": "t"}).raise_for_status()
    stream = gateway.get("/v1/queues/%24sys%2Faudit/browse?limit=1000")["messages"]
    assert any("dead-letters.edit" in str(each["body"]) and "keeper" in str(each["body"]) for each in stream)
