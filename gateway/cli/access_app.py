"""`gateway users`, `acl`, `quotas`, `explain`: their arguments. What they do is in other modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_URL, Json, Url, User

users_app = typer.Typer(help="Users: list, add, change, delete; hash passwords.", no_args_is_help=True)
acl_app = typer.Typer(help="Rules of who may do what, and candidates for them.", no_args_is_help=True)
shadow_app = typer.Typer(help="Run candidate rules beside the real ones.", no_args_is_help=True)
acl_app.add_typer(shadow_app, name="shadow")
keys_app = typer.Typer(help="API keys: list, make, remove.", no_args_is_help=True)
quotas_app = typer.Typer(help="What users and clients may take.", no_args_is_help=True)

Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="A group; may be repeated.")]


# -- users -----------------------------------------------------------------------------------------


@users_app.command("list")
def users_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List users, and where each is kept."""
    from .users import list_users as run

    raise typer.Exit(run(url, user, json))


@users_app.command("add")
def users_add(
    name: str,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    group: Groups = None,
    password_stdin: Stdin = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Add a user; asks for the password, or makes one where nobody can be asked."""
    from .users import add as run

    raise typer.Exit(run(url, user, name, admin, group or [], password_stdin, json))


@users_app.command("change")
def users_change(
    name: str,
    admin: Annotated[bool | None, typer.Option(help="Whether it may do everything.")] = None,
    disabled: Annotated[bool | None, typer.Option(help="Whether it is kept from logging in.")] = None,
    group: Groups = None,
    password: Annotated[bool, typer.Option("--password", help="Give it another password.")] = False,
    password_stdin: Stdin = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Change a user: groups, password, whether it may log in. Its sessions end."""
    from .users import change as run

    wanted = password or password_stdin
    raise typer.Exit(run(url, user, name, admin, disabled, group, wanted, password_stdin, json))


@users_app.command("secret")
def users_secret(
    name: str,
    stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read it from standard input.")] = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Give a user another shared key, for DTLS-PSK, OSCORE and signatures; it is shown once."""
    from .users import secret as run

    raise typer.Exit(run(url, user, name, stdin, json))


@users_app.command("delete")
def users_delete(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove a user; its sessions end."""
    from .users import delete as run

    raise typer.Exit(run(url, user, name, json))


@users_app.command("end")
def users_end(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """End a user's sessions; it may log in again."""
    from .users import end as run

    raise typer.Exit(run(url, user, name, json))


@users_app.command("hash")
def users_hash(password_stdin: Stdin = False) -> None:
    """Print the hash of a password, for `users.NAME.password` in a configuration."""
    from .users import hash_ as run

    raise typer.Exit(run(password_stdin))


# -- keys ------------------------------------------------------------------------------------------


@keys_app.command("list")
def keys_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List API keys; what they are is not shown."""
    from .keys import list_keys as run

    raise typer.Exit(run(url, user, json))


@keys_app.command("create")
def keys_create(
    of: Annotated[str, typer.Argument(metavar="USER", help="Whose it is: it may what its user may.")],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float, typer.Option(min=0, help="How long it is good for; 0: for ever.")] = 0,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Only this group of its user's; may be repeated.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Make an API key; it is shown once (with --json on standard error)."""
    from .keys import create as run

    raise typer.Exit(run(url, user, of, description, days, group or [], json))


@keys_app.command("delete")
def keys_delete(id: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove an API key; sessions of its user end."""
    from .keys import delete as run

    raise typer.Exit(run(url, user, id, json))


# -- rules -----------------------------------------------------------------------------------------


@acl_app.command("list")
def acl_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List rules, and where each is kept."""
    from .acl import list_rules as run

    raise typer.Exit(run(url, user, json))


Subject = Annotated[
    str,
    typer.Argument(help="user:NAME, group:NAME, client:ID, certificate:NAME, anonymous or everyone."),
]
Actions = Annotated[str, typer.Argument(help="publish,subscribe,consume,manage,view or all.")]
Resources = Annotated[
    list[str], typer.Argument(help="topic:a/+/#, queue:NAME, group:QUEUE/GROUP or admin:AREA.")
]
RuleId = Annotated[str | None, typer.Option("--id", help="Its id; one is made up otherwise.")]
Sources = Annotated[list[str] | None, typer.Option("--from", help="A source range such as 10.0.0.0/8.")]
Doors = Annotated[list[str] | None, typer.Option("--door", help="Only at this door; may be repeated.")]


def _adding(decision: str) -> Callable[..., None]:
    def add(
        subject: Subject,
        actions: Actions,
        resources: Resources,
        id: RuleId = None,
        source: Sources = None,
        door: Doors = None,
        url: Url = DEFAULT_URL,
        user: User = None,
        json: Json = False,
    ) -> None:
        from .acl import put as run

        raise typer.Exit(
            run(url, user, decision, subject, actions, resources, id, source or [], door or [], json)
        )

    return add


acl_app.command("allow", help="Add a rule that allows.")(_adding("allow"))
acl_app.command("deny", help="Add a rule that denies: it outvotes all that allow.")(_adding("deny"))


@acl_app.command("delete")
def acl_delete(id: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove a rule."""
    from .acl import delete as run

    raise typer.Exit(run(url, user, id, json))


@acl_app.command("reload")
def acl_reload(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Read the file of rules again."""
    from .acl import reload as run

    raise typer.Exit(run(url, user, json))


@acl_app.command("check")
def acl_check(path: Annotated[Path, typer.Argument(metavar="FILE")], json: Json = False) -> None:
    """Validate a file of rules; exit status 2 and one line for a fault."""
    from .acl import check as run

    raise typer.Exit(run(path, json))


@acl_app.command("import")
def acl_import(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="RocketMQ's or RabbitMQ's.", show_default=False)
    ] = None,
    source: Annotated[str, typer.Option("--from", help="mosquitto, rocketmq or rabbitmq.")] = "mosquitto",
    passwords: Annotated[Path | None, typer.Option(help="mosquitto's password_file.")] = None,
    acl: Annotated[Path | None, typer.Option(help="mosquitto's acl_file.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write rules to this file; no gateway is asked.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Take over users and rules of another broker; names what is left out."""
    from .takeover import take_over as run

    raise typer.Exit(run(url, user, source, path, passwords, acl, output, json))


@shadow_app.command("start")
def shadow_start(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file of rules.")],
    alone: Annotated[bool, typer.Option("--alone", help="Instead of all rules, not beside them.")] = False,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Run candidate rules: nobody is refused by them, differences are noted."""
    from .acl import shadow_start as run

    raise typer.Exit(run(url, user, path, alone, json))


@shadow_app.command("show")
def shadow_show(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List the real operations that the candidate would decide otherwise."""
    from .acl import shadow_show as run

    raise typer.Exit(run(url, user, json))


@shadow_app.command("stop")
def shadow_stop(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Stop the candidate."""
    from .acl import shadow_stop as run

    raise typer.Exit(run(url, user, json))


# -- quotas ----------------------------------------------------------------------------------------


@quotas_app.command("list")
def quotas_list(url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """List quotas, and how often each was exceeded."""
    from .quotas import list_quotas as run

    raise typer.Exit(run(url, user, json))


@quotas_app.command("set")
def quotas_set(
    name: str,
    subject: Annotated[str, typer.Option(help="Whom it is for, as in a rule.")],
    scope: Annotated[str, typer.Option(help="Whose use is counted together: user or client.")] = "user",
    connections: Annotated[int, typer.Option(min=0)] = 0,
    publish_rate: Annotated[float, typer.Option(min=0, help="Messages a second.")] = 0,
    publish_bytes: Annotated[float, typer.Option(min=0, help="Bytes a second.")] = 0,
    queues: Annotated[int, typer.Option(min=0)] = 0,
    retained: Annotated[int, typer.Option(min=0)] = 0,
    subscriptions: Annotated[int, typer.Option(min=0)] = 0,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Add or change a quota; 0 is no limit."""
    from .quotas import put as run

    fields = {
        "subject": subject,
        "scope": scope,
        "connections": connections,
        "publish_rate": publish_rate,
        "publish_bytes": publish_bytes,
        "queues": queues,
        "retained": retained,
        "subscriptions": subscriptions,
    }
    raise typer.Exit(run(url, user, name, fields, json))


@quotas_app.command("delete")
def quotas_delete(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Remove a quota."""
    from .quotas import delete as run

    raise typer.Exit(run(url, user, name, json))


# -- explain ---------------------------------------------------------------------------------------


def explain(
    action: Annotated[str, typer.Argument(help="publish, subscribe, consume, manage or view.")],
    as_: Annotated[str, typer.Option("--as", help="The user; without one: no login.")] = "",
    topic: Annotated[str, typer.Option(help="A topic, or a filter.")] = "",
    queue: Annotated[str, typer.Option(help="A queue.")] = "",
    group: Annotated[str, typer.Option(help="A stream's group, QUEUE/GROUP.")] = "",
    admin: Annotated[str, typer.Option(help="An admin area, such as users.")] = "",
    door: Annotated[str, typer.Option(help="The protocol: mqtt, amqp, coap, http ...")] = "mqtt",
    client_id: Annotated[str, typer.Option(help="The client identifier.")] = "",
    address: Annotated[str, typer.Option(help="Where it comes from.")] = "127.0.0.1",
    in_group: Annotated[
        list[str] | None, typer.Option("--in-group", help="A group besides the user's own.")
    ] = None,
    certificate: Annotated[str, typer.Option(help="The subject of its certificate.")] = "",
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Tell what would happen and why, rule by rule; publishes nothing."""
    from .explain import explain as run

    fields = {
        "action": action,
        "as": as_,
        "topic": topic,
        "queue": queue,
        "group": group,
        "admin": admin,
        "door": door,
        "client_id": client_id,
        "address": address,
        "groups": in_group or [],
        "certificate": certificate,
    }
    raise typer.Exit(run(url, user, fields, json))
