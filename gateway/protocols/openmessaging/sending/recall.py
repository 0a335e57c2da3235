"""RecallMessage, and the handles by which it is said which message: nobody makes one up.

A handle is a schedule's place in the log, signed with a key of this gateway's that is kept with the
metadata, so that it holds over a restart.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from struct import Struct
from typing import Any, Final

from gateway.api import Gateway, NotAuthorized, NotFound
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES, Status

from ..call import Call, Handler
from ..errors import Refused
from ..names import topic_of

KEY: Final = "openmessaging/recall-key"  # in the metadata store
KEY_BYTES: Final = 32
MAC_BYTES: Final = 16
_POSITION: Final = Struct(">Q")

OK: Final = Status(code=Code.OK)
_RecallMessageResponse: Final = CLASSES["RecallMessageResponse"]


class Recall:
    """A `Part`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._key = b""  # until somebody needs it

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"RecallMessage": self.recall}

    def handle(self, position: int) -> str:
        """Return the handle of a message that waits at a position."""
        place = _POSITION.pack(position)
        return base64.urlsafe_b64encode(place + self._mac(place)).decode().rstrip("=")

    def _mac(self, place: bytes) -> bytes:
        if not self._key:
            self._key = self._kept_key()
        return hmac.digest(self._key, place, sha256)[:MAC_BYTES]

    def _kept_key(self) -> bytes:
        engine = self._gateway.broker.engine
        key = engine.get(KEY)
        if key is None:
            key = secrets.token_bytes(KEY_BYTES)
            engine.put(KEY, key)
        return key

    def _position(self, handle: str) -> int:
        """Undo `handle`. Raise Refused."""
        try:
            raw = base64.b64decode(handle + "=" * (-len(handle) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        place, mac = raw[: _POSITION.size], raw[_POSITION.size :]
        if len(place) != _POSITION.size or not hmac.compare_digest(mac, self._mac(place)):
            raise Refused(Code.BAD_REQUEST, "the recall handle is none of this gateway's")
        position: int = _POSITION.unpack(place)[0]
        return position

    async def recall(self, call: Call, request: Any) -> Any:
        """Have a message never be published. Raise Refused, NotFound if it is too late, or NotAuthorized."""
        topic = topic_of(call.client, request.topic)
        broker = self._gateway.broker
        position = self._position(request.recall_handle)
        try:
            message = broker.schedules.find(position).message
        except NotFound as error:
            raise NotFound("the message does not wait any more: it was delivered or recalled") from error
        if message.topic != topic:
            raise Refused(Code.BAD_REQUEST, f"the recall handle is for another topic than {topic!r}")
        if message.origin.principal != call.session.principal.name:
            raise NotAuthorized("the message is another user's")
        broker.schedules.cancel(position)
        await self._gateway.durable(broker.engine.position())
        return _RecallMessageResponse(status=OK, message_id=message.properties.message_id or "")
