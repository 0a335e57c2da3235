"""How commands print what they were answered: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .client import Client, Refused, fail


def show(answer: Any, as_json: bool, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Print; return the exit status."""
    if as_json:
        print(json.dumps(answer))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, highlight=False, markup=False)
    return 0


def done(answer: Any, as_json: bool, text: str) -> int:
    """Print what was done; return the exit status."""
    print(json.dumps(answer) if as_json else text)
    return 0


def show_secret(what: str, secret: str, as_json: bool) -> int:
    """Show what was made up, this once: never within JSON, which ends up in logs and files."""
    print(f"{what}, shown only now: {secret}", file=sys.stderr if as_json else sys.stdout)
    return 0


def asking(url: str, user: str | None, ask: Callable[[Client], int]) -> int:
    """Ask the gateway; return the exit status, with the reason on stderr if it refuses."""
    client = Client(url, user)
    try:
        return ask(client)
    except Refused as error:
        return fail(error)
    finally:
        client.close()
