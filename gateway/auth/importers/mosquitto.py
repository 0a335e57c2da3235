"""Mosquitto's `password_file` and `acl_file`, as mosquitto.conf(5) and mosquitto_passwd(1) of 2.0 have them.

An access control file is read line by line: `user NAME` says for whom the `topic` lines below it
are, those before the first are for clients without a user name, and `pattern` lines are for all.
`read` is what a client may get, `write` what it may publish, `deny` wins over both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ...api import InvalidTopic, InvalidValue
from ...core.topic import check_filter
from ..hashes import known
from .imported import Imported, Rules, check_name, decoded, make_user, means_more

_BLANKS: Final = " \t\n\v\f\r"  # what C's isspace() says

#: Access word -> (decision, actions)
_ACCESS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "read": ("allow", ("subscribe",)),
    "write": ("allow", ("publish",)),
    "readwrite": ("allow", ("publish", "subscribe")),
    "deny": ("deny", ("publish", "subscribe")),
}
_PLACEHOLDERS: Final = {"%c": "${clientid}", "%u": "${username}"}

#: Whether a line allows -> what becomes of it if only a wider rule could be made of it.
_WIDER: Final = {True: "left out", False: "the rule denies more"}


class _Line(NamedTuple):
    """A `topic` or `pattern` line. `user` is "" for clients without a user name."""

    number: int
    pattern: bool
    user: str
    decision: str
    actions: tuple[str, ...]
    topic: str


def read(passwords: bytes | str | None = None, acl: bytes | str | None = None) -> Imported:
    """Take over a password file, an access control file, or both.

    Raise InvalidValue with the line that is malformed.
    """
    remarks: list[str] = []
    users = _read_passwords(decoded(passwords, "password file"), remarks) if passwords is not None else []
    rules = Rules()
    lines = _parse_acl(decoded(acl, "acl file")) if acl is not None else []
    if not lines:
        remarks.append(
            "no acl_file, or one without rules: mosquitto may allow everything then; here it is nothing"
        )
    for line in lines:
        _take(line, rules, remarks)
    return Imported([make_user(name, password=stored) for name, stored in users], rules.all, remarks)


# -- passwords ------------------------------------------------------------------------------------


def _read_passwords(text: str, remarks: list[str]) -> list[tuple[str, str]]:
    users: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        place = f"password file, line {number}"
        if line.startswith("#") or not line.strip(_BLANKS):
            continue
        name, colon, rest = line.partition(":")
        name, stored = name.strip(_BLANKS), rest.partition(":")[0].strip(_BLANKS)
        if not colon:
            remarks.append(f"{place}: no colon; mosquitto passes over it, too")
            continue
        check_name(name, place)
        if name in users:
            raise InvalidValue(f"{place}: user {name!r} is there twice")
        if known(stored):
            users[name] = stored
        else:
            remarks.append(
                f"{place}: user {name!r} has no hash of mosquitto_passwd's and cannot log in there; "
                "left out (mosquitto_passwd -U hashes a file of readable passwords)"
            )
    return list(users.items())


# -- access -----------------------------------------------------------------------------------------


def _parse_acl(text: str) -> list[_Line]:
    """Return its lines. Raise InvalidValue where mosquitto would not start."""
    found: list[_Line] = []
    user = ""
    for number, line in enumerate(text.split("\n"), 1):
        place = f"acl file, line {number}"
        words = line.rstrip("\r").lstrip(" ")
        if line.startswith("#") or not words:
            continue
        keyword, _, rest = words.partition(" ")
        rest = rest.strip(_BLANKS)
        if keyword == "user":
            user = check_name(rest, place)
        elif keyword in ("topic", "pattern"):
            decision, actions, topic = _access(rest, place)
            found.append(_Line(number, keyword == "pattern", user, decision, actions, topic))
        else:
            raise InvalidValue(f"{place}: {keyword[:80]!r} is none of user, topic, pattern")
    return found


def _access(rest: str, place: str) -> tuple[str, tuple[str, ...], str]:
    word, space, topic = rest.partition(" ")
    if not space:  # a topic alone: without an access word, it must not contain a space
        word, topic = "readwrite", word
    if word not in _ACCESS:
        raise InvalidValue(f"{place}: {word[:80]!r} is none of {', '.join(_ACCESS)}")
    topic = topic.strip(_BLANKS)
    try:
        check_filter(topic)
    except InvalidTopic as error:
        raise InvalidValue(f"{place}: {error.detail[:300]}") from error
    return *_ACCESS[word], topic


def _take(line: _Line, rules: Rules, remarks: list[str]) -> None:
    place = f"acl file, line {line.number}"
    if line.topic.startswith("$"):
        remarks.append(f"{place}: {line.topic!r}: what begins with $ is a broker's own; ours are below $sys/")
        return
    subject, topic = _subject(line), _translate(line)
    allow = line.decision == "allow"
    # What is denied may be too much, what is allowed must not be.
    if subject.endswith("*") and not line.pattern:
        remarks.append(f"{place}: {subject} is every user of that prefix; " + _WIDER[allow])
    if topic is None:
        remarks.append(f"{place}: {line.topic!r} would mean other topics here; " + _WIDER[allow])
    if allow and (topic is None or (subject.endswith("*") and not line.pattern)):
        return
    if line.pattern and not allow:
        remarks.append(f"{place}: a denied pattern wins here also over what a user's own topic lines allow")
    topic = topic or _wider(line.topic)
    rules.add(f"mosquitto.acl.{line.number}", line.decision, subject, line.actions, [f"topic:{topic}"])


def _subject(line: _Line) -> str:
    """Return whom a line is about."""
    if line.pattern:
        # Mosquitto passes over a pattern with %u for clients that have no user name.
        return "user:*" if "%u" in line.topic else "everyone"
    return f"user:{line.user}" if line.user else "anonymous"


def _translate(line: _Line) -> str | None:
    """Return the filter; None if none of ours matches just what mosquitto's does."""
    if means_more(line.topic):
        return None
    if not line.pattern:
        return line.topic
    levels = [_PLACEHOLDERS.get(level, level) for level in line.topic.split("/")]
    # Beside other text the manual forbids a placeholder; the program takes it.
    return None if any(name in level for level in levels for name in _PLACEHOLDERS) else "/".join(levels)


def _wider(topic: str) -> str:
    """Return a filter that matches all that mosquitto's does, and more."""
    odd = ("%c", "%u", "${")
    return "/".join(
        "+" if level.endswith("*") or any(name in level for name in odd) else level
        for level in topic.split("/")
    )
