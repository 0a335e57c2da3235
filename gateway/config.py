"""Configuration: TOML to typed settings; every fault is one line that names the key.

Refuse unless told otherwise: an unknown key, a missing file, a door open to other machines
without logins are faults, and all faults are reported at once.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

DEFAULT_FILE = Path("gateway.toml")
DOORS = {
    "mqtt": "127.0.0.1:1883",
    "amqp": "127.0.0.1:5672",
    "coap": "127.0.0.1:5683",
    "http": "127.0.0.1:8080",
    "openmessaging": "127.0.0.1:8081",
    "mqtts": "",
    "amqps": "",
    "coaps": "",
    "https": "",
}
TLS_DOORS = ("mqtts", "amqps", "coaps", "https")


class ConfigError(Exception):
    """The configuration cannot be used; `faults` has one line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class Address(msgspec.Struct, frozen=True):
    """Where a door listens: `host:port`, `[v6]:port` or `unix:/path`."""

    kind: str  # "tcp" or "unix"
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # another name: who knows where it points tomorrow

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raise ValueError with a sentence on what is wrong."""
        if text.startswith("unix:"):
            if not text[5:]:
                raise ValueError("unix: needs a path, as in unix:/run/gateway/mqtt.sock")
            return cls("unix", path=text[5:])
        host, separator, port = text.rpartition(":")
        if not separator or not host:
            raise ValueError(f"{text!r} is no address; host:port, [v6]:port or unix:/path is expected")
        if not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{text!r}: the port must be a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:1883")
        return cls("tcp", host, int(port))


class Server(msgspec.Struct, frozen=True):
    """`[server]`"""

    data: str = "./gateway-data"


class Storage(msgspec.Struct, frozen=True):
    """`[storage]`"""

    engine: str = "commitlog"
    segment_bytes: int = 64 << 20


class Limits(msgspec.Struct, frozen=True):
    """`[limits]`; the reason for each number is in docs/configuration.md."""

    connections_max: int = 100_000
    handshake_seconds_max: float = 10.0
    connection_buffer_bytes_max: int = 1 << 20
    packet_bytes_max: int = 16 << 20
    body_bytes_max: int = 16 << 20
    topics_cached_max: int = 100_000
    queue_memory_messages_max: int = 1000
    receiver_messages_max: int = 10_000


class Mqtt(msgspec.Struct, frozen=True):
    """`[mqtt]`"""

    keep_alive_seconds_max: int = 0
    session_expiry_seconds_max: int = 0xFFFFFFFF
    receive_maximum: int = 1000
    topic_alias_maximum: int = 100
    retain_available: bool = True
    queue_length_max: int = 100_000


class Network(msgspec.Struct, frozen=True):
    """`[network]`"""

    proxy_protocol: list[str] = []
    proxy_from: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.1/32"])


class Auth(msgspec.Struct, frozen=True):
    """`[auth]`"""

    anonymous: bool = False


class User(msgspec.Struct, frozen=True):
    """`[users.NAME]`"""

    password: str
    admin: bool = False
    publish: list[str] = []
    subscribe: list[str] = []


class Plugins(msgspec.Struct, frozen=True):
    """`[plugins]`; `[plugins.NAME]` are the plugins' own."""

    disabled: list[str] = []


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "storage": Storage,
    "limits": Limits,
    "mqtt": Mqtt,
    "network": Network,
    "auth": Auth,
    "plugins": Plugins,
}

#: (section, key) -> least and greatest value
RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("storage", "segment_bytes"): (4096, 1 << 32),
    ("limits", "connections_max"): (1, 10_000_000),
    ("limits", "handshake_seconds_max"): (0.1, 3600),
    ("limits", "connection_buffer_bytes_max"): (1024, 1 << 32),
    ("limits", "packet_bytes_max"): (128, 268_435_455 + 5),
    ("limits", "body_bytes_max"): (1, 1 << 32),
    ("limits", "topics_cached_max"): (1, 100_000_000),
    ("limits", "queue_memory_messages_max"): (1, 10_000_000),
    ("limits", "receiver_messages_max"): (1, 10_000_000),
    ("mqtt", "keep_alive_seconds_max"): (0, 65_535),
    ("mqtt", "session_expiry_seconds_max"): (0, 0xFFFFFFFF),
    ("mqtt", "receive_maximum"): (1, 65_535),
    ("mqtt", "topic_alias_maximum"): (0, 65_535),
    ("mqtt", "queue_length_max"): (0, 1 << 40),
}


class Config(msgspec.Struct, frozen=True):
    """The whole configuration, checked."""

    dev: bool
    source: str  # the file, for people
    server: Server
    storage: Storage
    limits: Limits
    mqtt: Mqtt
    network: Network
    auth: Auth
    plugins: Plugins
    users: dict[str, User]
    listeners: dict[str, str]
    plugin_tables: dict[str, dict[str, Any]]
    explicit_doors: frozenset[str]  # named in the file or by --set

    @property
    def data_directory(self) -> Path:
        """Where the log is."""
        return Path(self.server.data)

    def plugin(self, name: str) -> Mapping[str, Any]:
        """Return `[plugins.<name>]`, empty if there is none."""
        return self.plugin_tables.get(name, {})

    def address(self, name: str, default: str) -> Address | None:
        """Return where a door opens, None if it stays closed."""
        text = self.listeners.get(name, default)
        return Address.parse(text) if text else None

    def closed_for_now(self, installed: Iterable[str]) -> list[str]:
        """Return doors that were asked for and that nothing installed can open."""
        have = set(installed)
        return [name for name in DOORS if name in self.explicit_doors and self.listeners[name] and name not in have]


def unknown_doors(config: Config, installed: Iterable[str]) -> list[str]:
    """Return a fault for each listener that neither we nor a plugin know."""
    known = [*DOORS, *installed]
    return [
        f"{config.source}: listeners.{name}: no such door{_did_you_mean(name, known, 'listeners.')}"
        for name in config.listeners
        if name not in known
    ]


def load(path: Path | None, sets: Sequence[str], dev: bool, data: Path | None) -> Config:
    """Read, override, check. Raise ConfigError with every fault."""
    source, tables = _read(path, dev)
    faults: list[str] = []
    for text in sets:
        _override(tables, text, faults)
    if data is not None:
        tables.setdefault("server", {})["data"] = str(data)
    config = _build(tables, source, dev, faults)
    if config is not None:
        _check_safety(config, faults)
    if faults or config is None:
        raise ConfigError(faults)
    return config


def _read(path: Path | None, dev: bool) -> tuple[str, dict[str, Any]]:
    if path is None and DEFAULT_FILE.exists() and not dev:
        path = DEFAULT_FILE
    if path is None:
        if dev:
            return "--dev", {}
        raise ConfigError(
            ["no configuration: run `gateway init` to write gateway.toml, or try it on this machine with --dev"]
        )
    try:
        return str(path), tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: this is no TOML: {error}"]) from error


def _override(tables: dict[str, Any], text: str, faults: list[str]) -> None:
    """Apply one --set section.key=value; the value is TOML if it parses, else a string."""
    name, separator, value = text.partition("=")
    *sections, key = name.strip().split(".")
    if not separator or not key or not sections or not all(sections):
        faults.append(f"--set {text}: section.key=value is expected")
        return
    table = tables
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            faults.append(f"--set {text}: {section} is no section")
            return
    table[key] = parse_value(value)


def parse_value(text: str) -> Any:
    """Return what `text` means as a TOML value, or the text itself."""
    if "\n" not in text and "\r" not in text:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, KeyError):
            pass
    return text


def _build(tables: dict[str, Any], source: str, dev: bool, faults: list[str]) -> Config | None:
    sections: dict[str, Any] = {}
    plugin_tables = {}
    known = [*SECTIONS, "listeners", "users"]
    for name in tables:
        if name not in known:
            faults.append(f"{source}: [{name}]: no such section{_did_you_mean(name, known, '')}")
        elif not isinstance(tables[name], dict):
            faults.append(f"{source}: {name}: a section is expected, as in [{name}]")
    tables = {name: table for name, table in tables.items() if isinstance(table, dict)}
    if "plugins" in tables:
        plugin_tables = {k: v for k, v in tables["plugins"].items() if isinstance(v, dict)}
        tables["plugins"] = {k: v for k, v in tables["plugins"].items() if not isinstance(v, dict)}
    for name, kind in SECTIONS.items():
        sections[name] = _section(name, kind, tables.get(name, {}), source, faults)
    users = _users(tables.get("users", {}), source, faults)
    listeners = _listeners(tables.get("listeners", {}), source, faults)
    if faults:
        return None
    explicit = frozenset(tables.get("listeners", {}))
    return Config(dev, source, users=users, listeners=listeners, plugin_tables=plugin_tables, explicit_doors=explicit, **sections)


def _section(name: str, kind: type[msgspec.Struct], table: dict[str, Any], source: str, faults: list[str]) -> Any:
    """Return the section's settings; report every key that is unknown, of a wrong type or out of range."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values = {}
    for key, value in table.items():
        field = fields.get(key)
        if field is None:
            faults.append(f"{source}: {name}.{key}: no such key{_did_you_mean(key, fields, name + '.')}")
            continue
        try:
            values[key] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            faults.append(f"{source}: {name}.{key}: {_plain(error)}")
            continue
        low, high = RANGES.get((name.partition(".")[0], key), (float("-inf"), float("inf")))
        if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value <= high:
            faults.append(f"{source}: {name}.{key}: {value} is out of range; {low:g} to {high:g} is possible")
    missing = [key for key, field in fields.items() if field.required and key not in table]
    faults.extend(f"{source}: {name}.{key}: is missing" for key in missing)
    try:
        return kind(**values)
    except TypeError:
        return None  # reported above


def _users(table: dict[str, Any], source: str, faults: list[str]) -> dict[str, User]:
    users = {}
    for name, fields in table.items():
        if not isinstance(fields, dict):
            faults.append(f"{source}: users.{name}: a section is expected, as in [users.{name}]")
            continue
        user = _section(f"users.{name}", User, fields, source, faults)
        if user is None:
            continue
        if not user.password.startswith("$argon2"):
            faults.append(f"{source}: users.{name}.password: an argon2 hash is expected; `gateway init` makes one")
        users[name] = user
    return users


def _listeners(table: dict[str, Any], source: str, faults: list[str]) -> dict[str, str]:
    listeners = dict(DOORS)
    for name, value in table.items():
        if not isinstance(value, str):
            faults.append(f"{source}: listeners.{name}: an address is expected, not {value!r}")
            continue
        listeners[name] = value
        if not value:
            continue
        if name in TLS_DOORS:
            faults.append(f"{source}: listeners.{name}: TLS is not available yet; leave it empty")
        try:
            Address.parse(value)
        except ValueError as error:
            faults.append(f"{source}: listeners.{name}: {error}")
    return listeners


def _check_safety(config: Config, faults: list[str]) -> None:
    """Refuse what would let other machines in without a login."""
    if not config.dev and not config.users and not config.auth.anonymous:
        faults.append(f"{config.source}: nobody could log in: add a [users.NAME], or `gateway init` for a new file")
    for network in config.network.proxy_from:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            faults.append(f"{config.source}: network.proxy_from: {network!r} is no network, such as 10.0.0.0/8")
    for name, text in config.listeners.items():
        if not text or Address.parse(text).loopback:
            continue
        if config.dev:
            faults.append(f"{config.source}: listeners.{name}: --dev listens on loopback only, not on {text}")
        elif config.auth.anonymous:
            faults.append(
                f"{config.source}: listeners.{name}: {text} is open to other machines; "
                "set auth.anonymous = false, or listen on 127.0.0.1"
            )


def _did_you_mean(name: str, known: Iterable[str], prefix: str) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _plain(error: msgspec.ValidationError) -> str:
    """Turn msgspec's "Expected `int`, got `str`" into our words."""
    return str(error).replace("Expected", "expected").replace("`", "").replace("got", "found")


def render_default(admin: str, password_hash: str) -> str:
    """Return the configuration that `gateway init` writes."""
    return f'''# Written by `gateway init`. Every key and its default: docs/configuration.md.

[server]
data = "./gateway-data"            # the log, its index and the lock

[listeners]                        # one address a door; "" closes it
mqtt = "127.0.0.1:1883"
http = "127.0.0.1:8080"

[auth]
anonymous = false                  # clients without a login are refused

[users.{_toml_key(admin)}]
password = "{password_hash}"
admin = true

# [users.sensor]
# password = "$argon2id$..."       # gateway init --json --admin sensor shows how one is made
# publish = ["sensors/#"]
# subscribe = ["commands/+"]
'''


def _toml_key(name: str) -> str:
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else msgspec.json.encode(name).decode()
