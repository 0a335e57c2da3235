"""Every command of the command line, against a real gateway."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess, free_port, wait_for

Make = Callable[..., GatewayProcess]


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "120"},
    )


def good(*arguments: str, stdin: str = "") -> str:
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_names_every_command() -> None:
    text = good("--help")
    for command in (
        "serve",
        "init",
        "check",
        "publish",
        "subscribe",
        "queues",
        "topics",
        "log",
        "trace",
        "bench",
        "chaos",
        "version",
    ):
        assert command in text
        good(command, "--help")


def test_publish_and_subscribe(gateway: GatewayProcess) -> None:
    subscriber = subprocess.Popen(
        [sys.executable, "-m", "gateway", "subscribe", "a/#", "-n", "2", "--json", "--url", gateway.url],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(
        lambda: (
            "waiting" not in good("publish", "a/ready", "x", "--url", gateway.url)
            and "nobody" not in good("publish", "a/b", "hello", "--url", gateway.url)
        ),
        30,
        "a subscriber",
    )
    good("publish", "a/c", "-", "--url", gateway.url, stdin="from stdin")
    out, _ = subscriber.communicate(timeout=30)
    messages = [json.loads(line) for line in out.splitlines()]
    assert len(messages) == 2
    assert all(message["topic"].startswith("a/") for message in messages)


def test_queues_and_topics(gateway: GatewayProcess) -> None:
    url = ("--url", gateway.url)
    good("queues", "create", "q", "--bind", "work/#", "--policy", "max_length=10", *url)
    good("publish", "work/1", "job", *url)
    listed = json.loads(good("queues", "list", "--json", *url))
    assert [(q["name"], q["depth"]) for q in listed["queues"]] == [("q", 1)]
    assert "work/#" in good("queues", "show", "q", *url)
    assert "job" in good("queues", "browse", "q", *url)
    assert "work/1" in good("topics", "work", *url)
    good("queues", "purge", "q", *url)
    assert json.loads(good("queues", "show", "q", "--json", *url))["depth"] == 0
    good("queues", "delete", "q", *url)
    policy = ("--policy", "compact=true", "--policy", "durability=async")
    good("queues", "create", "last", "--kind", "stream", *policy, *url)
    shown = json.loads(good("queues", "show", "last", "--json", *url))["policy"]
    assert (shown["compact"], shown["durability"]) == (True, "async")
    good("queues", "create", "some", "--bind", "work/#", "--selector", "n > 5", *url)
    for n in ("1", "6"):
        good("publish", "work/1", n, "--header", f"n={n}", *url)
    shown = json.loads(good("queues", "show", "some", "--json", *url))
    assert (shown["depth"], shown["bindings"][0]["selector"]) == (1, "n > 5")
    assert "n > 5" in good("queues", "show", "some", *url)
    refused = run("subscribe", "a/#", "--selector", "n >", *url)
    assert (refused.returncode, "column 4" in refused.stderr) == (1, True)
    good("queues", "create", "s", "--kind", "stream", *url)
    for body in ("0", "1"):
        httpx.post(f"{gateway.url}/v1/queues/s/messages", content=body).raise_for_status()
    for to, cursor in (("earliest", 0), ("1", 1), ("2000-01-01T00:00:00Z", 0), ("latest", 2)):
        assert json.loads(good("queues", "seek", "s", "g", to, "--json", *url))["cursor"] == cursor
    assert "offset 2" in good("queues", "seek", "s", "g", "latest", *url)
    assert run("queues", "seek", "s", "g", "soon", *url).returncode == 1
    refused = run("queues", "show", "q", *url)
    assert refused.returncode == 1
    assert "does not exist" in refused.stderr


def test_bench_measures(gateway: GatewayProcess) -> None:
    for qos in ("0", "1"):
        answer = json.loads(
            good("bench", f"127.0.0.1:{gateway.mqtt_port}", "--qos", qos, "--seconds", "0.5", "--json")
        )
        assert answer["messages"] > 0


def test_a_gateway_that_is_not_there_is_one_clear_line() -> None:
    done = run("topics", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "is it running?" in done.stderr
    assert "Traceback" not in done.stderr


def test_init_check_serve_and_log_in(tmp_path: Path, make_gateway: Make) -> None:
    done = run("init", "--json", cwd=tmp_path)
    made = json.loads(done.stdout)
    password = done.stderr.rpartition("shown only now: ")[2].strip()
    assert password
    assert password not in done.stdout, "what is printed as JSON ends up in logs"
    config = tmp_path / "gateway.toml"
    assert config.stat().st_mode & 0o077 == 0
    assert run("init", cwd=tmp_path).returncode == 2, "an existing file is not overwritten"
    assert run("check", "--config", str(config)).returncode == 0
    gateway = make_gateway(dev=False, config=config).start()
    assert httpx.get(f"{gateway.url}/v1/topics").status_code == 401
    login = f"{made['admin']}:{password}"
    assert "published" in good("publish", "t", "x", "--url", gateway.url, "--user", login)
    anonymous = MqttClient(gateway.mqtt_port, "nobody")
    assert anonymous.connack.reason != 0
    known = MqttClient(gateway.mqtt_port, "somebody", username=made["admin"], password=password.encode())
    assert known.connack.reason == 0
    wrong = MqttClient(gateway.mqtt_port, "wrong", username=made["admin"], password=b"wrong")
    assert wrong.connack.reason != 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["listeners.mqt=127.0.0.1:1"], "listeners.mqt"),
        (["limits.connections_max=many"], "limits.connections_max"),
        (["listeners.mqtt=0.0.0.0:1883"], "loopback"),
        (["nonsense=1"], "nonsense"),
        (["storage.engine=floppy"], "floppy"),
        (['plugins.disabled=["mqqt"]'], "'mqqt' is not installed"),
        (['network.proxy_protocol=["http"]'], "network.proxy_protocol"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_2(tmp_path: Path, settings: list[str], said: str) -> None:
    sets = [argument for setting in settings for argument in ("--set", setting)]
    done = run("serve", "--dev", "--data", str(tmp_path), *sets)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_configuration_serve_refuses(tmp_path: Path) -> None:
    done = run("serve", cwd=tmp_path)
    assert done.returncode == 2
    assert "gateway init" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_in_use_is_one_line_and_exit_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", "--dev", "--data", str(tmp_path), "--set", f"listeners.mqtt={address}")
    assert done.returncode == 2
    assert address in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unusable_data_directory_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run("serve", "--dev", "--data", str(tmp_path / "file"), "--set", "listeners.mqtt=127.0.0.1:0")
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_gateway_on_the_same_data_is_refused(gateway: GatewayProcess) -> None:
    done = run(
        "serve", "--dev", "--data", str(gateway.data), "--set", "listeners.mqtt=", "--set", "listeners.http="
    )
    assert done.returncode == 2
    assert "another" in done.stderr


def test_sigterm_drains_and_exits_with_0(make_gateway: Make) -> None:
    gateway = make_gateway().start()
    client = MqttClient(gateway.mqtt_port, "c", 5)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    assert client.closed_by_peer()
    assert any(packet.type == 14 for packet in client.inbox), "MQTT 5 clients are told by DISCONNECT"
    assert gateway.stop() == 0


def test_it_stops_with_the_terminal_it_was_started_from(make_gateway: Make) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        os.dup2(theirs, 0)

    started = make_gateway().start(take_terminal)
    os.close(theirs)
    assert started.process is not None
    started.process.send_signal(signal.SIGHUP)  # the terminal is there: somebody wants a reload
    assert httpx.get(f"{started.url}/health").status_code == 200
    os.close(ours)
    assert started.process.wait(15) == 0
    started.process = None
