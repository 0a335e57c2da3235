"""Rules in a TOML file: an array of tables `[[rules]]`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ...api import InvalidValue
from ...core.topic import QUEUE_PREFIX
from .rule import RULES_MAX, Rule, rule_from

FILE_BYTES_MAX: Final = 64 << 20  # 100,000 rules of 600 bytes


def read_rules(path: Path) -> list[Rule]:
    """Read a file of rules. Raise InvalidValue that names the file, and the rule that makes no sense."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InvalidValue(f"{path}: a file of rules has at most {FILE_BYTES_MAX} bytes")
        text = path.read_bytes().decode()
    except OSError as error:
        raise InvalidValue(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path}: not UTF-8") from error
    except ValueError as error:  # U+0000 in the name
        raise InvalidValue(f"{str(path)!r}: cannot be read: {error}") from error
    try:
        return parse_rules(text)
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error.detail}") from error


def parse_rules(text: str) -> list[Rule]:
    """Return the rules in a TOML text. Raise InvalidValue."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"not valid TOML: {error}") from error
    unknown = [name for name in found if name != "rules"]
    if unknown:
        raise InvalidValue(f"unknown key {unknown[0]!r}; a file of rules has [[rules]]")
    return rules_from(found.get("rules", []))


def rules_from(found: Any) -> list[Rule]:
    """Return the rules in a list of mappings. Raise InvalidValue."""
    if not isinstance(found, list) or len(found) > RULES_MAX:
        raise InvalidValue(f"rules: at most {RULES_MAX} tables, each headed by [[rules]], are expected")
    rules: list[Rule] = []
    for number, fields in enumerate(found, 1):
        try:
            rules.append(rule_from(fields))
        except InvalidValue as error:
            raise InvalidValue(f"rule number {number}: {error.detail}") from error
    return rules


def short_rules(label: str, subject: str, lists: Mapping[str, list[str]], sources: list[str]) -> list[Rule]:
    """Return the rules that `publish` and `subscribe` in the configuration stand for.

    A queue `q` is `$queue/q`: whoever may subscribe to that may consume it.
    """
    rules = []
    for word, filters in lists.items():
        topics = [text for text in filters if not text.startswith(QUEUE_PREFIX)]
        queues = [text[len(QUEUE_PREFIX) :] for text in filters if text.startswith(QUEUE_PREFIX)]
        for kind, action, names in (
            ("topic", word, topics),
            ("queue", "consume" if word == "subscribe" else word, queues),
        ):
            if names:
                rules.append(
                    rule_from(
                        {
                            "id": quote(label, safe="@:.+-/")
                            + (f".{word}" if kind == "topic" else f".{word}.queues"),
                            "subject": subject,
                            "actions": [action],
                            "resources": [f"{kind}:{name}" for name in names],
                            "from": sources,
                        }
                    )
                )
    return rules
