"""What an import brings, and what all importers need to make it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ...api import InvalidValue

TEXT_BYTES_MAX: Final = 16 << 20  # a file of some 100,000 users; more is no file of rights
NAME_CHARS_MAX: Final = 65_535  # what MQTT can carry as a user name

_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._:-]")


class Imported(NamedTuple):
    """Users and rules as JSON would hold them; `remarks` name what was not taken over, and why.

    A user has `name`, `admin`, `groups`, `disabled`, and either `password`, a hash that
    `gateway.auth.hashes` knows ("" for none), or `plain`, a readable one that is still to be hashed.
    """

    users: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    remarks: list[str]


class Rules:
    """Collects rules and gives each an id of its own."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._ids: dict[str, int] = {}  # id -> how often it was wanted

    def add(
        self,
        rule_id: str,
        decision: str,
        subject: str,
        actions: Sequence[str],
        resources: Sequence[str],
        sources: Sequence[str] = (),
    ) -> None:
        """Add a rule; none if it is about nothing. `sources` are ranges of addresses, none for all."""
        if not resources or not actions:
            return
        rule: dict[str, Any] = {
            "id": self._unique(rule_id),
            "decision": decision,
            "subject": subject,
            "actions": list(actions),
            "resources": list(dict.fromkeys(resources)),
        }
        if sources:
            rule["from"] = list(sources)
        self.all.append(rule)

    def _unique(self, wanted: str) -> str:
        """Return an id: what must not be in one is `_`, and the second of a name gets a number."""
        base = found = _NOT_IN_IDS.sub("_", wanted)
        while found in self._ids:
            self._ids[base] += 1
            found = f"{base}-{self._ids[base]}"
        self._ids[found] = 1
        return found


def make_user(name: str, admin: bool = False, disabled: bool = False, **secret: str) -> dict[str, Any]:
    """Return a user as JSON would hold it; `secret` is `password` or `plain`."""
    return {"name": name, **secret, "admin": admin, "groups": [], "disabled": disabled}


def decoded(data: bytes | str, what: str) -> str:
    """Return text. Raise InvalidValue for what is too long or no UTF-8."""
    if len(data) > TEXT_BYTES_MAX:
        raise InvalidValue(f"{what}: longer than {TEXT_BYTES_MAX} bytes")
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidValue(f"{what}, line {line}: no UTF-8") from error


def check_name(name: str, place: str) -> str:
    """Return a name of a user or resource. Raise InvalidValue if nothing can have it."""
    if not name:
        raise InvalidValue(f"{place}: a name must not be empty")
    if len(name) > NAME_CHARS_MAX:
        raise InvalidValue(f"{place}: a name may have {NAME_CHARS_MAX} characters")
    if "\0" in name or any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise InvalidValue(f"{place}: a name must be valid Unicode without U+0000")
    return name


def user_subject(name: str) -> str | None:
    """Return the subject of a rule for one user; None if it would mean others, too."""
    return None if name.endswith("*") else f"user:{name}"


def means_more(pattern: str) -> bool:
    """Tell whether text would be read as a pattern of ours: a prefix, or a placeholder."""
    return pattern.endswith("*") or "${" in pattern


def parse_json(text: str, what: str) -> Any:
    """Return what a JSON text (RFC 8259) says. Raise InvalidValue with the line that is malformed."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidValue(f"{what}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, lists within lists
        raise InvalidValue(f"{what}: {error}") from error


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """Return a value that has to be an object with names. Raise InvalidValue."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidValue(f"{place}: an object is expected")
    return value


def rows(document: Mapping[str, Any], section: str, place: str = "") -> list[tuple[str, Any]]:
    """Return (place, row) for each row of a list; none if it is not there. Raise InvalidValue."""
    value = document.get(section)
    full = f"{place}.{section}" if place else section
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise InvalidValue(f"{full}: a list is expected")
    return [(f"{full}[{index}]", row) for index, row in enumerate(value)]


def text_of(row: Mapping[str, Any], key: str, place: str, default: str | None = None) -> str:
    """Return a text. Raise InvalidValue if it is none, or not there and there is no default."""
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InvalidValue(f"{place}.{key}: a text is expected")
    return value
