"""A run from beginning to verdict: a gateway, clients, faults at intervals, recovery, drain, checkers."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from .checkers import CHECKERS, ORDER, Verdict
from .client import QUEUE, QueueClient
from .errors import ChaosError
from .faults import NOOP, inject, recover, resolve
from .history import FaultMark, Recorder, Request, Response, read_history
from .model import QueueModel, now_ms
from .node import Node, temporary_data

Say = Callable[[str], None]
#: Makes a client from the node's port, a topic, and the client's number.
MakeClient = Callable[[int, str, int], QueueClient]

#: How clients may come: by which door, and what OpenMessaging URL that is; "": MQTT.
VIA: Mapping[str, tuple[str, str]] = {
    "mqtt": ("mqtt", ""),
    "rocketmq": ("openmessaging", "oms:rocketmq://127.0.0.1:{port}/chaos"),
    "http": ("http", "oms:http://127.0.0.1:{port}/chaos"),
}

#: What may be asked for, by openchaos' names of the queue checker's fields; and what faults are held against
#: it.
EXPECTATIONS: Mapping[str, tuple[str, ...]] = {
    "at-least-once": ("lost", "unexpected"),
    "at-most-once": ("duplicate", "unexpected"),
    "exactly-once": ("lost", "duplicate", "unexpected"),
}
ALWAYS = ("order", "rto", "recovery")


@dataclass(frozen=True)
class Options:
    """What to do; openchaos' defaults."""

    via: str = "mqtt"
    fault: str = NOOP
    seconds: float = 60.0
    clients: int = 4
    per_second: float = 20.0
    interval_seconds: float = 30.0
    down_seconds: float | None = None  # how long a fault lasts; None: as long as the interval
    recovery_seconds: float = 30.0
    ordered: bool = False
    output: Path = Path()
    data: Path | None = None  # None: a directory that goes with the run
    settings: tuple[str, ...] = ()
    seed: int = field(default_factory=lambda: random.randrange(1 << 32))


@dataclass
class Report:
    """What came of it."""

    history: Path
    verdicts: dict[str, Verdict]

    def faults(self, expected: str) -> list[str]:
        """Return what is wrong, a line each, if this is what was to be guaranteed."""
        counted = (*EXPECTATIONS[expected], *ALWAYS)
        found = [fault for verdict in self.verdicts.values() for fault in verdict.faults]
        return [fault for fault in found if fault.partition(":")[0] in counted]

    def about(self) -> dict[str, Any]:
        """Return what scripts want to know."""
        verdicts = {verdict.name: verdict.about() for verdict in self.verdicts.values()}
        return {"history": str(self.history), **verdicts}


def judge(path: Path, output: Path | None = None) -> Report:
    """Return the verdicts on a history; write them beside it, or to `output`. Raise ChaosError."""
    history = read_history(path)
    if not any(isinstance(entry, Request | Response) for entry in history):
        raise ChaosError(f"{path} has no operations: there is nothing to judge")
    keyed = any(isinstance(entry, Response) and entry.key is not None for entry in history)
    verdicts = {name: check(history) for name, check in CHECKERS.items() if keyed or name != ORDER}
    for name, verdict in verdicts.items():
        if output is not None:
            (output / _result_name(path, name)).write_text(yaml.safe_dump(verdict.about(), sort_keys=False))
    return Report(path, verdicts)


def _result_name(history: Path, result: str) -> str:
    """Return the name that openchaos gives a result: the history's, with another word in it."""
    name = history.name.replace("history", result)
    return name if name != history.name else f"{history.name}-{result}"


def run(options: Options, say: Say) -> Report:
    """Do it, and judge. Raise ChaosError."""
    kind = resolve(options.fault)
    if kind != NOOP and options.via not in VIA:
        raise ChaosError(
            f"the fault {options.fault!r} needs a gateway that is started here: --via {', '.join(VIA)}"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    when = datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
    path = options.output / f"{when}-gateway-chaos-history-file"
    make = client_maker(options.via)
    recorder = Recorder(path)
    try:
        asyncio.run(Control(options, kind, make, recorder, say).run())
    except asyncio.CancelledError as error:
        raise ChaosError(f"stopped by a signal; what was until then is in {path}") from error
    finally:
        recorder.close()
    return judge(path, options.output)


def client_maker(via: str) -> MakeClient:
    """Return what makes clients that come this way; libraries that they need are there, or it raises."""
    if via == "mqtt":
        from .mqtt_client import MqttClient

        return lambda port, topic, number: MqttClient("127.0.0.1", port, topic, number)
    from .oms_client import OmsClient

    if via in VIA:
        return lambda port, topic, number: OmsClient(VIA[via][1].format(port=port), topic)
    return lambda port, topic, number: OmsClient(via, topic)


class Control:
    """One run."""

    def __init__(self, options: Options, kind: str, make: MakeClient, recorder: Recorder, say: Say) -> None:
        self._options = options
        self._kind = kind
        self._recorder = recorder
        self._say = say
        self._make = make
        self._node: Node | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run it; the gateway is gone afterwards, whatever happens."""
        task = asyncio.current_task()
        assert task is not None, "it runs in a task"
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with ExitStack() as folders:
            async with AsyncExitStack() as closing:
                await self._start_node(folders, closing)
                topic = f"{QUEUE}-{datetime.now().strftime('%Y%m%d%H%M%S')}-{self._options.seed}"
                clients = await self._clients(topic, closing)
                await self._go(clients)

    async def _start_node(self, folders: ExitStack, closing: AsyncExitStack) -> None:
        options = self._options
        if options.via not in VIA:
            return
        data = options.data or Path(folders.enter_context(temporary_data()))
        log = self._recorder.path.with_name(self._recorder.path.name.replace("history-file", "gateway.log"))
        self._node = Node(VIA[options.via][0], data, log, options.settings)
        closing.push_async_callback(self._node.stop)
        await self._node.start()
        self._say(f"gateway {self._node.pid} at port {self._node.port}, its log is {log}")

    async def _clients(self, topic: str, closing: AsyncExitStack) -> list[QueueClient]:
        clients = []
        for number in range(self._options.clients):
            client = self._make(0 if self._node is None else self._node.port, topic, number)
            closing.push_async_callback(client.close)
            await client.open()
            clients.append(client)
        if self._node is not None:
            closing.callback(self._node.resume)  # first of all: nobody could say goodbye to it
        self._say(f"{len(clients)} clients of {topic}, seed {self._options.seed}")
        return clients

    async def _go(self, clients: list[QueueClient]) -> None:
        options = self._options
        model = QueueModel(clients, self._recorder, options.per_second, options.ordered, options.seed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(model.run())
                if self._node is not None and self._kind != NOOP:
                    tasks.create_task(self._suffer(self._node))
                await asyncio.sleep(options.seconds)
                model.stop()
                self._stopping.set()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        self._say("recovering")
        await model.prove(options.recovery_seconds)
        self._say("draining")
        await model.drain(options.recovery_seconds)

    async def _suffer(self, node: Node) -> None:
        """Have faults come and go; the last one goes before this returns."""
        options = self._options
        down = options.interval_seconds if options.down_seconds is None else options.down_seconds
        while not await self._pause(options.interval_seconds):
            self._mark("start")
            await inject(self._kind, node)
            await self._pause(down)
            await recover(self._kind, node)
            self._mark("end")

    def _mark(self, mark: Literal["start", "end"]) -> None:
        self._say(f"{self._options.fault}: {mark}")
        self._recorder.record(FaultMark(self._options.fault, mark, now_ms()))

    async def _pause(self, seconds: float) -> bool:
        """Wait for so long, or until it is over; tell whether it is."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()
