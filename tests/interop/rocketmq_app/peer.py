"""Run by an interpreter that has RocketMQ's own client: does what lines of JSON say, answers each with one.

The client writes a log when it is imported, so it has a process of its own, and a home to write to: this
file imports nothing of ours. Many clients live here, each by the name that its command gave it. Commands run
side by side: an answer has the id of its command, and comes when it comes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.v5.client.connection import RpcClient

AT_ONCE_MAX = 128  # commands under way: each has a thread
#: In the main thread, as applications do it: in another one, unless an event loop is set there, the client
#: may find "no current event loop", and goes on without its Telemetry.
STARTS = ("producer", "simple", "push")
RESULTS = {"ok": ConsumeResult.SUCCESS, "fail": ConsumeResult.FAILURE}
RESOLUTIONS = {"commit": TransactionResolution.COMMIT, "rollback": TransactionResolution.ROLLBACK}
#: What is set of a message that is sent, as it is called in a line.
SETTABLE = ("tag", "keys", "message_group", "delivery_timestamp", "priority")


def message_of(line: dict[str, Any]) -> Message:
    """Return the message that a line describes."""
    message = Message()
    message.topic = line["topic"]
    message.body = base64.b64decode(line["body"])
    for name in SETTABLE:
        if name == "keys":
            for key in line.get(name, ()):
                message.keys = key
        elif line.get(name) is not None:
            setattr(message, name, line[name])
    for name, value in line.get("properties", {}).items():
        message.add_property(name, value)
    return message


def told(message: Message) -> dict[str, Any]:
    """Return a message as a line has it."""
    return {
        "topic": message.topic,
        "body": base64.b64encode(message.body).decode(),
        "tag": message.tag,
        "keys": sorted(message.keys),
        "message_group": message.message_group,
        "delivery_timestamp": message.delivery_timestamp,
        "priority": message.priority,
        "properties": message.properties,
        "message_id": message.message_id,
        "attempt": message.delivery_attempt,
        "born_host": message.born_host,
        "born_timestamp": message.born_timestamp,
        "message_type": message.message_type,
        "corrupted": message.corrupted,
        "handle": message.receipt_handle,
    }


def filters(line: dict[str, Any]) -> dict[str, FilterExpression]:
    """Return subscriptions: topic -> tags, or SQL if it begins so."""
    found = {}
    for topic, text in line.get("subscription", {}).items():
        sql = text.startswith("sql:")
        found[topic] = FilterExpression(text[4:], 2) if sql else FilterExpression(text)
    return found


class Listener(MessageListener):
    """Notes what it is given. What it says of it is by body: of each attempt; the last for all more."""

    def __init__(self, results: dict[str, list[str]]) -> None:
        self.results = {body: list(says) for body, says in results.items()}
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()
        self._lock = threading.Lock()

    def consume(self, message: Message) -> ConsumeResult:
        with self._lock:
            says = self.results.get(message.body.decode(errors="replace"), [])
            result = (says.pop(0) if len(says) > 1 else says[0]) if says else "ok"
        self.got.put({**told(message), "result": result})
        return RESULTS[result]


class Checker(TransactionChecker):
    """Answers for orphans, by body; all others: no answer that ends one."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.got: queue.Queue[dict[str, Any]] = queue.Queue()

    def check(self, message: Message) -> TransactionResolution:
        self.got.put(told(message))
        answer = self.answers.get(message.body.decode(errors="replace"), "")
        return RESOLUTIONS.get(answer, TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED)


class Peer:
    """All clients of the process."""

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.listeners: dict[str, Any] = {}
        self.held: dict[str, Message] = {}
        self.transactions: dict[str, Any] = {}

    def producer(self, line: dict[str, Any]) -> dict[str, Any]:
        checker = Checker(line.get("checks", {}))
        made = Producer(configuration(line), line.get("topics", []), checker, tls_enable=line["tls"])
        return self._start(line, made, checker)

    def simple(self, line: dict[str, Any]) -> dict[str, Any]:
        made = SimpleConsumer(
            configuration(line), line["group"], filters(line), line["wait"], tls_enable=line["tls"]
        )
        return self._start(line, made)

    def push(self, line: dict[str, Any]) -> dict[str, Any]:
        listener = Listener(line.get("results", {}))
        made = PushConsumer(
            configuration(line),
            line["group"],
            listener,
            filters(line),
            consumption_thread_count=4,
            tls_enable=line["tls"],
        )
        return self._start(line, made, listener)

    def _start(self, line: dict[str, Any], client: Any, listener: Any = None) -> dict[str, Any]:
        client.startup()
        self.clients[line["name"]] = client
        self.listeners[line["name"]] = listener
        return {"client_id": client.client_id}

    def close(self, line: dict[str, Any]) -> dict[str, Any]:
        self.clients.pop(line["name"]).shutdown()
        return {}

    def send(self, line: dict[str, Any]) -> dict[str, Any]:
        client, message = self.clients[line["name"]], message_of(line)
        transaction = None
        if "transaction" in line:
            transaction = self.transactions[line["transaction"]] = client.begin_transaction()
        receipt = client.send(message, transaction)
        return {
            "message_id": receipt.message_id,
            "transaction_id": receipt.transaction_id,
            "recall_handle": receipt.recall_handle,
            "offset": receipt.offset,
        }

    def send_many(self, line: dict[str, Any]) -> dict[str, Any]:
        """Send side by side; return the message ids, or what went wrong."""
        client = self.clients[line["name"]]
        futures = [client.send_async(message_of({**line, "body": body})) for body in line["bodies"]]
        found = [future.exception(60) or future.result().message_id for future in futures]
        return {"message_ids": [one if isinstance(one, str) else None for one in found]}

    def end(self, line: dict[str, Any]) -> dict[str, Any]:
        transaction = self.transactions[line["transaction"]]
        (transaction.commit if line["resolution"] == "commit" else transaction.rollback)()
        return {}

    def recall(self, line: dict[str, Any]) -> dict[str, Any]:
        return {"message_id": self.clients[line["name"]].recall_message(line["topic"], line["handle"])}

    def receive(self, line: dict[str, Any]) -> dict[str, Any]:
        messages = self.clients[line["name"]].receive(line["max"], line["invisible"])
        self.held.update((message.receipt_handle, message) for message in messages)
        return {"messages": [told(message) for message in messages]}

    def ack(self, line: dict[str, Any]) -> dict[str, Any]:
        client = self.clients[line["name"]]
        for handle in line["handles"]:
            client.ack(self.held[handle])
        for handle in line["handles"]:
            del self.held[handle]
        return {}

    def change(self, line: dict[str, Any]) -> dict[str, Any]:
        message = self.held[line["handle"]]
        self.clients[line["name"]].change_invisible_duration(message, line["invisible"])
        self.held[message.receipt_handle] = message
        return {"handle": message.receipt_handle}

    def subscribe(self, line: dict[str, Any]) -> dict[str, Any]:
        for topic, expression in filters(line).items():
            self.clients[line["name"]].subscribe(topic, expression)
        return {}

    def unsubscribe(self, line: dict[str, Any]) -> dict[str, Any]:
        self.clients[line["name"]].unsubscribe(line["topic"])
        return {}

    def got(self, line: dict[str, Any]) -> dict[str, Any]:
        """Wait for what a push consumer was given, or a checker was asked."""
        try:
            return {"message": self.listeners[line["name"]].got.get(timeout=line["seconds"])}
        except queue.Empty:
            return {"message": None}


def configuration(line: dict[str, Any]) -> ClientConfiguration:
    """Return where a client goes, and as whom."""
    credentials = Credentials(line.get("access_key", ""), line.get("secret", ""))
    return ClientConfiguration(line["endpoints"], credentials, line.get("namespace", ""))


def main() -> None:
    """Answer lines until there are no more."""
    peer, lock = Peer(), threading.Lock()

    def answer(line: dict[str, Any]) -> None:
        if (loop := RpcClient.get_channel_io_loop()) is not None:
            asyncio.set_event_loop(loop)
        try:
            found = getattr(peer, line["do"])(line)
        except Exception as error:
            code = getattr(error, "code", None)
            code = int(code) if isinstance(code, int) else None  # gRPC's own errors have a method there
            found = {"failed": type(error).__name__, "why": str(error), "code": code}
        with lock:
            print(json.dumps({**found, "id": line["id"]}), flush=True)

    pool = ThreadPoolExecutor(AT_ONCE_MAX)
    for text in sys.stdin:
        line = json.loads(text)
        if line["do"] in STARTS:
            answer(line)
        else:
            pool.submit(answer, line)
    os._exit(0)  # whoever is in a long poll ends with its process


if __name__ == "__main__":
    main()
