"""`gateway definitions export | import`: RabbitMQ's definitions, from a file or from a RabbitMQ itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .client import Client, Refused, fail
from .faults import fault

PATH = "/api/definitions"


def export(url: str, user: str | None, target: Path) -> int:
    """Write what a gateway has to a file, or to standard output."""
    try:
        document = Client(url, user).request("GET", PATH)
    except Refused as error:
        return fail(error)
    text = json.dumps(document, indent=2)
    if str(target) == "-":
        print(text)
        return 0
    try:
        target.write_text(text + "\n")
    except OSError as error:
        return fault(f"{target}: {error.strerror}")
    print(f"{target}: {_count(document)}")
    return 0


def import_(url: str, user: str | None, source: str) -> int:
    """Take a document over: a file, `-` for standard input, or the URL of a RabbitMQ's management API."""
    try:
        document = _read(source)
        taken = Client(url, user).request("POST", PATH, json=document)
    except Refused as error:
        return fail(error)
    except OSError as error:
        return fault(f"{source}: {error.strerror or error}")
    except ValueError as error:
        return fault(f"{source}: {error}")
    for name, count in taken["imported"].items():
        print(f"{name}: {count}")
    for line in taken["skipped"]:
        print(f"skipped: {line}")
    return 0


def _read(source: str) -> Any:
    """Return the document. Raise Refused, OSError or ValueError."""
    if source.startswith(("http://", "https://")):
        parts = urlsplit(source)
        user = f"{parts.username}:{parts.password or ''}" if parts.username else None
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path="", query="", fragment="")
        return Client(bare.geturl(), user).request("GET", PATH)
    return json.loads(sys.stdin.read() if source == "-" else Path(source).read_text())


def _count(document: dict[str, Any]) -> str:
    rows = {name: len(rows) for name, rows in document.items() if isinstance(rows, list) and rows}
    return ", ".join(f"{count} {name}" for name, count in rows.items()) or "nothing"
