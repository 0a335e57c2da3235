"""No secret is ever written, said or shown: marked ones are used everywhere, then searched for everywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from pamqp import commands

from gateway.protocols.mqtt.packets import V5, V311
from tests.access.guarded import Amqp, Guarded, run
from tests.mqtt_client import MqttClient

MARK = "xyzzy"  # in every secret, good or wrong, that this test uses
GOOD, WRONG, NEW, TOKEN = (f"{MARK}-{what}-password" for what in ("good", "wrong", "new", "token"))


def test_no_secret_is_to_be_found(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    gateway = guard()
    said: list[str] = []
    _administer(gateway, said)
    _log_in(gateway, said)
    _command(gateway, said, tmp_path)
    said.append(gateway.ask("GET", "/metrics").text)
    said.append(gateway.ask("GET", "/v1/queues/%24sys%2Faudit/browse?limit=1000").text)
    assert "login.refused" in said[-1]
    gateway.stop()
    assert gateway.audit("user.create")
    said += gateway.lines + gateway.errors
    encoded = base64.b64encode(MARK.encode()).decode()[:6].encode()
    for name, content in _files(gateway.data.parent):
        assert MARK.encode() not in content, name
        assert encoded not in content, name
    for text in said:
        assert MARK not in text
        assert encoded.decode() not in text


def _files(directory: Path) -> list[tuple[str, bytes]]:
    found = [Path(parent) / name for parent, _, names in os.walk(directory) for name in names]
    assert {"audit.log", "gateway.toml"} <= {path.name for path in found}
    return [(str(path), path.read_bytes()) for path in found]


def _administer(gateway: Guarded, said: list[str]) -> None:
    """Change users, rightly and wrongly."""
    user = "/v1/admin/users/ann"

    def ask(method: str, path: str, body: Any = None) -> None:
        said.append(gateway.ask(method, path, json=body).text)

    ask("PUT", user, {"password": NEW, "groups": ["g"]})
    ask("PUT", user, {"password": GOOD})
    ask("PUT", user, {"password": GOOD, "admin": MARK[:0] + "yes"})
    ask("PUT", user, {"password_hash": GOOD})
    ask("PUT", user, {"password_hash": "$argon2id$v=19$m=1,t=1,p=1$" + GOOD})
    ask("PUT", user, {"password": [GOOD]})
    ask("PUT", user, {"password": GOOD * 200})
    ask("POST", "/v1/admin/users", {"users": [{"name": "eve", "password": NEW}]})
    ask("POST", "/v1/admin/users", {"users": [{"name": "eve", "password": {"x": NEW}}]})
    ask("GET", "/v1/admin/users")
    ask("GET", user)
    ask("POST", "/v1/admin/explain", {"action": "publish", "topic": "a", "as": "ann"})
    said.append(gateway.ask("PUT", user, content=f'{{"password": "{GOOD}"'.encode()).text)
    gateway.rule("all", "user:ann", ["publish", "subscribe"], "topic:#")


def _log_in(gateway: Guarded, said: list[str]) -> None:
    """Log in at each door, rightly and wrongly, and do something."""
    url = gateway.url + "/v1/topics/t"
    renewed = Amqp(gateway.amqp_port, "ann", GOOD)  # later its address has to wait
    for password in (GOOD, WRONG, NEW):
        said.append(httpx.post(url, auth=("ann", password), content=b"x").text)
        said.append(httpx.post(url, headers={"authorization": f"Basic {password}"}).text)
        for version in (V5, V311):
            client = MqttClient(gateway.mqtt_port, "c", version, username="ann", password=password.encode())
            said.append(repr(client.connack))
            if not client.connack.reason:
                client.publish_stored("$sys/x", b"x")
            client.close()
        amqp = Amqp(gateway.amqp_port, "ann", password, open=False)
        said.append(str(dict(amqp.receive())))
        amqp.close()
    for token in (TOKEN, f"{TOKEN}.{TOKEN}.{TOKEN}"):
        said.append(httpx.post(url, headers={"authorization": f"Bearer {token}"}).text)
        said.append(httpx.post(url, headers={"authorization": f"{token} x"}).text)
    nonsense = MqttClient(
        gateway.mqtt_port,
        "d",
        V5,
        username="ann",
        password=WRONG.encode(),
        properties={"authentication_method": "NO-SUCH", "authentication_data": TOKEN.encode()},
    )
    said.append(repr(nonsense.connack))
    renewed.send(commands.Connection.UpdateSecret(WRONG, "expired"), channel=0)
    said.append(str(dict(renewed.expect(commands.Connection.Close))))


def _command(gateway: Guarded, said: list[str], directory: Path) -> None:
    """Use the command line, rightly and wrongly; what it makes up is shown once and is not marked."""
    login = ("--url", gateway.url, "--user", "root:marked-secret-of-root")
    config = directory / "wrong.toml"
    config.write_text(f'[users.ann]\npassword = "{WRONG}"\n[listeners]\nmqtt = ""\n')
    mine: list[tuple[str, ...]] = [
        ("users", "add", "cli", "--password-stdin", *login),
        ("users", "change", "cli", "--password-stdin", *login),
        ("users", "list", *login),
        ("users", "list", "--url", gateway.url, "--user", f"ann:{WRONG}"),
        ("acl", "list", "--url", "http://127.0.0.1:1", "--user", f"ann:{GOOD}"),
    ]
    done: list[subprocess.CompletedProcess[str]] = []
    for arguments in mine:
        for extra in ((), ("--json",)):
            done.append(run(*arguments, *extra, stdin=NEW + "\n"))
    done.append(run("check", "--config", str(config)))
    done.append(run("serve", "--config", str(config)))
    assert done[0].returncode == 0, done[0].stderr
    assert json.loads(done[3].stdout)["name"] == "cli"
    assert done[-1].returncode != 0
    said += [text for each in done for text in (each.stdout, each.stderr)]
