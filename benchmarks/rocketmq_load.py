"""A RocketMQ producer that costs next to nothing: requests made beforehand, one connection, some under way.

    python -m benchmarks.rocketmq_load PORT --messages 128 --window 4 --bytes 1024 --seconds 4

Each message has an id of its own, as official clients' have: what the gateway does about repeats it does
here, too. Run by `benchmarks.openmessaging`, in a process of its own; prints what came to pass as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from typing import Any, Final

import grpc

from gateway.rocketmq.numbers import Code, Encoding, MessageType
from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.tables import SERVICE

TOPIC: Final = "bench"
OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
WARM_UP_SECONDS: Final = 0.5

_Request: Final = CLASSES["SendMessageRequest"]
_Response: Final = CLASSES["SendMessageResponse"]


def prepared(messages: int, size: int) -> Any:
    """Return a request without ids."""
    request = _Request()
    for _ in range(messages):
        message = request.messages.add(body=b"x" * size)
        message.topic.name = TOPIC
        system = message.system_properties
        system.message_type, system.body_encoding = MessageType.NORMAL, Encoding.IDENTITY
        system.born_host = "bench"
        system.born_timestamp.GetCurrentTime()
    return request


class Load:
    """Requests under way on one connection."""

    def __init__(self, port: int, messages: int, size: int) -> None:
        self._messages, self._size = messages, size
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS)
        self._send = self._channel.unary_unary(
            f"/{SERVICE}/SendMessage", _Request.SerializeToString, _Response.FromString
        )
        self._ids = itertools.count(time.time_ns())
        self.answered = 0
        self.latencies: list[float] = []

    async def _caller(self, until: float) -> None:
        request = prepared(self._messages, self._size)
        metadata = (("x-mq-client-id", "bench@1@0@load"), ("x-mq-language", "PYTHON"))
        while time.perf_counter() < until:
            for message in request.messages:
                message.system_properties.message_id = f"01{next(self._ids):032X}"
            began = time.perf_counter()
            response = await self._send(request, metadata=metadata)
            self.latencies.append(time.perf_counter() - began)
            if response.status.code != Code.OK:
                raise RuntimeError(str(response.status))
            self.answered += len(response.entries)

    async def run(self, window: int, seconds: float) -> float:
        """Send for some time; return how long it took."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(window):
                group.create_task(self._caller(began + seconds))
        return time.perf_counter() - began

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """Warm up, send, and return the figures."""
    load = Load(options.port, options.messages, options.bytes)
    await load.run(options.window, WARM_UP_SECONDS)
    load.answered = 0
    load.latencies.clear()
    used = time.process_time()
    seconds = await load.run(options.window, options.seconds)
    used = time.process_time() - used
    await load.close()
    latencies = sorted(load.latencies)
    return {
        "per_second": load.answered / seconds,
        "answered": load.answered,
        "seconds": seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "client_busy": used / seconds,
    }


def main() -> None:
    """Measure once, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--messages", type=int, default=1, help="of one request")
    parser.add_argument("--window", type=int, default=1, help="requests under way")
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=4.0)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
