"""Keys and values of TOML as people write them outside of a file: on a command line, in a message."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec


def parse_value(text: str) -> Any:
    """Return what `text` means as a TOML value, or the text itself."""
    if "\n" not in text:  # what follows a line break would be another key
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            pass
    return text


def split_key(name: str) -> list[str]:
    """Split as TOML does, so that `users."a.b".admin` works; [] if it is no key."""
    if '"' not in name and "'" not in name:
        keys = name.strip().split(".")
        return keys if all(keys) else []
    try:
        table: Any = tomllib.loads(f"{name} = 0") if "\n" not in name else {}
    except (ValueError, RecursionError):
        return []
    keys = []
    while isinstance(table, dict) and table:
        keys.append(next(iter(table)))
        table = table[keys[-1]]
    return keys


def toml_key(name: str) -> str:
    """Return a name as a key of TOML, quoted if need be."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else msgspec.json.encode(name).decode()
