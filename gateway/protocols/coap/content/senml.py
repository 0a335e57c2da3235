"""SenML packs (RFC 8428; RFC 9193 for `ct`) in JSON and CBOR: read, and resolved into records.

A pack is an array of records in which later ones go on from the base fields of earlier ones. A resolved
record stands alone (4.6): its own name, unit, absolute time and value.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.core.errors import InvalidValue

from . import cbor
from .formats import SENML_CBOR, SENML_JSON

RECORDS_MAX: Final = 1000  # of one pack: each becomes a message, and they are published together
VERSION: Final = 10  # of RFC 8428: what is unsaid
#: Versions above 10 are sums of features (RFC 9100); 26 is 10 and "secondary units": no change here.
VERSIONS_ABOVE: Final = frozenset({26})
RELATIVE_BELOW: Final = 1 << 28  # times below are relative to now (4.5.3)
TIME_MAX: Final = 1 << 53  # seconds: where doubles stop having them all

#: Label -> its number in CBOR (RFC 8428, table 4). Others are texts there, too.
LABELS: Final = {
    "bs": -6,
    "bv": -5,
    "bu": -4,
    "bt": -3,
    "bn": -2,
    "bver": -1,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
_NAMES: Final = {number: label for label, number in LABELS.items()}
_TEXTS: Final = frozenset({"bn", "bu", "n", "u", "vs", "bct", "ct"})
_NUMBERS: Final = frozenset({"bt", "bv", "bs", "v", "s", "t", "ut"})
_VALUES: Final = ("v", "vs", "vb", "vd")
_BASE: Final = frozenset({"bn", "bt", "bu", "bv", "bs", "bver", "bct"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*\Z")  # RFC 8428, 4.5.1

Number = int | float


class Record:
    """One resolved record: `fields` by label, JSON's; `vd` as bytes. `time` in seconds of Unix time."""

    __slots__ = ("fields", "name", "time")

    def __init__(self, name: str, time: Number, fields: dict[str, Any]) -> None:
        self.name = name
        self.time = time
        self.fields = fields

    def encode(self, content_format: int) -> bytes:
        """Return it as a pack of one record (Content-Format 110 or 112)."""
        if content_format == SENML_CBOR:
            return cbor.encode([{LABELS.get(label, label): value for label, value in self.fields.items()}])
        fields = self.fields
        if "vd" in fields:
            fields = {**fields, "vd": _base64(fields["vd"])}
        return msgspec.json.encode([fields])

    def value(self) -> tuple[bytes, bool] | None:
        """Return its value alone, and whether that is text; None if it has only a sum."""
        fields = self.fields
        if "vd" in fields:
            return (fields["vd"], False)
        if "vs" in fields:
            return (fields["vs"].encode(), True)
        if "vb" in fields:
            return (b"true" if fields["vb"] else b"false", True)
        return (msgspec.json.encode(fields["v"]), True) if "v" in fields else None


class _Bases:
    """The base fields in effect (4.1), from one record on to the next."""

    __slots__ = ("format", "name", "sum", "time", "unit", "value", "version")

    def __init__(self) -> None:
        self.name = ""
        self.time: Number = 0
        self.unit = ""
        self.value: Number | None = None
        self.sum: Number | None = None
        self.version = 0  # not said
        self.format = ""

    def take(self, record: dict[str, Any]) -> None:
        """Go on with what a record says."""
        self.name = record.get("bn", self.name)
        self.time = record.get("bt", self.time)
        self.unit = record.get("bu", self.unit)
        self.value = record.get("bv", self.value)
        self.sum = record.get("bs", self.sum)
        self.format = record.get("bct", self.format)
        version = record.get("bver")
        if version is None:
            return
        if version > VERSION and version not in VERSIONS_ABOVE:
            raise InvalidValue(f"bver is {version}; {VERSION} is understood")
        if self.version not in (0, version):
            raise InvalidValue(f"bver is {version}, and was {self.version} before")
        self.version = version


def read(payload: bytes, content_format: int, now_s: float) -> list[Record]:
    """Return the resolved records of a pack, in its order; times without a date are relative to `now_s`.

    `content_format` is 110 or 112. Raise InvalidValue naming the record (from 1) and what is wrong with it.
    """
    pack = _parse(payload, content_format)
    if not isinstance(pack, list) or not pack:
        raise InvalidValue("SenML: an array of records is expected")
    if len(pack) > RECORDS_MAX:
        raise InvalidValue(f"SenML: the pack has {len(pack)} records; {RECORDS_MAX} are possible")
    bases = _Bases()
    found: list[Record] = []
    for number, raw in enumerate(pack, 1):
        try:
            fields = _checked(raw, content_format)
            bases.take(fields)
            record = _resolve(fields, bases, now_s)
        except InvalidValue as error:
            raise InvalidValue(f"SenML: record {number}: {error.detail}") from None
        if record is not None:
            found.append(record)
    return found


def _parse(payload: bytes, content_format: int) -> Any:
    if content_format == SENML_CBOR:
        return cbor.decode(payload)
    assert content_format == SENML_JSON
    try:
        return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidValue(f"SenML: not JSON: {error}") from None


# -- one record -------------------------------------------------------------------------------


def _checked(raw: Any, content_format: int) -> dict[str, Any]:
    """Return a record by JSON's labels, `vd` as bytes, every field of its type."""
    if not isinstance(raw, dict):
        raise InvalidValue("a map is expected")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        label = _NAMES.get(key, key) if not isinstance(key, str) else key
        if not isinstance(label, str):
            raise InvalidValue(f"label {label} is unknown; only texts extend SenML")
        if label in found:
            raise InvalidValue(f"{label} is there twice")
        found[label] = _field(label, value, content_format)
    if sum(label in found for label in _VALUES) > 1:
        raise InvalidValue("more than one of v, vs, vb and vd")
    return found


def _field(label: str, value: Any, content_format: int) -> Any:
    if label in _NUMBERS:
        return _number(label, value)
    if label in _TEXTS:
        if not isinstance(value, str):
            raise InvalidValue(f"{label}: a text is expected")
        return value
    if label == "vb":
        if not isinstance(value, bool):
            raise InvalidValue("vb: true or false is expected")
        return value
    if label == "vd":
        return _data(value, content_format)
    if label == "bver":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidValue("bver: a positive whole number is expected")
        return value
    if label.endswith("_"):
        raise InvalidValue(f"{label[:40]!r} must be understood, and is not")  # RFC 8428, 4.4
    return _plain(label, value)


def _number(label: str, value: Any) -> Number:
    if isinstance(value, Decimal):  # a decimal fraction, of CBOR alone (6)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValue(f"{label}: a number is expected")
    return value


def _data(value: Any, content_format: int) -> bytes:
    if content_format == SENML_CBOR:
        if not isinstance(value, bytes):
            raise InvalidValue("vd: bytes are expected")
        return value
    if isinstance(value, str):
        try:
            plain = value.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
            return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass  # said below
    raise InvalidValue("vd: base64 with the URL-safe alphabet is expected")


def _plain(label: str, value: Any) -> Any:
    """Return an extension's value (4.4: what is not understood is passed on), if both formats can say it."""
    if isinstance(value, str | bool | int | float) and not (
        isinstance(value, float) and not math.isfinite(value)
    ):
        return value
    raise InvalidValue(f"{label[:40]!r}: a text, a number or a boolean is expected")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _resolve(fields: dict[str, Any], bases: _Bases, now_s: float) -> Record | None:
    """Apply the base fields (4.6); None for a record that only sets some."""
    values = _measured(fields, bases)
    if not values:
        if all(label in _BASE for label in fields):
            return None
        raise InvalidValue("no value: one of v, vs, vb, vd or s is expected")
    name = bases.name + fields.get("n", "")
    if not _NAME.match(name):
        raise InvalidValue(
            f"name {name[:80]!r}: letters, digits and -:./_ are possible, a letter or digit first"
        )
    time = bases.time + fields.get("t", 0)
    if time < RELATIVE_BELOW:
        time += now_s
    if not abs(time) <= TIME_MAX:
        raise InvalidValue(f"its time is {time}; seconds since 1970, or from now, are expected")
    found: dict[str, Any] = {"n": name}
    if bases.version not in (0, VERSION):
        found["bver"] = bases.version
    unit = fields.get("u", bases.unit)
    if unit:
        found["u"] = unit
    found.update(values)
    found["t"] = time
    if "vd" in fields and bases.format and "ct" not in fields:
        found["ct"] = bases.format
    for label, value in fields.items():
        # What others have added; a base field of theirs means nothing without its record.
        if label not in found and label not in _BASE and label not in LABELS and not label.startswith("b"):
            found[label] = value
    if "ut" in fields:
        found["ut"] = fields["ut"]
    return Record(name, time, found)


def _measured(fields: dict[str, Any], bases: _Bases) -> dict[str, Any]:
    """Return the value and the sum (4.1, 4.5.4)."""
    found: dict[str, Any] = {label: fields[label] for label in _VALUES if label in fields}
    if bases.value is not None and (not found or "v" in found) and not (not found and "s" in fields):
        found["v"] = _finite("v", bases.value + fields.get("v", 0))
    if "s" in fields or (bases.sum is not None and "v" in found):
        found["s"] = _finite("s", (bases.sum or 0) + fields.get("s", 0))
    return found


def _finite(label: str, value: Number) -> Number:
    if not math.isfinite(value):
        raise InvalidValue(f"{label}: the base and it are more than a number can be")
    return value
