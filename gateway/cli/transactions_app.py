"""`gateway transactions`: its arguments. What it does is in `transactions`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

transactions_app = typer.Typer(
    help="Transactions whose messages nobody sees yet: list, show, commit, rollback.", no_args_is_help=True
)

Principal = Annotated[
    str | None, typer.Option("--principal", help="Whose it is, if not yours.", show_default=False)
]
State = Annotated[
    str | None,
    typer.Option("--state", help="open, committed or rolled-back.", show_default=False),
]


@transactions_app.command("list")
def transactions_list(
    state: State = None,
    principal: Principal = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List transactions: yours, or everybody's if you may."""
    from .transactions import list_transactions as run

    raise typer.Exit(run(url, user, state, principal, json))


@transactions_app.command("show")
def transactions_show(
    id: str, principal: Principal = None, url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Show a transaction and what is in it."""
    from .transactions import show_one as run

    raise typer.Exit(run(url, user, id, principal, json))


@transactions_app.command("commit")
def transactions_commit(
    id: str, principal: Principal = None, url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Publish everything that is in a transaction."""
    from .transactions import end as run

    raise typer.Exit(run(url, user, id, principal, True, json))


@transactions_app.command("rollback")
def transactions_rollback(
    id: str, principal: Principal = None, url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Drop everything that is in a transaction."""
    from .transactions import end as run

    raise typer.Exit(run(url, user, id, principal, False, json))
