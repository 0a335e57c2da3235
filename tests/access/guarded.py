"""A real gateway with users and rules, and clients for each of its doors."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pamqp import body, commands, frame, header, heartbeat

from gateway.auth.hashes import hash_password
from tests.mqtt_client import OPENED, V5, MqttClient
from tests.process import GatewayProcess, wait_for

M = TypeVar("M")
SECONDS = 10
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = dict.fromkeys(
    ("connection.blocked", "consumer_cancel_notify", "authentication_failure_close"), True
)


def password_of(name: str) -> str:
    """Return the password of a user: what a test can look for in places where it must not be."""
    return f"marked-secret-of-{name}"


@lru_cache
def hash_of(name: str) -> str:
    return hash_password(password_of(name))


class Guarded(GatewayProcess):
    """`root` is an administrator; the other users may do nothing until a rule says so."""

    def __init__(
        self, directory: Path, users: tuple[str, ...] = (), settings: str = "", sets: tuple[str, ...] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "gateway.toml"
        tables = [f'[users.root]\npassword = "{hash_of("root")}"\nadmin = true\n']
        tables += [f'[users.{name}]\npassword = "{hash_of(name)}"\n' for name in users]
        config.write_text("\n".join([*tables, settings]))
        super().__init__(directory / "data", sets, dev=False, config=config)

    # -- HTTP --------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, as_: str = "root", **options: Any) -> httpx.Response:
        """Send one request; `as_` is a user, "" nobody."""
        login = (as_, password_of(as_)) if as_ else None
        return httpx.request(method, self.url + path, auth=login, timeout=SECONDS, **options)

    def get(self, path: str, as_: str = "root") -> Any:
        found = self.ask("GET", path, as_)
        assert found.status_code == 200, found.text
        return found.json()

    def put(self, path: str, fields: dict[str, Any]) -> Any:
        found = self.ask("PUT", path, json=fields)
        assert found.status_code in (200, 201), found.text
        return found.json()

    def user(self, name: str, **fields: Any) -> None:
        """Add or change a user."""
        self.put(f"/v1/admin/users/{quote(name, safe='')}", {"password": password_of(name), **fields})

    def rule(
        self,
        name: str,
        subject: str,
        actions: str | list[str],
        *resources: str,
        decision: str = "allow",
        **more: Any,
    ) -> None:
        """Add or change a rule."""
        fields = {"decision": decision, "subject": subject, "actions": actions, "resources": resources}
        self.put(f"/v1/admin/rules/{quote(name, safe='')}", {**fields, **more})

    def quota(self, name: str, subject: str, **fields: Any) -> None:
        self.put(f"/v1/admin/quotas/{name}", {"subject": subject, **fields})

    def delete(self, path: str, status: int = 204) -> None:
        found = self.ask("DELETE", path)
        assert found.status_code == status, found.text

    def publish(self, topic: str, text: str, as_: str = "root", **options: Any) -> httpx.Response:
        return self.ask("POST", f"/v1/topics/{topic}", as_, content=text.encode(), **options)

    def metric(self, name: str) -> float:
        """Return the value of one sample, as `name{label="x"}`; 0 if it is not there."""
        text = self.ask("GET", "/metrics").text
        found = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    # -- other doors -------------------------------------------------------------------------------

    def mqtt(self, client_id: str, user: str | None = "root", version: int = V5, **more: Any) -> MqttClient:
        login = {} if user is None else {"username": user, "password": password_of(user).encode()}
        return MqttClient(self.mqtt_port, client_id, version, **{**login, **more})

    def amqp(self, user: str = "root", **more: Any) -> Amqp:
        return Amqp(self.amqp_port, user, password_of(user), **more)

    # -- what it leaves ----------------------------------------------------------------------------

    def audit(self, event: str = "") -> list[dict[str, Any]]:
        """Return the entries of the audit log, all or those of one event."""
        lines = (self.data / "audit.log").read_text().split("\n")[:-1]
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if not event or entry["event"] == event]


class Amqp:
    """One AMQP connection with one channel, over the library's codec."""

    def __init__(
        self,
        port: int,
        user: str,
        password: str,
        capabilities: dict[str, bool] | None = None,
        open: bool = True,
    ) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), SECONDS)
        OPENED.append(self.sock)
        self._data = b""
        self.seen: list[Any] = []
        self.sock.sendall(AMQP_HEADER)
        self.expect(commands.Connection.Start)
        properties: Any = {"capabilities": CAPABILITIES if capabilities is None else capabilities}
        login = f"\0{user}\0{password}"
        self.send(commands.Connection.StartOk(properties, "PLAIN", login, "en_US"), channel=0)
        if not open:
            return
        self.expect(commands.Connection.Tune)
        self.send(commands.Connection.TuneOk(0, 131072, 0), commands.Connection.Open("/"), channel=0)
        self.expect(commands.Connection.OpenOk)
        self.open_channel()

    def open_channel(self, number: int = 1) -> None:
        self.send(commands.Channel.Open(), channel=number)
        self.expect(commands.Channel.OpenOk)

    def send(self, *methods: Any, channel: int = 1) -> None:
        self.sock.sendall(b"".join(frame.marshal(method, channel) for method in methods))

    def receive(self) -> Any:
        """Return the next frame but heartbeats, or None at the end."""
        while True:
            size = struct.unpack(">I", self._data[3:7])[0] + 8 if len(self._data) >= 8 else 8
            if len(self._data) >= max(size, 8):
                piece, self._data = self._data[:size], self._data[size:]
                found = frame.unmarshal(piece)[2]
                if not isinstance(found, heartbeat.Heartbeat):
                    return found
                continue
            try:
                more = self.sock.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self._data += more

    def expect(self, kind: type[M]) -> M:
        """Return the next frame of a kind; others are kept in `seen`."""
        while True:
            found = self.receive()
            if isinstance(found, kind):
                return found
            assert found is not None, f"closed while waiting for {kind.__name__}: {self.seen}"
            self.seen.append(found)

    def call(self, method: Any, answer: type[M]) -> M:
        self.send(method)
        return self.expect(answer)

    def publish(self, exchange: str, key: str, text: bytes) -> None:
        self.send(
            commands.Basic.Publish(exchange=exchange, routing_key=key),
            header.ContentHeader(0, len(text), commands.Basic.Properties()),
            body.ContentBody(text),
        )

    def close(self) -> None:
        self.sock.close()


Done = subprocess.CompletedProcess[str]


def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Done:
    """Run a command of the command line."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )


__all__ = ["SECONDS", "Amqp", "Guarded", "password_of", "run", "wait_for"]
