"""The topics that clients have configured: kept in the metadata store, found by id, name and topic."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from gateway.api import Gateway, Session
from gateway.core.access import Action
from gateway.core.errors import Conflict, NotFound
from gateway.core.message import NO_PROPERTIES, NOWHERE, Message
from gateway.core.scheduler import Timer

from ..discovery.links import Query
from .topic_config import COLLECTION, OBSERVER_CHECK_SECONDS, TopicConfig

KEY: Final = "coap/topics/"  # then the id
CONFIGURATIONS_MAX: Final = 10_000  # about 1 KB of memory each; every one also costs a key
CHECKS_MAX: Final = 1000  # configurations that are looked at for a list: rights are asked for each
LOOK_MS: Final = 3_600_000  # the wall clock, which says when a topic expires, may be set meanwhile

_READS: Final = (Action.SUBSCRIBE, Action.PUBLISH, Action.MANAGE)

log = structlog.get_logger("gateway")
_decode = msgspec.msgpack.Decoder(TopicConfig).decode
_encode = msgspec.msgpack.Encoder().encode


class Configurations:
    """All of them. `by_topic` is what publishing and observing look at: it is empty for most gateways."""

    __slots__ = ("_broker", "_names", "_timers", "all", "by_topic", "on_change")

    def __init__(self, gateway: Gateway) -> None:
        self._broker = gateway.broker
        self.all: dict[str, TopicConfig] = {}  # by id
        self.by_topic: dict[str, TopicConfig] = {}
        self._names: dict[str, str] = {}  # name -> id
        self._timers: dict[str, Timer] = {}  # by id, of those that expire
        #: Told the topic when a configuration came, changed or went: observers may be too many now.
        self.on_change: list[Callable[[str], None]] = []

    def restore(self) -> None:
        """Take up what was there before the restart."""
        for key, value in list(self._broker.engine.scan(KEY)):
            try:
                self._take(_decode(value))
            except msgspec.MsgspecError as error:
                log.error("a CoAP topic's configuration cannot be read", key=key, reason=str(error))

    # -- what publishing and observing ask ----------------------------------------------------

    def max_subscribers(self, topic: str) -> int:
        """Return how many clients may observe a topic at a time, -1 for any number."""
        found = self.by_topic.get(topic)
        return -1 if found is None else found.max_subscribers

    def observer_check(self, topic: str) -> int:
        """Return after how many seconds at most a notification is confirmable (RFC 7641, 4.5)."""
        found = self.by_topic.get(topic)
        return (
            found.observer_check if found is not None and found.observer_check > 0 else OBSERVER_CHECK_SECONDS
        )

    def has_value(self, topic: str) -> bool:
        """Tell whether a topic is fully created (3.1): it has a value, whoever may read it."""
        broker = self._broker
        now_ms = broker.clock.now_ms
        return lives(broker.router.last(topic), now_ms) or lives(broker.retained.get(topic), now_ms)

    # -- what their resources do --------------------------------------------------------------

    def get(self, id: str) -> TopicConfig:
        """Return one. Raise NotFound."""
        found = self.all.get(id)
        if found is None:
            raise NotFound(f"no topic {id[:40]!r} here; GET of the collection lists those there are")
        return found

    def visible(self, session: Session, prefix: str = "") -> list[TopicConfig]:
        """Return those whose ids begin so and that a client may read, in their order: of `CHECKS_MAX`."""
        ids = sorted(id for id in self.all if id.startswith(prefix))
        configs = [self.all[id] for id in ids[:CHECKS_MAX]]
        return [config for config in configs if may_read(session, config.topic)]

    def new_id(self) -> str:
        """Return an id that no configuration has."""
        while True:
            found = secrets.token_hex(4)
            if found not in self.all:
                return found

    def check_new(self, config: TopicConfig) -> None:
        """Raise Conflict if there is one of that name or topic, or no room for another."""
        if config.name in self._names:
            raise Conflict(f"topic-name {config.name[:80]!r} is in use")
        if config.topic in self.by_topic:
            raise Conflict(f"topic {config.topic[:80]!r} has a configuration, under another name")
        if len(self.all) >= CONFIGURATIONS_MAX:
            raise Conflict(f"there are {CONFIGURATIONS_MAX} configured topics, as many as there may be")

    def put(self, config: TopicConfig) -> None:
        """Add one, or put it in the place of the one with its id."""
        self._take(config)
        self._broker.engine.put(KEY + config.id, _encode(config))
        self._changed(config.topic)

    def delete(self, id: str) -> None:
        """Remove one; its topic's value is another matter."""
        config = self.all.pop(id)
        del self.by_topic[config.topic]
        del self._names[config.name]
        self._broker.scheduler.cancel(self._timers.pop(id, None))
        self._broker.engine.delete(KEY + id)
        self._changed(config.topic)

    def _changed(self, topic: str) -> None:
        self._broker.ready.wake()
        for call in self.on_change:
            call(topic)

    def _take(self, config: TopicConfig) -> None:
        self.all[config.id] = config
        self.by_topic[config.topic] = config
        self._names[config.name] = config.id
        self._arm(config)

    # -- expiry -------------------------------------------------------------------------------

    def _arm(self, config: TopicConfig) -> None:
        scheduler = self._broker.scheduler
        scheduler.cancel(self._timers.pop(config.id, None))
        if config.expires_at_ms:
            wait_ms = max(0, config.expires_at_ms - self._broker.clock.wall_ms)
            self._timers[config.id] = scheduler.after(min(wait_ms, LOOK_MS), lambda: self._look(config))

    def _look(self, config: TopicConfig) -> None:
        """See whether a topic's time has come: it goes, and its value with it (2.2.1, 2.5.5)."""
        if self._broker.clock.wall_ms < config.expires_at_ms:
            self._arm(config)
            return
        self.delete(config.id)
        if self.has_value(config.topic):
            broker = self._broker
            broker.publish(Message(config.topic, b"", 1, True, NO_PROPERTIES, NOWHERE, broker.clock.wall_ms))


def id_prefix(query: Query) -> str:
    """Return what the ids begin with of all configurations that a list may have: by its `href`."""
    href, begin = query.href_prefix(), f"/{COLLECTION}/"
    return href[len(begin) :] if href.startswith(begin) else ""


def may_read(session: Session, topic: str) -> bool:
    """Tell whether a client may read the configuration of a topic: whoever has to do with it may."""
    return any(session.may(action, topic) for action in _READS)


def lives(message: Message | None, now_ms: int) -> bool:
    """Tell whether a message is a value: not expired, and not what has cleared one."""
    if message is None or (message.retain and not message.body):
        return False
    return not message.expires_at_ms or message.expires_at_ms > now_ms
