"""Every limit of the HTTP door, by name, with its reason.

What operators may want to change comes from the configuration; the rest are constants of
the protocol's contract.
"""

from __future__ import annotations

from typing import Any

from ...core import lease
from ...core.receiver import INBOX_MESSAGES_MAX

BODY_BYTES_MAX = 16 << 20  # a message, or a batch, is held in memory whole: not a file transfer
HANDSHAKE_SECONDS_MAX = 10.0  # a request head is a packet or two; longer is slow-loris
CONNECTIONS_MAX = 10_000  # at about 10 KB each, 100 MB
BODY_SECONDS_MAX = 60.0  # the largest body at 2.2 Mbit/s
KEEP_ALIVE_SECONDS_MAX = 75.0  # longer than common clients' pools keep a connection: they close first
SECONDS_MAX = 86_400.0  # for any of the times an operator can set: longer is a misplaced digit
DRAIN_SECONDS_MAX = 3.0  # what requests get to finish in when the gateway stops

JSON_BYTES_MAX = 1 << 20  # of a request to declare, seek or settle: a thousand bindings of a thousand bytes
HEAD_BYTES_MAX = 64 << 10  # other servers allow 8 to 80 KiB
HEADERS_MAX = 200  # application properties are headers: generous, yet a loop over them is short
TARGET_PARAMETERS_MAX = 100  # `filter` may repeat; each is looked at once
REMEMBERED_MAX = 4096  # topics and query strings, parsed; then it starts afresh
REMEMBERED_BYTES_MAX = 256  # of each: longer ones are rare, and would make it 256 MB
ENCODED_MAX = 256  # messages remembered as JSON, for a fan-out: about what a turn brings
ENCODED_BYTES_MAX = 4 << 20  # of all of them
IDEMPOTENCY_KEY_MAX = 255  # characters; a UUID has 36

ATOMIC_LINES_MAX = 10_000  # of a batch that is one transaction: all of it in one turn, some 0.2 s
BATCH_LINES_MAX = 200_000  # 16 MiB of the shortest sensible lines
BATCH_CHUNK_BYTES = 64 << 10  # parsed and published between two turns: about 2 ms
REJECTED_SHOWN_MAX = 1000  # an answer is read by people or retried: nobody reads more

PAGE_MAX = 1000  # entries of one page of a listing
JOURNEYS_DEFAULT = 10
JOURNEYS_MAX = 100  # of one answer: each reads from the log what became of a message
PAGE_DEFAULT = 100
LISTING_CHECKS_MAX = 10_000  # authorizations asked for one page, then the client asks for the next

REQUEST_SECONDS_DEFAULT = 10.0  # that a request waits for its answer
REQUEST_SECONDS_MAX = 60.0  # proxies cut idle requests off at about a minute

RECEIVE_MAX = 1000  # deliveries in one answer
RECEIVE_BYTES_MAX = 16 << 20  # of bodies in one answer, or page of a browse: as large as a body may be
RECEIVE_WAIT_SECONDS_MAX = 60.0  # proxies cut idle requests off at about a minute
RECEIVE_TURN_SECONDS = 0.05  # what a receive without `wait` gives a queue that has messages to deliver them
LEASE_SECONDS_DEFAULT = lease.SECONDS_DEFAULT
LEASE_SECONDS_MAX = lease.SECONDS_MAX
DELAY_SECONDS_MAX = lease.DELAY_SECONDS_MAX
TTL_SECONDS_MAX = 4_294_967_295  # what MQTT's message expiry can say
BINDINGS_MAX = 1000  # of one request

HEARTBEAT_SECONDS = 15.0  # proxies drop connections that are silent for 30 to 60 s
FILTERS_MAX = 100  # of one subscription request
LINGER_MS = 60_000  # EventSource reconnects within seconds; a laptop's lid takes longer
LINGERING_MAX = 1000  # subscriptions without a client; the longest without one goes first
REPLAY_EVENTS_MAX = 1000  # of one subscription
REPLAY_BYTES_MAX = 1 << 20  # of one subscription
REPLAY_BYTES_TOTAL_MAX = 64 << 20  # of all subscriptions, shared out evenly
REPLAY_BYTES_MIN = 16 << 10  # an even share never goes below this
EVENT_CHUNK_BYTES = 64 << 10  # written at a time: what a socket's buffer takes
STREAM_WINDOW = 256  # of an SSE reader of a stream: sent is settled, so this only bounds memory

WS_WINDOW_DEFAULT = 100
WS_WINDOW_MAX = 10_000
WS_PENDING_BYTES_MAX = 1 << 20  # answers a client has not read; then its requests are not read either
WS_PUBLISHES_WAITING_MAX = 1000  # for the disk; then the client's next requests are not read
WS_OWN_QUEUE_MESSAGES_MAX = 10_000  # of a WebSocket's QoS 1 subscriptions: as a live receiver's inbox
WS_OWN_QUEUE_BYTES_MAX = 4 << 20
WS_SUBSCRIPTIONS_MAX = 1000
WS_CONSUMERS_MAX = 100
BRIDGE_PENDING_BYTES_MAX = 256 << 10  # then the connection is told that its client does not read
CLOSE_SECONDS_MAX = 5.0  # what a client gets to read the last of a WebSocket that is being closed

SESSION_SECONDS_MAX = 60.0  # how long a revoked login may still be served
SESSIONS_MAX = 1024  # distinct (address, login) pairs with a request in the last minute
METRIC_QUEUES_MAX = 200  # queues with a time series of their own; the others are summed up


class Limits:
    """The limits an operator can set: `[limits]`, and the door's own table `[plugins.http]`.

    Raise ValueError naming a key that is unknown or of a wrong type.
    """

    __slots__ = (
        "body_bytes_max",
        "body_seconds_max",
        "connections_max",
        "handshake_seconds_max",
        "keep_alive_seconds_max",
        "origins",
        "receiver_messages_max",
    )

    def __init__(self, config: Any = None) -> None:
        limits = getattr(config, "limits", None)
        self.body_bytes_max = int(getattr(limits, "body_bytes_max", BODY_BYTES_MAX))
        self.handshake_seconds_max = float(getattr(limits, "handshake_seconds_max", HANDSHAKE_SECONDS_MAX))
        self.connections_max = int(getattr(limits, "connections_max", CONNECTIONS_MAX))
        self.receiver_messages_max = int(getattr(limits, "receiver_messages_max", INBOX_MESSAGES_MAX))
        own: dict[str, Any] = dict(config.plugin("http")) if config is not None else {}
        self.body_seconds_max = _seconds(own, "body_seconds_max", BODY_SECONDS_MAX)
        self.keep_alive_seconds_max = _seconds(own, "keep_alive_seconds_max", KEEP_ALIVE_SECONDS_MAX)
        #: Web pages of other origins that may use the door: `https://app.example`, or `*`.
        self.origins = _origins(own)
        if own:
            raise ValueError(f"plugins.http.{next(iter(own))}: no such key")


def _seconds(own: dict[str, Any], key: str, default: float) -> float:
    value = own.pop(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= SECONDS_MAX:
        raise ValueError(f"plugins.http.{key}: a number above 0 is expected, found {value!r}")
    return float(value)


def _origins(own: dict[str, Any]) -> frozenset[str]:
    value = own.pop("origins", [])
    if not isinstance(value, list) or not all(isinstance(origin, str) for origin in value):
        raise ValueError(f"plugins.http.origins: a list of texts is expected, found {value!r}")
    return frozenset(origin.rstrip("/") for origin in value)


PART_BYTES_MAX = (
    32 << 20
)  # of a request to another protocol's part of the door: definitions of a hundred thousand queues
