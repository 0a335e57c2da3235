"""The bytes that the load sends, built once before the clock starts.

MQTT 3.1.1 and HTTP/1.1 requests only. Frames of one load all have one length, so that a client can count
what it sent and received by dividing, and can check every frame by looking at fixed offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

PAYLOAD_BYTES = 128
PAYLOAD = b"benchmark payload ".ljust(PAYLOAD_BYTES - 1, b".") + b"~"
"""ASCII, so that it fits a JSON string too; the last byte is a mark that shows a lost frame boundary."""

PUBACK = b"\x40\x02"
DISCONNECT = b"\xe0\x00"

PACKET_IDS = 10_000
"""Ids in turn of a QoS 1 publisher: more than ten windows, so that no id returns while it is in flight."""

RING_BYTES_MIN = 256 * 1024


def remaining_length(size: int) -> bytes:
    out = bytearray()
    while True:
        size, digit = divmod(size, 128)
        out.append(digit | 0x80 if size else digit)
        if not size:
            return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(first_byte: int, body: bytes) -> bytes:
    return bytes([first_byte]) + remaining_length(len(body)) + body


def connect(client_id: str, *, clean: bool, keep_alive_seconds: int) -> bytes:
    flags = 0x02 if clean else 0x00
    variable = _text("MQTT") + struct.pack(">BBH", 4, flags, keep_alive_seconds)
    return _packet(0x10, variable + _text(client_id))


def subscribe(packet_id: int, filters: Iterable[str], qos: int) -> bytes:
    body = b"".join(_text(each) + bytes([qos]) for each in filters)
    return _packet(0x82, struct.pack(">H", packet_id) + body)


def publish(topic: str, payload: bytes = PAYLOAD, *, qos: int = 0, packet_id: int = 0) -> bytes:
    identifier = struct.pack(">H", packet_id) if qos else b""
    return _packet(0x30 | qos << 1, _text(topic) + identifier + payload)


def packet_id_offset(topic: str, frame: bytes) -> int:
    """Say where a QoS 1 publish to `topic` holds its packet id."""
    header_bytes = 2 if frame[1] < 0x80 else 3
    return header_bytes + 2 + len(topic.encode())


class Ring:
    """The publishes that a publisher sends in turn, for ever; all of one length, end to end in one buffer."""

    __slots__ = ("count", "data", "frame_bytes", "sample", "view")

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.sample = frames[0]
        self.frame_bytes = len(self.sample)
        self.count = len(frames)
        if any(len(frame) != self.frame_bytes for frame in frames):
            raise ValueError("the frames of a ring must have one length")
        # A short ring is repeated, so that one write can be long without a seam.
        repeats = max(1, RING_BYTES_MIN // (self.frame_bytes * self.count))
        self.data = bytearray(b"".join(frames) * repeats)
        self.view = memoryview(self.data)


def publish_ring(topics: Sequence[str], *, qos: int = 0) -> Ring:
    """Build a ring in which topics and, at QoS 1, packet ids take turns."""
    turns = max(len(topics), PACKET_IDS) if qos else len(topics)
    return Ring(
        [
            publish(topics[turn % len(topics)], qos=qos, packet_id=turn + 1 if qos else 0)
            for turn in range(turns)
        ]
    )


def http_post(target: str, body: bytes, content_type: str) -> bytes:
    head = (
        f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def http_publish(topic: str) -> bytes:
    return http_post(f"/v1/topics/{topic}", PAYLOAD, "application/octet-stream")


def http_batch(topic: str, lines: int) -> bytes:
    line = b'{"body":"' + PAYLOAD + b'"}\n'
    return http_post(f"/v1/topics/{topic}/batch", line * lines, "application/x-ndjson")
