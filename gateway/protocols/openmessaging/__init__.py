"""The OpenMessaging door: RocketMQ 5 by gRPC (`apache.rocketmq.v2`), and OpenMessaging's HTTP binding.

door         the door as the gateway sees it
server       gRPC's server: sockets, TLS, limits
procedures   what is around each procedure
call, errors an RPC under way; what is answered when something is wrong
refusals     who was refused, in the log
names        whose topic and group a resource is
existence    which topics and groups there are
translate    messages, ours and theirs
clients      who is there, and what client and gateway tell each other
routing      QueryRoute, QueryAssignment
sending      SendMessage, RecallMessage, EndTransaction
receiving    ReceiveMessage, AckMessage, ChangeInvisibleDuration, ForwardMessageToDeadLetterQueue
offsets      PullMessage and the offsets of groups
binding      OpenMessaging's HTTP binding, a part of the HTTP door
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.api import Gateway, HttpPart, Protocol
from gateway.hookspecs import hookimpl

from .binding import Binding
from .door import OpenMessaging


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the door for RocketMQ clients."""
    return [OpenMessaging(config)]


@hookimpl
def gateway_http_parts(gateway: Gateway) -> Iterable[HttpPart]:
    """Offer OpenMessaging's HTTP binding."""
    return [Binding(gateway)]
