"""`gateway serve`: run the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ..config import Config, ConfigError, load
from .faults import EXIT_FAULT

if TYPE_CHECKING:
    from ..server import Server

STDIN = 0


def serve(config_file: Path | None, dev: bool, data: Path | None, sets: list[str]) -> int:
    """Run; return the exit status. Faults are one line each on stderr."""
    _log_to_stderr()
    try:
        config = load(config_file, sets, dev, data)
    except ConfigError as error:
        return _fail(error.faults)
    return run(config)


def run(config: Config) -> int:
    """Run a gateway with this configuration until SIGTERM or SIGINT."""
    from ..core.errors import StorageError
    from ..plugins import PluginError
    from ..server import Server, new_event_loop

    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_run(Server(config)))
    except ConfigError as error:
        return _fail(error.faults)
    except (StorageError, PluginError) as error:
        return _fail([str(error)])
    finally:
        loop.close()


async def _run(server: Server) -> int:
    from ..server import tune_interpreter

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    had_terminal = os.isatty(STDIN)

    def hung_up() -> None:
        if had_terminal and not os.isatty(STDIN):
            stopping.set()  # the terminal it was started from is gone: nobody told it to reload
        else:
            server.reload()

    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        await server.start()
        tune_interpreter()
        _announce(server)
        await stopping.wait()
    finally:
        await server.stop()
    return 0


def _announce(server: Server) -> None:
    """Print the doors, then one line that begins with `gateway ready`."""
    from ..doors import tls_doors

    config = server.config
    doors = {door.name: str(door.address) for door in server.doors}
    for name in config.closed_for_now([*server.protocols, *tls_doors(server.protocols)]):
        print(f"  {name:14} {config.listeners[name]}  not available yet: this version has no {name} door")
    if config.dev:
        print("development mode: loopback only, any login is accepted, data in", config.data_directory)
        _print_what_to_try(doors)
    listing = " ".join(f"{name}={address}" for name, address in doors.items())
    print(f"gateway ready {listing}", flush=True)


def _print_what_to_try(doors: dict[str, str]) -> None:
    if "mqtt" in doors and ":" in doors["mqtt"]:
        host, _, port = doors["mqtt"].rpartition(":")
        print("try, in other terminals:")
        print(f"  mosquitto_sub -h {host} -p {port} -t 'hello/#' -v")
        print(f"  mosquitto_pub -h {host} -p {port} -t hello/world -m hi -q 1")
    if "amqp" in doors and ":" in doors["amqp"]:
        print(f"  celery -b amqp://guest:guest@{doors['amqp']}// ...      any application of RabbitMQ's")
    if "coap" in doors and ":" in doors["coap"]:
        print(f"  coap-client -m put -e hi coap://{doors['coap']}/ps/hello/world")
    if "http" in doors and ":" in doors["http"]:
        base = f"http://{doors['http']}"
        print(f"  curl -d hi {base}/v1/topics/hello/world")
        print(f"  curl -N '{base}/v1/subscribe?filter=hello/%23'")
        print(f"  open {base}/docs")
    if "openmessaging" in doors and ":" in doors["openmessaging"]:
        endpoints = doors["openmessaging"]
        print(f"  ClientConfiguration({endpoints!r}, Credentials()) ...      any application of RocketMQ 5's")


def _fail(faults: list[str]) -> int:
    for fault in faults:
        print(fault, file=sys.stderr)
    return EXIT_FAULT


def _log_to_stderr() -> None:
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a pipe must see `gateway ready`
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
