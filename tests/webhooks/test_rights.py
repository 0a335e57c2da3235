"""Who may make webhooks, what they may read, and where they may lead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from tests.access.guarded import Guarded, password_of, run, wait_for
from tests.webhooks.conftest import SECONDS
from tests.webhooks.sink import Sink

TOKEN_KEY = "k" * 32


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[Guarded]:
    settings = f'[webhooks]\nallow = ["http://127.0.0.1:{sink.port}/ok/", "https://nowhere.invalid/"]\n'
    directory = tmp_path_factory.mktemp("rights")
    (directory / "token-key").write_text(TOKEN_KEY)
    settings += f'[tokens]\nsecret_file = "{directory / "token-key"}"\n'
    made = Guarded(directory, ("ann",), settings)
    made.start()
    made.rule("admin", "user:*", ["view", "manage"], "admin:webhooks")
    made.rule("read", "user:*", ["subscribe"], "topic:a/#", "topic:b")
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


@pytest.fixture
def make(gateway: Guarded, sink: Sink) -> Iterator[Any]:
    """PUT a webhook; all are removed afterwards."""

    def put(name: str, as_: str = "ann", status: int = 201, **fields: Any) -> httpx.Response:
        wanted = {"url": sink.url(f"/ok/{name}"), "filters": ["a/#"], **fields}
        answer = gateway.ask("PUT", f"/v1/webhooks/{name}", as_, json=wanted)
        assert answer.status_code == status, answer.text
        return answer

    yield put
    for hook in gateway.get("/v1/webhooks")["webhooks"]:
        gateway.delete(f"/v1/webhooks/{hook['name']}")


def state(gateway: Guarded, name: str) -> tuple[str, str]:
    found = gateway.get(f"/v1/webhooks/{name}")
    return found["state"], found["reason"]


def test_only_below_what_is_allowed(gateway: Guarded, sink: Sink, make: Any) -> None:
    make("good")
    for url in (
        sink.url("/other"),
        sink.url("/okay"),
        sink.url("/ok/../other"),
        sink.url("/ok/%2e%2e/other"),
        f"http://localhost:{sink.port}/ok/x",
        f"http://127.1:{sink.port}/ok/x",
        f"http://[::ffff:127.0.0.1]:{sink.port}/ok/x",
        f"http://2130706433:{sink.port}/ok/x",
        f"http://0x7f000001:{sink.port}/ok/x",
        f"http://user@127.0.0.1:{sink.port}/ok/x",
        f"https://127.0.0.1:{sink.port}/ok/x",
        f"http://127.0.0.1:{sink.port + 1}/ok/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "https://example.com/",
    ):
        for as_ in ("ann", "root"):
            answer = gateway.ask("PUT", "/v1/webhooks/bad", as_, json={"url": url, "filters": ["a/#"]})
            assert answer.status_code in (403, 422), (url, answer.text)
    assert [hook["name"] for hook in gateway.get("/v1/webhooks")["webhooks"]] == ["good"]
    make("later", url="https://nowhere.invalid/x")  # it may exist one day


def test_only_what_its_maker_may_read(gateway: Guarded, make: Any) -> None:
    make("bad", status=403, filters=["secret/x"])
    make("bad", status=403, filters=["a/#", "#"])
    make("bad", status=403, filters=[], queue="jobs")
    make("bad", as_="", status=401)
    assert gateway.ask("GET", "/v1/queues/%24webhook%2Fbad").status_code == 404, "nothing is left of them"
    make("good", filters=["a/#", "b"])


CALLS = (
    ("GET", ""),
    ("GET", "/x"),
    ("PUT", "/x"),
    ("DELETE", "/x"),
    ("GET", "/x/attempts"),
    ("POST", "/x/pause"),
    ("POST", "/x/resume"),
    ("POST", "/x/test"),
    ("POST", "/x/rotate"),
)


def test_each_call_is_for_whoever_may(gateway: Guarded, make: Any) -> None:
    make("x")
    gateway.user("nobody")
    gateway.rule("not", "user:nobody", ["view", "manage"], "admin:webhooks", decision="deny")
    for method, path in CALLS:
        fields: dict[str, Any] | None = {} if method in ("PUT", "POST") else None
        answer = gateway.ask(method, f"/v1/webhooks{path}", "nobody", json=fields)
        assert (answer.status_code, answer.json()["rule"]) == (403, "not"), (method, path)


def test_a_right_that_is_taken_away_ends_the_reading(gateway: Guarded, sink: Sink, make: Any) -> None:
    make("x", filters=["a/#", "b"])
    gateway.publish("a/1", "before")
    wait_for(lambda: sink.bodies("/ok/x") == [b"before"], SECONDS)
    gateway.rule("no", "user:ann", ["subscribe"], "topic:b", decision="deny")
    wait_for(lambda: state(gateway, "x")[0] == "refused", SECONDS, "refused")
    assert "'no' denies it" in state(gateway, "x")[1]
    for topic in ("a/1", "b"):
        assert gateway.publish(topic, "meanwhile").json()["subscribers"] is False
    gateway.delete("/v1/admin/rules/no")
    gateway.ask("POST", "/v1/webhooks/x/resume", "ann", json={})
    assert state(gateway, "x") == ("running", "")
    gateway.publish("b", "after")
    wait_for(lambda: sink.bodies("/ok/x") == [b"before", b"after"], SECONDS)


def test_a_right_that_is_taken_away_while_it_is_paused(gateway: Guarded, sink: Sink, make: Any) -> None:
    make("paused", filters=["b"])
    gateway.ask("POST", "/v1/webhooks/paused/pause", json={})
    assert gateway.publish("b", "before").json()["subscribers"] is True
    gateway.rule("no", "user:ann", ["subscribe"], "topic:b", decision="deny")
    wait_for(lambda: gateway.publish("b", "meanwhile").json()["subscribers"] is False, SECONDS)
    gateway.delete("/v1/admin/rules/no")
    gateway.ask("POST", "/v1/webhooks/paused/resume", "ann", json={})
    gateway.publish("b", "after")
    wait_for(lambda: b"after" in sink.bodies("/ok/paused"), SECONDS)
    assert b"meanwhile" not in sink.bodies("/ok/paused")


@pytest.mark.parametrize("name", ["bob", "eve"])
def test_a_maker_who_is_gone_reads_nothing(gateway: Guarded, make: Any, name: str) -> None:
    gateway.user(name)
    make(name, as_=name)
    if name == "bob":
        gateway.delete("/v1/admin/users/bob")
    else:
        gateway.user(name, disabled=True)
    wait_for(lambda: state(gateway, name)[0] == "refused", SECONDS, "refused")
    assert f"{name}, in whose name" in state(gateway, name)[1]
    assert gateway.publish("a/1", "x").json()["subscribers"] is False


def test_a_change_of_its_maker_is_taken_up(gateway: Guarded, sink: Sink, make: Any) -> None:
    gateway.user("carl", groups=["readers"])
    gateway.rule("group", "group:readers", ["subscribe"], "topic:g/#")
    make("carl", as_="carl", filters=["g/#"])
    gateway.user("carl", password="another-password")
    wait_for(lambda: state(gateway, "carl") == ("running", ""), SECONDS, "running again")
    gateway.publish("g/1", "still")
    wait_for(lambda: sink.bodies("/ok/carl") == [b"still"], SECONDS)
    gateway.user("carl", groups=[])
    wait_for(lambda: state(gateway, "carl")[0] == "refused", SECONDS, "refused")


def test_a_key_gives_no_more_than_it_has(gateway: Guarded, sink: Sink, make: Any) -> None:
    gateway.user("dora", groups=["readers", "others"])
    gateway.rule("group", "group:readers", ["subscribe"], "topic:g/#")
    found = gateway.ask("POST", "/v1/admin/keys", json={"user": "dora", "groups": ["others"]})
    key = found.json()["key"]
    for filters, status in ((["g/#"], 403), (["a/#"], 201)):
        answer = httpx.put(
            f"{gateway.url}/v1/webhooks/dora",
            json={"url": sink.url("/ok/dora"), "filters": filters},
            headers={"x-api-key": key},
        )
        assert answer.status_code == status, answer.text
    gateway.user("dora", groups=["readers", "others"], password="another-password")
    assert state(gateway, "dora") == ("running", "")


def test_rights_that_end_with_a_token_make_no_webhook(gateway: Guarded, sink: Sink) -> None:
    rules = [{"decision": "allow", "actions": ["all"], "resources": ["topic:#", "admin:webhooks"]}]
    for claims in ({"sub": "ann"}, {"sub": "ann", "acl": rules}, {"sub": "stranger", "acl": rules}):
        token = jwt.encode({**claims, "exp": int(time.time()) + 600}, TOKEN_KEY, "HS256")
        answer = httpx.put(
            f"{gateway.url}/v1/webhooks/t",
            json={"url": sink.url("/ok/t"), "filters": ["a/#"]},
            headers={"authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 403, answer.text
    assert "end with it" in answer.json()["detail"]


def test_what_is_wrong_is_said(gateway: Guarded, make: Any, sink: Sink) -> None:
    make("x")
    for fields, status in (
        ({"filters": ["a/#/b"]}, 400),
        ({"concurrency": 0}, 422),
        ({"selector": "colour ="}, 422),
        ({"secret": "short"}, 422),
        ({"secret": 5}, 422),
        ({"authorization": "a\r\nb: c"}, 422),
        ({"policy": {"dead_letter": "secret/x"}}, 403),
        ({"filters": [], "queue": "nowhere"}, 404),
    ):
        make("y", as_="root" if "queue" in fields else "ann", status=status, **fields)
    assert gateway.ask("PUT", "/v1/queues/q", json={}).status_code == 201
    make("x", as_="root", status=409, filters=[], queue="q")
    for body in (b"{", b"[]", b"\xff", b"[" * 100_000):
        assert gateway.ask("PUT", "/v1/webhooks/y", content=body).status_code == 422
    for path, fields in (
        ("pause", {"reason": ""}),
        ("pause", {"reason": 1}),
        ("pause", {"reason": "a\nb"}),
        ("pause", {"x": 1}),
        ("resume", {"x": 1}),
        ("test", {"x": 1}),
        ("rotate", {"overlap_seconds": -1}),
        ("rotate", {"overlap_seconds": 1e12}),
        ("rotate", {"overlap_seconds": True}),
        ("rotate", {"overlap_seconds": "x"}),
        ("rotate", {"secret": "x"}),
    ):
        answer = gateway.ask("POST", f"/v1/webhooks/x/{path}", json=fields)
        assert answer.status_code == 422, (path, fields, answer.text)
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("DELETE", "/nowhere", 404),
        ("POST", "/nowhere/pause", 404),
        ("POST", "/nowhere/test", 404),
        ("PATCH", "/x", 405),
        ("PUT", "/x%2Fy", 422),
    ):
        content = b"{}" if method in ("POST", "PUT") else None
        answer = gateway.ask(method, f"/v1/webhooks{path}", content=content)
        assert answer.status_code == status, (method, path, answer.text)
    assert [hook["name"] for hook in gateway.get("/v1/webhooks")["webhooks"]] == ["x"]
    assert state(gateway, "x") == ("running", "")


def test_all_together_make_so_many_requests_at_most(gateway: Guarded, make: Any) -> None:
    for number in range(10):
        make(f"n{number}", concurrency=100)
    assert "1000 requests" in make("n10", status=409, concurrency=1).json()["detail"]
    make("n9", status=200, concurrency=99)
    make("n10", concurrency=1)


def test_changes_are_audited_without_secrets(gateway: Guarded, sink: Sink, make: Any) -> None:
    secret = make("x", url=sink.url("/ok/token-in-path"), authorization="Bearer marked").json()["secret"]
    for what in ("pause", "resume", "test", "rotate"):
        gateway.ask("POST", f"/v1/webhooks/x/{what}", "ann", json={})
    gateway.ask("DELETE", "/v1/webhooks/x", "ann")
    found = [entry["event"] for entry in gateway.audit() if entry["event"].startswith("webhook.")]
    done = ("create", "pause", "resume", "test", "rotate", "delete")
    assert found[-6:] == [f"webhook.{what}" for what in done]
    written = (gateway.data / "audit.log").read_text() + "\n".join(gateway.errors)
    for hidden in (secret, "token-in-path", "marked"):
        assert hidden not in written


def test_rules_that_changed_while_it_was_away(gateway: Guarded, sink: Sink, make: Any) -> None:
    make("away", filters=["b"])
    gateway.rule("no", "user:ann", ["subscribe"], "topic:b", decision="deny")
    gateway.kill()
    gateway.start()
    assert state(gateway, "away")[0] == "refused"
    assert gateway.publish("b", "x").json()["subscribers"] is False
    gateway.delete("/v1/admin/rules/no")
    gateway.kill()
    gateway.start()
    assert state(gateway, "away") == ("running", "")
    gateway.publish("b", "y")
    wait_for(lambda: sink.bodies("/ok/away") == [b"y"], SECONDS)


@pytest.mark.parametrize("url", ["example.com", "https://h/?q"])
def test_a_prefix_that_is_none_is_found_by_the_check(tmp_path: Any, url: str) -> None:
    made = Guarded(tmp_path, settings=f'[webhooks]\nallow = ["{url}"]\n')
    result = run("check", "--config", str(made._config))
    assert result.returncode == 2
    assert "webhooks.allow" in result.stderr
    assert password_of("root") not in result.stderr
