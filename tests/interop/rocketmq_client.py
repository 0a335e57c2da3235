"""RocketMQ's own clients for tests, each in a process: `rocketmq_app/peer.py`, `node_app/rocketmq_peer.js`.

One process has many clients, so a test module needs one; a command that waits (a long poll) is under way
while others go on.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from tests.peers import NODE_APP, node_package, python_with
from tests.process import RocketGateway

PEER: Final = Path(__file__).with_name("rocketmq_app") / "peer.py"
ANSWER_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 10  # a consumer's long poll: answered when there is something


class Failed(Exception):
    """The client raised something: the name of its exception, what it says, and the status it was told."""

    def __init__(self, name: str, why: str, code: int | None) -> None:
        super().__init__(name, why, code)
        self.name, self.why, self.code = name, why, code


class Received:
    """A message as a consumer has it."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.body: bytes = base64.b64decode(line["body"])
        self.topic: str = line["topic"]
        self.tag: str | None = line["tag"]
        self.keys: list[str] = line["keys"]
        self.group: str | None = line["message_group"]
        self.due_ms: int | None = line["delivery_timestamp"]
        self.priority: int | None = line["priority"]
        self.properties: dict[str, str] = line["properties"]
        self.id: str = line["message_id"]
        self.attempt: int = line["attempt"]
        self.born_host: str = line["born_host"]
        self.born_ms: int = line["born_timestamp"]
        self.corrupted: bool = line["corrupted"]
        self.handle: str = line["handle"]
        self.result: str = line.get("result", "")

    def __repr__(self) -> str:
        return f"<{self.topic} {self.body[:40]!r} attempt {self.attempt}>"


def _python() -> list[str]:
    return [python_with("rocketmq", "GATEWAY_TEST_ROCKETMQ_PYTHON"), "-P", str(PEER)]


def _node() -> list[str]:
    return [node_package("rocketmq-client-nodejs"), "rocketmq_peer.js"]


_COMMANDS: Final = {"python": _python, "node": _node}
KINDS: Final = tuple(_COMMANDS)


class RocketPeer:
    """The process: of the client for Python, or of the one for Node."""

    def __init__(self, kind: str = "python", roots: Path | None = None) -> None:
        self.kind = kind
        command = _COMMANDS[kind]()  # skips where the client is missing
        self._home = tempfile.TemporaryDirectory()
        variables = {**os.environ, "HOME": self._home.name}
        if roots is not None:  # the client takes the system's: no way to name others but this one
            variables["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(roots)
        self.process = subprocess.Popen(
            command,
            cwd=PEER.parent if kind == "python" else NODE_APP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        )
        self.errors: list[str] = []
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._count = 0
        threading.Thread(target=self._read_errors, daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self.errors += self.process.stderr

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for text in self.process.stdout:
                line = json.loads(text)
                self._asked.pop(line["id"]).set_result(line)
        with self._lock:
            left, self._asked = self._asked, {}
        for future in left.values():
            future.set_exception(AssertionError(f"the client has ended: {''.join(self.errors[-20:])}"))

    def begin(self, do: str, **line: Any) -> Future[dict[str, Any]]:
        """Tell it to do something; `finish` waits for that."""
        future: Future[dict[str, Any]] = Future()
        assert self.process.stdin is not None
        with self._lock:
            self._count += 1
            self._asked[self._count] = future
            self.process.stdin.write(json.dumps({"do": do, **line, "id": self._count}) + "\n")
            self.process.stdin.flush()
        return future

    @staticmethod
    def finish(future: Future[dict[str, Any]]) -> dict[str, Any]:
        """Return the answer. Raise Failed."""
        found = future.result(ANSWER_SECONDS_MAX)
        if "failed" in found:
            raise Failed(found["failed"], found["why"], found["code"])
        return found

    def ask(self, do: str, **line: Any) -> dict[str, Any]:
        """Have it done."""
        return self.finish(self.begin(do, **line))

    def producer(self, place: str | RocketGateway, name: str = "producer", **more: Any) -> Producer:
        """Start a producer. `checks`: its answers for orphans, body -> commit or rollback."""
        return Producer(self, "producer", place, name, more)

    def simple(
        self,
        place: str | RocketGateway,
        group: str,
        subscription: dict[str, str] | str,
        name: str = "",
        **more: Any,
    ) -> Simple:
        """Start a simple consumer of a topic, or of topics with their filters: tags, or SQL after `sql:`."""
        made = {"group": group, "subscription": _topics(subscription), "wait": POLL_SECONDS, **more}
        return Simple(self, "simple", place, name or f"simple {group}", made)

    def push(
        self,
        place: str | RocketGateway,
        group: str,
        subscription: dict[str, str] | str,
        name: str = "",
        **more: Any,
    ) -> Push:
        """Start a push consumer. `results`: body -> what its listener says, `ok` or `fail`, in turn."""
        made = {"group": group, "subscription": _topics(subscription), **more}
        return Push(self, "push", place, name or f"push {group}", made)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self._home.cleanup()

    def __enter__(self) -> RocketPeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _topics(subscription: dict[str, str] | str) -> dict[str, str]:
    return {subscription: "*"} if isinstance(subscription, str) else subscription


class _Client:
    def __init__(
        self, peer: RocketPeer, kind: str, place: str | RocketGateway, name: str, more: dict[str, Any]
    ) -> None:
        endpoints = place if isinstance(place, str) else place.endpoints
        self.peer, self.name = peer, name
        started = peer.ask(kind, name=name, endpoints=endpoints, **{"tls": False, **more})
        self.client_id: str = started["client_id"]

    def ask(self, do: str, **line: Any) -> dict[str, Any]:
        """Have something done by this client."""
        return self.peer.ask(do, name=self.name, **line)

    def close(self) -> None:
        """Shut it down as an application does."""
        self.ask("close")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Producer(_Client):
    """Sends."""

    def send(self, topic: str, body: bytes, **more: Any) -> dict[str, Any]:
        """Send a message; return its receipt. `transaction`: the name of one that it begins."""
        return self.ask("send", topic=topic, body=base64.b64encode(body).decode(), **more)

    def begin_many(self, topic: str, bodies: Iterable[bytes], **more: Any) -> Future[dict[str, Any]]:
        """Begin to send side by side; `sent` waits for that."""
        texts = [base64.b64encode(body).decode() for body in bodies]
        return self.peer.begin("send_many", name=self.name, topic=topic, bodies=texts, **more)

    def sent(self, future: Future[dict[str, Any]]) -> list[str | None]:
        """Return the ids of what was sent, or None for what failed."""
        found: list[str | None] = self.peer.finish(future)["message_ids"]
        return found

    def send_many(self, topic: str, bodies: Iterable[bytes], **more: Any) -> list[str | None]:
        """Send side by side; return the ids, or None for what failed."""
        return self.sent(self.begin_many(topic, bodies, **more))

    def commit(self, transaction: str) -> None:
        """End a transaction well."""
        self.ask("end", transaction=transaction, resolution="commit")

    def rollback(self, transaction: str) -> None:
        """End it otherwise."""
        self.ask("end", transaction=transaction, resolution="rollback")

    def recall(self, topic: str, handle: str) -> str:
        """Take a delayed message back; return its id."""
        found: str = self.ask("recall", topic=topic, handle=handle)["message_id"]
        return found

    def checked(self, seconds: float = 20) -> Received | None:
        """Return the next orphan that its checker is asked about."""
        line = self.ask("got", seconds=seconds)["message"]
        return Received(line) if line is not None else None


class Simple(_Client):
    """Receives when it is told to."""

    def begin(self, count: int = 32, invisible: int = 60) -> Future[dict[str, Any]]:
        """Begin a long poll."""
        return self.peer.begin("receive", name=self.name, max=count, invisible=invisible)

    def receive(self, count: int = 32, invisible: int = 60) -> list[Received]:
        """Return what there is, soon if there is something."""
        return self.messages(self.begin(count, invisible))

    def messages(self, future: Future[dict[str, Any]]) -> list[Received]:
        """Return what a long poll has brought."""
        return [Received(line) for line in self.peer.finish(future)["messages"]]

    def collect(self, count: int, invisible: int = 60) -> list[Received]:
        """Receive and acknowledge until there are so many."""
        found: list[Received] = []
        while len(found) < count:
            some = self.receive(32, invisible)
            assert some, f"{len(found)} of {count} have come"
            self.ack(*some)
            found += some
        return found

    def ack(self, *messages: Received) -> None:
        """Acknowledge."""
        self.ask("ack", handles=[message.handle for message in messages])

    def change(self, message: Received, invisible: int) -> None:
        """Hold a message for so long from now."""
        message.handle = self.ask("change", handle=message.handle, invisible=invisible)["handle"]


class Push(_Client):
    """Has messages pushed to its listener."""

    def next(self, seconds: float = 20) -> Received:
        """Return the next message its listener was given."""
        line = self.ask("got", seconds=seconds)["message"]
        assert line is not None, f"{self.name} was given nothing for {seconds} s"
        return Received(line)
