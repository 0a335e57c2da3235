"""The `gateway` command and its subcommands; each is implemented in a module of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .access_app import acl_app, explain, keys_app, quotas_app, users_app
from .bench_app import bench_app
from .chaos_app import chaos_app
from .dlq_app import dlq_app
from .options import DEFAULT_URL, Json, Selected, Url, User
from .order_app import order_app
from .schedules_app import cron_app, schedules_app
from .transactions_app import transactions_app
from .webhooks_app import webhooks_app

app = typer.Typer(
    name="gateway",
    help="One messaging gateway: MQTT, AMQP and HTTP over one core and one log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
queues_app = typer.Typer(
    help="Queues: list, show, create, delete, purge, seek, browse; ordering keys.", no_args_is_help=True
)
queues_app.add_typer(order_app)
app.add_typer(queues_app, name="queues")
app.add_typer(dlq_app, name="dlq")
app.add_typer(users_app, name="users")
app.add_typer(keys_app, name="keys")
app.add_typer(acl_app, name="acl")
app.add_typer(quotas_app, name="quotas")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(transactions_app, name="transactions")
app.add_typer(schedules_app, name="schedules")
app.add_typer(cron_app, name="cron")
app.add_typer(bench_app, name="bench")
app.add_typer(chaos_app, name="chaos")
app.command("explain")(explain)
log_app = typer.Typer(
    help="The commit log on disk: check, stats, dump, repair, export, import. No running gateway is needed.",
    no_args_is_help=True,
)
app.add_typer(log_app, name="log")
definitions_app = typer.Typer(
    help="RabbitMQ's definitions: a topology as one JSON document, out and in.", no_args_is_help=True
)
app.add_typer(definitions_app, name="definitions")
certificates_app = typer.Typer(
    help="Certificates of the CA that `gateway init --tls` has made: client, renew.", no_args_is_help=True
)
app.add_typer(certificates_app, name="certificates")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The configuration file.", show_default=False)
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be repeated."),
]
TlsDirectory = Annotated[Path, typer.Option("--tls-dir", help="Where the CA and its files are.")]

LogData = Annotated[Path, typer.Option("--data", help="The data directory.")]

DEFAULT_DATA = Path("gateway-data")


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def serve(
    config: ConfigFile = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Development: loopback only, any login accepted.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="The data directory.", show_default=False)
    ] = None,
    set_: Sets = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from .serve import serve as run

    raise typer.Exit(run(config, dev, data, set_ or []))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the configuration.")] = Path("gateway.toml"),
    admin: Annotated[str, typer.Option("--admin", help="Name of the first admin user.")] = "admin",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="Make a CA and a certificate beside it, in tls/, and TLS doors.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a configuration file with a first admin user."""
    from .setup import init as run

    raise typer.Exit(run(path, admin, password_stdin, json, tls))


@app.command()
def check(config: ConfigFile = None, set_: Sets = None, json: Json = False) -> None:
    """Validate a configuration: exit status 2 and one line per fault."""
    from .setup import check as run

    raise typer.Exit(run(config, set_ or [], json))


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(help="The topic, or $queue/NAME.")],
    body: Annotated[str, typer.Argument(help="The message; - reads standard input.")],
    qos: Annotated[int, typer.Option(min=0, max=2)] = 1,
    retain: Annotated[
        bool, typer.Option("--retain", help="Keep it as the topic's retained message.")
    ] = False,
    ttl: Annotated[float | None, typer.Option(help="Seconds until it expires.", show_default=False)] = None,
    content_type: Annotated[str | None, typer.Option(show_default=False)] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="An application header.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Publish one message."""
    from .messages import publish as run

    raise typer.Exit(run(url, user, topic, body, qos, retain, ttl, content_type, header or [], json))


@app.command()
def subscribe(
    filters: Annotated[
        list[str], typer.Argument(help="Topic filters, such as 'sensors/+/temperature' or '#'.")
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="Stop after so many messages; 0: never.")] = 0,
    retained: Annotated[bool, typer.Option(help="Begin with retained messages.")] = True,
    selector: Selected = None,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Print messages as they are published."""
    from .messages import subscribe as run

    raise typer.Exit(run(url, user, filters, count, retained, selector, json))


@app.command()
def topics(
    prefix: Annotated[str, typer.Argument(help="Only topics that begin with this.")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 100,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List topics that have been published to, retained ones included."""
    from .listing import topics as run

    raise typer.Exit(run(url, user, prefix, limit, json))


@queues_app.command("list")
def queues_list(
    prefix: Annotated[str, typer.Argument(help="Only queues that begin with this.")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 100,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """List queues with depth, unsettled deliveries and consumers."""
    from .listing import queues as run

    raise typer.Exit(run(url, user, prefix, limit, json))


@queues_app.command("show")
def queues_show(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Show one queue: depth, consumers, groups, bindings, policy."""
    from .listing import queue as run

    raise typer.Exit(run(url, user, name, json))


@queues_app.command("create")
def queues_create(
    name: str,
    kind: Annotated[str, typer.Option(help="classic or stream.")] = "classic",
    bind: Annotated[list[str] | None, typer.Option("--bind", help="A topic filter; may be repeated.")] = None,
    selector: Selected = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="KEY=VALUE", help="Such as max_length=1000.")
    ] = None,
    durable: Annotated[bool, typer.Option(help="Survive restarts.")] = True,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Create a queue."""
    from .listing import create as run

    raise typer.Exit(run(url, user, name, kind, bind or [], selector, policy or [], durable, json))


@queues_app.command("delete")
def queues_delete(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Delete a queue and what it holds."""
    from .listing import delete as run

    raise typer.Exit(run(url, user, name, json))


@app.command("trace")
def trace_command(
    wanted: Annotated[
        str, typer.Argument(metavar="ID|KEY", help="A message id, a key, or @ and a position.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Of how many messages, newest first.")] = 10,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Tell what became of a message: who sent it, who got it, and how it ended."""
    from .trace import trace as run

    raise typer.Exit(run(url, user, wanted, limit, json))


@queues_app.command("purge")
def queues_purge(name: str, url: Url = DEFAULT_URL, user: User = None, json: Json = False) -> None:
    """Drop what waits in a queue."""
    from .listing import purge as run

    raise typer.Exit(run(url, user, name, json))


@queues_app.command("seek")
def queues_seek(
    name: str,
    group: str,
    to: Annotated[str, typer.Argument(help="An offset, earliest, latest, or a time: 2026-11-21T05:00:00Z.")],
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Have a stream's group go on somewhere else."""
    from .listing import seek as run

    raise typer.Exit(run(url, user, name, group, to, json))


@queues_app.command("browse")
def queues_browse(
    name: str,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    start: Annotated[int, typer.Option(help="The first offset to show.")] = 0,
    url: Url = DEFAULT_URL,
    user: User = None,
    json: Json = False,
) -> None:
    """Look at waiting messages without touching them."""
    from .listing import browse as run

    raise typer.Exit(run(url, user, name, start, limit, json))


@log_app.command("check")
def log_check(data: LogData = DEFAULT_DATA, json: Json = False) -> None:
    """Verify every record: exit status 1 and one line per damaged place. Changes nothing."""
    from .log import check as run

    raise typer.Exit(run(data, json))


@log_app.command("stats")
def log_stats(data: LogData = DEFAULT_DATA, json: Json = False) -> None:
    """Count records and bytes. Changes nothing."""
    from .log import stats as run

    raise typer.Exit(run(data, json))


@log_app.command("dump")
def log_dump(
    data: LogData = DEFAULT_DATA,
    start: Annotated[int, typer.Option("--from", help="The first position to show.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="How many records; 0: all.")] = 0,
) -> None:
    """Print records as lines of JSON. Changes nothing."""
    from .log import dump as run

    raise typer.Exit(run(data, start, limit))


@log_app.command("repair")
def log_repair(data: LogData = DEFAULT_DATA) -> None:
    """Cut off and skip what is damaged, as the next start would, and say what was given up."""
    from .log import repair as run

    raise typer.Exit(run(data))


@log_app.command("export")
def log_export(
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="Goes on if it is there; -: standard output.")
    ],
    data: LogData = DEFAULT_DATA,
) -> None:
    """Write queues, sessions and the messages that wait as lines of JSON. Changes nothing."""
    from .exporting import export as run

    raise typer.Exit(run(data, target))


@log_app.command("import")
def log_import(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="An export; goes on where it was cut off.")],
    data: LogData = DEFAULT_DATA,
) -> None:
    """Add an export to a log, which is made if need be."""
    from .importing import import_ as run

    raise typer.Exit(run(data, source))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    url: Url = DEFAULT_URL,
    user: User = None,
) -> None:
    """Copy what a running gateway has stored; the copy is a data directory itself."""
    from .backup import backup as run

    raise typer.Exit(run(url, user, target))


@definitions_app.command("export")
def definitions_export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="-: standard output.")],
    url: Url = DEFAULT_URL,
    user: User = None,
) -> None:
    """Write virtual hosts, exchanges, queues, bindings and policies to a file."""
    from .definitions import export as run

    raise typer.Exit(run(url, user, target))


@definitions_app.command("import")
def definitions_import(
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A document, -, or http://user:pass@rabbit:15672.")
    ],
    url: Url = DEFAULT_URL,
    user: User = None,
) -> None:
    """Take them over, from a file or from a RabbitMQ that runs; names what is skipped."""
    from .definitions import import_ as run

    raise typer.Exit(run(url, user, source))


@certificates_app.command("client")
def certificates_client(
    name: Annotated[str, typer.Argument(help="Who it is for: the certificate's common name.")],
    tls_dir: TlsDirectory = Path("tls"),
) -> None:
    """Make a client's certificate and key: NAME.pem and NAME-key.pem."""
    from .certificates import client as run

    raise typer.Exit(run(name, tls_dir))


@certificates_app.command("renew")
def certificates_renew(
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A further host name or address; may be repeated.")
    ] = None,
    tls_dir: TlsDirectory = Path("tls"),
) -> None:
    """Make the server's certificate anew, for the same names and key."""
    from .certificates import renew as run

    raise typer.Exit(run(tls_dir, name or []))


@app.command()
def version() -> None:
    """Print the version."""
    from ..version import __version__

    print(f"gateway {__version__} (Python {sys.version.split()[0]})")
