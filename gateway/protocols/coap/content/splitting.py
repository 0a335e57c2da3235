"""SenML packs split into topics, by the rules of `[coap.senml]` and `[coap.senml_values]`.

A rule is a filter of topics and a template for the topic of each record. A pack that is published to such a
topic is not: its records are, all of them or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.errors import InvalidValue
from gateway.core.message import Properties
from gateway.core.template import check_template, fill
from gateway.core.topic import check_filter, matches

from .formats import OCTET_STREAM, SENML_CBOR, SENML_JSON, TEXT, content_of
from .senml import read

PACKS: Final = frozenset({SENML_JSON, SENML_CBOR})  # the Content-Formats that are split
BODY_BYTES_MAX: Final = 256 << 10  # of a pack: a thousand records, far more than devices have memory for

#: What a template may say: the topic of the pack, and the name of the record. gateway.config knows it, too.
PLACEHOLDERS: Final = ("topic", "name")


class Rule:
    """One. `plain`: the body is the value alone, not a record."""

    __slots__ = ("plain", "template", "topic_filter")

    def __init__(self, topic_filter: str, template: str, plain: bool) -> None:
        """Raise InvalidTopic or InvalidValue."""
        check_filter(topic_filter)
        check_template(template, PLACEHOLDERS)
        self.topic_filter = topic_filter
        self.template = template
        self.plain = plain

    def topic(self, topic: str, name: str) -> str:
        """Return where a record goes."""
        return fill(self.template, {"topic": topic, "name": name})


class Part:
    """A message that a record becomes: where, what, and what is said of it."""

    __slots__ = ("body", "properties", "topic")

    def __init__(self, topic: str, body: bytes, properties: Properties) -> None:
        self.topic = topic
        self.body = body
        self.properties = properties


def read_rules(records: Mapping[str, str], values: Mapping[str, str]) -> list[Rule]:
    """Return the rules of both sections, in their order. Raise InvalidTopic or InvalidValue."""
    return [Rule(topic_filter, template, False) for topic_filter, template in records.items()] + [
        Rule(topic_filter, template, True) for topic_filter, template in values.items()
    ]


def rule_for(rules: Sequence[Rule], topic: str, content_format: int) -> Rule | None:
    """Return the first rule for what is published there; None if it is to be published as it is."""
    if content_format not in PACKS:
        return None
    return next((rule for rule in rules if matches(rule.topic_filter, topic)), None)


def split(rule: Rule, topic: str, payload: bytes, content_format: int, now_ms: int) -> list[Part]:
    """Return the messages that a pack becomes; `now_ms` is Unix time. Raise InvalidValue naming the record.

    The publisher's own time of each message is the record's.
    """
    if len(payload) > BODY_BYTES_MAX:
        raise InvalidValue(f"SenML: the pack has {len(payload)} bytes; {BODY_BYTES_MAX} are possible")
    found: list[Part] = []
    for number, record in enumerate(read(payload, content_format, now_ms / 1000), 1):
        body, said = record.encode(content_format), content_format
        if rule.plain:
            value = record.value()
            if value is None:
                raise InvalidValue(f"SenML: record {number} of those with a value has only a sum")
            body, said = value[0], TEXT if value[1] else OCTET_STREAM
        properties = Properties(content_of(said)[0], timestamp_ms=max(0, round(record.time * 1000)))
        found.append(Part(rule.topic(topic, record.name), body, properties))
    return found
