"""`gateway chaos`: its arguments. What it does is in `chaos`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json

chaos_app = typer.Typer(
    help="Hurt a gateway while clients use it, and judge what they saw: histories in openchaos' format.",
    no_args_is_help=True,
)
Expect = Annotated[
    str, typer.Option("--expect", help="What is to hold: at-least-once, at-most-once or exactly-once.")
]


@chaos_app.command("run")
def chaos_run(
    fault: Annotated[
        str, typer.Option("--fault", "-f", help="noop, kill, suspend, or openchaos' name of these.")
    ] = "noop",
    via: Annotated[
        str,
        typer.Option("--via", help="mqtt, rocketmq, http: a gateway started here; or an OpenMessaging URL."),
    ] = "mqtt",
    seconds: Annotated[float, typer.Option("--limit-time", "-t", min=0.1, help="How long.")] = 60.0,
    clients: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="Clients.")] = 4,
    rate: Annotated[float, typer.Option("--rate", "-r", min=0.1, help="Operations a second.")] = 20.0,
    interval: Annotated[
        float, typer.Option("--fault-interval", "-i", min=0.1, help="Seconds between two faults.")
    ] = 30.0,
    down: Annotated[
        float | None, typer.Option("--down", min=0.0, help="Seconds a fault lasts; else as the interval.")
    ] = None,
    recovery: Annotated[
        float, typer.Option("--recovery-time", min=0.1, help="Seconds to get well in, and to drain in.")
    ] = 30.0,
    model: Annotated[str, typer.Option("--model", "-m", help="queue; there is no other.")] = "queue",
    order: Annotated[bool, typer.Option("--order", help="Send with sharding keys, and check order.")] = False,
    output: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Where history and results go.")
    ] = Path(),
    data: Annotated[
        Path | None, typer.Option("--data", help="The gateway's data directory; else a new one that goes.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="A setting of the gateway; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Chance, again.", show_default=False)] = None,
    expect: Expect = "at-least-once",
    json: Json = False,
) -> None:
    """Start a gateway, use it, hurt it, and judge: exit status 1 if it does not hold what is expected."""
    from .chaos import run as start

    options = {
        "fault": fault,
        "via": via,
        "seconds": seconds,
        "clients": clients,
        "per_second": rate,
        "interval_seconds": interval,
        "down_seconds": down,
        "recovery_seconds": recovery,
        "ordered": order,
        "output": output,
        "data": data,
        "settings": tuple(set_ or ()),
        **({} if seed is None else {"seed": seed}),
    }
    raise typer.Exit(start(model, options, expect, json))


@chaos_app.command("check")
def chaos_check(
    history: Annotated[Path, typer.Argument(metavar="HISTORY")],
    output: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write result files there.", show_default=False)
    ] = None,
    expect: Expect = "at-least-once",
    json: Json = False,
) -> None:
    """Judge a history, of this or of openchaos: exit status 1 if it does not hold what is expected."""
    from .chaos import check as run

    raise typer.Exit(run(history, output, expect, json))
