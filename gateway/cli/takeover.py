"""`gateway acl import`: users and rules of other brokers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..api import InvalidValue
from .client import Client, Refused
from .show import asking

if TYPE_CHECKING:
    from ..auth.importers.imported import Imported

USERS_PER_REQUEST: Final = 50  # readable passwords take 0.3 s each to be hashed, for all ways to log in
REQUEST_SECONDS_MAX: Final = 120.0
RULES_PER_REQUEST: Final = 10_000
TAKEN: Final = ("name", "admin", "groups", "disabled")
SOURCES: Final = ("mosquitto", "rocketmq", "rabbitmq")


def take_over(
    url: str,
    user: str | None,
    source: str,
    path: Path | None,
    passwords: Path | None,
    acl: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Read, then add to a running gateway, or write a file of rules."""

    def ask(client: Client) -> int:
        try:
            found = _read(source, path, passwords, acl)
        except InvalidValue as error:
            raise Refused(error.detail) from error
        for remark in found.remarks:
            print(f"left out: {remark}", file=sys.stderr)
        if output is not None:
            _write(output, found.rules)
            print(
                f"wrote {len(found.rules)} rules to {output}; users are taken over by a running gateway only"
            )
            return 0
        return _add(client, found, as_json)

    return asking(url, user, ask)


def _read(source: str, path: Path | None, passwords: Path | None, acl: Path | None) -> Imported:
    from ..auth.importers import mosquitto, rabbitmq, rocketmq
    from ..auth.importers.spaces import Names
    from ..protocols.amqp import names

    if source == "mosquitto":
        if passwords is None and acl is None:
            raise Refused("name mosquitto's files with --passwords and --acl")
        return mosquitto.read(_bytes(passwords), _bytes(acl))
    if source not in SOURCES:
        raise Refused(f"--from {source!r}: one of {', '.join(SOURCES)} is expected")
    data = _bytes(path)
    if data is None:
        raise Refused(f"name the file of {source}")
    if source == "rocketmq":
        return rocketmq.read(data)
    return rabbitmq.read(data, Names(names.queue_to_core, names.to_topic, names.vhost_prefix))


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _add(client: Client, found: Imported, as_json: bool) -> int:
    users = [_user(user) for user in found.users]
    for start in range(0, len(users), USERS_PER_REQUEST):
        some_users = {"users": users[start : start + USERS_PER_REQUEST]}
        client.request("POST", "/v1/admin/users", json=some_users, timeout=REQUEST_SECONDS_MAX)
    for start in range(0, len(found.rules), RULES_PER_REQUEST):
        some = found.rules[start : start + RULES_PER_REQUEST]
        client.request("POST", "/v1/admin/rules", json={"rules": some})
    answer = {"users": len(users), "rules": len(found.rules), "left_out": found.remarks}
    text = f"{len(users)} users and {len(found.rules)} rules are taken over"
    print(json.dumps(answer) if as_json else text)
    return 0


def _user(user: dict[str, Any]) -> dict[str, Any]:
    """Return a user as the gateway takes it."""
    fields: dict[str, Any] = {key: user[key] for key in TAKEN if key in user}
    if user.get("plain"):  # RocketMQ's clients sign with it, and may log in with it at other doors
        return {**fields, "password": user["plain"], "secret": user["plain"]}
    return {**fields, "password_hash": user["password"]} if user.get("password") else fields


def _write(path: Path, rules: list[dict[str, Any]]) -> None:
    """Write a file of rules, which is not overwritten. Raise Refused."""
    lines: list[str] = []
    for rule in rules:
        lines.append("[[rules]]")
        # What JSON writes of strings and lists of them is TOML, too.
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in rule.items()]
        lines.append("")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
