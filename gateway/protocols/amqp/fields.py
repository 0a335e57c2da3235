"""Fields of decoded JSON, as the management API and definitions have them: of the right type, or refused."""

from __future__ import annotations

from typing import Any

from gateway.core.errors import InvalidValue
from gateway.core.values import from_json

from .tables import Table


def flag(fields: dict[str, Any], name: str, default: bool) -> bool:
    """Return true or false, which some tools write as text. Raise InvalidValue."""
    value = fields.get(name, default)
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise InvalidValue(f"{name}: true or false is expected, not {value!r}")
    return value


def text(fields: dict[str, Any], name: str, default: str | None = None) -> str:
    """Return a text; without a default there has to be one. Raise InvalidValue."""
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise InvalidValue(f"{name}: a text is expected, not {value!r}")
    return value


def table(fields: dict[str, Any], name: str) -> Table:
    """Return arguments, an empty table if there are none. Raise InvalidValue."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValue(f"{name}: an object is expected, not {value!r}")
    found: Table = from_json(value)
    return found
