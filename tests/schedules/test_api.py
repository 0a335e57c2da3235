"""`/v1/schedules`, `/v1/cron` and their commands, on a real gateway: who may what, and what comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from tests.access.guarded import Guarded, password_of
from tests.process import wait_for

FAR = 3_600


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("schedules"), ("ann", "bob", "viewer"))
    made.start()
    made.rule("pub", "user:ann", "publish", "topic:#")
    made.rule("pub2", "user:bob", "publish", "topic:bob/#")
    made.rule("view", "user:viewer", "view", "admin:schedules")
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


def schedule(door: Guarded, topic: str, text: str = "x", as_: str = "ann", delay: float = FAR) -> str:
    answer = door.publish(f"{topic}?delay={delay}", text, as_)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["schedule"]
    return found


def ids(door: Guarded, query: str = "", as_: str = "root") -> list[str]:
    return [found["id"] for found in door.get(f"/v1/schedules{query}", as_)["schedules"]]


def test_listed_by_time_and_topic_in_pages(door: Guarded) -> None:
    now_ms = int(time.time() * 1000)
    made = [schedule(door, f"list/{n % 2}", delay=FAR + 10 * n) for n in (3, 1, 4, 2, 0)]
    ordered = [made[i] for i in (4, 1, 3, 0, 2)]
    assert ids(door, "?topic=list/%23") == ordered
    assert ids(door, "?topic=list/1") == [made[1], made[0]]
    assert ids(door, f"?topic=list/%2B&from={now_ms + (FAR + 15) * 1000}") == ordered[2:]
    assert ids(door, f"?topic=list/%2B&to={now_ms + (FAR + 15) * 1000}") == ordered[:2]
    found, query = [], "?topic=list/%23&limit=2"
    page = door.get("/v1/schedules" + query)
    while True:
        found += [each["id"] for each in page["schedules"]]
        if page["next"] is None:
            break
        page = door.get(f"/v1/schedules{query}&after={page['next']}")
    assert found == ordered
    for each in made:
        door.delete(f"/v1/schedules/{each}")
    assert ids(door, "?topic=list/%23") == []


def test_shown_edited_and_published(door: Guarded) -> None:
    answer = door.publish(
        f"look/x?delay={FAR}&ttl=60",
        "body",
        "ann",
        headers={"X-Key": "k", "Content-Type": "text/plain", "X-Header-A": "b"},
    )
    made = answer.json()["schedule"]
    shown = door.get(f"/v1/schedules/{made}")
    assert (shown["topic"], shown["body"], shown["user"], shown["protocol"]) == (
        "look/x",
        "body",
        "ann",
        "http",
    )
    assert shown["properties"]["key"] == "k"
    assert shown["expires_at"] - shown["deliver_at"] == 60_000
    edited = door.put(
        f"/v1/schedules/{made}", {"delay": 2 * FAR, "body": "other", "headers": {"h": [1, None]}}
    )
    assert edited["id"] != made
    assert (edited["body"], edited["headers"]) == ("other", [["h", [1, None]]])
    assert edited["expires_at"] - edited["deliver_at"] == 60_000
    assert door.ask("GET", f"/v1/schedules/{made}").status_code == 404
    door.put(f"/v1/schedules/{edited['id']}", {"deliver_at": "2030-01-01T00:00:00Z"})
    (last,) = door.get("/v1/schedules?topic=look/x")["schedules"]
    assert last["deliver_at_time"] == "2030-01-01T00:00:00.000Z"
    assert door.ask("POST", f"/v1/schedules/{last['id']}/publish").status_code == 200
    assert door.ask("GET", "/v1/topics/look/x").content == b"other"
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/publish")):
        assert door.ask(method, f"/v1/schedules/{last['id']}{path}").status_code == 404
    assert [e["event"] for e in door.audit() if last["id"] in str(e)] == [
        "schedule.edit",
        "schedule.publish",
    ]


def test_ids_stay_valid_over_a_restart(door: Guarded) -> None:
    made = schedule(door, "kept/x", "body")
    door.kill()
    door.start()
    assert door.get(f"/v1/schedules/{made}")["body"] == "body"
    door.delete(f"/v1/schedules/{made}")


def test_whose_it_is(door: Guarded) -> None:
    ann, bob = schedule(door, "own/a"), schedule(door, "bob/b", as_="bob")
    assert ids(door, as_="bob") == [bob]
    assert ids(door, as_="ann") == [ann]
    assert set(ids(door, as_="viewer")) == {ann, bob} == set(ids(door))
    assert door.ask("GET", "/v1/schedules", "").status_code in (401, 403)
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/publish")):
        assert door.ask(method, f"/v1/schedules/{ann}{path}", "bob").status_code == 403
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/publish")):
        assert door.ask(method, f"/v1/schedules/{ann}{path}", "viewer").status_code == 403
    assert door.ask("PUT", f"/v1/schedules/{bob}", "bob", json={"body": "mine"}).status_code == 200
    (bob,) = ids(door, as_="bob")
    door.delete("/v1/admin/rules/pub2")
    try:
        for method, path, fields in (("PUT", "", {"body": "no more"}), ("POST", "/publish", {})):
            assert door.ask(method, f"/v1/schedules/{bob}{path}", "bob", json=fields).status_code == 403
        assert door.ask("DELETE", f"/v1/schedules/{bob}", "bob").status_code == 204
    finally:
        door.rule("pub2", "user:bob", "publish", "topic:bob/#")
    door.delete(f"/v1/schedules/{ann}")


def test_the_calendar_is_no_queue_of_anybodys(door: Guarded) -> None:
    made = schedule(door, "hidden/x")
    listed = door.get("/v1/queues?prefix=%24delayed/")["queues"]
    assert not [q for q in door.get("/v1/queues")["queues"] if q["name"].startswith("$delayed/")]
    (name,) = [quote(queue["name"], safe="") for queue in listed if queue["depth"]]
    assert door.ask("POST", f"/v1/queues/{name}/receive").status_code == 403
    assert door.ask("POST", f"/v1/queues/{name}/purge").status_code == 409
    assert door.ask("POST", f"/v1/queues/{name}/messages", content=b"x").status_code == 403
    assert door.metric('gateway_queue_depth{queue="(schedules)"}') == 1
    assert door.get(f"/v1/schedules/{made}")["topic"] == "hidden/x"
    door.delete(f"/v1/schedules/{made}")


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?after=1",
        "?after=x-1",
        "?from=soon",
        "?to=-1",
        "?nope=1",
        "?topic=a/%23/b",
    ],
)
def test_bad_questions(door: Guarded, query: str) -> None:
    assert door.ask("GET", f"/v1/schedules{query}").status_code in (400, 422)


def test_bad_changes(door: Guarded) -> None:
    made = schedule(door, "bad/x")
    for fields in (
        {"delay": -1},
        {"delay": "5"},
        {"delay": True},
        {"delay": 1e300},
        {"delay": 1, "deliver_at": 1},
        {"deliver_at": "soon"},
        {"deliver_at": -1},
        {"deliver_at": 99_999_999_999_999},
        {"body": 1},
        {"body": "x", "body_base64": "eA=="},
        {"body_base64": "%"},
        {"headers": 5},
        {"headers": [["a"]]},
        {"topic": "t"},
    ):
        assert door.ask("PUT", f"/v1/schedules/{made}", json=fields).status_code == 422, fields
    for name in ("0", "-1", "x", "9" * 30, "1", "%2e%2e"):
        assert door.ask("GET", f"/v1/schedules/{name}").status_code == 404, name
    door.delete(f"/v1/schedules/{made}")


def test_cron(door: Guarded) -> None:
    fields = {"cron": "* * * * * *", "topic": "cron/x", "body": "tick", "headers": {"a": 1}}
    assert door.ask("PUT", "/v1/cron/tick", "ann", json=fields).status_code == 403
    made = door.ask("PUT", "/v1/cron/tick", json=fields)
    assert made.status_code == 201
    assert len(made.json()["next_runs"]) == 5
    wait_for(lambda: door.ask("GET", "/v1/topics/cron/x").content == b"tick", what="a run")
    wait_for(lambda: door.get("/v1/cron/tick")["last_run"], what="a note of the run")
    assert [one["name"] for one in door.get("/v1/cron", "viewer")["cron"]] == ["tick"]
    assert door.put("/v1/cron/tick", {**fields, "enabled": False})["next_runs"] == []
    for bad in (
        {"cron": "x"},
        {"topic": "a/#"},
        {"topic": "$sys/x"},
        {"topic": 5},
        {"time_zone": "nowhere"},
        {"retain": 1},
        {"qos": "1"},
        {"name": "other"},
        {"headers": [5]},
        {"nope": 1},
    ):
        assert door.ask("PUT", "/v1/cron/tick", json={**fields, **bad}).status_code in (400, 403, 422), bad
    assert door.ask("PUT", "/v1/cron/tick", json={"cron": "* * * * *"}).status_code == 422
    door.delete("/v1/cron/tick")
    assert door.ask("GET", "/v1/cron/tick").status_code == 404
    assert [e["event"] for e in door.audit() if e["event"].startswith("cron.")] == [
        "cron.put",
        "cron.put",
        "cron.delete",
    ]


# -- commands -------------------------------------------------------------------------------------


def run(door: Guarded, *arguments: str) -> Any:
    env = {"GATEWAY_URL": door.url, "GATEWAY_USER": f"ann:{password_of('ann')}", "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=env)


def good(result: Any) -> str:
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_commands(door: Guarded) -> None:
    made: dict[str, Any] = json.loads(
        good(run(door, "schedules", "add", "cli/x", "body", "--delay", "3600", "--json"))
    )
    id = made["schedule"]
    assert id in good(run(door, "schedules", "list", "--topic", "cli/#"))
    assert "body" in good(run(door, "schedules", "show", id))
    text = good(run(door, "schedules", "edit", id, "--at", "2030-01-01T00:00:00Z", "--body", "other"))
    assert "2030-01-01" in text
    (found,) = json.loads(good(run(door, "schedules", "list", "--topic", "cli/#", "--json")))["schedules"]
    assert f"schedule {found['id']} is cancelled" in good(run(door, "schedules", "cancel", found["id"]))
    assert run(door, "schedules", "cancel", found["id"]).exit_code == 1
    assert run(door, "schedules", "add", "cli/x", "b", "--delay", "1e300").exit_code == 1
    assert "published" in good(run(door, "schedules", "add", "cli/x", "b", "--at", "1"))
    assert run(door, "cron", "list").exit_code == 1  # it is not ann's
    door.rule("cron", "user:ann", ["view", "manage"], "admin:schedules")
    assert "runs next" in good(
        run(door, "cron", "add", "job", "0 9 * * MON-FRI", "cli/x", "{}", "--zone", "Europe/Berlin")
    )
    assert "Europe/Berlin" in good(run(door, "cron", "list"))
    assert "next_runs" in good(run(door, "cron", "show", "job"))
    assert run(door, "cron", "add", "job", "99 9 * * *", "cli/x").exit_code == 1
    id = json.loads(good(run(door, "schedules", "add", "cli/y", "b", "--delay", "60", "--json")))["schedule"]
    assert "is published" in good(run(door, "schedules", "publish", id))
    good(run(door, "cron", "delete", "job"))
