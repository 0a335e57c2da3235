"""`gateway webhooks`, in words and in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.outgoing.signing import key_of
from tests.process import GatewayProcess, wait_for
from tests.webhooks.sink import Sink, status

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path_factory.mktemp("cli") / "data").start()
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


@pytest.fixture
def cli(gateway: GatewayProcess) -> Cli:
    """Run a command."""

    def call(*arguments: str, stdin: str = "") -> Result:
        env = {"GATEWAY_URL": gateway.url, "COLUMNS": "200"}
        return CliRunner().invoke(app, arguments, input=stdin, env=env)

    return call


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(result: Result) -> Any:
    return json.loads(good(result))


def test_from_beginning_to_end(gateway: GatewayProcess, cli: Cli, sink: Sink) -> None:
    text = good(
        cli("webhooks", "add", "x", sink.url("/x"), "--filter", "a/#", "--filter", "b", "--rate", "100")
    )
    assert text.startswith("webhook 'x' is running\nits secret, shown only now: whsec_")
    assert len(key_of(text.split()[-1])) == 32
    httpx.post(f"{gateway.url}/v1/topics/a/1", content=b"hello")
    wait_for(lambda: sink.bodies("/x") == [b"hello"])
    wait_for(lambda: as_json(cli("webhooks", "show", "x", "--json"))["delivered"] == 1)
    shown = as_json(cli("webhooks", "show", "x", "--json"))
    assert (shown["filters"], shown["rate"], shown["attempts"][0]["status"]) == (["a/#", "b"], 100, 200)
    text = good(cli("webhooks", "show", "x"))
    assert "filters: a/# b" in text
    assert "200" in text
    assert "running" in good(cli("webhooks", "list"))
    assert (
        good(cli("webhooks", "pause", "x", "--reason", "moving"))
        == "webhook 'x' is paused; its messages wait\n"
    )
    assert "moving" in good(cli("webhooks", "list"))
    assert good(cli("webhooks", "resume", "x")) == "webhook 'x' goes on\n"
    assert good(cli("webhooks", "test", "x")).startswith("status 200 after ")
    text = good(cli("webhooks", "rotate", "x", "--overlap", "60"))
    assert text.startswith("webhook 'x' signs with both for 60 seconds\nits secret, shown only now: whsec_")
    assert good(cli("webhooks", "remove", "x")) == "webhook 'x' is removed\n"
    assert as_json(cli("webhooks", "list", "--json")) == {"webhooks": []}


def test_secrets_are_not_in_json(cli: Cli, sink: Sink) -> None:
    made = cli("webhooks", "add", "y", sink.url("/y"), "--filter", "a", "--json")
    assert "secret" not in as_json(made)
    assert "whsec_" in made.stderr
    mine = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    text = good(
        cli("webhooks", "add", "y", sink.url("/y"), "--filter", "a", "--secret-stdin", stdin=mine + "\n")
    )
    assert text == "webhook 'y' is running\n"


def test_a_test_that_fails_is_an_exit_status(cli: Cli, sink: Sink) -> None:
    good(cli("webhooks", "add", "z", sink.url("/z"), "--filter", "a", "--policy", '{"delivery_limit": 3}'))
    sink.answers["/z"] = status(500, b"no disk")
    result = cli("webhooks", "test", "z")
    assert (result.exit_code, result.stdout) == (1, "status 500: no disk\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "w", "https://example.com/", "--filter", "a"), "webhooks.allow"),
        (("add", "w", "http://127.0.0.1/"), "filters"),
        (("add", "w", "http://127.0.0.1/", "--filter", "a", "--policy", "{"), "--policy"),
        (("add", "w", "http://127.0.0.1/", "--filter", "a", "--selector", "a ="), "column"),
        (("show", "nowhere"), "no webhook"),
        (("remove", "nowhere"), "no webhook"),
    ],
)
def test_refusals(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    result = cli("webhooks", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stdout == ""
