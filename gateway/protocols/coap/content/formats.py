"""Content-Formats and content types, both ways (RFC 7252, 12.3; RFC 9193, 2).

CoAP names a media type, its parameters and its content coding by one number. What came with a number goes
out with it again, also where nobody has registered it: it is then `application/x.coap;cf=<number>` for the
other protocols. A content type that has no number is not guessed at: it is a loss (see `translate`).
"""

from __future__ import annotations

import re
from typing import Final

NONE: Final = -1  # no Content-Format option
TEXT: Final = 0
LINK_FORMAT: Final = 40
OCTET_STREAM: Final = 42
JSON: Final = 50
CBOR: Final = 60
SENML_JSON: Final = 110
SENML_CBOR: Final = 112
PUBSUB: Final = 606  # asked for by draft-ietf-core-coap-pubsub (TBD606), not registered yet
NUMBER_MAX: Final = 0xFFFF  # what the option's two bytes hold

#: Number -> (content type, content coding; "" is none). IANA's "CoAP Content-Formats", as far as its
#: entries are permanent; any other number has a name of ours.
FORMATS: Final[dict[int, tuple[str, str]]] = {
    TEXT: ("text/plain;charset=utf-8", ""),
    16: ('application/cose;cose-type="cose-encrypt0"', ""),
    17: ('application/cose;cose-type="cose-mac0"', ""),
    18: ('application/cose;cose-type="cose-sign1"', ""),
    19: ("application/ace+cbor", ""),
    21: ("image/gif", ""),
    22: ("image/jpeg", ""),
    23: ("image/png", ""),
    LINK_FORMAT: ("application/link-format", ""),
    41: ("application/xml", ""),
    OCTET_STREAM: ("application/octet-stream", ""),
    47: ("application/exi", ""),
    JSON: ("application/json", ""),
    51: ("application/json-patch+json", ""),
    52: ("application/merge-patch+json", ""),
    CBOR: ("application/cbor", ""),
    61: ("application/cwt", ""),
    62: ("application/multipart-core", ""),
    63: ("application/cbor-seq", ""),
    96: ('application/cose;cose-type="cose-encrypt"', ""),
    97: ('application/cose;cose-type="cose-mac"', ""),
    98: ('application/cose;cose-type="cose-sign"', ""),
    101: ("application/cose-key", ""),
    102: ("application/cose-key-set", ""),
    SENML_JSON: ("application/senml+json", ""),
    111: ("application/sensml+json", ""),
    SENML_CBOR: ("application/senml+cbor", ""),
    113: ("application/sensml+cbor", ""),
    114: ("application/senml-exi", ""),
    115: ("application/sensml-exi", ""),
    140: ("application/yang-data+cbor;id=sid", ""),
    256: ("application/coap-group+json", ""),
    257: ("application/concise-problem-details+cbor", ""),
    258: ("application/swid+cbor", ""),
    271: ("application/dots+cbor", ""),
    272: ("application/missing-blocks+cbor-seq", ""),
    280: ("application/pkcs7-mime;smime-type=server-generated-key", ""),
    281: ("application/pkcs7-mime;smime-type=certs-only", ""),
    284: ("application/pkcs8", ""),
    285: ("application/csrattrs", ""),
    286: ("application/pkcs10", ""),
    287: ("application/pkix-cert", ""),
    290: ("application/aif+cbor", ""),
    291: ("application/aif+json", ""),
    310: ("application/senml+xml", ""),
    311: ("application/sensml+xml", ""),
    320: ("application/senml-etch+json", ""),
    322: ("application/senml-etch+cbor", ""),
    340: ("application/yang-data+cbor", ""),
    341: ("application/yang-data+cbor;id=name", ""),
    432: ("application/td+json", ""),
    PUBSUB: ("application/core-pubsub+cbor", ""),
    10000: ("application/vnd.ocf+cbor", ""),
    10001: ("application/oscore", ""),
    10002: ("application/javascript", ""),
    11050: ("application/json", "deflate"),
    11060: ("application/cbor", "deflate"),
    11542: ("application/vnd.oma.lwm2m+tlv", ""),
    11543: ("application/vnd.oma.lwm2m+json", ""),
    11544: ("application/vnd.oma.lwm2m+cbor", ""),
    20000: ("text/css", ""),
    30000: ("image/svg+xml", ""),
}
UNREGISTERED: Final = "application/x.coap;cf="  # then the number

_REMEMBERED_MAX: Final = 1024  # content types that were looked up; a gateway sees few
_REMEMBERED_CHARS_MAX: Final = 128  # of one: what is longer is no habit
_PARAMETER: Final = re.compile(
    r"\s*;\s*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(\"(?:[^\"\\]|\\.)*\"|[!#$%&'*+.^_`|~0-9A-Za-z-]*))?"
)
_TYPE: Final = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")

#: Charsets that say nothing: what UTF-8 is read as, and what is a part of it.
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii"})

_Key = tuple[str, frozenset[tuple[str, str]], str]


def content_of(number: int) -> tuple[str | None, str | None]:
    """Return (content type, content encoding) of a Content-Format; None where there is none."""
    if number == NONE:
        return (None, None)
    found = FORMATS.get(number)
    if found is None:
        return (f"{UNREGISTERED}{number}", None)
    return (found[0], found[1] or None)


def number_of(content_type: str | None, content_encoding: str | None = None) -> int:
    """Return the Content-Format of a content type and encoding, NONE if no number stands for both.

    Case, spaces, quotes and the order of parameters do not matter, nor does a charset that is UTF-8, or
    ASCII, which is a part of it: so `text/plain` alone is 0.
    """
    if content_type is None:
        return NONE
    asked = (content_type, content_encoding)
    found = _remembered.get(asked)
    if found is None:
        found = _number_of(content_type, content_encoding or "")
        if len(content_type) + len(content_encoding or "") <= _REMEMBERED_CHARS_MAX:
            if len(_remembered) >= _REMEMBERED_MAX:
                _remembered.clear()
            _remembered[asked] = found
    return found


def _number_of(content_type: str, content_encoding: str) -> int:
    coding = content_encoding.strip().lower()
    key = _key(content_type, "" if coding == "identity" else coding)
    if key is None:
        return NONE
    found = _NUMBERS.get(key)
    if found is not None:
        return found
    media, parameters, coding = key
    if media == "application/x.coap" and not coding and len(parameters) == 1:
        (name, value) = next(iter(parameters))
        if name == "cf" and value.isascii() and value.isdigit() and len(value) <= 5:
            number = int(value)
            return number if number <= NUMBER_MAX else NONE
    return NONE


def _key(content_type: str, coding: str) -> _Key | None:
    """Return what of a content type matters; None if it is none (RFC 9110, 8.3.1)."""
    match = _TYPE.match(content_type)
    if match is None:
        return None
    parameters: set[tuple[str, str]] = set()
    at = match.end()
    while at < len(content_type.rstrip()):
        found = _PARAMETER.match(content_type, at)
        if found is None:
            return None
        at = found.end()
        if found[1] is None:
            continue
        name, value = found[1].lower(), found[2]
        if value.startswith('"'):
            value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
        if name != "charset":
            parameters.add((name, value))
        elif value.lower() not in _UTF8:
            parameters.add((name, value.lower()))
    return (match[1].lower(), frozenset(parameters), coding)


def _numbers() -> dict[_Key, int]:
    found: dict[_Key, int] = {}
    for number, (content_type, coding) in FORMATS.items():
        key = _key(content_type, coding)
        assert key is not None, content_type
        found[key] = number
    return found


_NUMBERS: Final = _numbers()
_remembered: Final[dict[tuple[str, str | None], int]] = {}
