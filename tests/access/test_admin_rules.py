"""`/v1/admin/rules` and `/v1/admin/quotas`: added, changed, shown, removed; said elsewhere is a conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.access.guarded import Guarded

RULES, QUOTAS = "/v1/admin/rules", "/v1/admin/quotas"
SETTINGS = '[anonymous]\npublish = ["a"]\n[quotas.given]\nsubject = "user:x"\nconnections = 5\n'
RULE = {"decision": "deny", "subject": "user:ann", "actions": ["publish"], "resources": ["topic:a/#"]}
QUOTA = {"subject": "user:ann", "scope": "client", "publish_rate": 1.5, "queues": 3}


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    return shared("ann", settings=SETTINGS)


def test_a_rule(gateway: Guarded) -> None:
    path = f"{RULES}/x%2Fy"
    more = {"from": ["10.0.0.0/8"], "doors": ["mqtt"], "description": "why"}
    made = gateway.ask("PUT", path, json={**RULE, **more})
    shown = {"id": "x/y", **RULE, **more, "where": "the metadata store"}
    assert (made.status_code, made.json()) == (201, shown)
    assert gateway.get(path) == shown
    assert shown in gateway.get(RULES)["rules"]
    assert gateway.ask("PUT", path, json=shown).status_code == 200, "as it is shown it can be written"
    assert gateway.put(path, RULE) == {"id": "x/y", **RULE, "where": "the metadata store"}
    gateway.delete(path)
    gateway.delete(path, 404)
    assert gateway.ask("GET", path).status_code == 404


def test_a_quota(gateway: Guarded) -> None:
    path = f"{QUOTAS}/q"
    rest = {"connections": 0, "publish_bytes": 0.0, "retained": 0, "subscriptions": 0}
    made = gateway.ask("PUT", path, json=QUOTA)
    shown = {"id": "q", **QUOTA, **rest, "where": "the metadata store"}
    assert (made.status_code, made.json()) == (201, shown)
    assert gateway.get(path) == shown
    assert gateway.ask("PUT", path, json=shown).status_code == 200
    assert [quota["id"] for quota in gateway.get(QUOTAS)["quotas"]] == ["given", "q"]
    gateway.delete(path)
    gateway.delete(path, 404)


#: (method, path, body, status, words)
REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("PUT", f"{RULES}/anonymous.publish", RULE, 409, "is in the configuration; change it there"),
    ("DELETE", f"{RULES}/anonymous.publish", None, 409, "is in the configuration"),
    ("PUT", f"{RULES}/a", {**RULE, "id": "b"}, 422, "a rule with the id 'a' is expected"),
    ("PUT", f"{RULES}/a", {**RULE, "subject": "x"}, 422, "rule 'a': subject: 'x'"),
    ("PUT", f"{RULES}/a", [], 422, "a rule with the id 'a' is expected"),
    ("PUT", f"{RULES}/a%20b", RULE, 422, "id: letters, digits"),
    ("POST", RULES, {"rules": {}}, 422, "rules: at most"),
    ("POST", RULES, {"rule": []}, 422, "'rule': unknown; known: rules"),
    ("POST", RULES, {"rules": [{"id": "ok", **RULE}, {"id": "bad"}]}, 422, "rule number 2: rule 'bad'"),
    ("POST", RULES, {"rules": [{"id": "ok", **RULE}, {"id": "anonymous.publish", **RULE}]}, 409, "is in the"),
    ("PUT", "/v1/admin/shadow", {"rules": 7}, 422, "rules: at most"),
    ("PUT", f"{QUOTAS}/given", QUOTA, 409, "quota 'given' is in the configuration"),
    ("DELETE", f"{QUOTAS}/given", None, 409, "is in the configuration"),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "id": "other"}, 422, "a quota with the id 'q' is expected"),
    ("PUT", f"{QUOTAS}/q", {"scope": "user"}, 422, "missing required field `subject`"),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "scope": "group"}, 422, "one of user, client"),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "queues": -1}, 422, "a limit is not negative"),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "queues": 1.5}, 422, "quota: "),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "speed": 1}, 422, "unknown key 'speed'"),
    ("PUT", f"{QUOTAS}/q", {**QUOTA, "subject": "everybody"}, 422, "subject: 'everybody'"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), REFUSED)
def test_what_is_refused(
    gateway: Guarded, method: str, path: str, body: Any, status: int, words: str
) -> None:
    before = gateway.get(RULES), gateway.get(QUOTAS)
    answer = gateway.ask(method, path, **({} if body is None else {"json": body}))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert (gateway.get(RULES), gateway.get(QUOTAS)) == before, "nothing is half done"


def test_the_api_is_in_the_document(gateway: Guarded) -> None:
    paths = gateway.get("/openapi.json")["paths"]
    for path in (
        RULES,
        RULES + "/{id}",
        QUOTAS,
        "/v1/admin/users/{name}",
        "/v1/admin/explain",
        "/v1/admin/shadow",
    ):
        assert path in paths
