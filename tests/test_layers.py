"""Who may import whom: the layers, enforced.

Every import counts, also those inside functions and under TYPE_CHECKING: a name that only the
type checker sees still ties two modules together.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "gateway"

#: What waits, or asks the machine for the time: not in the core.
WAITING = frozenset(
    {"asyncio", "socket", "threading", "time", "select", "selectors", "multiprocessing", "subprocess"}
)

#: Sans-I/O codecs: bytes in, packets out.
CODECS = {
    "mqtt": ("packets", "properties", "reasons", "decoder", "encoder"),
    "amqp": ("errors", "tables", "properties", "methods", "frames"),
    "coap": ("numbers", "codec", "stream_codec"),
}
#: What a codec may know of us besides: how a peer's mistake is called.
CODECS_MAY = "gateway.core.errors"
#: Sans-I/O themselves.
CODEC_LIBRARIES = frozenset({"pamqp"})

#: The shell reaches protocols, authenticators and engines only through the plugin manager.
SHELL = (
    "server",
    "admission",
    "throttle",
    "audit",
    "listeners",
    "turn",
    "plugins",
    "sysinfo",
    "proxy_protocol",
    "config",
    "settings",
    "toml_text",
    "doors",
    "tls",
    "tls_transport",
)
BEHIND_HOOKS = (
    "gateway.protocols",
    "gateway.auth",
    "gateway.selectors",
    "gateway.storage",
    "gateway.webhooks",
    "gateway.transactions",
    "gateway.deadletters",
    "gateway.schedules",
    "gateway.oms",
)

#: What a built-in package behind hooks may use besides its own modules.
SHARED = (
    "gateway.core",
    "gateway.api",
    "gateway.hookspecs",
    "gateway.sealing",
    "gateway.http_api",
    "gateway.http_fields",
    "gateway.http_oms",
    "gateway.outgoing",
    "gateway.rocketmq",
    "gateway.version",
)
#: Module prefix -> our modules that it may import (it and what is below it). First match wins.
ALLOWED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gateway.core", ("gateway.core",)),
    # hookspecs only for its marker: engines come in through the same hook as anybody's
    ("gateway.storage", ("gateway.storage", "gateway.core", "gateway.hookspecs")),
    ("gateway.selectors", ("gateway.selectors", *SHARED)),
    ("gateway.deadletters", ("gateway.deadletters", *SHARED)),
    ("gateway.auth", ("gateway.auth", *SHARED)),
    ("gateway.outgoing", ("gateway.outgoing", "gateway.core", "gateway.api")),
    ("gateway.webhooks", ("gateway.webhooks", *SHARED)),
    ("gateway.transactions", ("gateway.transactions", *SHARED)),
    ("gateway.schedules", ("gateway.schedules", *SHARED)),
    # what RocketMQ clients and servers say: for the door, and for the driver that is a client
    ("gateway.rocketmq", ("gateway.rocketmq", "gateway.core.errors")),
    (
        "gateway.oms",
        ("gateway.oms", "gateway.rocketmq", "gateway.api", "gateway.embedded", "gateway.version"),
    ),
    # programs that use a gateway, or another broker, as anybody would
    ("gateway.benchmark", ("gateway.benchmark", "gateway.oms", "gateway.core.errors")),
    ("gateway.chaos", ("gateway.chaos", "gateway.benchmark", "gateway.oms", "gateway.core.errors")),
    ("gateway.http_api", ("gateway.core", "gateway.api")),
    ("gateway.sealing", ("gateway.core",)),
    ("gateway.http_fields", ("gateway.core",)),
    ("gateway.http_oms", ("gateway.http_oms", "gateway.core", "gateway.http_fields")),
    ("gateway.peer_certificate", ("gateway.core", "gateway.api")),
    ("gateway.hookspecs", ("gateway.core", "gateway.api")),
    ("gateway.api", ("gateway.core", "gateway.awaiting", "gateway.door_api", "gateway.http_part")),
    ("gateway.door_api", ("gateway.core", "gateway.api")),  # a part of it
    ("gateway.http_part", ("gateway.core",)),
    ("gateway.awaiting", ("gateway.core", "gateway.api")),  # its other half, for those who prefer to await
)
#: What HTTP makes of properties, for whoever speaks it; and what OpenMessaging's binding to it does.
FIELDS = ("gateway.http_fields", "gateway.http_oms")
#: What a certificate says of its owner, for whoever brings a TLS of its own.
CERTIFICATES = "gateway.peer_certificate"
PUBLIC = frozenset(
    {"gateway", "gateway.api", "gateway.embedded", "gateway.oms", "gateway.oms.sync", "gateway.testing"}
)


def module_name(path: Path) -> str:
    """Return the dotted name of a file of ours."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports(source: str, module: str, package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of all that a module imports, relative names resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (1 if package else 0)]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if _is_module(name) else base


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.split(".")[0] == OURS and (path.is_dir() or path.with_suffix(".py").is_file())


def within(name: str, prefix: str) -> bool:
    """Tell whether a dotted name is a module or below it."""
    return name == prefix or name.startswith(prefix + ".")


def files(*folders: str) -> list[Path]:
    """Return our Python files below some folders; not what tools put there."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not any(
            part.startswith(".") or part in ("build", "node_modules") for part in path.relative_to(ROOT).parts
        )
    )


def faults(path: Path) -> list[str]:
    """Return what a file imports and may not."""
    module = module_name(path)
    found = imports(path.read_text(), module, path.name == "__init__.py")
    return [
        f"{path.relative_to(ROOT)}:{line}: {module} may not import {name}"
        for line, name in found
        if not allowed(module, name)
    ]


def allowed(module: str, name: str) -> bool:
    """Tell whether a module may import a name."""
    top = name.split(".")[0]
    if not within(module, OURS):
        return top != OURS or name in PUBLIC
    codec = _codec(module)
    if codec is not None:
        return name in codec or top in sys.stdlib_module_names or top in CODEC_LIBRARIES
    if within(module, "gateway.core"):
        return within(name, "gateway.core") or (top in sys.stdlib_module_names and top not in WAITING)
    if top != OURS:
        return module != "gateway.hookspecs" or top in sys.stdlib_module_names or top == "pluggy"
    if within(module, "gateway.protocols") and module != "gateway.protocols":
        own = ".".join(module.split(".")[:3])
        shared = (
            "gateway.core",
            "gateway.api",
            "gateway.hookspecs",
            "gateway.rocketmq",
            "gateway.version",
            *FIELDS,
            CERTIFICATES,
        )
        below = (own, *shared)
        return any(within(name, prefix) for prefix in below)
    if module.removeprefix("gateway.") in SHELL:
        return not any(within(name, prefix) for prefix in BEHIND_HOOKS)
    for prefix, below in ALLOWED:
        if within(module, prefix):
            return any(within(name, other) for other in below)
    return True


def _codec(module: str) -> set[str] | None:
    for protocol, names in CODECS.items():
        full = {f"gateway.protocols.{protocol}.{name}" for name in names}
        if module in full:
            return full | {CODECS_MAY}
    return None


@pytest.mark.parametrize(
    "path", files("gateway", "plugins", "examples"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_only_what_is_below(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gateway.core.queue", "asyncio"),
        ("gateway.core.queue", "gateway.api"),
        ("gateway.core.queue", "msgspec"),
        ("gateway.storage.memory", "gateway.server"),
        ("gateway.protocols.mqtt.connection", "gateway.protocols.http.app"),
        ("gateway.protocols.mqtt.connection", "gateway.server"),
        ("gateway.protocols.mqtt.decoder", "gateway.core.message"),
        ("gateway.auth.rules", "gateway.config"),
        ("gateway.server", "gateway.protocols.mqtt"),
        ("gateway.api", "gateway.protocols"),
        ("gateway.hookspecs", "fastapi"),
        ("plugins.line.gateway_line", "gateway.core.session"),
    ],
)
def test_the_rules_refuse(module: str, name: str) -> None:
    assert not allowed(module, name)


def test_relative_and_guarded_imports_are_seen() -> None:
    source = "def f():\n    from ..api import X\nif TYPE_CHECKING:\n    from .. import server\n"
    assert [name for _, name in imports(source, "gateway.core.queue", package=False)] == [
        "gateway.api",
        "gateway.server",
    ]
