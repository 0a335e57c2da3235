"""A message as the request that an endpoint gets: pure functions.

The body is the message's, the headers are those with which the HTTP door shows a message (`http_fields`), or
OpenMessaging's HTTP binding (`http_oms`), and these: `webhook-id`, `webhook-timestamp` and
`webhook-signature` (Standard Webhooks), `x-webhook`, `x-topic`, `x-attempt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .. import http_oms
from ..core.delivery import Delivery
from ..core.message import Message
from ..http_fields import Field, write_head, write_text
from ..http_oms import Shown
from ..outgoing.signing import signatures
from ..outgoing.target import Target
from ..version import __version__

_AGENT: Final = f"gateway/{__version__}"


def message_id(delivery: Delivery, run: str) -> str:
    """Return the id of a message: the same at each attempt, also after a restart.

    It is made of the place in the log, which nobody else can choose. What is not in the log is lost
    with the run, so that its id is of the run.
    """
    if delivery.position:
        return f"msg_{delivery.message.timestamp_ms:x}_{delivery.position:x}"
    return f"msg_{run}_{delivery.offset:x}"


def prefix(target: Target, name: str, authorization: str) -> bytes:
    """Return what all requests of a webhook begin with."""
    lines = [f"POST {target.path} HTTP/1.1", f"host: {target.authority}", f"user-agent: {_AGENT}"]
    if authorization:
        lines.append(f"authorization: {authorization}")
    lines.append(f"x-webhook: {name}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def openmessaging(shown: Shown) -> list[Field]:
    """Return the headers that a message has in OpenMessaging's HTTP binding."""
    kind, told = http_oms.write_head(shown)
    headers = [*told, ("content-type", kind)] if kind else told
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]


def head(
    begin: bytes,
    message: Message,
    message_id: str,
    attempt: int,
    keys: Sequence[bytes],
    unix_seconds: int,
    fields: Sequence[Field] | None = None,
) -> bytes:
    """Return all of a request but its body; `fields` are instead of those of the HTTP door."""
    told = write_head(message) if fields is None else fields
    lines = [b"%s: %s" % (name, value) for name, value in told]
    signed = signatures(keys, message_id, unix_seconds, message.body)
    ours = (
        f"x-topic: {write_text(message.topic)}\r\nx-attempt: {attempt}\r\nwebhook-id: {message_id}\r\n"
        f"webhook-timestamp: {unix_seconds}\r\nwebhook-signature: {signed}\r\n"
        f"content-length: {len(message.body)}\r\n\r\n"
    )
    lines.append(ours.encode("ascii"))
    return begin + b"\r\n".join(lines)
