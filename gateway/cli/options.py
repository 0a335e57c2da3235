"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="GATEWAY_URL", help="The HTTP door of a running gateway.")]
User = Annotated[
    str | None,
    typer.Option("--user", envvar="GATEWAY_USER", help="Log in as NAME:PASSWORD.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

DEFAULT_URL = "http://127.0.0.1:8080"
Selected = Annotated[
    str | None,
    typer.Option(
        "--selector", metavar="SQL", help="Only messages like this: \"price > 10 AND region = 'eu'\"."
    ),
]
