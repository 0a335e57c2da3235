"""`/v1/admin/users`: who may change whom, what stays after a crash; sessions end with their login."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pamqp import commands
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.protocols.mqtt.packets import V311, Disconnect
from gateway.protocols.mqtt.reasons import Reason
from tests.access.guarded import Guarded, hash_of, password_of

USERS = "/v1/admin/users"


@pytest.fixture
def gateway(shared: Callable[..., Guarded]) -> Guarded:
    made = shared("fixed")
    made.rule("all", "authenticated", ["publish", "subscribe", "consume"], "topic:#", "queue:*")
    return made


def test_a_user_is_added_changed_shown_and_removed(gateway: Guarded) -> None:
    path = f"{USERS}/ann%2Fb%20%C3%A4"
    assert gateway.ask("GET", path).status_code == 404
    fields = {"password": "correct horse", "groups": ["g", "h", "g"]}
    made = gateway.ask("PUT", path, json=fields)
    assert made.status_code == 201
    shown = {
        "name": "ann/b \u00e4",
        "admin": False,
        "disabled": False,
        "groups": ["g", "h"],
        "password": True,
        "scram": made.json()["scram"],
        "secret": False,
        "where": "the metadata store",
    }
    assert made.json() == shown
    assert gateway.get(path) == shown
    assert shown in gateway.get(USERS)["users"]
    changed = gateway.ask("PUT", path, json={"admin": True})
    assert (changed.status_code, changed.json()) == (200, {**shown, "admin": True})
    login = ("ann/b \u00e4".encode(), b"correct horse")
    assert httpx.get(gateway.url + USERS, auth=login).status_code == 200
    gateway.delete(path)
    gateway.delete(path, 404)
    assert httpx.get(gateway.url + USERS, auth=login).status_code == 401


#: (method, path below users, body, status, words)
REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "/x", {"password": "1234567"}, 422, "at least 8 characters"),
    ("PUT", "/x", {"password": "x" * 1025}, 422, "at most 1024 bytes"),
    ("PUT", "/x", {"password": 12345678}, 422, "at least 8 characters"),
    ("PUT", "/x", {"password_hash": "secret"}, 422, "no form that the gateway knows"),
    ("PUT", "/x", {"password_hash": None}, 422, "no form"),
    ("PUT", "/x", {"admin": "yes"}, 422, "true or false"),
    ("PUT", "/x", {"disabled": 1}, 422, "true or false"),
    ("PUT", "/x", {"groups": "g"}, 422, "a list of at most"),
    ("PUT", "/x", {"groups": [1]}, 422, "a list of at most"),
    ("PUT", "/x", {"role": "admin"}, 422, "'role': unknown; known: password"),
    ("PUT", "/x", [], 422, "a JSON object is expected"),
    ("PUT", "/x%0Ay", {}, 422, "none of them a control character"),
    ("PUT", "/" + "x" * 257, {}, 422, "1 to 256 characters"),
    ("PUT", "/fixed", {"disabled": True}, 409, "user 'fixed' is in the configuration; change it there"),
    ("PUT", "/root", {"password": "correct horse"}, 409, "is in the configuration"),
    ("DELETE", "/fixed", None, 409, "is in the configuration"),
    ("POST", "", {"users": {}}, 422, "a list of at most"),
    ("POST", "", {"users": [{"password": "12345678"}]}, 422, "each is an object with a name"),
    ("POST", "", {"users": [{"name": "x", "role": "admin"}]}, 422, "'role': unknown"),
    ("POST", "", {"users": [{"name": "ok1"}, {"name": "root"}]}, 409, "is in the configuration"),
    ("PATCH", "/x", {}, 405, "PUT"),
    ("GET", "/x/y", None, 404, "there is no"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), REFUSED)
def test_what_is_refused(
    gateway: Guarded, method: str, path: str, body: Any, status: int, words: str
) -> None:
    before = gateway.get(USERS)
    answer = gateway.ask(method, USERS + path, **({} if body is None else {"json": body}))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert gateway.get(USERS) == before, "nothing is half done"


def test_a_body_that_is_no_json_is_refused(gateway: Guarded) -> None:
    for body in (b"{", b"\xff", b"[" * 100_000):
        assert gateway.ask("PUT", USERS + "/x", content=body).status_code == 422


def test_passwords_never_come_out(gateway: Guarded) -> None:
    gateway.user("eve")
    answers = [
        gateway.ask("GET", USERS),
        gateway.ask("GET", f"{USERS}/eve"),
        gateway.ask("GET", f"{USERS}/root"),
    ]
    answers.append(gateway.ask("PUT", f"{USERS}/eve", json={"password": password_of("eve"), "no": 1}))
    answers.append(gateway.ask("PUT", f"{USERS}/eve", json={"password_hash": password_of("eve")}))
    for answer in answers:
        for secret in (password_of("eve"), "argon2", hash_of("root")):
            assert secret not in answer.text


# -- who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["users", "rules", "quotas", "shadow", "users/root", "rules/all"])
def test_the_api_is_for_those_whom_a_rule_lets(gateway: Guarded, path: str) -> None:
    gateway.user("stranger")
    assert gateway.ask("GET", f"/v1/admin/{path}", "").status_code == 401
    assert gateway.ask("GET", f"/v1/admin/{path}", "stranger").status_code == 403
    gateway.user("viewer")
    area = "rules" if path == "shadow" else path.partition("/")[0]
    gateway.rule("viewers", "user:viewer", "view", f"admin:{area}")
    assert gateway.ask("GET", f"/v1/admin/{path}", "viewer").status_code in (200, 404)
    assert gateway.ask("PUT", f"/v1/admin/{path}", "viewer", json={}).status_code in (403, 405)
    assert gateway.ask("DELETE", f"/v1/admin/{path}", "viewer").status_code in (403, 405)
    gateway.delete("/v1/admin/rules/viewers")


def test_who_manages_users_makes_no_administrators_and_touches_none(gateway: Guarded) -> None:
    gateway.user("helper")
    gateway.user("boss", admin=True)
    gateway.rule("helpers", "user:helper", ["manage", "view"], "admin:users")

    def helper(method: str, path: str, body: Any = None) -> int:
        return gateway.ask(method, USERS + path, "helper", json=body).status_code

    assert helper("PUT", "/made", {"password": "correct horse"}) == 201
    assert helper("PUT", "/made", {"admin": True}) == 403
    assert helper("PUT", "/new", {"password": "correct horse", "admin": True}) == 403
    assert helper("PUT", "/helper", {"admin": True}) == 403
    assert helper("PUT", "/boss", {"password": "correct horse"}) == 403
    assert helper("PUT", "/boss", {"admin": False}) == 403
    assert helper("POST", "", {"users": [{"name": "boss"}]}) == 403
    assert helper("POST", "", {"users": [{"name": "n1"}, {"name": "n2", "admin": True}]}) == 403
    assert helper("DELETE", "/boss") == 403
    assert helper("POST", "/boss/end", {}) == 403
    shown = {user["name"]: user["admin"] for user in gateway.get(USERS)["users"]}
    assert {name for name, admin in shown.items() if admin} == {"root", "boss"}
    assert not {"n1", "n2", "new"} & set(shown)
    assert helper("DELETE", "/made") == 204


def test_nobody_without_a_login_administers_whatever_a_rule_says(gateway: Guarded) -> None:
    gateway.rule("open", "anonymous", "all", "topic:open", "admin:*")
    gateway.rule("open2", "everyone", "all", "admin:*")
    assert gateway.publish("open", "x", "").status_code == 200, "anonymous clients are welcome"
    for method, path in (
        ("GET", USERS),
        ("PUT", f"{USERS}/x"),
        ("GET", "/metrics"),
        ("GET", "/v1/admin/rules"),
    ):
        answer = gateway.ask(
            method, path, "", json={"password": "correct horse"} if method == "PUT" else None
        )
        assert answer.status_code == 403
        assert answer.json()["rule"] == "builtin.no-anonymous-admin"
    for name in ("open", "open2"):
        gateway.delete(f"/v1/admin/rules/{name}")
    assert gateway.publish("open", "x", "").status_code in (401, 403)


# -- sessions end with their login -----------------------------------------------------------------

#: What is done to a user, and what clients are told.
ENDS: dict[str, tuple[Callable[[Guarded], Any], str, bool]] = {
    "another password": (
        lambda g: g.put(f"{USERS}/live", {"password": "another one"}),
        "your login has been changed; log in again",
        False,
    ),
    "disabled": (
        lambda g: g.put(f"{USERS}/live", {"disabled": True}),
        "your login has been changed; log in again",
        False,
    ),
    "removed": (lambda g: g.delete(f"{USERS}/live"), "your login has been removed", False),
    "ended": (
        lambda g: g.ask("POST", f"{USERS}/live/end", json={}),
        "an administrator has ended this session",
        True,
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_every_session_of_a_user_ends(gateway: Guarded, what: str) -> None:
    change, words, may_return = ENDS[what]
    gateway.user("live", disabled=False)
    gateway.user("other")
    other = gateway.mqtt("other", "other")
    five, three = gateway.mqtt("five", "live"), gateway.mqtt("three", "live", V311)
    amqp = gateway.amqp("live")
    login = ("live", password_of("live"))
    assert gateway.publish("t", "x", "live").status_code == 200
    with (
        connect(f"ws://live:{login[1]}@127.0.0.1:{gateway.http_port}/v1/ws", close_timeout=1) as socket,
        httpx.stream("GET", f"{gateway.url}/v1/subscribe?filter=t", auth=login, timeout=10) as events,
    ):
        lines = events.iter_lines()
        assert next(lines).startswith("retry")
        change(gateway)
        goodbye = five.expect(Disconnect)
        assert (goodbye.reason, goodbye.properties["reason_string"]) == (Reason.NOT_AUTHORIZED, words)
        assert five.closed_by_peer()
        assert three.closed_by_peer()
        close = amqp.expect(commands.Connection.Close)
        assert (close.reply_code, close.reply_text) == (403, f"ACCESS_REFUSED - {words}")
        assert words in str(socket.recv(timeout=10))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert not [line for line in lines if "problem" in line], "the stream ends as streams do"
    assert gateway.publish("t", "x", "live").status_code == (200 if may_return else 401)
    assert other.publish_stored("t", b"x") < 0x80, "others stay"
    other.close()


def test_the_memory_of_a_good_password_does_not_outlive_it(gateway: Guarded) -> None:
    gateway.user("cached")
    for _ in range(2):
        assert gateway.publish("t", "x", "cached").status_code == 200
    gateway.put(f"{USERS}/cached", {"password": "another one"})
    assert gateway.publish("t", "x", "cached").status_code == 401
    assert gateway.mqtt("cached", "cached").connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD


# -- what stays ------------------------------------------------------------------------------------


def test_users_rules_and_quotas_survive_kill_and_restart(guard: Callable[..., Guarded]) -> None:
    gateway = guard()
    gateway.user("ann", groups=["g"])
    gateway.user("gone")
    gateway.rule("r", "group:g", "publish", "topic:a", **{"from": ["127.0.0.0/8"], "doors": ["mqtt"]})
    gateway.rule("gone", "everyone", "all", "topic:#")
    gateway.quota("q", "user:ann", publish_rate=2)
    gateway.quota("gone", "user:ann", publish_rate=0.001)
    for name in ("users", "rules", "quotas"):
        gateway.delete(f"/v1/admin/{name}/gone")
    paths = (USERS, "/v1/admin/rules", "/v1/admin/quotas")
    before = [gateway.get(path) for path in paths]
    for end in (gateway.kill, gateway.stop):
        end()
        gateway.start()
        assert [gateway.get(path) for path in paths] == before
        client = gateway.mqtt("c", "ann")
        assert client.publish_stored("a", b"x") < 0x80
        assert client.publish_stored("b", b"x") == Reason.NOT_AUTHORIZED
        assert gateway.publish("a", "x", "ann").status_code == 403
        assert gateway.mqtt("c2", "gone").connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD
        client.close()


def test_a_name_that_the_configuration_takes_later_is_a_fault_at_the_start(
    guard: Callable[..., Guarded],
) -> None:
    """One name is in one place only: nobody has to guess which password counts."""
    gateway = guard()
    gateway.user("ann")
    gateway.stop()
    assert gateway._config is not None
    text = gateway._config.read_text()
    gateway._config.write_text(f'{text}\n[users.ann]\npassword = "{hash_of("ann")}"\n')
    done = subprocess.run(gateway.command(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "user 'ann' is in the configuration and in the metadata store, too" in done.stderr
    assert "Traceback" not in done.stderr
