"""What a client and the gateway have agreed on: the outcome of CONNECT and CONNACK."""

from __future__ import annotations

from typing import Final, cast

from .packets import V5, Connect, Will

NEVER: Final = 0xFFFFFFFF  # session expiry interval: does not expire [MQTT-3.1.2-11.2]
RECEIVE_MAX_DEFAULT: Final = 65_535  # [MQTT-3.1.2-11.3]: what a MQTT 5 client that says nothing can take


class Terms:
    """What client and server have agreed on."""

    __slots__ = (
        "alias_max",
        "client_id",
        "expiry",
        "method",
        "packet_bytes_max",
        "receive_max",
        "resume",
        "say_why",
        "version",
        "will",
    )

    def __init__(self, packet: Connect, client_id: str, expiry_max: int, receive_max_v3: int) -> None:
        properties = packet.properties
        self.version = packet.version
        self.client_id = client_id
        self.will: Will | None = packet.will
        self.resume = not packet.clean_start
        if packet.version == V5:
            expiry = cast(int, properties.get("session_expiry_interval", 0))
            self.receive_max = cast(int, properties.get("receive_maximum", RECEIVE_MAX_DEFAULT))
        else:
            expiry = 0 if packet.clean_start else NEVER  # [MQTT-3.1.2-4] of 3.1.1
            self.receive_max = receive_max_v3
        self.expiry = min(expiry, expiry_max)
        self.method = cast("str | None", properties.get("authentication_method"))
        self.packet_bytes_max = cast(int, properties.get("maximum_packet_size", 0))
        self.alias_max = cast(int, properties.get("topic_alias_maximum", 0))
        self.say_why = properties.get("request_problem_information", 1) == 1
