"""`gateway queues keys`, `park`, `unpark`, `skip`, `forget`: their arguments."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

order_app = typer.Typer()  # its commands are those of `gateway queues`, too

Group = Annotated[str, typer.Option("--group", help="Of a stream.", show_default=False)]


@order_app.command("keys")
def queues_keys(
    name: str,
    group: Group = "",
    failing: Annotated[
        bool, typer.Option("--failing", help="Only those that fail, back off, or are parked.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List ordering keys that are busy, with attempts and how many messages wait behind."""
    from .ordering import keys as run

    raise typer.Exit(run(url, user, name, group, failing, limit, json))


@order_app.command("park")
def queues_park(
    name: str, key: str, group: Group = "", url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Hold an ordering key's messages back, those to come as well."""
    from .ordering import park as run

    raise typer.Exit(run(url, user, name, key, group, json))


@order_app.command("unpark")
def queues_unpark(
    name: str, key: str, group: Group = "", url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Let a parked ordering key go on."""
    from .ordering import unpark as run

    raise typer.Exit(run(url, user, name, key, group, json))


@order_app.command("skip")
def queues_skip(
    name: str, key: str, group: Group = "", url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Give up the message that an ordering key is stuck at: to the dead letters."""
    from .ordering import skip as run

    raise typer.Exit(run(url, user, name, key, group, json))


@order_app.command("forget")
def queues_forget(
    name: str, group: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Remove a stream's group with its position."""
    from .ordering import forget as run

    raise typer.Exit(run(url, user, name, group, json))
