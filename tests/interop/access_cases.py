"""What the access matrix asks: who, what, whether it may, and the rules that say so.

Each login is somebody of its own, with rules of its own for each action: one that allows `allow` and
`deny`, one that denies `deny` all the same. Nothing is said of `silence`, but to another user.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

ACTIONS = ("publish", "subscribe", "consume", "manage", "view", "administer")
CASES = ("allow", "deny", "silence")
#: What a real process carries today; doors for the others come later.
LOGINS = ("password", "scram", "token", "jwks", "key", "certificate", "anonymous", "signature")
SECONDS = 10
HOST = "127.0.0.1"
#: Where clients come from that must not get in: anonymous ones are welcome from HOST alone, and an
#: address that guesses too often is not heard any more.
STRANGE_HOSTS = "127.0.1.{}"
ANONYMOUS_ADMIN = "builtin.no-anonymous-admin"  # whatever rules say
AREAS = {"allow": "metrics", "deny": "overview", "silence": "users"}


class Login(NamedTuple):
    """Somebody, and what they show."""

    name: str
    username: str | None = None
    secret: str = ""  # a password, token or key
    basic: bool = False  # HTTP has it in Basic
    certificate: str = ""
    scram: bool = False
    host: str = HOST


class Answer(NamedTuple):
    """What a door said: its code, and the words with it."""

    code: object
    text: str = ""


class LoginRefused(Exception):
    """A door did not let somebody in."""

    def __init__(self, code: object, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Link(Protocol):
    """A client that is logged in; it has a method for each action that its door can express.

    Each takes the name of the login and the case, and returns an `Answer`.
    """

    def close(self) -> None:
        """Leave."""


def topic(login: str, action: str, case: str) -> str:
    """Return the topic that a case is about."""
    return f"m/{login}/{action}/{case}"


def queue(login: str, action: str, case: str) -> str:
    """Return the queue that a case is about."""
    return f"m-{login}-{action}-{case}"


def rules(login: str, subject: str, **more: Any) -> list[dict[str, Any]]:
    """Return the rules of a login."""
    made = []
    for action in ACTIONS:
        for decision, name, cases in (("allow", "may", ("allow", "deny")), ("deny", "not", ("deny",))):
            resources = [f"topic:{topic(login, action, case)}" for case in cases]
            resources += [f"queue:{queue(login, action, case)}*" for case in cases]
            if action == "administer":
                resources = [f"admin:{AREAS[case]}" for case in cases]
            actions = ["view" if action == "administer" else action]
            said = {"id": f"{name}-{action}-{login}", "decision": decision, "subject": subject}
            made.append({**said, "actions": actions, "resources": resources, **more})
    tool = {"id": f"tools-{login}", "subject": subject, "actions": ["manage"]}
    return [*made, {**tool, "resources": [f"queue:tool-{login}-*"], **more}]


def to_toml(fields: dict[str, Any]) -> str:
    """Return a table's lines."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def rules_file() -> str:
    """Return the file of rules: everybody's, and those of another user who may do all of it."""
    tables: list[dict[str, Any]] = []
    for login in LOGINS:
        if login == "anonymous":
            tables += rules(login, "anonymous", **{"from": [HOST]})
        else:
            tables += rules(login, "certificate:*" if login == "certificate" else f"user:{login}")
    another = {"id": "another", "subject": "user:another", "actions": ["all"]}
    tables.append({**another, "resources": ["topic:#", "queue:*", "admin:*"]})
    return "\n".join("[[rules]]\n" + to_toml(table) for table in tables)
