"""YAML files that are read strictly: a field that nobody knows would be a setting that is not set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from .errors import BenchmarkError

T = TypeVar("T")


def read_fields(path: Path) -> dict[str, Any]:
    """Return the mapping that a file holds. Raise BenchmarkError."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise BenchmarkError(f"{path} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise BenchmarkError(f"{path}: expected fields and values, found {type(found).__name__}")
    return found


def convert(path: Path, fields: dict[str, Any], kind: type[T]) -> T:
    """Return the fields as a struct, which names what it does not know. Raise BenchmarkError."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise BenchmarkError(f"{path}: {error}") from error
