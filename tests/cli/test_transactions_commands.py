"""`gateway transactions`, and who may look at whose: producers at their own, operators at everybody's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.app import app
from tests.access.guarded import Guarded, password_of
from tests.mqtt_client import V5

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("transactions"), ("ann", "bob", "ops"))
    made.start()
    made.put("/v1/queues/orders", {"bindings": ["orders/#"]})
    for user in ("ann", "bob"):
        made.rule(f"{user}-publishes", f"user:{user}", "publish", "topic:orders/#")
    made.rule("ops-look", "user:ops", "view", "admin:transactions")
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


@pytest.fixture
def cli(gateway: Guarded) -> Cli:
    def call(*arguments: str, user: str = "root") -> Result:
        env = {
            "GATEWAY_URL": gateway.url,
            "GATEWAY_USER": f"{user}:{password_of(user)}",
            "COLUMNS": "250",
        }
        return CliRunner().invoke(app, ["transactions", *arguments], env=env)

    return call


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, words: str) -> None:
    assert result.exit_code == 1, result.output
    assert words in result.stderr
    assert result.stdout == ""


def add(gateway: Guarded, user: str, id: str, topic: str = "orders/a") -> Any:
    return gateway.ask("POST", f"/v1/transactions/{id}/topics/{topic}", user, content=id.encode())


def test_an_operator_ends_what_its_producer_does_not(gateway: Guarded, cli: Cli) -> None:
    for id in ("left", "dropped"):
        assert add(gateway, "ann", id).status_code == 200
    text = good(cli("list", "--state", "open"))
    assert "left" in text
    assert "ann" in text
    shown = good(cli("show", "left", "--principal", "ann"))
    assert "orders/a" in shown
    assert "'left' is committed: 1 messages" in good(cli("commit", "left", "--principal", "ann"))
    found = json.loads(good(cli("rollback", "dropped", "--principal", "ann", "--json")))
    assert (found["state"], found["cause"]) == ("rolled-back", "operator")
    refused(cli("commit", "dropped", "--principal", "ann"), "rolled back already")
    refused(cli("commit", "left"), "not known")  # nobody's of that id is root's
    waiting = gateway.get("/v1/queues/orders/browse")["messages"]
    assert [message["body"] for message in waiting] == ["left"]
    done = [
        (entry["event"], entry["resource"]) for entry in gateway.audit() if "transaction" in entry["event"]
    ]
    assert done == [("transaction.commit", "left"), ("transaction.rollback", "dropped")]


def test_producers_see_and_end_their_own(gateway: Guarded, cli: Cli) -> None:
    for user in ("ann", "bob"):
        assert add(gateway, user, "same").status_code == 200
    mine = json.loads(good(cli("list", "--state", "open", "--json", user="ann")))["transactions"]
    assert [(found["id"], found["principal"]) for found in mine] == [("same", "ann")]
    for arguments in (("show", "same"), ("commit", "same"), ("rollback", "same"), ("list",)):
        refused(cli(*arguments, "--principal", "bob", user="ann"), "ann may not")
    assert "committed" in good(cli("commit", "same", user="ann"))
    assert gateway.get("/v1/transactions/same?principal=bob")["state"] == "open"
    assert "rolled back" in good(cli("rollback", "same", user="bob"))


def test_who_may_only_look_does_not_end(gateway: Guarded, cli: Cli) -> None:
    add(gateway, "ann", "watched")
    everybody = json.loads(good(cli("list", "--json", user="ops")))["transactions"]
    assert ("watched", "ann") in [(found["id"], found["principal"]) for found in everybody]
    assert "orders/a" in good(cli("show", "watched", "--principal", "ann", user="ops"))
    refused(cli("commit", "watched", "--principal", "ann", user="ops"), "ops may not manage")


def test_rights_are_those_of_whoever_adds(gateway: Guarded) -> None:
    assert add(gateway, "ann", "rights", "secret/a").status_code == 403
    assert add(gateway, "ann", "rights", "$queue/orders").status_code == 403
    begun = gateway.ask("POST", "/v1/transactions", "ann", json={"id": "rights", "reply_to": "secret/a"})
    assert begun.status_code == 403
    assert gateway.ask("GET", "/v1/transactions/rights", "ann").status_code == 404
    assert gateway.ask("GET", "/v1/transactions", "").status_code == 401


def test_a_client_of_the_same_user_goes_on_at_another_door(gateway: Guarded) -> None:
    assert add(gateway, "bob", "doors").status_code == 200
    client = gateway.mqtt("doors", "bob", V5)
    client.publish("$transaction/doors/publish/orders/b", b"by mqtt", 1)
    other = gateway.mqtt("others", "ann", V5)
    assert gateway.get("/v1/transactions/doors?principal=bob")["messages"] == 2
    ended = gateway.ask("POST", "/v1/transactions/doors/commit", "bob")
    assert ended.json()["messages"] == 2
    assert gateway.ask("POST", "/v1/transactions/doors/commit", "ann").status_code == 404
    for each in (client, other):
        each.close()


def test_times_and_questions_are_shown(gateway: Guarded, cli: Cli) -> None:
    made = gateway.ask("POST", "/v1/transactions", "ann", json={"id": "timed", "immunity": 1000})
    assert made.status_code == 201
    assert "0, next 20" in good(cli("show", "timed", "--principal", "ann"))
    refused(cli("show", "nothing"), "not known")
    refused(cli("list", "--state", "half"), "one of open, committed, rolled-back")
