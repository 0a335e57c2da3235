"""`gateway dlq`: in words and in JSON, and who may use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.app import app
from tests.process import GatewayProcess

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path_factory.mktemp("dlq") / "data").start()
    yield made
    bugs = made.bugs()
    made.stop()
    assert bugs == []


@pytest.fixture
def cli(gateway: GatewayProcess) -> Cli:
    def call(*arguments: str, stdin: str = "") -> Result:
        env = {"GATEWAY_URL": gateway.url, "GATEWAY_USER": "admin:admin", "COLUMNS": "200"}
        return CliRunner().invoke(app, ["dlq", *arguments], input=stdin, env=env)

    return call


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(result: Result) -> Any:
    return json.loads(good(result))


def bury(gateway: GatewayProcess, queue: str, *bodies: str) -> None:
    with httpx.Client(base_url=gateway.url, timeout=10, auth=("admin", "admin")) as http:
        http.put(f"/v1/queues/{queue}", json={}).raise_for_status()
        for body in bodies:
            http.post(f"/v1/queues/{queue}/messages", content=body).raise_for_status()
            (delivery,) = http.post(f"/v1/queues/{queue}/receive?wait=5").json()["deliveries"]
            wanted = {"outcome": "reject", "reason": f"no {body}\nTraceback"}
            http.post(f"/v1/deliveries/{delivery['id']}/nack", json=wanted).raise_for_status()


def test_looking(gateway: GatewayProcess, cli: Cli) -> None:
    bury(gateway, "look", "one", "two")
    assert "$dead/look" in good(cli("list"))
    text = good(cli("list", "look"))
    assert "rejected" in text
    assert "no one" in text
    assert "Traceback" not in text
    found = as_json(cli("list", "look", "--json"))["letters"]
    assert [letter["story"]["reason"].split("\n")[0] for letter in found] == ["no one", "no two"]
    assert "--after" in good(cli("list", "look", "--limit", "1"))
    wanted = as_json(cli("list", "look", "--selector", "reason LIKE 'no two%'", "--json"))["letters"]
    assert wanted == found[1:]
    text = good(cli("show", "look", str(found[0]["position"])))
    assert "story: cause" in text
    assert "one" in text


def test_mending_and_sending(gateway: GatewayProcess, cli: Cli) -> None:
    bury(gateway, "mend", "one", "two")
    position = as_json(cli("list", "mend", "--json"))["letters"][0]["position"]
    arguments = ("--header", "tries=3", "--header", "who=ann", "--body", "-", "--key", "k")
    mended = as_json(cli("edit", "mend", str(position), *arguments, "--json", stdin="better"))
    assert (mended["headers"], mended["body"], mended["key"]) == ({"tries": 3, "who": "ann"}, "better", "k")
    assert "2 would be sent" in good(cli("replay", "mend", "--dry-run"))
    assert as_json(cli("replay", "mend", "--position", str(mended["position"]), "--json"))["sent"] == 1
    assert "done" in good(cli("replay", "mend", "--to", "$queue/mend", "--limit", "5"))
    assert "mend" in good(cli("replays"))
    assert as_json(cli("list", "mend", "--json"))["letters"] == []


def test_a_slow_one_is_stopped(gateway: GatewayProcess, cli: Cli) -> None:
    bury(gateway, "slow", "1", "2", "3")
    job = as_json(cli("replay", "slow", "--rate", "1", "--no-wait", "--json"))
    assert "is stopped" in good(cli("stop", str(job["id"])))
    (row,) = [each for each in as_json(cli("replays", "--json"))["replays"] if each["id"] == job["id"]]
    assert row["state"] == "stopped"


def test_purging(gateway: GatewayProcess, cli: Cli) -> None:
    bury(gateway, "purge", "1", "2")
    assert cli("purge", "purge").exit_code == 1
    assert cli("purge", "purge", "--count", "1").exit_code == 1
    assert "2 letters are gone" in good(cli("purge", "purge", "--count", "2"))
    bury(gateway, "purge", "3")
    assert as_json(cli("purge", "purge", "--yes", "--json")) == {"purged": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "nobody"), "has no dead letters"),
        (("list", "look", "--selector", "size ="), "column"),
        (("show", "look", "1"), "no letter 1"),
        (("edit", "look", "1"), "nothing to change"),
        (("edit", "look", "1", "--header", "x"), "NAME=VALUE"),
        (("replay", "look", "--to", "$sys/x"), "own topics"),
        (("stop", "999"), "no replay"),
    ],
)
def test_refusals_are_one_line(
    gateway: GatewayProcess, cli: Cli, arguments: tuple[str, ...], words: str
) -> None:
    bury(gateway, "look", "x")
    result = cli(*arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
