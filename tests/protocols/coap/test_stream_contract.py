"""The door over TCP, through what every protocol must stand (`gateway.testing`)."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.protocols.coap import Coap
from gateway.protocols.coap.numbers import CSM, GET, OBSERVE, PUT
from gateway.protocols.coap.streams.stream_codec import encode_frame
from gateway.settings import Coap as Settings
from gateway.settings import Limits
from gateway.testing import ProtocolContract
from tests.coap_stream_client import TAKES_MUCH, ps


class TestContract(ProtocolContract):
    def make(self) -> Coap:
        return Coap(SimpleNamespace(coap=Settings(), limits=Limits()))

    def login(self) -> bytes:
        return encode_frame(CSM, b"", TAKES_MUCH, b"")

    def publish(self, topic: str, body: bytes) -> bytes:
        return encode_frame(PUT, b"p", ps(topic), body)

    def subscribe(self, topic: str) -> bytes:
        return encode_frame(GET, b"s", [(OBSERVE, b""), *ps(topic)], b"")

    def delivered(self, topic: str, body: bytes) -> bytes:
        return b"\xff" + body
