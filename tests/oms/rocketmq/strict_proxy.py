"""A stand-in for RocketMQ's own proxy, strict where a gateway is not: run as a program.

In memory, by gRPC's threads; two brokers that share nothing. It knows a client by its settings only, wants
ten seconds of invisibility, takes delays one at a time, answers a batch with one entry, and has no procedures
by offset. A group is in order if a topic of its begins with `fifo`. What is sent to `flaky` is stored, and
refused the first time. `moving` is at both brokers when a client first asks, and later at the first. Who
sends to `curious` is asked things, and told to connect anew. Prints its ports; a line on standard input is
answered with the requests since the last.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from gateway.rocketmq.numbers import Code, DigestType, MessageType, Permission
from gateway.rocketmq.payload import digest, to_ms
from gateway.rocketmq.properties import RESERVED
from gateway.rocketmq.schema import CLASSES, Endpoints, Message, MessageQueue, Status, TelemetryCommand
from gateway.rocketmq.signature import sign
from gateway.rocketmq.tables import PROCEDURES, SERVICE

ACCESS_KEY, SECRET = "alice", b"wonderland"
POLL_SECONDS_MIN = 5.0  # that a client's deadline has to leave
INVISIBLE_MS_MIN = 10_000
BODY_BYTES_MAX = 1 << 20
CHECK_SECONDS = 0.3  # after which it asks about a transaction, and between its questions
ATTEMPTS_MAX = 3
ALONE = {MessageType.DELAY, MessageType.TRANSACTION, MessageType.PRIORITY}

OK = Status(code=Code.OK)


class Refused(Exception):
    """A request is answered with this."""

    def __init__(self, code: Code, text: str = "") -> None:
        super().__init__(code, text)
        self.status = Status(code=code, message=text or code.name)


class Stored:
    """A message, for one group."""

    def __init__(self, message: Any, due: float = 0.0) -> None:
        self.message = message
        self.due = due
        self.attempt = 0
        self.handle = ""

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.message.system_properties.message_id)


class Broker:
    """One broker with its proxy; the procedures by their names."""

    def __init__(self, name: str, ports: list[int]) -> None:
        self.name = name
        self.ports = ports
        self.lock = threading.Condition()
        self.topics: dict[str, list[Stored]] = {}
        self.groups: dict[tuple[str, str], list[Stored]] = {}
        self.halves: dict[str, Any] = {}
        self.clients: dict[str, Any] = {}
        self.streams: dict[str, queue.Queue[Any]] = {}
        self.refused: set[str] = set()
        self.requests: list[tuple[str, int]] = []
        self.told = 0
        self.moved: set[str] = set()
        self.bothered = False
        self.numbers = itertools.count(1)

    # -- who, and where

    def client(self, context: Any) -> str:
        """Return who calls. Raise Refused."""
        metadata = dict(context.invocation_metadata())
        header = metadata.get("authorization", "")
        signature = sign(SECRET, metadata["x-mq-date-time"].encode()).decode()
        if f"Credential={ACCESS_KEY}," not in header or not header.endswith(signature):
            raise Refused(Code.UNAUTHORIZED, "no such user, or a bad signature")
        return str(metadata["x-mq-client-id"])

    def known(self, client: str) -> Any:
        """Return a client's settings. Raise Refused."""
        if client not in self.clients:  # the proxy stumbles over it
            raise Refused(Code.INTERNAL_SERVER_ERROR, f"no settings of {client}")
        return self.clients[client]

    def queues(self, topic: Any, number: int) -> list[Any]:
        """Return the queues of a topic: one at each broker."""
        made = []
        for index, port in enumerate(self.ports):
            one = MessageQueue(topic=topic, id=number, permission=Permission.READ_WRITE)
            one.accept_message_types.extend([1, 2, 3, 4, 6])
            one.broker.name = f"broker-{index}"
            address = {"host": "127.0.0.1", "port": port}
            one.broker.endpoints.CopyFrom(Endpoints(scheme=1, addresses=[address]))
            made.append(one)
        return made

    def QueryRoute(self, request: Any, client: str) -> Any:
        if request.topic.name.startswith("unknown"):
            raise Refused(Code.TOPIC_NOT_FOUND)
        queues = self.queues(request.topic, 0)
        if request.topic.name == "moving":
            self.requests.append(("QueryRoute", 1))
            if client in self.moved:
                queues.pop()
            self.moved.add(client)
        return {"message_queues": queues}

    def QueryAssignment(self, request: Any, client: str) -> Any:
        make = CLASSES["Assignment"]
        return {"assignments": [make(message_queue=one) for one in self.queues(request.topic, -1)]}

    def Heartbeat(self, request: Any, client: str) -> Any:
        self.requests.append(("Heartbeat", int(self.name[-1])))
        if client not in self.clients:
            raise Refused(Code.UNRECOGNIZED_CLIENT_TYPE)
        return {}

    def NotifyClientTermination(self, request: Any, client: str) -> Any:
        self.requests.append(("NotifyClientTermination", 1))
        self.clients.pop(client, None)
        return {}

    def telemetry(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """Telemetry."""
        try:
            client = self.client(context)
        except Refused as refused:
            yield TelemetryCommand(status=refused.status)
            return
        self.requests.append(("Telemetry", 1))
        out = self.streams[client] = queue.Queue()
        threading.Thread(target=self.read, args=(requests, client, out), daemon=True).start()
        yield from iter(out.get, None)

    def read(self, requests: Iterator[Any], client: str, out: queue.Queue[Any]) -> None:
        """Answer what comes by a stream of Telemetry."""
        try:
            for command in requests:
                if command.WhichOneof("command") != "settings":
                    self.requests.append(("answer", command.status.code))
                    continue
                out.put(TelemetryCommand(status=OK, settings=self.settle(client, command.settings)))
                if any(topic.name == "curious" for topic in command.settings.publishing.topics):
                    self.bother(out)
        except Exception:
            pass  # the client hung up
        out.put(None)

    def bother(self, out: queue.Queue[Any]) -> None:
        """Ask a client for all that it need not know, once, and send it away."""
        if not self.bothered:
            self.bothered = True
            for name in ("print_thread_stack_trace_command", "verify_message_command"):
                command = TelemetryCommand()
                getattr(command, name).nonce = "n"
                out.put(command)
            command = TelemetryCommand()
            command.reconnect_endpoints_command.nonce = "n"
            threading.Timer(CHECK_SECONDS, out.put, (command,)).start()

    def settle(self, client: str, settings: Any) -> Any:
        """Note a client's settings; return what it is told."""
        self.clients[client] = settings
        told = type(settings)()
        told.CopyFrom(settings)
        told.backoff_policy.max_attempts = ATTEMPTS_MAX
        if settings.HasField("publishing"):
            told.publishing.max_body_size = BODY_BYTES_MAX
            told.backoff_policy.exponential_backoff.initial.FromMilliseconds(10)
            told.backoff_policy.exponential_backoff.max.FromMilliseconds(1000)
            told.backoff_policy.exponential_backoff.multiplier = 2
            return told
        topics = [entry.topic.name for entry in settings.subscription.subscriptions]
        told.subscription.fifo = any(topic.startswith("fifo") for topic in topics)
        told.subscription.long_polling_timeout.FromSeconds(20)
        told.backoff_policy.customized_backoff.next.add().FromMilliseconds(100)
        return told

    # -- sending

    def SendMessage(self, request: Any, client: str) -> Any:
        self.known(client)
        messages = request.messages
        self.requests.append(("SendMessage", len(messages)))
        kinds = {one.system_properties.message_type for one in messages}
        alike = {(one.topic.name, one.system_properties.message_group) for one in messages}
        if len(kinds) > 1 or len(alike) > 1 or (len(messages) > 1 and kinds & ALONE):
            raise Refused(Code.BAD_REQUEST, "these may not come together")
        for one in messages:
            self.check(one)
        entries = [self.store(one) for one in messages]
        first = entries[0]
        if messages[0].topic.name == "flaky" and first["message_id"] not in self.refused:
            self.refused.add(first["message_id"])
            raise Refused(Code.INTERNAL_SERVER_ERROR, "this once")
        first["message_id"] = ",".join(entry["message_id"] for entry in entries)
        return {"entries": [CLASSES["SendResultEntry"](status=OK, **first)]}

    def check(self, one: Any) -> None:
        """Raise Refused for a message that the proxy refuses."""
        system = one.system_properties
        if not one.body:
            raise Refused(Code.MESSAGE_BODY_EMPTY)
        if len(system.message_id) != 34:
            raise Refused(Code.ILLEGAL_MESSAGE_ID)
        if RESERVED & set(one.user_properties):
            raise Refused(Code.ILLEGAL_MESSAGE_PROPERTY_KEY)
        if system.HasField("delivery_timestamp") != (system.message_type == MessageType.DELAY):
            raise Refused(Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE)

    def store(self, one: Any) -> dict[str, Any]:
        """Store a message; return what its sender is told."""
        system = one.system_properties
        entry: dict[str, Any] = {"message_id": system.message_id}
        due = 0.0
        if system.message_type == MessageType.TRANSACTION:
            entry["transaction_id"] = f"T{next(self.numbers)}"
            self.halves[entry["transaction_id"]] = one
            self.ask_later(entry["transaction_id"])
            return entry
        if system.message_type == MessageType.DELAY:
            due = to_ms(system.delivery_timestamp) / 1000
            entry["recall_handle"] = system.message_id
        self.publish(one, due)
        return entry

    def publish(self, one: Any, due: float = 0.0) -> None:
        """Give a message to all groups of its topic."""
        with self.lock:
            self.topics.setdefault(one.topic.name, []).append(Stored(one, due))
            for (_, topic), waiting in self.groups.items():
                if topic == one.topic.name:
                    waiting.append(Stored(one, due))
            self.lock.notify_all()

    def RecallMessage(self, request: Any, client: str) -> Any:
        now, handle = time.time(), request.recall_handle
        with self.lock:
            lists = [waiting for (_, topic), waiting in self.groups.items() if topic == request.topic.name]
            lists.append(self.topics.get(request.topic.name, []))
            if not any(one.id == handle and one.due > now for one in lists[-1]):
                raise Refused(Code.NOT_FOUND)
            for waiting in lists:
                waiting[:] = [one for one in waiting if one.id != handle]
        return {"message_id": handle}

    def EndTransaction(self, request: Any, client: str) -> Any:
        self.requests.append(("EndTransaction", request.source))
        one = self.halves.pop(request.transaction_id, None)
        if one is None or one.system_properties.message_id != request.message_id:
            raise Refused(Code.INVALID_TRANSACTION_ID)
        if request.resolution == 1:
            self.publish(one)
        return {}

    def ask_later(self, transaction_id: str) -> None:
        """Ask about a transaction, if it is still open then."""
        timer = threading.Timer(CHECK_SECONDS, self.ask, (transaction_id,))
        timer.daemon = True
        timer.start()

    def ask(self, transaction_id: str) -> None:
        """Ask those who send to its topic about a transaction."""
        one = self.halves.get(transaction_id)
        if one is None:
            return
        for client, settings in list(self.clients.items()):
            if any(topic.name == one.topic.name for topic in settings.publishing.topics):
                command = TelemetryCommand()
                command.recover_orphaned_transaction_command.message.CopyFrom(one)
                command.recover_orphaned_transaction_command.transaction_id = transaction_id
                self.streams[client].put(command)
        self.ask_later(transaction_id)

    # -- receiving

    def receive(self, request: Any, context: Any) -> Iterator[Any]:
        """ReceiveMessage."""
        response = CLASSES["ReceiveMessageResponse"]
        try:
            self.known(self.client(context))
            found = self.pop(request, context)
        except Refused as refused:
            yield response(status=refused.status)
            return
        yield response(status=OK if found else Status(code=Code.MESSAGE_NOT_FOUND))
        for one in found:
            message = Message()
            message.CopyFrom(one.message)
            system = message.system_properties
            system.receipt_handle, system.delivery_attempt = one.handle, one.attempt
            system.body_digest.type = DigestType.CRC32
            system.body_digest.checksum = digest(DigestType.CRC32, message.body)
            if message.topic.name == "corrupted" and one.attempt == 1:
                system.body_digest.checksum = "00000000"
            yield response(message=message)

    def pop(self, request: Any, context: Any) -> list[Stored]:
        """Wait for messages."""
        self.requests.append(("ReceiveMessage", int(self.name[-1])))
        if request.message_queue.broker.name != self.name:
            raise Refused(Code.BAD_REQUEST, f"this is {self.name}")
        if not request.auto_renew and to_ms(request.invisible_duration) < INVISIBLE_MS_MIN:
            raise Refused(Code.ILLEGAL_INVISIBLE_TIME)
        if context.time_remaining() < POLL_SECONDS_MIN:
            raise Refused(Code.ILLEGAL_POLLING_TIME)
        invisible = 60.0 if request.auto_renew else to_ms(request.invisible_duration) / 1000
        end = time.time() + min(to_ms(request.long_polling_timeout) / 1000, 20.0)
        key = (request.group.name, request.message_queue.topic.name)
        with self.lock:
            if key not in self.groups:  # from the first message on
                self.groups[key] = [Stored(one.message, one.due) for one in self.topics.get(key[1], [])]
            while True:
                found = self.due(self.groups[key], request, invisible)
                left = end - time.time()
                if found or left <= 0 or not context.is_active():
                    return found
                self.lock.wait(min(left, 0.05))  # what is due by the clock wakes nobody

    def due(self, waiting: list[Stored], request: Any, invisible: float) -> list[Stored]:
        """Return what may be delivered now."""
        now = time.time()
        expression = request.filter_expression.expression
        found: list[Stored] = []
        for one in list(waiting):
            if len(found) == min(request.batch_size, 32) or one.due > now:
                continue
            if expression != "*" and one.message.system_properties.tag not in expression.split(" || "):
                waiting.remove(one)
                continue
            one.attempt += 1
            one.due = now + invisible
            one.handle = f"H{next(self.numbers)}"
            found.append(one)
        return found

    def held(self, request: Any, handle: str) -> tuple[list[Stored], Stored]:
        """Return what a handle stands for. Raise Refused."""
        waiting = self.groups.get((request.group.name, request.topic.name), [])
        for one in waiting:
            if one.handle == handle and one.due > time.time():
                return waiting, one
        raise Refused(Code.INVALID_RECEIPT_HANDLE)

    def AckMessage(self, request: Any, client: str) -> Any:
        self.requests.append(("AckMessage", len(request.entries)))
        make, entries, codes = CLASSES["AckMessageResultEntry"], [], set()
        with self.lock:
            for entry in request.entries:
                status = OK
                try:
                    waiting, one = self.held(request, entry.receipt_handle)
                    waiting.remove(one)
                except Refused as refused:
                    status = refused.status
                codes.add(status.code)
                entries.append(make(receipt_handle=entry.receipt_handle, status=status))
        code = codes.pop() if len(codes) == 1 else Code.MULTIPLE_RESULTS
        return {"status": Status(code=code), "entries": entries}

    def ChangeInvisibleDuration(self, request: Any, client: str) -> Any:
        with self.lock:
            _, one = self.held(request, request.receipt_handle)
            one.due = time.time() + to_ms(request.invisible_duration) / 1000
            one.handle = f"H{next(self.numbers)}"
            self.lock.notify_all()
            return {"receipt_handle": one.handle}

    def ForwardMessageToDeadLetterQueue(self, request: Any, client: str) -> Any:
        with self.lock:
            waiting, one = self.held(request, request.receipt_handle)
            waiting.remove(one)
        dead = Message()
        dead.CopyFrom(one.message)
        dead.topic.name = f"%DLQ%{request.group.name}"
        self.publish(dead)
        return {}


def unary(broker: Broker, name: str) -> Any:
    """Return what answers a procedure."""
    work, response = getattr(broker, name, None), CLASSES[f"{name}Response"]

    def answer(request: Any, context: Any) -> Any:
        try:
            client = broker.client(context)
            if work is None:
                raise Refused(Code.NOT_IMPLEMENTED)
            return response(**{"status": OK, **work(request, client)})
        except Refused as refused:
            return response(status=refused.status)

    return answer


def handlers(broker: Broker) -> Any:
    """Return the service of a broker. PullMessage is not there at all."""
    made = {}
    for one in PROCEDURES:
        codec = (CLASSES[one.request].FromString, CLASSES[one.response].SerializeToString)
        if one.streams_requests:
            made[one.name] = grpc.stream_stream_rpc_method_handler(broker.telemetry, *codec)
        elif one.name == "ReceiveMessage":
            made[one.name] = grpc.unary_stream_rpc_method_handler(broker.receive, *codec)
        elif not one.streams_responses:
            made[one.name] = grpc.unary_unary_rpc_method_handler(unary(broker, one.name), *codec)
    return grpc.method_handlers_generic_handler(SERVICE, made)


def main() -> None:
    """Serve until standard input ends."""
    ports: list[int] = []
    brokers = [Broker(f"broker-{number}", ports) for number in range(2)]
    servers = []
    for broker in brokers:
        server = grpc.server(ThreadPoolExecutor(64))
        server.add_generic_rpc_handlers((handlers(broker),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    for _ in sys.stdin:
        noted = []
        for broker in brokers:
            count = len(broker.requests)  # others are noted meanwhile
            noted += broker.requests[broker.told : count]
            broker.told = count
        print(json.dumps(noted), flush=True)
    for server in servers:
        server.stop(0)


if __name__ == "__main__":
    main()
