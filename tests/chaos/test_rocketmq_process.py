"""RocketMQ clients of a gateway that is killed: they hang up in their answers, give back, acknowledge."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

import grpc

from gateway.rocketmq.numbers import Code, MessageType
from tests.chaos.checker import check
from tests.chaos.history import History
from tests.chaos.test_process import Client, _came, _depth, _stop
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, duration

KILLS = 2
QUEUE = "$share/crew/load"
BATCH = 8


class RocketClient(Client):
    """One with a channel of its own; a channel that breaks is a gateway that has gone."""

    gateway: RocketGateway

    def live(self) -> None:
        with RawRocket(self.gateway.endpoints, self.name) as raw:
            chance = random.Random(self.seen)
            try:
                while not self.stopping.is_set():
                    self.step(raw, chance)
            except grpc.RpcError as error:
                raise ConnectionError(str(error)) from error

    def step(self, raw: RawRocket, chance: random.Random) -> None:
        raise NotImplementedError


class Publisher(RocketClient):
    """Sends batches, of two message groups and without."""

    def step(self, raw: RawRocket, chance: random.Random) -> None:
        names = []
        group = chance.choice(["", "a", "b"])
        for _ in range(BATCH):
            number, self.sent = self.sent, self.sent + 1
            names.append(name := f"{self.name}-{number}")
            key = group or name  # what is of no group comes to several workers in any order
            self.history.note("send", id=name, by=self.name, n=number, to=[QUEUE], key=key, text=name)
        more = {"message_type": MessageType.FIFO, "message_group": group} if group else {}
        answer = raw.send("load", *(name.encode() for name in names), **more)
        for name, entry in zip(names, answer.entries, strict=True):
            self.history.note("stored" if entry.status.code == Code.OK else "refused", id=name)


class Worker(RocketClient):
    """Receives, and does with it what clients do."""

    def step(self, raw: RawRocket, chance: random.Random) -> None:
        renewed = chance.random() < 0.5
        answer = raw.begin_receive("crew", "load", 16, wait=0.5, invisible=2, auto_renew=renewed)
        leaves_after = chance.randrange(8) if chance.random() < 0.1 else 99
        held: list[Any] = []
        for one in answer:
            if one.WhichOneof("content") == "message":
                held.append(one.message)
                body = one.message.body.decode()
                self.seen += 1
                self.history.note("receive", id=body, queue=QUEUE, who=self.name, text=body)
            if len(held) > leaves_after:
                answer.cancel()
                raw.code("NotifyClientTermination", group={"name": "crew"})
                return
        given_back = held[:2] if chance.random() < 0.1 else []
        for message in given_back:
            raw.code(
                "ChangeInvisibleDuration",
                group={"name": "crew"},
                topic={"name": "load"},
                receipt_handle=message.system_properties.receipt_handle,
                invisible_duration=duration(0.01),
                suspend=True,  # so that it is no attempt: this is not about dead letters
            )
        self.acknowledge(raw, held[len(given_back) :])

    def acknowledge(self, raw: RawRocket, messages: list[Any]) -> None:
        names = [message.body.decode() for message in messages]
        for name in names:
            self.history.note("ack", id=name, queue=QUEUE)
        if messages:
            entries = raw.ack("crew", "load", *messages).entries
            for name, entry in zip(names, entries, strict=True):
                if entry.status.code == Code.OK:
                    self.history.note("acked", id=name, queue=QUEUE)


@pytest.mark.timeout(120)
def test_rocketmq_clients_lose_nothing_and_get_nothing_again(tmp_path: Path) -> None:
    gateway = RocketGateway(tmp_path / "data", ("storage.segment_bytes=200000",))
    gateway.start()
    history = History({QUEUE: "classic"})
    with RawRocket(gateway.endpoints) as raw:
        assert raw.receive("crew", "load") == []
    publishers: list[Client] = [Publisher(gateway, history, f"publisher{n}") for n in range(2)]
    workers: list[Client] = [Worker(gateway, history, f"worker{n}") for n in range(3)]
    for client in [*publishers, *workers]:
        client.start()
    bugs: list[str] = []
    for _ in range(KILLS):
        goal = sum(client.sent for client in publishers) + 300
        wait_for(lambda goal=goal: sum(c.sent for c in publishers) >= goal, 30, "some load")  # type: ignore[misc]
        bugs += gateway.bugs()
        gateway.kill()
        history.note("crash", how="kill")
        gateway.start()
    _stop(publishers)
    wait_for(lambda: _came(history, QUEUE), 60, "all that was stored to come")
    wait_for(_depth(gateway, "%24share%2Fcrew%2Fload"), 60, "all to be done")
    _stop(workers)
    history.note("end")
    path = history.write(tmp_path / "history.ndjson")
    bugs += gateway.bugs()
    gateway.stop()
    verdict = check(history.events)
    assert not verdict.faults, f"history {path}\n{verdict}"
    assert bugs == []
    assert verdict.crashes == KILLS
