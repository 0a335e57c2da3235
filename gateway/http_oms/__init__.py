"""A message as OpenMessaging's HTTP binding has it, and back: pure functions.

`x-oms-h-<field>` has a field of the header or the extension header, text percent-encoded as far as it has to
be, some texts with commas between; `x-oms-p-<name>` a property, name and value as those of `X-Property-`
(http_fields). In JSON a message is as OpenMessaging's schema has it: version, header, extensionHeader,
properties, and data in base64. What OpenMessaging has no field for is a property whose name begins with `$`,
the one that MQTT clients know it by.

terms   the words
told    a message of the model in these words, and back
heads   the words as HTTP headers
objects the words as JSON
"""

from .heads import FIELD_PREFIX, read_head, write_head
from .objects import from_json, to_json
from .terms import FIELDS, VERSION, VERSION_FIELD, Shown, Told, UnsupportedVersion, check_version
from .told import to_message, topic_of

__all__ = [
    "FIELDS",
    "FIELD_PREFIX",
    "VERSION",
    "VERSION_FIELD",
    "Shown",
    "Told",
    "UnsupportedVersion",
    "check_version",
    "from_json",
    "read_head",
    "to_json",
    "to_message",
    "topic_of",
    "write_head",
]
