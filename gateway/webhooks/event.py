"""Messages as CloudEvents in structured mode: a pure function.

What was published as an event stays it; anything else becomes one of type `gateway.message`, whose source
and subject are its topic.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from ..core import cloudevents
from ..core.message import Message, Properties

TYPE: Final = "gateway.message"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # no attribute may have these


def as_event(message: Message, message_id: str) -> Message:
    """Return a message whose body is the event as JSON; its other headers stay."""
    properties = message.properties
    body = cloudevents.to_structured(message)
    if body is None:
        attributes = cloudevents.attributes_of(properties) or _attributes(message, message_id)
        if properties.content_encoding is not None:  # an event has no word for it
            attributes["contentencoding"] = _CONTROL.sub("", properties.content_encoding)
        told = Properties(properties.content_type, headers=cloudevents.to_headers(attributes))
        body = cloudevents.to_structured(Message(message.topic, message.body, properties=told))
        assert body is not None, "these attributes make an event"
    others = properties.copy()
    others.headers = cloudevents.others_of(properties)
    others.content_type, others.content_encoding = cloudevents.STRUCTURED, None
    return Message(
        message.topic,
        body,
        message.qos,
        properties=others,
        timestamp_ms=message.timestamp_ms,
        expires_at_ms=message.expires_at_ms,
    )


def _attributes(message: Message, message_id: str) -> dict[str, str]:
    properties = message.properties
    found = {
        "specversion": cloudevents.VERSION,
        "id": _CONTROL.sub("", properties.message_id or "") or message_id,
        "source": "/topics/" + quote(message.topic, safe="/"),
        "type": TYPE,
        "subject": _CONTROL.sub("", message.topic),
    }
    at_ms = properties.timestamp_ms or message.timestamp_ms
    if 0 < at_ms <= cloudevents.TIME_MS_MAX:
        found["time"] = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    for name, attribute in cloudevents.SHARED.items():
        value = getattr(properties, attribute)
        if value and not _CONTROL.search(value):
            found[name] = value
    return found
