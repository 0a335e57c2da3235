"""What tests of receiving ask of messages, and how they settle them, for the group `g`."""

from __future__ import annotations

from typing import Any

import httpx

from tests.process import RocketGateway
from tests.rocketmq_raw import RawRocket, duration


def bodies(messages: list[Any]) -> list[bytes]:
    return [message.body for message in messages]


def handle(message: Any) -> str:
    return str(message.system_properties.receipt_handle)


def attempts(messages: list[Any]) -> list[int]:
    return [message.system_properties.delivery_attempt for message in messages]


def change(raw: RawRocket, topic: str, receipt: str, seconds: float, **more: Any) -> Any:
    return raw.call(
        "ChangeInvisibleDuration",
        group={"name": "g"},
        topic={"name": topic},
        receipt_handle=receipt,
        invisible_duration=duration(seconds),
        message_id="?",
        **more,
    )


def forward(raw: RawRocket, topic: str, receipt: str) -> int:
    return raw.code(
        "ForwardMessageToDeadLetterQueue",
        group={"name": "g"},
        topic={"name": topic},
        receipt_handle=receipt,
        message_id="?",
        delivery_attempt=1,
        max_delivery_attempts=17,
    )


def waiting(gateway: RocketGateway, topic: str) -> int:
    """Return how many consumers the group has on a topic."""
    shown = httpx.get(f"{gateway.url}/v1/queues/%24share%2Fg%2F{topic}").json()
    return int(shown["consumers"])
