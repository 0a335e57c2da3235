"""kill -9 of a gateway under AMQP load: what was confirmed stays, and nothing else appears.

Publishers wait for each confirm, and send everything once. What they send goes to two queues: `kept`,
which nobody reads until the end, and `work`, which consumers empty meanwhile. One consumer is a mover:
it publishes what it takes to `moved` and acknowledges it in the same transaction. A failing run prints
its seed.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import AMQPConnectionError, ChannelWrongStateError, ConnectionClosedByBroker

from tests.process import GatewayProcess, wait_for

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "3"))
PUBLISHERS = 4
WORKERS = 2
LOAD = (200, 800)  # confirmed between two kills
PREFETCH = 50
BATCH_MAX = 20
BODY_MAX = 3000
SEGMENT_BYTES = 200_000  # so that every life rolls
EXCHANGE, WORK, KEPT, MOVED = "load", "work", "kept", "moved"
GONE = (AMQPConnectionError, ChannelWrongStateError, OSError)  # what a client sees of a gateway that dies


class Ledger:
    """What all clients know. A body is sent once, by one publisher; its key begins with the sender."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.life = 0  # how often the gateway was killed
        self.sent: dict[str, bytes] = {}
        self.confirmed: list[str] = []
        self.received: list[tuple[int, str, str]] = []  # in which life, what, by whom; of `work`
        self.settling: set[str] = set()  # may be gone: acknowledged, whether that was heard or not
        self.settled: dict[str, int] = {}  # what, in which life: no consumer may see it in a later one
        self.faults: list[str] = []

    def receive(self, life: int, key: str, body: bytes, who: str) -> None:
        """A consumer has got a message."""
        with self.lock:
            self.received.append((life, key, who))
            if self.sent.get(key) != body:
                self.faults.append(f"{key}: nobody sent {body!r}")
            if self.settled.get(key, life) < life:
                self.faults.append(f"{key}: came in life {life}, was settled in {self.settled[key]}")

    def settle(self, life: int, keys: list[str]) -> None:
        """The gateway has said that it will not deliver these again."""
        with self.lock:
            self.settled.update(dict.fromkeys(keys, life))


class Client(threading.Thread):
    """Does its work until it is stopped, and comes again when the gateway has gone."""

    def __init__(self, gateway: GatewayProcess, ledger: Ledger, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger = ledger
        self.chance = random.Random(f"{seed} {name}")
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._gateway = gateway

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                life = self.ledger.life
                try:
                    with connect(self._gateway) as connection:
                        if life == self.ledger.life:  # or it cannot tell which gateway it talks to
                            self.live(connection.channel(), life)
                except ConnectionClosedByBroker:
                    raise  # a gateway that is killed says nothing
                except GONE:
                    self.stopping.wait(0.02)  # it is being started again
        except BaseException as error:  # told by the test
            self.failure = error

    def live(self, channel: Any, life: int) -> None:
        raise NotImplementedError


class Publisher(Client):
    """Sends a message, waits for its confirm, and again."""

    count = 0

    def live(self, channel: Any, life: int) -> None:
        channel.confirm_delivery()
        while not self.stopping.is_set():
            self.count += 1
            key = f"{self.name}.{self.count}"
            body = key.encode() + b" " + self.chance.randbytes(self.chance.randrange(BODY_MAX))
            with self.ledger.lock:
                self.ledger.sent[key] = body
            properties = pika.BasicProperties(delivery_mode=2, message_id=key)
            channel.basic_publish(EXCHANGE, f"a.{self.name}", body, properties, mandatory=True)
            with self.ledger.lock:
                self.ledger.confirmed.append(key)


class Worker(Client):
    """Acknowledges several at once, and makes sure that it was heard."""

    def live(self, channel: Any, life: int) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        self.prepare(channel)
        held: list[tuple[str, bytes]] = []
        batch = 1
        for method, properties, body in channel.consume(WORK, inactivity_timeout=0.05):
            if method is not None:
                self.ledger.receive(life, properties.message_id, body, self.name)
                held.append((properties.message_id, body))
                tag = method.delivery_tag
            if held and (method is None or len(held) >= batch):
                self.settle(channel, held, tag)
                self.ledger.settle(life, [key for key, _ in held])
                held, batch = [], self.chance.randint(1, BATCH_MAX)
            if self.stopping.is_set() and not held:
                break
        channel.cancel()

    def prepare(self, channel: Any) -> None:
        """Begin."""

    def settle(self, channel: Any, held: list[tuple[str, bytes]], tag: int) -> None:
        """Acknowledge; return when that is on disk."""
        with self.ledger.lock:
            self.ledger.settling.update(key for key, _ in held)
        channel.basic_ack(tag, multiple=True)
        channel.queue_declare(WORK, durable=True)  # answered once all before it is


class Mover(Worker):
    """Publishes what it takes to another queue, in one transaction with the acknowledgement."""

    def prepare(self, channel: Any) -> None:
        channel.tx_select()

    def settle(self, channel: Any, held: list[tuple[str, bytes]], tag: int) -> None:
        for key, body in held:
            properties = pika.BasicProperties(delivery_mode=2, message_id=key)
            channel.basic_publish("", MOVED, body, properties)
        channel.basic_ack(tag, multiple=True)
        channel.tx_commit()


def connect(gateway: GatewayProcess) -> Any:
    """Return a connection."""
    parameters = pika.ConnectionParameters(
        "127.0.0.1", gateway.amqp_port, socket_timeout=10, blocked_connection_timeout=20
    )
    return pika.BlockingConnection(parameters)


def declare(gateway: GatewayProcess) -> None:
    with connect(gateway) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        for queue in (WORK, KEPT, MOVED):
            channel.queue_declare(queue, durable=True)
        for queue in (WORK, KEPT):
            channel.queue_bind(queue, EXCHANGE, "a.#")


def waiting(channel: Any, queue: str) -> int:
    """Return how many messages nobody holds."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def drain(channel: Any, queue: str) -> list[tuple[str, bytes]]:
    """Take everything there is."""
    found: list[tuple[str, bytes]] = []
    while count := waiting(channel, queue):
        for method, properties, body in channel.consume(queue, inactivity_timeout=10):
            assert method is not None, f"{queue} says that it has {count} more"
            found.append((properties.message_id, body))
            channel.basic_ack(method.delivery_tag)
            count -= 1
            if count == 0:
                break
        channel.cancel()
    return found


def stop(clients: list[Client]) -> None:
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(20)
        assert not client.is_alive(), client.name


def load(gateway: GatewayProcess, ledger: Ledger, clients: list[Client], seed: int) -> list[str]:
    """Kill the gateway again and again while the clients work; return what it logged as its bugs."""
    chance = random.Random(seed)
    bugs: list[str] = []

    def enough(goal: int) -> bool:
        return len(ledger.confirmed) >= goal or any(client.failure for client in clients)

    for client in clients:
        client.start()
    for life in range(KILLS + 1):
        goal = len(ledger.confirmed) + chance.randrange(*LOAD)
        wait_for(lambda goal=goal: enough(goal), 30, "some load")  # type: ignore[misc]
        if life < KILLS:
            bugs += gateway.bugs()
            gateway.kill()
            ledger.life += 1
            gateway.start()
    return bugs


@pytest.mark.timeout(60 + 20 * KILLS)
def test_what_was_confirmed_survives_kill_9_under_load(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    sets = (f"storage.segment_bytes={SEGMENT_BYTES}",)
    gateway = GatewayProcess(tmp_path / "data", sets).start()
    ledger = Ledger()
    publishers: list[Client] = [Publisher(gateway, ledger, f"p{n}", seed) for n in range(PUBLISHERS)]
    consumers: list[Client] = [Worker(gateway, ledger, f"w{n}", seed) for n in range(WORKERS)]
    consumers.append(Mover(gateway, ledger, "mover", seed))
    try:
        declare(gateway)
        bugs = load(gateway, ledger, [*publishers, *consumers], seed)
        stop(publishers)
        with connect(gateway) as connection:
            channel = connection.channel()
            wait_for(lambda: waiting(channel, WORK) == 0, 30, "the work to be done")
            stop(consumers)
            left, kept, moved = (drain(channel, queue) for queue in (WORK, KEPT, MOVED))
        bugs += gateway.bugs()
    finally:
        for client in (*publishers, *consumers):
            client.stopping.set()
        gateway.stop()
        for client in (*publishers, *consumers):
            if client.is_alive():
                client.join(10)
    assert [client.failure for client in (*publishers, *consumers) if client.failure] == [], seed
    assert bugs == []
    faults = [*ledger.faults, *judge(ledger, left, kept, moved)]
    assert not faults, f"seed {seed}\n" + "\n".join(faults)
    assert len(ledger.confirmed) > LOAD[0] * KILLS
    assert moved, "nothing was moved: no transaction was tried"


def judge(
    ledger: Ledger,
    left: list[tuple[str, bytes]],
    kept: list[tuple[str, bytes]],
    moved: list[tuple[str, bytes]],
) -> list[str]:
    """Return what is wrong with what came out in the end."""
    faults = []
    for queue, found in ((WORK, left), (KEPT, kept), (MOVED, moved)):
        keys = Counter(key for key, _ in found)
        faults += [f"{queue}: {key} is there {n} times" for key, n in keys.items() if n > 1]
        faults += [f"{queue}: nobody sent {key}" for key, body in found if ledger.sent.get(key) != body]
    came = Counter((life, key) for life, key, _ in ledger.received)
    faults += [f"{WORK}: {key} came {n} times in life {life}" for (life, key), n in came.items() if n > 1]
    faults += [f"{WORK}: {key} is back" for key, _ in left if key in ledger.settled]
    last_with = {key: who for _, key, who in sorted(ledger.received)}
    faults += [
        f"{WORK}: {key} was moved, and came again" for key, _ in moved if last_with.get(key) != "mover"
    ]
    places = {KEPT: dict(kept).keys(), WORK: ledger.settling | dict(left).keys() | dict(moved).keys()}
    for queue, there in places.items():
        lost = [key for key in ledger.confirmed if key not in there]
        faults += [f"{queue}: {key} was confirmed, and is lost" for key in lost]
    return faults + out_of_order(kept)


def out_of_order(kept: list[tuple[str, bytes]]) -> list[str]:
    """Nobody has taken anything out: what one publisher has sent is in its order."""
    last: dict[str, int] = {}
    faults = []
    for key, _ in kept:
        name, _, number = key.partition(".")
        if last.get(name, 0) >= int(number):
            faults.append(f"{KEPT}: {key} comes after {name}.{last[name]}")
        last[name] = int(number)
    return faults
