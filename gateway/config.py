"""Configuration: TOML to typed settings; every fault is one line that names the key.

Refuse unless told otherwise: an unknown key, a missing file, a door open to other machines
without logins are faults, and all faults are reported at once.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .core.errors import InvalidTopic, InvalidValue
from .core.policy import DURABILITIES
from .core.template import check_template
from .core.topic import check_filter
from .settings import (
    CHECKS,
    CHOICES,
    DOORS,
    RANGES,
    SECTIONS,
    TLS_DOORS,
    TYPE_NAMES,
    WINDOW_SECONDS_MAX,
    Address,
    Amqp,
    Anonymous,
    Auth,
    Certificates,
    Coap,
    DeadLetters,
    Dedup,
    Limits,
    Mqtt,
    Network,
    OpenMessaging,
    Plugins,
    Quota,
    Server,
    Storage,
    Tls,
    Tokens,
    Transactions,
    User,
    Webhooks,
)
from .toml_text import parse_value, split_key, toml_key

__all__ = ["Address", "Config", "ConfigError", "load", "parse_value", "toml_key", "unknown_doors"]

DEFAULT_FILE = Path("gateway.toml")
SENML_PLACEHOLDERS = ("topic", "name")  # of topics that records are published to
LOGIN_SECTIONS = ("users", "tokens", "certificates")  # each says how somebody can log in
NO_CONFIGURATION = (
    "no configuration: run `gateway init` to write gateway.toml and start with --config gateway.toml, "
    "or use --dev for development on this machine"
)


class ConfigError(Exception):
    """The configuration cannot be used; `faults` has one line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = [_one_line(fault) for fault in faults]
        super().__init__("; ".join(self.faults))


class Config(msgspec.Struct, frozen=True):
    """The whole configuration, checked."""

    dev: bool
    source: Path | None
    server: Server
    storage: Storage
    limits: Limits
    mqtt: Mqtt
    amqp: Amqp
    coap: Coap
    openmessaging: OpenMessaging
    dedup: Dedup
    dead_letters: DeadLetters
    network: Network
    tls: Tls
    auth: Auth
    plugins: Plugins
    anonymous: Anonymous
    tokens: Tokens
    transactions: Transactions
    certificates: Certificates
    webhooks: Webhooks
    users: dict[str, User]
    quotas: dict[str, Quota]
    listeners: dict[str, Address | str]  # the only string is "": closed
    plugin_tables: dict[str, dict[str, Any]]
    tls_tables: dict[str, dict[str, Any]]  # door -> what differs from `tls` there
    explicit_doors: frozenset[str]  # named in the file or by --set
    logins: bool = True  # somebody could log in

    @property
    def data_directory(self) -> Path:
        """Where the log is."""
        return Path(self.server.data)

    def plugin(self, name: str) -> Mapping[str, Any]:
        """Return `[plugins.<name>]`, empty if there is none."""
        return self.plugin_tables.get(name, {})

    def tls_of(self, door: str) -> Tls:
        """Return `[tls]` with what `[tls.<door>]` says instead."""
        return msgspec.structs.replace(self.tls, **self.tls_tables.get(door, {}))

    def address(self, name: str, default: str) -> Address | None:
        """Return where a door opens, None if it stays closed. Raise ConfigError for an unsafe default."""
        configured = self.listeners.get(name)
        if configured is not None:
            return configured if isinstance(configured, Address) else None
        if not default:
            return None
        try:
            address = Address.parse(default)
        except ValueError as error:
            raise ConfigError([f"listeners.{name}: the protocol's default: {error}"]) from error
        # A plugin's default must not open what the configuration would have been refused for.
        exposed = _exposed(name, address, self.dev, self.logins)
        if exposed:
            raise ConfigError([f"{exposed} (this is the protocol's default)"])
        return address

    def closed_for_now(self, doors: Iterable[str]) -> list[str]:
        """Return doors that were asked for and that nothing installed (`doors`) can open."""
        asked = [name for name in DOORS if name in self.explicit_doors and self.listeners[name]]
        have = set(doors)
        return [name for name in asked if name not in have]


def unknown_doors(config: Config, doors: Iterable[str]) -> list[str]:
    """Return a fault for each door the configuration names that neither we nor a plugin (`doors`) know."""
    known = sorted({*DOORS, *doors})
    label = f"{config.source}: " if config.source else ""
    faults = [
        f"{label}listeners.{name}: unknown door{_did_you_mean(name, known, 'listeners.')}"
        for name in config.listeners
        if name not in known
    ]
    faults += [
        f"{label}network.proxy_protocol: {name!r}: unknown door{_did_you_mean(name, known)}"
        for name in config.network.proxy_protocol
        if name not in known
    ]
    secured = [name for name in known if name in TLS_DOORS or name[:-1] in known]
    faults += [
        f"{label}tls.{name}: no TLS door has this name{_did_you_mean(name, secured, 'tls.')}"
        for name in config.tls_tables
        if name not in secured
    ]
    return faults


def load(path: Path | None, sets: Sequence[str], dev: bool, data: Path | None) -> Config:
    """Read, override, check. Raise ConfigError with every fault."""
    if path is None and not dev:
        if not DEFAULT_FILE.exists():
            raise ConfigError([NO_CONFIGURATION])
        path = DEFAULT_FILE
    reader = _Reader(path, dev)
    unreadable = path is not None and not reader.read(path)
    for text in sets:
        reader.override(text)
    if data is not None:
        reader.put(["server", "data"], str(data), f"--data {data}")
    if unreadable:
        raise ConfigError(reader.faults)  # what is missing from a file that cannot be read says nothing
    return reader.config()


class _Reader:
    """Gathers tables from the file and the command line, and faults instead of raising them."""

    def __init__(self, source: Path | None, dev: bool) -> None:
        self.source = source
        self.dev = dev
        self.faults: list[str] = []
        self._tables: dict[str, Any] = {}
        self._overridden: set[str] = set()  # keys from the command line: the file is not to blame

    def fault(self, key: str, text: str) -> None:
        """Note one line that names where the key was set, the key, and what to do."""
        parts = key.split(".")
        given = any(".".join(parts[:length]) in self._overridden for length in range(1, len(parts) + 1))
        label = "--set: " if given else f"{self.source}: " if self.source else ""
        self.faults.append(f"{label}{key}: {text}")

    # -- gathering ----------------------------------------------------------------------------

    def read(self, path: Path) -> bool:
        """Read the file; False, and a fault, if that is not possible."""
        try:
            self._tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            advice = "; `gateway init` writes one" if isinstance(error, FileNotFoundError) else ""
            self.faults.append(f"{path}: cannot be read: {error.strerror}{advice}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.faults.append(f"{path}: not UTF-8 (at line {line}); save it as UTF-8")
        except (ValueError, RecursionError) as error:
            self.faults.append(f"{path}: not valid TOML: {error}")
        return not self.faults

    def override(self, text: str) -> None:
        """Apply one --set section.key=value."""
        name, separator, value = text.partition("=")
        keys = split_key(name)
        if not separator or len(keys) < 2:
            self.faults.append(f"--set {text!r}: expected section.key=value, as in listeners.http=")
            return
        self.put(keys, parse_value(value), f"--set {text!r}")

    def put(self, keys: Sequence[str], value: Any, label: str) -> None:
        """Set one key, whatever the file says."""
        table = self._tables
        for index, key in enumerate(keys[:-1]):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                self.faults.append(f"{label}: {'.'.join(keys[: index + 1])} is a value, it has no keys")
                return
        table[keys[-1]] = value
        self._overridden.add(".".join(keys))

    # -- checking -----------------------------------------------------------------------------

    def config(self) -> Config:
        """Return the configuration. Raise ConfigError with every fault found."""
        known = [*SECTIONS, "listeners", "users", "quotas"]
        for name in [name for name in self._tables if name not in known]:
            self.fault(name, f"unknown section{_did_you_mean(name, known)}")
        tables = {name: self._table(name, self._tables.get(name, {})) for name in known}
        own = {field.name for field in msgspec.structs.fields(Plugins)}
        plugin_tables = {k: v for k, v in tables["plugins"].items() if isinstance(v, dict) and k not in own}
        for name in plugin_tables:
            del tables["plugins"][name]
        tls_tables = {name: value for name, value in tables["tls"].items() if isinstance(value, dict)}
        for name, table in tls_tables.items():
            del tables["tls"][name]
            self._section(f"tls.{name}", Tls, table)
        sections = {name: self._section(name, kind, tables[name]) for name, kind in SECTIONS.items()}
        users = self._users(tables["users"])
        quotas = self._quotas(tables["quotas"])
        listeners = self._listeners(tables["listeners"])
        self._check_values(sections["server"], sections["coap"])
        self._check_durability(sections["storage"])
        self._check_dedup(sections["dedup"])
        self._check_safety(listeners)
        if self.faults:
            raise ConfigError(self.faults)
        return Config(
            self.dev,
            self.source,
            users=users,
            quotas=quotas,
            listeners=listeners,
            plugin_tables=plugin_tables,
            tls_tables=tls_tables,
            explicit_doors=frozenset(tables["listeners"]),
            logins=any(self._tables.get(name) for name in LOGIN_SECTIONS),
            **sections,
        )

    def _table(self, key: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.fault(key, f"expected table, found {_type_name(value)}; write it as [{key}]")
        return {}

    def _section(self, name: str, kind: type[msgspec.Struct], table: Mapping[str, Any]) -> Any:
        """Return the section's settings, with defaults for those that have faults."""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {field.name: "" for field in fields.values() if field.required}
        for key, value in table.items():
            if key not in fields:
                self.fault(f"{name}.{key}", f"unknown key{_did_you_mean(key, fields, name + '.')}")
                continue
            wanted = fields[key].type
            low, high = RANGES.get((name, key), (0, 0))
            choices = CHOICES.get((name.partition(".")[0], key), ())
            if not _fits(value, wanted):
                self.fault(f"{name}.{key}", f"expected {TYPE_NAMES[wanted]}, found {_type_name(value)}")
            elif high and not low <= value <= high:
                self.fault(f"{name}.{key}", f"out of range; a number from {low} to {high} is possible")
            elif choices and value not in choices:
                self.fault(f"{name}.{key}", f"{value!r}: one of {', '.join(choices)} is expected")
            else:
                values[key] = float(value) if wanted is float else value
                if (name, key) in CHECKS:
                    for text in value if isinstance(value, list) else (value,):
                        self._try(f"{name}.{key}", CHECKS[name, key], text)
        for key in fields:
            if fields[key].required and key not in table:
                self.fault(f"{name}.{key}", "missing")
        return kind(**values)

    def _users(self, table: Mapping[str, Any]) -> dict[str, User]:
        users = {}
        for name, value in table.items():
            key = f"users.{name}"
            fields = self._table(key, value)
            user = users[name] = self._section(key, User, fields)
            if not name:
                self.fault(key, "a user needs a name: clients without one are anonymous")
            if isinstance(fields.get("password"), str) and not user.password.startswith("$"):
                self.fault(f"{key}.password", "expected a hash, as `gateway users hash` prints it")
            for action in ("publish", "subscribe"):
                for topic_filter in getattr(user, action):
                    self._try(f"{key}.{action}", check_filter, topic_filter)
        return users

    def _listeners(self, table: Mapping[str, Any]) -> dict[str, Address | str]:
        """Return every door; one with a fault counts as closed."""
        listeners: dict[str, Address | str] = {}
        for name, value in {**DOORS, **table}.items():
            listeners[name] = ""
            if not isinstance(value, str):
                self.fault(f"listeners.{name}", f'expected string ("host:port"), found {_type_name(value)}')
            elif value:
                listeners[name] = self._try(f"listeners.{name}", Address.parse, value) or ""
        return listeners

    def _check_values(self, server: Server, coap: Coap) -> None:
        """Check what a type and a range cannot say."""
        if not server.data or "\0" in server.data:
            self.fault("server.data", "expected the path of a directory")
        for section, rules in (("senml", coap.senml), ("senml_values", coap.senml_values)):
            for topic_filter, template in rules.items():
                key = f"coap.{section}.{toml_key(topic_filter)}"
                self._try(key, check_filter, topic_filter)
                self._try(key, lambda text: check_template(text, SENML_PLACEHOLDERS), template)

    def _check_durability(self, storage: Storage) -> None:
        for topic_filter, mode in storage.durability.items():
            key = f"storage.durability.{toml_key(topic_filter)}"
            self._try(key, check_filter, topic_filter)
            if mode not in DURABILITIES:
                self.fault(key, f"{mode!r}: one of {', '.join(DURABILITIES)} is expected")

    def _check_dedup(self, dedup: Dedup) -> None:
        for topic_filter, seconds in dedup.message_ids.items():
            self._try(key := f"dedup.message_ids.{toml_key(topic_filter)}", check_filter, topic_filter)
            if not 1 <= seconds <= WINDOW_SECONDS_MAX:
                self.fault(key, f"out of range; 1 to {WINDOW_SECONDS_MAX} seconds are possible")

    def _quotas(self, table: Mapping[str, Any]) -> dict[str, Quota]:
        quotas = {}
        for name, value in table.items():
            key = f"quotas.{name}"
            fields = self._table(key, value)
            quota = quotas[name] = self._section(key, Quota, fields)
            for field in msgspec.structs.fields(Quota):
                limit = getattr(quota, field.name)
                if not isinstance(limit, str) and limit < 0:
                    self.fault(f"{key}.{field.name}", "a limit is not negative; 0 is none")
        return quotas

    def _check_safety(self, listeners: Mapping[str, Address | str]) -> None:
        """Refuse what lets nobody in, and what opens a door to other machines that nobody can log in at."""
        logins = any(self._tables.get(name) for name in LOGIN_SECTIONS)
        if not (self.dev or logins or self._tables.get("anonymous")):
            self.fault("users", "nobody could log in; add a [users.NAME] as `gateway init` writes it")
        for name, address in listeners.items():
            exposed = _exposed(name, address, self.dev, bool(logins))
            if exposed:
                key, _, text = exposed.partition(": ")
                self.fault(key, text)

    def _try(self, key: str, check: Callable[[str], Any], text: str) -> Any:
        """Return what `check` returns, None with a fault if it raises one."""
        try:
            return check(text)
        except (ValueError, InvalidTopic, InvalidValue) as error:
            self.fault(key, str(error))
            return None


def _exposed(name: str, address: Address | str, dev: bool, logins: bool) -> str:
    """Return why a door must not open there, "" if it may."""
    if not isinstance(address, Address) or address.loopback:
        return ""
    if dev:
        return f"listeners.{name}: --dev lets anybody in, so it listens on loopback only, not on {address}"
    if not logins:
        return (
            f"listeners.{name}: {address} is open to other machines, and nobody has a login; "
            "add a [users.NAME], or listen on 127.0.0.1"
        )
    return ""


def _fits(value: Any, wanted: Any) -> bool:
    if wanted == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if wanted in (dict[str, str], dict[str, float]):
        kinds = (str,) if wanted == dict[str, str] else (int, float)
        return isinstance(value, dict) and all(type(item) in kinds for item in value.values())
    return type(value) in ((int, float) if wanted is float else (wanted,))  # True is no integer


def _type_name(value: Any) -> str:
    if isinstance(value, list):
        names = sorted({TYPE_NAMES.get(type(item), "date") for item in value} - {"string"})
        return f"array with {', '.join(names)}" if names else "array"
    if isinstance(value, dict):
        names = sorted({TYPE_NAMES.get(type(item), "date") for item in value.values()} - {"string"})
        return f"table with {', '.join(names)}" if names else "table"
    return TYPE_NAMES.get(type(value), "date")


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _one_line(text: str) -> str:
    """Escape line breaks and the like: what is quoted comes from outside."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
