"""What access control costs: publish throughput with a thousand rules, and latency in a storm of logins.

    python -m benchmarks.access [--seconds 5] [--rounds 5] [--json FILE]

Both are ratios or latencies of gateways that run in the same minute; nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.auth.hashes import hash_password

from .brokers import free_ports, stop

RULES = 1000
LOGINS = 1000
PROBES_PER_SECOND = 200
PASSWORD = "correct horse"  # of users that live as long as the benchmark
READY_SECONDS_MAX = 30.0


@contextmanager
def gateway(directory: Path, configuration: str) -> Iterator[int]:
    """Run a gateway with this configuration; give its MQTT port."""
    (port,) = free_ports(1)
    path = directory / "gateway.toml"
    path.write_text(configuration)
    sets = [f"listeners.mqtt=127.0.0.1:{port}", "listeners.amqp=", "listeners.http=", "listeners.line="]
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(path),
        "--data",
        str(directory / "data"),
    ]
    process = subprocess.Popen(
        [*command, *(word for text in sets for word in ("--set", text))], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            line = process.stdout.readline()
            if line.startswith(b"gateway ready"):
                break
            if not line:
                raise RuntimeError("the gateway did not start")
        yield port
    finally:
        stop(process)


def rules(count: int) -> str:
    """Return that many rules, of which the last is the one that allows the load."""
    kinds = ("user:u{n}", "group:g{n}", "client:c{n}-*", "everyone")
    lines = [
        f'[[rules]]\nid = "r{n}"\ndecision = "{"deny" if n % 10 == 9 else "allow"}"\n'
        f'subject = "{kinds[n % 4].format(n=n)}"\nactions = ["publish", "subscribe"]\n'
        f'resources = ["topic:devices/{n}/+/state", "topic:site{n}/#"]\n'
        for n in range(count - 1)
    ]
    own = '[[rules]]\nid = "load"\nsubject = "user:load"\nactions = ["all"]\nresources = ["topic:#"]\n'
    return "\n".join([*lines, own])


def configuration(directory: Path, count: int, users: int = 0) -> str:
    """Return a configuration with rules, and with users that share one hash."""
    hashed = hash_password(PASSWORD)
    (directory / "rules.toml").write_text(rules(count))
    names = ["load", *(f"user{n}" for n in range(users))]
    tables = "\n".join(f'[users.{name}]\npassword = "{hashed}"' for name in names)
    return f'[auth]\nrules = "{directory / "rules.toml"}"\n{tables}\n'


def throughput(port: int, qos: int, seconds: float) -> float:
    """Return messages a second, one publisher to one subscriber."""
    command = [sys.executable, "-m", "gateway", "bench", f"127.0.0.1:{port}", "--qos", str(qos)]
    command += ["--seconds", str(seconds), "--user", f"load:{PASSWORD}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: float = json.loads(done.stdout)["per_second"]
    return found


def rules_cost(seconds: float, rounds: int) -> dict[str, Any]:
    """Compare one rule with a thousand, in turns."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
        few, full = configuration(Path(one), 1), configuration(Path(many), RULES)
        with gateway(Path(one), few) as port_one, gateway(Path(many), full) as port_many:
            for qos in (0, 1):
                pairs = [
                    (throughput(port_one, qos, seconds), throughput(port_many, qos, seconds))
                    for _ in range(rounds)
                ]
                ratios = sorted(with_many / with_one for with_one, with_many in pairs)
                found[f"qos{qos}"] = {
                    "one_rule_per_s": statistics.median(pair[0] for pair in pairs),
                    f"{RULES}_rules_per_s": statistics.median(pair[1] for pair in pairs),
                    "ratio": statistics.median(ratios),
                    "ratios": ratios,
                }
    return found


def connect_packet(client_id: str, user: str) -> bytes:
    """Return a CONNECT of MQTT 3.1.1."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    body = text("MQTT") + b"\x04\xc2\x00\x00" + text(client_id) + text(user) + text(PASSWORD)
    return b"\x10" + _length(len(body)) + body


def _length(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 | 128, value // 128])


async def probe(port: int, until: asyncio.Event) -> list[float]:
    """Publish at QoS 1 at a steady rate; return each round trip in milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connect_packet("probe", "load"))
    await reader.readexactly(4)
    found: list[float] = []
    due = time.perf_counter()
    number = 0
    while not until.is_set():
        number = number % 65_535 + 1
        body = struct.pack(">H", 5) + b"probe" + struct.pack(">H", number) + b"x" * 64
        # From when it was due, not from when there was time: a stall counts for all it delays.
        writer.write(b"\x32" + _length(len(body)) + body)
        await reader.readexactly(4)
        found.append((time.perf_counter() - due) * 1000)
        due += 1 / PROBES_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    writer.close()
    return found


async def login(port: int, number: int) -> float:
    """Log in; return how long it took in seconds, negative if it was refused."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connect_packet(f"storm{number}", f"user{number}"))
    try:
        answer = await reader.readexactly(4)
    except asyncio.IncompleteReadError:
        return -1.0
    finally:
        writer.close()
    return time.perf_counter() - began if answer[3] == 0 else -1.0


async def _storm(port: int, quiet_seconds: float) -> dict[str, Any]:
    ended = asyncio.Event()
    before = asyncio.create_task(probe(port, ended))
    await asyncio.sleep(quiet_seconds)
    ended.set()
    quiet = await before
    # The clients of the storm are another process: what they need is not the probe's.
    command = [sys.executable, "-m", "benchmarks.access", "--storm", str(port)]
    storming = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    ended = asyncio.Event()
    during = asyncio.create_task(probe(port, ended))
    output, _ = await storming.communicate()
    ended.set()
    return {"quiet": summary(quiet), "storm": summary(await during), **json.loads(output)}


async def _all_log_in(port: int) -> dict[str, Any]:
    began = time.perf_counter()
    found = await asyncio.gather(*(login(port, number) for number in range(LOGINS)))
    return {
        "logins": LOGINS,
        "refused": sum(1 for seconds in found if seconds < 0),
        "seconds": time.perf_counter() - began,
    }


def summary(found: list[float]) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    found.sort()
    return {
        "probes": len(found),
        "p50_ms": found[len(found) // 2],
        "p99_ms": found[int(len(found) * 0.99)],
        "max_ms": found[-1],
    }


def storm(quiet_seconds: float) -> dict[str, Any]:
    """Have a thousand clients log in at once; return what others noticed."""
    with tempfile.TemporaryDirectory() as directory:
        text = configuration(Path(directory), 1, LOGINS)
        with gateway(Path(directory), text) as port:
            return asyncio.run(_storm(port, quiet_seconds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--storm", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("rules", "storm"))
    options = parser.parse_args()
    if options.storm:
        print(json.dumps(asyncio.run(_all_log_in(options.storm))))
        return
    found: dict[str, Any] = {}
    if options.only != "storm":
        found["rules"] = rules_cost(options.seconds, options.rounds)
    if options.only != "rules":
        found["storm"] = storm(options.seconds)
    text = json.dumps(found, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
