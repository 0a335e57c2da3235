"""What goes over the wire as JSON, for FastAPI to check and for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.deadletter import REASON_MAX
from ...core.policy import (
    ATTEMPTS,
    BACKOFF_MS,
    BACKOFF_STEP_MS_MAX,
    BACKOFF_STEPS_MAX,
    OWN_DEAD_LETTERS,
)
from .limits import BINDINGS_MAX, DELAY_SECONDS_MAX, LEASE_SECONDS_DEFAULT, LEASE_SECONDS_MAX

COUNT_MAX = (1 << 63) - 1


class Strict(BaseModel):
    """A request: what is not known is refused, so that a misspelt field is not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """Why something was refused, and what to do about it (RFC 9457)."""

    type: str = Field(description="Relative reference to the entry of /docs that explains the kind")
    title: str
    status: int
    detail: str


class Published(BaseModel):
    """The message is stored, if anybody needs it to be."""

    id: str = Field(description="The message's id: X-Message-Id, or one made by the gateway")
    topic: str
    duplicate: bool = Field(
        description="The Idempotency-Key, or the id, was seen before; nothing was published"
    )
    subscribers: bool = Field(description="Some subscriber, queue or retained value took it")
    schedule: str | None = Field(None, description="It waits for its time: see /v1/schedules/{id}")


class RejectedLine(BaseModel):
    """A line of a batch that was not published."""

    line: int
    problem: Problem


class BatchPublished(BaseModel):
    """What has become of a batch."""

    accepted: int
    rejected: list[RejectedLine]
    rejected_count: int | None = Field(None, description="Only there if `rejected` does not list them all")
    duplicates: list[int] | None = Field(
        None, description="Lines accepted that were published before; nothing was published again"
    )
    duplicates_count: int | None = Field(None, description="How many these are; not all may be listed")


class BatchLine(Strict):
    """One line of a batch; the WebSocket's `publish` has the same fields."""

    body: str | None = None
    body_base64: str | None = None
    topic: str | None = Field(None, description="Default: the topic of the path")
    qos: Literal[0, 1, 2] = 1
    retain: bool = False
    ttl: float | None = Field(None, description="Seconds until the message expires, once it is due")
    delay: float | None = Field(None, description="Publish it so many seconds later")
    deliver_at: int | str | None = Field(None, description="Publish it then: Unix ms, or RFC 3339")
    key: str | None = Field(None, description="Ordering key")
    tag: str | None = None
    keys: list[str] | None = Field(None, description="Search keys")
    headers: dict[str, Any] | list[tuple[str, Any]] | None = Field(None, description="Application headers")
    content_type: str | None = None
    content_encoding: str | None = None
    message_id: str | None = None
    idempotency_key: str | None = None
    reply_to: str | None = None
    correlation: str | None = None
    correlation_base64: str | None = None
    priority: int | None = None
    timestamp: int | None = Field(None, description="The publisher's own, in Unix milliseconds")
    traceparent: str | None = None


class MessageShown(BaseModel):
    """A message. A body that is not UTF-8 comes as `body_base64`."""

    topic: str
    body: str | None = None
    body_base64: str | None = None
    qos: int
    retain: bool
    timestamp: int = Field(description="When it was published, in Unix milliseconds")
    expires_at: int | None = None
    properties: dict[str, Any] | None = None
    headers: dict[str, Any] | list[list[Any]] | None = None


class DeliveryShown(MessageShown):
    """A message under a lease."""

    id: str = Field(description="What to settle it by: POST /v1/deliveries/{id}/ack")
    queue: str
    attempt: int = Field(description="1 for the first")
    offset: int


class Deliveries(BaseModel):
    """What a receive brought; empty if nothing came in time."""

    deliveries: list[DeliveryShown]


class BrowsedMessage(MessageShown):
    """A message that waits in a queue."""

    offset: int
    attempts: int


class Browsed(BaseModel):
    """A look into a queue."""

    messages: list[BrowsedMessage]
    next: int | None = Field(None, description="`start` of the next page; null: there is none")


class Whence(BaseModel):
    """A client, as the log knows it."""

    protocol: str
    principal: str
    client_id: str
    address: str


class StoredMessage(BaseModel):
    """A message of the log, without its body."""

    position: int = Field(description="In the log; `@` and this is an id, too")
    id: str | None
    keys: list[str]
    topic: str
    size: int = Field(description="Of the body, in bytes")
    qos: int
    stored_at: int = Field(description="Unix milliseconds, as all times here")
    published_at: int
    expires_at: int | None
    from_: Whence = Field(alias="from", description="Who published it")


class MessageList(BaseModel):
    """Messages that were found."""

    messages: list[StoredMessage]
    next: int | None = Field(description="`after` of the next page; null: there is none")


class JourneyEvent(BaseModel):
    """Something that happened to a message in a queue."""

    event: Literal["delivered", "returned", "settled", "passed", "trimmed", "purged", "queue deleted"]
    at: int | None
    group: str | None = Field(None, description="Of a stream")
    consumer: Whence | None = None
    outcome: str | None = Field(None, description="ack, retry, requeue, reject, or why it was dropped")


class JourneyQueue(BaseModel):
    """A message's stay in a queue."""

    queue: str = Field(description="`#` and a number if it has been deleted since")
    kind: str
    subscriptions: list[str] = Field(description="Those of the queue that match the topic now")
    state: str = Field(description="waiting, delivered, acknowledged, dropped: <cause>, kept, trimmed, ...")
    attempts: int
    events: list[JourneyEvent]


class DeadLetter(BaseModel):
    """A dead letter that was made of a message."""

    position: int
    topic: str
    queue: str
    cause: str


class MessageJourney(StoredMessage):
    """What became of a message."""

    queues: list[JourneyQueue]
    dead_letters: list[DeadLetter]


class Journeys(BaseModel):
    """Of all messages with an id or key, newest first."""

    journeys: list[MessageJourney]


class Policy(Strict):
    """Limits of a queue; 0 means unlimited."""

    ttl_ms: int = Field(0, ge=0, le=COUNT_MAX)
    max_length: int = Field(0, ge=0, le=COUNT_MAX)
    max_bytes: int = Field(0, ge=0, le=COUNT_MAX)
    overflow: Literal["drop-head", "reject", "reject-dead-letter"] = "drop-head"
    delivery_limit: int = Field(ATTEMPTS, ge=0, le=COUNT_MAX, description="Attempts before it is given up on")
    dead_letter: str = Field(
        OWN_DEAD_LETTERS,
        description="Topic, or $queue/<name>, for what is given up on; $dead: the queue's own dead letters "
        "(what is rejected, or fails too often); empty: nowhere",
    )
    max_age_ms: int = Field(0, ge=0, le=COUNT_MAX, description="A stream's retention")
    retry_delay_ms: int = Field(1000, ge=0, le=int(DELAY_SECONDS_MAX * 1000))
    backoff_ms: list[Annotated[int, Field(ge=0, le=BACKOFF_STEP_MS_MAX)]] = Field(
        list(BACKOFF_MS),
        max_length=BACKOFF_STEPS_MAX,
        description="Pauses after the first, second ... failed attempt; the last one repeats; none: at once",
    )
    durability: Literal["sync", "async", "none"] = Field(
        "sync", description="Publishers are told when the disk, or the operating system, has it, or at once"
    )
    compact: bool = Field(False, description="A stream keeps of each key, or topic, only the last message")
    single_active: bool = Field(False, description="One consumer gets everything until it leaves")
    max_priority: int = Field(0, ge=0, le=255, description="What has more priority, up to this, comes first")
    expires_ms: int = Field(
        0, ge=0, le=COUNT_MAX, description="Deleted if it had no consumer, and nobody used it, for so long"
    )
    ordered: bool = Field(True, description="Messages of one key go out one at a time, in order")
    lease_ms: int = Field(
        0,
        ge=0,
        le=COUNT_MAX,
        description="What a connected consumer has not settled for so long is taken back",
    )
    group_expires_ms: int = Field(
        0, ge=0, le=COUNT_MAX, description="A stream's group that had no consumer for so long is removed"
    )


class BindingWanted(Strict):
    """A binding that takes some of what its filter matches."""

    filter: str = Field(min_length=1)
    selector: str | None = Field(None, description="What is taken, in SQL92: `price > 10 AND region = 'eu'`")
    selector_language: str | None = Field(None, description="sql (default) or tags")


class QueueWanted(Strict):
    """What a queue is to be. What is left out is taken as it is, or by default."""

    kind: Literal["classic", "stream"] | None = Field(None, description="Default: classic")
    durable: bool | None = Field(None, description="Default: true")
    auto_delete: bool | None = Field(None, description="Goes when its last consumer goes. Default: false")
    bindings: list[Annotated[str, Field(min_length=1)] | BindingWanted] = Field(
        default=[], max_length=BINDINGS_MAX, description="Filters; added to those there are"
    )
    policy: Policy | None = None


class GroupShown(BaseModel):
    """A group of consumers; a classic queue has one, without a name."""

    name: str
    consumers: int
    unsettled: int = Field(description="In consumers' hands")
    delayed: int = Field(description="Given back, waiting for their time")
    lag: int = Field(description="Messages it has not been given yet")
    cursor: int | None = Field(None, description="Streams: the next offset")
    selector: str | None = Field(None, description="Streams: what its members want; null: everything")
    selector_language: str | None = None


class KeyShown(BaseModel):
    """An ordering key that is busy or parked."""

    key: str
    state: Literal["delivered", "delayed", "waiting", "parked"] = Field(
        description="Its message is in hands, backs off, is about to go out, or all is held back"
    )
    attempts: int = Field(description="Of the message it is at")
    since_ms: int | None = Field(description="When that went out first")
    behind: int = Field(description="Messages that wait behind it")
    parked: bool


class KeyList(BaseModel):
    """Those with the most attempts first."""

    keys: list[KeyShown]


class Skipped(BaseModel):
    """The message that was given up."""

    topic: str
    message_id: str | None


class QueueShown(BaseModel):
    """A queue and how it is doing."""

    name: str
    kind: str
    durable: bool
    auto_delete: bool
    depth: int = Field(description="Messages that are in nobody's hands")
    bytes: int
    unsettled: int
    consumers: int
    first_offset: int | None = None
    next_offset: int
    bindings: list[str | BindingWanted] = Field(description="Filters, as objects where they have a selector")
    policy: Policy
    groups: list[GroupShown]


class QueueList(BaseModel):
    """A page of queues."""

    queues: list[QueueShown]
    next: str | None = Field(None, description="`after` of the next page; null: there is none")


class TopicShown(BaseModel):
    """A topic that has a value."""

    topic: str
    retained: bool


class TopicList(BaseModel):
    """A page of topics."""

    topics: list[TopicShown]
    next: str | None = Field(None, description="`after` of the next page; null: there is none")


class Purged(BaseModel):
    """How many messages were dropped."""

    purged: int


class SeekWanted(Strict):
    """Where a group is to go on."""

    offset: Annotated[int, Field(ge=0, le=COUNT_MAX)] | Annotated[str, Field(max_length=40)] = Field(
        description="A number, `earliest`, `latest`, or a time (RFC 3339): what was stored then or later"
    )


class Nack(Strict):
    """How a delivery is given back."""

    outcome: Literal["retry", "requeue", "reject"] = Field(
        "requeue",
        description="retry: later, costs no attempt; requeue: failed, costs one; reject: to the dead letters",
    )
    delay: float | None = Field(
        None,
        ge=0,
        le=DELAY_SECONDS_MAX,
        description="Seconds until it is delivered again. Default: by policy",
    )
    reason: str = Field("", max_length=REASON_MAX, description="Why, for its dead letter")


class Extension(Strict):
    """How long a lease is to last from now."""

    lease: float = Field(LEASE_SECONDS_DEFAULT, gt=0, le=LEASE_SECONDS_MAX, description="Seconds")


class Health(BaseModel):
    """The gateway answers."""

    status: Literal["ok", "stopping"]
    version: str
