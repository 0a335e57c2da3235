"""Where RabbitMQ's names are in our topics and queues, as resources of rules.

A set of names becomes the resources of its exchanges and of its queues. What would reach further
here than there is left out, and a remark says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from .regex import Shape

DEFAULT_EXCHANGE: Final = "amq.default"  # as the empty name is called where permissions are looked up
TOPIC_EXCHANGE: Final = "amq.topic"
CLIENT_ID: Final = "\uf8ff"  # stands for {client_id} while an expression is looked at
#: Exchanges that every virtual host has, `amq.topic` apart.
BUILT_IN: Final = ("amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace")

_NOT_IN_NAMES: Final = frozenset("*{}\0" + CLIENT_ID)  # a prefix or a placeholder here, or nothing at all
_NOT_IN_PREFIXES: Final = _NOT_IN_NAMES | frozenset("%$#+/")  # written otherwise in topics: no prefix of it
_NOT_IN_KEYS: Final = frozenset("*{}\0%$#+")


class Names(NamedTuple):
    """How AMQP's names become ours: the functions of the AMQP door, which an importer must not import."""

    queue: Callable[[str, str], str]  # (virtual host, queue) -> queue
    topic: Callable[[str, str, str], str]  # (virtual host, exchange, key) -> topic
    prefix: Callable[[str], str]  # virtual host -> what its topics and queues begin with


class Spaces:
    """The resources of one virtual host, for one user.

    `exchanges` are those that are known, `limits` the keys that topic permissions leave of an exchange.
    """

    def __init__(self, vhost: str, names: Names, exchanges: set[str], remark: Callable[[str], None]) -> None:
        self._vhost = vhost
        self._names = names
        self._known = sorted(exchanges | set(BUILT_IN) - {"", TOPIC_EXCHANGE})
        self._remark = remark

    def all_queues(self) -> list[str]:
        """Return the resource that is every queue of the virtual host."""
        return [f"queue:{self._names.prefix(self._vhost)}*"]

    def queues(self, shape: Shape) -> list[str]:
        """Return the queues that a set of names has."""
        if shape.everything:
            return self.all_queues()
        exact, prefixes = self._sound(shape)
        return [
            *(f"queue:{self._names.queue(self._vhost, name)}" for name in exact),
            *(f"queue:{self._names.queue(self._vhost, prefix)}*" for prefix in prefixes),
        ]

    def topics(self, shape: Shape, limits: Mapping[str, Shape], publish: bool) -> list[str]:
        """Return the topics of the exchanges that a set of names has, to publish or to subscribe."""
        limited = sorted(name for name in limits if shape.covers(name))
        if shape.everything and not limited:
            return [f"topic:{self._names.prefix(self._vhost)}#"]
        exact, prefixes = self._sound(shape)
        found: list[str] = []
        for prefix in [""] if shape.everything else prefixes:
            if any(name.startswith(prefix) for name in limited):
                self._remark(
                    f"only exchanges that are known now, not all of {prefix + '*'!r}: keys are limited"
                )
                exact += [name for name in {*self._known, *limited} if name.startswith(prefix)]
            else:
                found.append(f"topic:{self._space(prefix)[:-1]}*")
        if TOPIC_EXCHANGE not in limited and shape.covers(TOPIC_EXCHANGE):
            self._remark("amq.topic left out: its keys are all topics; with everything else it is taken over")
        for name in dict.fromkeys(sorted(exact)):
            if name in limits:
                found += self._keys(shape, name, limits[name], publish)
            elif name not in (TOPIC_EXCHANGE, DEFAULT_EXCHANGE):
                found.append(f"topic:{self._space(name)}{'*' if publish else '#'}")
        return found

    def _space(self, exchange: str) -> str:
        """Return what topics of an exchange begin with."""
        return self._names.topic(self._vhost, exchange, "")

    def _sound(self, shape: Shape) -> tuple[list[str], list[str]]:
        """Return the exact names and the prefixes that can be said here."""
        exact = [name for name in shape.exact if self._can(name, _NOT_IN_NAMES)]
        return exact, [prefix for prefix in shape.prefixes if self._can(prefix, _NOT_IN_PREFIXES)]

    def _can(self, name: str, forbidden: frozenset[str]) -> bool:
        bad = forbidden & set(name)
        if bad:
            self._remark(f"{name!r} left out: it has {' '.join(map(repr, sorted(bad)))}")
        return not bad

    # -- topic permissions ----------------------------------------------------------------------------

    def _keys(self, shape: Shape, exchange: str, keys: Shape, publish: bool) -> list[str]:
        """Return the topics that an exchange has for a set of routing keys."""
        if keys.everything and exchange != TOPIC_EXCHANGE:
            return [f"topic:{self._space(exchange)}{'*' if publish else '#'}"]
        if keys.everything:
            self._remark("amq.topic left out: its keys are all topics")
            return []
        found: list[str] = []
        for key, whole in [*((key, True) for key in keys.exact), *((key, False) for key in keys.prefixes)]:
            if not self._can(key, _NOT_IN_KEYS) or not self._can_client(key, whole):
                continue
            topic = self._names.topic(self._vhost, exchange, key)
            if not whole:
                # A binding `a.#` is the filter `a/#`, which no prefix `a/*` need cover.
                topic += "#" if topic.endswith("/") and not publish else "*"
            if exchange == TOPIC_EXCHANGE and self._meets_others(shape, topic):
                self._remark(
                    f"amq.topic, key {key!r} left out: exchanges that are not allowed share its topics"
                )
                continue
            found.append("topic:" + topic.replace(CLIENT_ID, "${clientid}"))
        return found

    def _can_client(self, key: str, whole: bool) -> bool:
        """Tell whether `{client_id}` is a word of its own wherever it is."""
        words = key.split(".")
        if any(CLIENT_ID in word and word != CLIENT_ID for word in words) or (
            not whole and words[-1] == CLIENT_ID
        ):
            self._remark("a key left out: {client_id} must be a whole word")
            return False
        return True

    def _meets_others(self, shape: Shape, topic: str) -> bool:
        """Tell whether topics of `amq.topic` are also those of an exchange that is not in a set of names."""
        if shape.everything:
            return False
        prefix = self._names.prefix(self._vhost)
        first = topic[len(prefix) :].partition("/")[0]
        for name in self._known:
            space = self._space(name)
            same = topic.startswith(space) or (topic[-1] in "*#" and space.startswith(topic[:-1]))
            if not shape.covers(name) and (same or first == CLIENT_ID):
                return True
        return False
