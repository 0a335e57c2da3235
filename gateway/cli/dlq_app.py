"""`gateway dlq ...`: its arguments. What it does is in `dlq`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

dlq_app = typer.Typer(help="Dead letters: list, show, edit, replay, purge.", no_args_is_help=True)

Queue = Annotated[str, typer.Argument(help="The queue that they died in, or that of the letters.")]
Position = Annotated[int, typer.Argument(help="The letter's, as `list` shows it.")]
Selector = Annotated[
    str, typer.Option("--selector", help="SQL92: \"cause = 'rejected' AND age < 3600\", headers, fields.")
]


@dlq_app.command("list")
def dlq_list(
    queue: Annotated[str, typer.Argument(help="Left out: the queues that have letters.")] = "",
    selector: Selector = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    after: Annotated[int, typer.Option(help="Position to go on from.")] = 0,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List queues with dead letters, or the letters of one."""
    from .dlq import letters, queues

    if queue:
        raise typer.Exit(letters(url, user, queue, selector, limit, after, json))
    raise typer.Exit(queues(url, user, json))


@dlq_app.command("show")
def dlq_show(
    queue: Queue, position: Position, url: Url = DEFAULT_URL, user: User = None, json: Json = False
) -> None:
    """Show one letter: its story, headers and body."""
    from .dlq import show_letter as run

    raise typer.Exit(run(url, user, queue, position, json))


@dlq_app.command("edit")
def dlq_edit(
    queue: Queue,
    position: Position,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="JSON or text; NAME= removes.")
    ] = None,
    body: Annotated[str | None, typer.Option("--body", help="- reads standard input.")] = None,
    key: Annotated[str | None, typer.Option(help="The ordering key.")] = None,
    tag: Annotated[str | None, typer.Option()] = None,
    content_type: Annotated[str | None, typer.Option("--content-type")] = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Change a letter before it is sent on; it gets a new position."""
    from .dlq import edit as run

    properties = {"key": key, "tag": tag, "content_type": content_type}
    raise typer.Exit(run(url, user, queue, position, header or [], body, properties, json))


@dlq_app.command("replay")
def dlq_replay(
    queue: Queue,
    position: Annotated[
        list[int] | None, typer.Option("--position", help="Only this one; may be repeated.")
    ] = None,
    selector: Selector = "",
    to: Annotated[
        str, typer.Option(help="`origin`: the queue each died in; or a topic, $queue/NAME.")
    ] = "origin",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    rate: Annotated[int, typer.Option(min=1, max=10_000, help="Letters a second.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has ended; Ctrl-C stops it.")
    ] = True,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Send letters on: to where they died, or elsewhere."""
    from .dlq import replay as run

    wanted: dict[str, object] = {"to": to, "limit": limit, "rate": rate, "dry_run": dry_run}
    if selector:
        wanted["selector"] = selector
    if position:
        wanted["positions"] = position
    raise typer.Exit(run(url, user, queue, wanted, wait, json))


@dlq_app.command("replays")
def dlq_replays(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List replays and how far they have come."""
    from .dlq import replays as run

    raise typer.Exit(run(url, user, json))


@dlq_app.command("stop")
def dlq_stop(
    number: Annotated[int, typer.Argument(metavar="ID")],
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Stop a replay; what was not sent on is still there."""
    from .dlq import stop as run

    raise typer.Exit(run(url, user, number, json))


@dlq_app.command("purge")
def dlq_purge(
    queue: Queue,
    count: Annotated[int, typer.Option(min=-1, help="As many as there are, as a confirmation.")] = -1,
    yes: Annotated[bool, typer.Option("--yes", help="All of them, however many.")] = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Throw all letters of a queue away, for good."""
    from .dlq import purge as run

    raise typer.Exit(run(url, user, queue, count, yes, json))
