"""RabbitMQ's definitions (`rabbitmqctl export_definitions`): users, permissions, topic permissions.

| RabbitMQ                        | here                                                  |
|---------------------------------|-------------------------------------------------------|
| configure on a name             | manage the queue of that name, and the exchange       |
| write on an exchange            | publish to its topics; on the default one, to queues  |
| read on a queue, an exchange    | consume it; subscribe to its topics                   |
| topic permission                | only the topics of those keys                         |
| tag administrator               | an administrator                                      |
| tags management, monitoring     | view queues: of one's own virtual hosts, of all       |

Virtual hosts, exchanges and queues themselves are for `gateway definitions import`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ...api import InvalidValue
from ...core.topic import VHOST_PREFIX
from ..hashes import known
from .imported import Imported, Rules, check_name, decoded, make_user, mapping, parse_json, rows, text_of
from .imported import user_subject as subject_of
from .regex import Shape, shape_of
from .spaces import CLIENT_ID, DEFAULT_EXCHANGE, TOPIC_EXCHANGE, Names, Spaces

DEFAULT_VHOST: Final = "/"
_ALGORITHMS: Final = {
    "rabbit_password_hashing_sha256": "$rabbit-sha256$",
    "rabbit_password_hashing_sha512": "$rabbit-sha512$",
}
_PLAIN: Final = re.compile(r"[\w./@ -]*")  # what means itself in an expression, a dot at least also itself
_SEES: Final = frozenset({"management", "policymaker", "monitoring"})


def read(definitions: bytes | str, names: Names) -> Imported:
    """Take over users and permissions. Raise InvalidValue with the line or row that is malformed."""
    return _Import(
        mapping(parse_json(decoded(definitions, "definitions"), "definitions"), "definitions"), names
    ).run()


class _Import:
    """One document on its way."""

    def __init__(self, document: Mapping[str, Any], names: Names) -> None:
        self._document = document
        self._names = names
        self._rules = Rules()
        self._remarks: list[str] = []
        self._exchanges: dict[str, dict[str, str]] = {}  # virtual host -> exchange -> type
        self._vhosts: set[str] = {DEFAULT_VHOST}
        self._limits: dict[tuple[str, str], dict[str, tuple[Shape, Shape]]] = {}
        self._allowed: dict[str, set[str]] = {}  # user -> virtual hosts with permissions
        self._sees_all: set[str] = set()  # users
        self._wide: dict[str, str] = {}  # user -> place, if all queues of "/" are in a rule

    def run(self) -> Imported:
        self._read_topology()
        for place, row in rows(self._document, "topic_permissions"):
            self._take_limit(mapping(row, place), place)
        for place, row in rows(self._document, "permissions"):
            self._take_permission(mapping(row, place), place)
        users = [self._user(mapping(row, place), place) for place, row in rows(self._document, "users")]
        seen: set[str] = set()
        for user in users:
            if user["name"] in seen:
                raise InvalidValue(f"users: {user['name']!r} is there twice")
            seen.add(user["name"])
        for user_name, place in self._wide.items():
            self._keep_out(user_name, place)
        return Imported(users, self._rules.all, list(dict.fromkeys(self._remarks)))

    def _read_topology(self) -> None:
        for place, row in rows(self._document, "vhosts"):
            self._vhosts.add(_named(mapping(row, place), "name", place))
        for place, row in rows(self._document, "exchanges"):
            row = mapping(row, place)
            kinds = self._exchanges.setdefault(_named(row, "vhost", place), {})
            kinds[text_of(row, "name", place)] = text_of(row, "type", place)

    # -- users ----------------------------------------------------------------------------------------

    def _user(self, row: Mapping[str, Any], place: str) -> dict[str, Any]:
        name = _named(row, "name", place)
        tags = _tags(row.get("tags", ""), place)
        if row.get("limits"):
            self._remarks.append(f"{place}: limits of user {name!r}: ours are in the configuration")
        for tag in sorted(tags - _SEES - {"administrator"}):
            self._remarks.append(f"{place}: tag {tag!r} of user {name!r} has no meaning here")
        self._view(name, tags, place)
        return make_user(name, admin="administrator" in tags, password=self._password(row, name, place))

    def _password(self, row: Mapping[str, Any], name: str, place: str) -> str:
        """Return the hash as we store it; "" if there is none, or none that we can verify."""
        stored = text_of(row, "password_hash", place, "")
        if not stored:
            self._remarks.append(f"{place}: user {name!r} has no password and cannot log in with one")
            return ""
        algorithm = text_of(row, "hashing_algorithm", place, "")
        # Before 3.6 nobody wrote the algorithm; the length tells which it is.
        prefixes = [_ALGORITHMS.get(algorithm, "")] if algorithm else list(_ALGORITHMS.values())
        for prefix in prefixes:
            if prefix and known(prefix + stored):
                return prefix + stored
        if algorithm in _ALGORITHMS:
            raise InvalidValue(f"{place}.password_hash: no hash of {algorithm}")
        kind = algorithm or "an old algorithm"
        self._remarks.append(f"{place}: user {name!r}: hashes of {kind} are not taken; set a password")
        return ""

    def _view(self, name: str, tags: set[str], place: str) -> None:
        subject = subject_of(name)
        if subject is None or not tags & _SEES:
            return
        if "monitoring" in tags:
            self._sees_all.add(name)
            self._rules.add(f"rabbitmq.{name}.monitoring", "allow", subject, ["view"], ["queue:*"])
            self._remarks.append(
                f"{place}: user {name!r} may see all queues; node and connections take a rule on admin:"
            )
            return
        seen = [
            resource
            for vhost in sorted(self._allowed.get(name, ()))
            for resource in self._spaces(vhost, place).all_queues()
        ]
        self._rules.add(f"rabbitmq.{name}.management", "allow", subject, ["view"], seen)
        if DEFAULT_VHOST in self._allowed.get(name, ()):
            self._wide.setdefault(name, place)

    # -- permissions ----------------------------------------------------------------------------------

    def _take_limit(self, row: Mapping[str, Any], place: str) -> None:
        user, vhost = _named(row, "user", place), _named(row, "vhost", place)
        exchange = text_of(row, "exchange", place)
        kind = self._exchanges.get(vhost, {}).get(exchange, "topic")  # unknown: as if it were one
        if kind != "topic":
            self._remarks.append(f"{place}: without effect, there as here: {exchange!r} is no topic exchange")
            return
        limits = self._limits.setdefault((user, vhost), {})
        if exchange in limits:
            raise InvalidValue(f"{place}: topic permissions of {user!r} for {exchange!r} are there twice")
        write, read_ = (self._key_shape(row, key, user, vhost, place) for key in ("write", "read"))
        limits[exchange] = (write, read_)

    def _key_shape(self, row: Mapping[str, Any], key: str, user: str, vhost: str, place: str) -> Shape:
        pattern = text_of(row, key, place)
        if CLIENT_ID in pattern:
            self._remarks.append(f"{place}.{key}: {pattern!r} left out")
            return Shape()
        for variable, value in (("{username}", user), ("{vhost}", vhost)):
            if variable in pattern and _PLAIN.fullmatch(value) is None:
                self._remarks.append(f"{place}.{key}: left out: {value!r} would be an expression itself")
                return Shape()
            pattern = pattern.replace(variable, re.escape(value).replace("\\ ", " "))
        return self._shape(pattern.replace("{client_id}", CLIENT_ID), f"{place}.{key}")

    def _shape(self, pattern: str, place: str) -> Shape:
        shape = shape_of(pattern)
        for skipped in shape.skipped:
            text = skipped.replace(CLIENT_ID, "{client_id}")
            self._remarks.append(f"{place}: {text!r} left out: neither a name nor the beginning of one")
        if shape.narrowed:
            self._remarks.append(f"{place}: {pattern!r}: a dot is taken as a dot, not as any character")
        return shape

    def _take_permission(self, row: Mapping[str, Any], place: str) -> None:
        user, vhost = _named(row, "user", place), _named(row, "vhost", place)
        configure, write, read_ = (
            self._shape(text_of(row, key, place), f"{place}.{key}") for key in ("configure", "write", "read")
        )
        if vhost in self._allowed.setdefault(user, set()):
            raise InvalidValue(f"{place}: permissions of {user!r} in {vhost!r} are there twice")
        self._allowed[user].add(vhost)
        subject = subject_of(user)
        if subject is None:
            self._remarks.append(f"{place}: {user!r} would be every user of that prefix; left out")
            return
        spaces = self._spaces(vhost, place)
        limits = self._limits.get((user, vhost), {})
        base = f"rabbitmq.{user}" if vhost == DEFAULT_VHOST else f"rabbitmq.{user}.{vhost}"
        to_queues = spaces.all_queues() if write.covers(DEFAULT_EXCHANGE) else []
        written = spaces.topics(write, {name: both[0] for name, both in limits.items()}, publish=True)
        heard = spaces.topics(read_, {name: both[1] for name, both in limits.items()}, publish=False)
        for part, action, resources in (
            ("configure", "manage", spaces.queues(configure)),
            ("write", "publish", [*written, *to_queues]),
            ("read.queues", "consume", spaces.queues(read_)),
            ("read.exchanges", "subscribe", heard),
        ):
            self._rules.add(f"{base}.{part}", "allow", subject, [action], resources)
        if not configure.contains(write):
            self._remarks.append(
                f"{place}: to bind a queue takes manage here: not where only write is allowed"
            )
        if vhost == DEFAULT_VHOST and (to_queues or configure.everything or read_.everything):
            self._wide.setdefault(user, place)

    def _spaces(self, vhost: str, place: str) -> Spaces:
        known_ones = {name for name in self._exchanges.get(vhost, {}) if name not in ("", TOPIC_EXCHANGE)}
        return Spaces(vhost, self._names, known_ones, lambda text: self._remarks.append(f"{place}: {text}"))

    def _keep_out(self, user: str, place: str) -> None:
        """Deny a user who may use all queues of "/" those of virtual hosts that are not allowed."""
        subject = subject_of(user)
        assert subject is not None  # no rule was made for others
        others = self._allowed[user] - {DEFAULT_VHOST}
        resources = [f"queue:{VHOST_PREFIX}*"]
        if others:
            foreign = sorted((self._vhosts | set(self._exchanges)) - self._allowed[user])
            resources = [f"queue:{self._names.prefix(vhost)}*" for vhost in foreign]
            self._remarks.append(f"{place}: {user!r} is not kept out of queues of virtual hosts made later")
        actions = ["publish", "consume", "manage", *([] if user in self._sees_all else ["view"])]
        self._rules.add(f"rabbitmq.{user}.other-vhosts", "deny", subject, actions, resources)


def _named(row: Mapping[str, Any], key: str, place: str) -> str:
    return check_name(text_of(row, key, place), f"{place}.{key}")


def _tags(value: Any, place: str) -> set[str]:
    """Return the tags of a user: a list, or before 3.9 a text with commas."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise InvalidValue(f"{place}.tags: a list of texts is expected")
    return {tag.strip() for tag in value if tag.strip()}
