"""RocketMQ's gRPC procedures one by one, as no good client would call them: for tests of what is refused.

Requests are of the gateway's own schema (`tests/rocketmq/test_schema.py` compares that with the official
client's); a part of a message is given as a dictionary.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import grpc

from gateway.rocketmq.numbers import ClientType, Code, Encoding, FilterType, MessageType
from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.signature import SIGNED_HEADER, authorization
from gateway.rocketmq.tables import PROCEDURES, SERVICE

SECONDS_MAX: Final = 15.0
_PROCEDURES: Final = {procedure.name: procedure for procedure in PROCEDURES}


class RawRocket:
    """A client with an id, and whatever else it is told to say of itself. `with` closes its channel."""

    def __init__(self, target: str, client_id: str = "raw", credentials: Any = None, **metadata: str) -> None:
        """Take where to go, and what each call says: `x_mq_namespace="ns"`, or "" for what is left out."""
        self.metadata = {
            "x-mq-client-id": client_id,
            "x-mq-language": "PYTHON",
            "x-mq-client-version": "raw",
            **{name.replace("_", "-"): value for name, value in metadata.items()},
        }
        self.channel = (
            grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
        )
        self._settings: queue.Queue[Any] = queue.Queue()
        self._stream: Any = None

    def log_in(self, access_key: str, secret: str, now: datetime | None = None) -> RawRocket:
        """Sign what is called from now on, as if it were that time."""
        date, header = authorization(access_key, secret, now or datetime.now(UTC))
        self.metadata |= {SIGNED_HEADER: date, "authorization": header}
        return self

    def _sent(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.metadata.items() if value]

    def _method(self, name: str, kind: str) -> Any:
        procedure = _PROCEDURES[name]
        return getattr(self.channel, kind)(
            f"/{SERVICE}/{name}",
            request_serializer=CLASSES[procedure.request].SerializeToString,
            response_deserializer=CLASSES[procedure.response].FromString,
        )

    def request(self, name: str, request: Any, seconds: float = SECONDS_MAX) -> Any:
        """Call a procedure; return its response, or the stream of them: iterate over that, or cancel it."""
        kind = "unary_stream" if _PROCEDURES[name].streams_responses else "unary_unary"
        return self._method(name, kind)(request, timeout=seconds, metadata=self._sent())

    def call(self, name: str, seconds: float = SECONDS_MAX, **fields: Any) -> Any:
        """The same, with a request of these fields."""
        return self.request(name, CLASSES[_PROCEDURES[name].request](**fields), seconds)

    def stream(self, name: str, seconds: float = SECONDS_MAX, **fields: Any) -> Any:
        """The same of a procedure that answers with a stream."""
        return self.call(name, seconds, **fields)

    def code(self, name: str, **fields: Any) -> int:
        """Return the code of an answer."""
        return int(self.call(name, **fields).status.code)

    def tell(self, **settings: Any) -> Any:
        """Send settings by Telemetry, whose stream is left open; return the command that comes back."""
        if self._stream is None:
            self._stream = self._method("Telemetry", "stream_stream")(
                iter(self._settings.get, None), metadata=self._sent()
            )
        self._settings.put(CLASSES["TelemetryCommand"](settings=settings))
        return next(self._stream)

    def commands(self) -> Iterator[Any]:
        """Return what the gateway tells the client beyond answers to settings."""
        assert self._stream is not None, "settings come first"
        return iter(self._stream)

    # -- what most tests send and receive -----------------------------------------------------------------

    def send(self, topic: str, *bodies: bytes, message_id: str = "", **more: Any) -> Any:
        """Send messages; `more` are system properties."""
        properties: dict[str, Any] = {
            "message_type": MessageType.NORMAL,
            "body_encoding": Encoding.IDENTITY,
            **more,
        }
        messages = [
            {
                "topic": {"name": topic},
                "body": body,
                "system_properties": {"message_id": message_id or new_id(), **properties},
            }
            for body in bodies
        ]
        return self.call("SendMessage", messages=messages)

    def receive(
        self, group: str, topic: str, count: int = 32, wait: float = 0, invisible: float = 60, **more: Any
    ) -> list[Any]:
        """Return the messages of one ReceiveMessage. Raise RefusedRaw."""
        found, status = [], None
        for response in self.begin_receive(group, topic, count, wait, invisible, **more):
            kind = response.WhichOneof("content")
            if kind == "status":
                status = response.status
            elif kind == "message":
                found.append(response.message)
        assert status is not None, "an answer has a status"
        if status.code not in (Code.OK, Code.MESSAGE_NOT_FOUND):
            raise RefusedRaw(status.code, status.message)
        return found

    def begin_receive(
        self, group: str, topic: str, count: int = 32, wait: float = 0, invisible: float = 60, **more: Any
    ) -> Any:
        """Begin a ReceiveMessage; return the stream of responses."""
        expression = more.pop("filter", "*")
        kind = FilterType.SQL if more.pop("sql", False) else FilterType.TAG
        queue_of_topic = {"topic": {"name": topic}}
        fields = {
            "group": {"name": group},
            "message_queue": queue_of_topic,
            "filter_expression": {"type": kind, "expression": expression},
            "batch_size": count,
            "invisible_duration": duration(invisible),
            "long_polling_timeout": duration(wait),
            **more,
        }
        return self.call("ReceiveMessage", SECONDS_MAX + wait, **fields)

    def ack(self, group: str, topic: str, *messages: Any) -> Any:
        """Acknowledge: messages, or receipt handles."""
        entries = [
            {"receipt_handle": message, "message_id": "?"}
            if isinstance(message, str)
            else {
                "receipt_handle": message.system_properties.receipt_handle,
                "message_id": message.system_properties.message_id,
            }
            for message in messages
        ]
        return self.call("AckMessage", group={"name": group}, topic={"name": topic}, entries=entries)

    def close(self) -> None:
        """Hang up, without a word."""
        if self._stream is not None:
            self._stream.cancel()
            self._settings.put(None)
        self.channel.close()

    def __enter__(self) -> RawRocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RefusedRaw(Exception):
    """An answer's status was none that brings messages."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


def duration(seconds: float) -> dict[str, int]:
    """Return a Duration."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    return {"seconds": whole, "nanos": rest * 1_000_000}


_serial = iter(range(1, 1 << 62))


def new_id() -> str:
    """Return a message id as RocketMQ's clients make them."""
    return f"01{next(_serial):032X}"


def subscription(
    group: str, topic: str, kind: int = ClientType.SIMPLE_CONSUMER, **more: Any
) -> dict[str, Any]:
    """Return the settings of a consumer, for `RawRocket.tell`."""
    expression = {"type": FilterType.TAG, "expression": "*"}
    entry = {"topic": {"name": topic}, "expression": expression}
    return {
        "client_type": kind,
        "subscription": {"group": {"name": group}, "subscriptions": [entry], **more},
    }
