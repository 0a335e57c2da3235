"""`gateway schedules` and `gateway cron`: their arguments. What they do is in `schedules`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

schedules_app = typer.Typer(
    help="Messages that wait for their time: list, show, add, edit, cancel, publish.", no_args_is_help=True
)
cron_app = typer.Typer(
    help="Messages that are published again and again: list, show, add, delete.", no_args_is_help=True
)
At = Annotated[str, typer.Option("--at", help="A time such as 2026-11-21T05:00:00Z, or Unix milliseconds.")]
Body = Annotated[str, typer.Argument()]


@schedules_app.command("list")
def schedules_list(
    topic: Annotated[str, typer.Option(help="Only what is to be published to this topic filter.")] = "",
    begin: Annotated[str, typer.Option("--from", help="Due at this time or later.")] = "",
    end: Annotated[str, typer.Option("--to", help="Due before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List what waits, the earliest first: your own, or all if you may view schedules."""
    from .schedules import list_schedules as run

    raise typer.Exit(run(url, user, topic, begin, end, limit, json))


@schedules_app.command("show")
def schedules_show(id: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Show a message that waits."""
    from .schedules import show_schedule as run

    raise typer.Exit(run(url, user, id, json))


@schedules_app.command("add")
def schedules_add(
    topic: str,
    body: Body,
    delay: Annotated[float | None, typer.Option(min=0, help="Seconds from now.")] = None,
    at: At = "",
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Publish a message later; prints the schedule's id."""
    from .schedules import add as run

    raise typer.Exit(run(url, user, topic, body, "" if delay is None else f"{delay:.3f}", at, json))


@schedules_app.command("edit")
def schedules_edit(
    id: str,
    delay: Annotated[float | None, typer.Option(min=0, help="Seconds from now.")] = None,
    at: At = "",
    body: Annotated[str | None, typer.Option(help="Another body.")] = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Change when, or what, is published; it has another id then."""
    from .schedules import edit as run

    raise typer.Exit(run(url, user, id, delay, at, body, json))


@schedules_app.command("cancel")
def schedules_cancel(id: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Have a message never be published."""
    from .schedules import cancel as run

    raise typer.Exit(run(url, user, id, json))


@schedules_app.command("publish")
def schedules_publish(id: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Publish a message that waits now."""
    from .schedules import publish as run

    raise typer.Exit(run(url, user, id, json))


@cron_app.command("list")
def cron_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List cron schedules."""
    from .schedules import list_crons as run

    raise typer.Exit(run(url, user, json))


@cron_app.command("show")
def cron_show(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Show a cron schedule, and when it runs next."""
    from .schedules import show_cron as run

    raise typer.Exit(run(url, user, name, json))


@cron_app.command("add")
def cron_add(
    name: str,
    cron: Annotated[
        str, typer.Argument(help="Five fields such as '0 9 * * MON-FRI', or six with seconds first.")
    ],
    topic: str,
    body: Body = "",
    zone: Annotated[str, typer.Option(help="A time zone such as Europe/Berlin.")] = "UTC",
    missed: Annotated[
        str, typer.Option(help="Runs while the gateway was away: skip, or once for all.")
    ] = "skip",
    retain: Annotated[bool, typer.Option("--retain")] = False,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="It does not run until it is added again.")
    ] = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Add or change a cron schedule."""
    from .schedules import put_cron as run

    fields = {
        "cron": cron,
        "topic": topic,
        "body": body,
        "time_zone": zone,
        "missed": missed,
        "retain": retain,
        "enabled": not disabled,
    }
    raise typer.Exit(run(url, user, name, fields, json))


@cron_app.command("delete")
def cron_delete(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove a cron schedule."""
    from .schedules import delete_cron as run

    raise typer.Exit(run(url, user, name, json))
