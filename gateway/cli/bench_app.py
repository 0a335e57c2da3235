"""`gateway bench`: its arguments. What it does is in `bench` and `omb`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .options import Json, User

DEFAULT_COMMAND = "mqtt"


class Defaulting(TyperGroup):
    """`gateway bench HOST:PORT` is `gateway bench mqtt HOST:PORT`, as it was when that was all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before what names none."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [DEFAULT_COMMAND, *args]
        found: list[str] = super().parse_args(ctx, args)
        return found


bench_app = typer.Typer(
    cls=Defaulting,
    help="Measure: a publisher and a subscriber (mqtt, the default), or workloads of OpenMessaging (omb).",
)


@bench_app.command("mqtt")
def bench_mqtt(
    address: Annotated[str, typer.Argument(help="The MQTT door, HOST:PORT.")] = "127.0.0.1:1883",
    qos: Annotated[int, typer.Option(min=0, max=1)] = 1,
    seconds: Annotated[float, typer.Option(min=0.1)] = 5.0,
    window: Annotated[int, typer.Option(min=1, max=10_000, help="Unacknowledged messages at once.")] = 1000,
    size: Annotated[int, typer.Option(min=1, max=60_000, help="Bytes of payload.")] = 128,
    user: User = None,
    json: Json = False,
) -> None:
    """Measure one publisher and one subscriber over MQTT."""
    from .bench import bench as run

    raise typer.Exit(run(address, qos, seconds, window, size, user, json))


@bench_app.command("omb")
def bench_omb(
    workloads: Annotated[
        list[Path] | None, typer.Argument(metavar="WORKLOAD.yaml ...", show_default=False)
    ] = None,
    driver: Annotated[
        list[Path] | None,
        typer.Option(
            "--driver", "-d", metavar="DRIVER.yaml", help="What to drive; may be repeated. None: MQTT here."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where result files go.")
    ] = Path(),
    period: Annotated[float, typer.Option(min=0.1, help="Seconds between two measurements.")] = 10.0,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", "-c", metavar="DIR", help="Write the results of this folder as CSV instead."),
    ] = None,
    json: Json = False,
) -> None:
    """Run workloads of the OpenMessaging benchmark: a result file for each workload and driver."""
    from .omb import omb as run

    raise typer.Exit(run(workloads or [], driver or [], output, period, csv, json))
