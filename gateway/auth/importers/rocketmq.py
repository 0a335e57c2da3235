"""RocketMQ's access control: `plain_acl.yml` of 4.x, and users and rights of 5.3 as JSON.

In `plain_acl.yml` an account has rights on topics (`PUB`, `SUB`) and consumer groups (`SUB`): those it
names, and a default for all others. To consume, it needs both. A topic is a topic of that name here
(RocketMQ's have one level), a group is a group of the stream of that name. The code that is followed
is the broker's `PlainPermissionManager`; there, `ANY` and what it does not know are a refusal.

White lists let clients in *without* a signature at RocketMQ. That is not taken over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...api import InvalidValue
from . import rocketmq_acl2
from .addresses import networks
from .imported import Imported, Rules, check_name, decoded, make_user, mapping, parse_json, rows, text_of
from .imported import user_subject as subject_of

YAML_BYTES_MAX: Final = 1 << 20  # some 4,000 accounts; PyYAML takes 4 s for it
YAML_DEPTH_MAX: Final = 10  # the file has 4 levels
PAIRS_MAX: Final = 10_000  # topics times groups of one account

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "yes", "on"})
_FALSE: Final = frozenset({"false", "no", "off", *(null.lower() for null in _NULL)})
_RETRY: Final = "%RETRY%"  # begins the topic that stands for a group
_NAME: Final = re.compile(r"[%|a-zA-Z0-9_-]{1,255}")  # what a topic or group may be called there

PUB, SUB = "PUB", "SUB"
_PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    "DENY": frozenset(),
    "ANY": frozenset(),
    "PUB": frozenset({PUB}),
    "SUB": frozenset({SUB}),
    "PUB|SUB": frozenset({PUB, SUB}),
    "SUB|PUB": frozenset({PUB, SUB}),
}
_ACCOUNT: Final = frozenset(
    {"accessKey", "secretKey", "whiteRemoteAddress", "admin", "defaultTopicPerm", "defaultGroupPerm",
     "topicPerms", "groupPerms"}
)  # fmt: skip


def read(data: bytes | str) -> Imported:
    """Take over a `plain_acl.yml`, or JSON with `users` and `acls`.

    Raise InvalidValue with the line, account or entry that is malformed.
    """
    text = decoded(data, "acl")
    if text.lstrip().startswith("{"):
        document = mapping(parse_json(text, "acl"), "acl")
        if "users" in document or "acls" in document:
            return rocketmq_acl2.read(document)
    else:
        document = mapping(_parse_yaml(text), "plain_acl.yml")
    return _plain(document)


def _parse_yaml(text: str) -> Any:
    """Return what a YAML text says, every scalar as the text that it is.

    So a key of digits keeps its zeros, as it does in RocketMQ, which wants texts there.
    """
    import yaml

    if len(text) > YAML_BYTES_MAX:
        raise InvalidValue(f"plain_acl.yml: longer than {YAML_BYTES_MAX} characters")
    depth = 0
    try:
        # By events first: composing is recursive, and an alias can stand for a billion nodes.
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            line = _line(event.start_mark)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise InvalidValue(f"plain_acl.yml, line {line}: anchors and aliases are not taken")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH_MAX:
                raise InvalidValue(f"plain_acl.yml, line {line}: nested more than {YAML_DEPTH_MAX} deep")
        return yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and mappings, nothing else
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: of "\U99999999"
        where = _line(getattr(error, "problem_mark", None))
        raise InvalidValue(f"plain_acl.yml, line {where}: {str(error)[:300]!r}") from error


def _line(mark: Any) -> int:
    """Return the number of the line that a mark of PyYAML's is in; of none, the first."""
    return mark.line + 1 if mark is not None else 1


# -- plain_acl.yml --------------------------------------------------------------------------------------


def _plain(document: Mapping[str, Any]) -> Imported:
    remarks = [
        f"{place}: not taken over: clients from {repr(row)[:100]} need no signature at RocketMQ; here all do"
        for place, row in rows(document, "globalWhiteRemoteAddresses")
    ]
    for key in sorted(document.keys() - {"globalWhiteRemoteAddresses", "accounts", "dataVersion"}):
        remarks.append(f"{key[:80]!r}: not known, left out")
    users: list[dict[str, Any]] = []
    rules = Rules()
    seen: set[str] = set()
    for place, row in rows(document, "accounts"):
        account = _account(mapping(row, place), place, remarks)
        if account.name in seen:
            raise InvalidValue(f"{place}: account {account.name!r} is there twice")
        seen.add(account.name)
        users.append(make_user(account.name, account.admin and not account.named, plain=account.secret))
        _grant(account, rules, remarks)
    return Imported(users, rules.all, remarks)


class _Account(NamedTuple):
    """An account. `topics` and `groups` are those that it names."""

    place: str
    name: str
    secret: str
    admin: bool
    sources: list[str]
    topic_default: frozenset[str]
    group_default: frozenset[str]
    topics: dict[str, frozenset[str]]
    groups: dict[str, frozenset[str]]

    @property
    def named(self) -> bool:
        """Whether it names any topic or group: then RocketMQ asks its permissions also of an admin."""
        return bool(self.topics or self.groups)


def _account(row: Mapping[str, Any], place: str, remarks: list[str]) -> _Account:
    for key in sorted(row.keys() - _ACCOUNT):
        remarks.append(f"{place}.{key[:80]!r}: not known, left out")
    name = check_name(text_of(row, "accessKey", place), f"{place}.accessKey")
    secret = check_name(text_of(row, "secretKey", place), f"{place}.secretKey")
    admin = _scalar(row, "admin", place).lower()
    if admin not in _TRUE | _FALSE:
        raise InvalidValue(f"{place}.admin: true or false is expected")
    white = _scalar(row, "whiteRemoteAddress", place)
    sources = networks(white, f"{place}.whiteRemoteAddress") if white else []
    if white:
        remarks.append(
            f"{place}.whiteRemoteAddress: from {white[:100]} RocketMQ asks {name!r} for no signature and no "
            "permission; here it logs in like anybody"
            + (", and its rules are for these addresses only" if sources else "")
        )
    topics, groups = (_named(row, key, place, remarks) for key in ("topicPerms", "groupPerms"))
    for topic in [topic for topic in topics if topic.startswith(_RETRY)]:
        groups[topic.removeprefix(_RETRY)] = topics.pop(topic)
    by_topic, by_group = (
        _permission(_scalar(row, key, place) or "DENY", f"{place}.{key}", remarks)
        for key in ("defaultTopicPerm", "defaultGroupPerm")
    )
    return _Account(place, name, secret, admin in _TRUE, sources, by_topic, by_group, topics, groups)


def _scalar(row: Mapping[str, Any], key: str, place: str) -> str:
    """Return a text, "" for null. Raise InvalidValue for a list or mapping."""
    value = row.get(key, "")
    if isinstance(value, bool):  # of a file that is JSON
        value = str(value)
    value = text_of({key: value}, key, place, "").strip()
    return "" if value in _NULL else value


def _named(row: Mapping[str, Any], key: str, place: str, remarks: list[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    value = row.get(key)
    for where, entry in rows({key: "" if value in ("~", "null") else value}, key, place):
        parts = [part.strip() for part in entry.split("=")] if isinstance(entry, str) else []
        if len(parts) != 2 or not _NAME.fullmatch(parts[0]):
            raise InvalidValue(f"{where}: {repr(entry)[:100]} is not name=permission")
        found[parts[0]] = _permission(parts[1], where, remarks)
    return found


def _permission(text: str, place: str, remarks: list[str]) -> frozenset[str]:
    if text not in _PERMISSIONS:
        raise InvalidValue(f"{place}: {text[:80]!r} is none of {', '.join(_PERMISSIONS)}")
    if text == "ANY":
        remarks.append(f"{place}: ANY allows nothing in RocketMQ's broker, whatever its manual says")
    return _PERMISSIONS[text]


def _grant(account: _Account, rules: Rules, remarks: list[str]) -> None:
    """Make the rules of an account."""
    subject = subject_of(account.name)
    if subject is None:
        remarks.append(f"{account.place}: {account.name!r} would be every user of that prefix; no rules")
        return
    base = f"rocketmq.{account.name}"
    for permission, action in ((PUB, "publish"), (SUB, "subscribe")):
        everything = permission in account.topic_default
        # One level: what RocketMQ calls a topic has no more.
        allowed = [f"topic:{name}" for name, given in account.topics.items() if permission in given]
        allowed = ["topic:+"] if everything else allowed
        denied = [f"topic:{name}" for name, given in account.topics.items() if permission not in given]
        rules.add(f"{base}.{action}", "allow", subject, [action], allowed, account.sources)
        rules.add(f"{base}.{action}.not", "deny", subject, [action], denied if everything else [])
    allowed, denied = _pairs(account, remarks)
    rules.add(f"{base}.consume", "allow", subject, ["consume"], allowed, account.sources)
    rules.add(f"{base}.consume.not", "deny", subject, ["consume"], denied)
    if account.admin and account.named:
        rules.add(f"{base}.manage", "allow", subject, ["manage"], ["queue:*", "group:*"], account.sources)
        remarks.append(
            f"{account.place}: an admin that RocketMQ asks for permissions all the same: may manage "
            "queues and groups, and is no administrator"
        )
    elif account.admin and account.sources:
        remarks.append(f"{account.place}: an administrator is one from every address")


def _pairs(account: _Account, remarks: list[str]) -> tuple[list[str], list[str]]:
    """Return the groups of streams that an account may consume as, and those of them that it must not."""
    topics = [name for name, given in account.topics.items() if SUB in given]
    groups = [name for name, given in account.groups.items() if SUB in given]
    not_topics = [name for name, given in account.topics.items() if SUB not in given]
    not_groups = [name for name, given in account.groups.items() if SUB not in given]
    any_topic, any_group = SUB in account.topic_default, SUB in account.group_default
    if len(topics) * max(len(groups), len(not_groups)) > PAIRS_MAX:
        remarks.append(
            f"{account.place}: more than {PAIRS_MAX} pairs of topic and group: no rules to consume"
        )
        return [], []
    if any_group and any_topic and not not_groups:
        return ["group:*"], [f"group:{topic}/*" for topic in not_topics]
    if any_topic and (any_group or groups):
        some = "all groups but some" if any_group else "some groups"
        remarks.append(f"{account.place}: {some}, for topics that are not named, cannot be said: left out")
    if any_group:
        denied = [f"group:{topic}/{group}" for topic in topics for group in not_groups]
        return [f"group:{topic}/*" for topic in topics], denied
    return [f"group:{topic}/{group}" for topic in topics for group in groups], []
