"""The commands for webhooks."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

webhooks_app = typer.Typer(
    help="Webhooks: messages POSTed to URLs. List, add, show, pause, resume, test, rotate, remove.",
    no_args_is_help=True,
)


@webhooks_app.command("list")
def webhooks_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List webhooks, and how each is doing."""
    from .webhooks import list_webhooks as run

    raise typer.Exit(run(url, user, json))


@webhooks_app.command("add")
def webhooks_add(
    name: str,
    to: Annotated[str, typer.Argument(metavar="TO", help="The URL that messages are POSTed to.")],
    filter: Annotated[
        list[str] | None, typer.Option("--filter", help="Which topics; may be repeated.")
    ] = None,
    queue: Annotated[str, typer.Option(help="Instead of topics: a queue that exists.")] = "",
    group: Annotated[str, typer.Option(help="Of a queue that is a stream.")] = "",
    selector: Annotated[str, typer.Option(help="Which of these messages (SQL92).")] = "",
    format: Annotated[str, typer.Option(help="plain, or cloudevents: events as JSON.")] = "",
    concurrency: Annotated[int | None, typer.Option(help="Requests at a time.", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second.", show_default=False)] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds until there has to be an answer.", show_default=False)
    ] = None,
    policy: Annotated[str, typer.Option(help="Of its queue, as JSON.")] = "",
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read its secret from standard input.")
    ] = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Make a webhook, or change it; its secret is shown once (with --json on standard error)."""
    from .webhooks import add as run

    fields = {
        "url": to,
        "filters": filter or [],
        "queue": queue,
        "group": group,
        "selector": selector,
        "format": format,
        "concurrency": concurrency,
        "rate": rate,
        "timeout": timeout,
    }
    raise typer.Exit(run(url, user, name, fields, policy, secret_stdin, json))


@webhooks_app.command("show")
def webhooks_show(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Show a webhook and its latest attempts."""
    from .webhooks import look as run

    raise typer.Exit(run(url, user, name, json))


@webhooks_app.command("pause")
def webhooks_pause(
    name: str,
    reason: Annotated[str, typer.Option(help="Why, for those who look at it.")] = "",
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Make no requests for now; messages wait."""
    from .webhooks import pause as run

    raise typer.Exit(run(url, user, name, reason, json))


@webhooks_app.command("resume")
def webhooks_resume(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Go on."""
    from .webhooks import resume as run

    raise typer.Exit(run(url, user, name, json))


@webhooks_app.command("test")
def webhooks_test(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Make one request now; exit status 1 if it is not taken."""
    from .webhooks import test as run

    raise typer.Exit(run(url, user, name, json))


@webhooks_app.command("rotate")
def webhooks_rotate(
    name: str,
    overlap: Annotated[float, typer.Option(help="Seconds in which the old secret signs, too.")] = 86_400,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Give it a new secret; it is shown once (with --json on standard error)."""
    from .webhooks import rotate as run

    raise typer.Exit(run(url, user, name, overlap, json))


@webhooks_app.command("remove")
def webhooks_remove(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove a webhook, and its queue with what waits in it."""
    from .webhooks import remove as run

    raise typer.Exit(run(url, user, name, json))
