"""What rules say, read from their documentation the simple way, and strategies that write them."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from gateway.auth.acl.subject import Subject
from gateway.core.access import Action, Certificate, Principal
from gateway.core.message import Origin

Who = tuple[Principal, Origin]


# -- the model -------------------------------------------------------------------------------------


def levels_of(pattern: str, values: dict[str, str], allows: bool) -> list[str] | None:
    """Return levels: `+`, `#`, `*prefix` or `=literal`; None if a placeholder has no value."""
    found: list[str] = []
    for part in pattern.split("/"):
        if "${" not in part:
            wild = part in ("+", "#")
            found.append(part if wild else f"*{part[:-1]}" if part.endswith("*") else f"={part}")
            continue
        if any(not values[name] for name in re.findall(r"\$\{(.*?)\}", part)):
            return None
        filled = re.sub(r"\$\{(.*?)\}", lambda name: values[name[1]], part)
        if allows and "/" in filled:
            return None
        found += [f"={piece}" for piece in filled.split("/")]
    return found


def fits(pattern: list[str], names: list[str]) -> bool:
    """Tell whether levels match a name's, level by level."""
    if pattern == ["#"] or not pattern:
        return bool(pattern) or not names
    if not names:
        return False
    first, rest = pattern[0], pattern[1:]
    if first.startswith("*"):
        return names[0].startswith(first[1:]) and (not rest or fits(rest, names[1:]))
    return first in ("+", "=" + names[0]) and fits(rest, names[1:])


def reaches(pattern: list[str], names: list[str]) -> bool:
    """The same, but what begins with `$` is not reached by a wildcard [MQTT-4.7.2-1]."""
    hidden = names[0].startswith("$") and pattern[0] in ("+", "#", "*")
    return not hidden and fits(pattern, names)


def concerns(resource: str, name: str, values: dict[str, str], allows: bool) -> bool:
    """Tell whether `topic:...`, `queue:...` covers a topic, `$queue/NAME`, `$group/QUEUE/GROUP`."""
    kind, _, pattern = resource.partition(":")
    levels = levels_of(pattern, values, allows)
    return levels is not None and touches(kind, levels, name.split("/"))


def touches(kind: str, levels: list[str], names: list[str]) -> bool:
    if kind == "topic":
        return reaches(levels, names)
    if kind == "queue" and names[0] == "$group":  # a queue's groups come with it
        return len(names) > 2 and reaches(levels, names[1:-1])
    return names[0] == f"${kind}" and (fits if kind == "admin" else reaches)(levels, names[1:])


def names_of(who: Who) -> dict[str, list[str]]:
    principal, origin = who
    certificate = principal.certificate
    return {
        "user": [] if principal.anonymous else [principal.name],
        "group": sorted(principal.groups),
        "client": [origin.client_id] if origin.client_id else [],
        "certificate": [certificate.subject] if certificate else [],
    }


def is_meant(subject: str, who: Who) -> bool:
    kind, _, name = subject.partition(":")
    if not name:
        general = {"everyone": True, "anonymous": who[0].anonymous, "authenticated": not who[0].anonymous}
        return general[kind]
    has = names_of(who)[kind]
    return any(known.startswith(name[:-1]) if name.endswith("*") else known == name for known in has)


def from_there(rule: dict[str, Any], who: Who) -> bool:
    if rule["doors"] and who[1].protocol not in rule["doors"]:
        return False
    text = who[1].peer
    host = "127.0.0.1" if text == "unix" else text.rpartition(":")[0].strip("[]")
    address: Any = ipaddress.ip_address(host.replace("::ffff:", "") if "." in host else host)
    if rule["from"]:
        networks = [ipaddress.ip_network(range_, strict=False) for range_ in rule["from"]]
        return any(address.version == n.version and address in n for n in networks)
    return bool(rule["subject"] != "anonymous" or rule["decision"] == "deny" or address.is_loopback)


def model(rules: list[dict[str, Any]], who: Who, action: str, name: str) -> tuple[str, str] | None:
    """Return (decision, id of the first rule that says so): any denial outvotes, None is silence."""
    values = Subject(*who).values
    said = [
        (rule["decision"], rule["id"])
        for rule in meant(rules, who, action)
        if any(concerns(r, name, values, rule["decision"] == "allow") for r in rule["resources"])
    ]
    denied = [found for found in said if found[0] == "deny"]
    return (denied or said or [None])[0]


def meant(rules: list[dict[str, Any]], who: Who, action: str) -> list[dict[str, Any]]:
    """Return the rules that are about somebody who comes from there and does such a thing."""
    mine = [rule for rule in rules if action in rule["actions"] and is_meant(rule["subject"], who)]
    return [rule for rule in mine if from_there(rule, who)]


# -- who asks for what -----------------------------------------------------------------------------

ALPHABET = ("a", "ab", "z", "$s", "")
TOPICS = [
    "/".join(levels)
    for depth in range(1, 5)
    for levels in itertools.product(ALPHABET, repeat=depth)
    if levels != ("",)
]
CLIENT_IDS = ("", "a", "ab", "a/z", "+", "#", "$s", "${username}", "a+", "zz")
USERS = ("ann", "a", "+", "bob")
PLACEHOLDERS = ("${clientid}", "${username}", "${cert.cn}", "x${clientid}", "${cert.subject}")
LITERALS = st.sampled_from(ALPHABET)
RANGES = ("10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0", "::/0", "192.0.2.7/31")
PEERS = (
    "10.1.2.3:9",
    "127.0.0.1:1",
    "127.9.9.9:1",
    "[::1]:5",
    "[2001:db8::7]:1",
    "[::ffff:10.0.0.1]:2",
    "[::ffff:127.0.0.1]:2",
    "192.0.2.6:1",
    "192.0.2.8:1",
    "unix",
)
SUBJECTS = (
    *("user:ann", "user:a*", "user:*", "group:g", "group:h*", "client:a", "client:a*", "client:*"),
    *("certificate:CN=a,O=x", "certificate:CN=*", "anonymous", "authenticated", "everyone", "everyone"),
)


@st.composite
def people(draw: st.DrawFn) -> Who:
    anonymous = draw(st.booleans())
    name = "" if anonymous else draw(st.sampled_from(USERS))
    groups = draw(st.frozensets(st.sampled_from(("g", "h", "h2")), max_size=2))
    certificate = draw(st.sampled_from((None, Certificate("CN=a,O=x", "a"), Certificate("CN=z", "z/a"))))
    origin = Origin(
        draw(st.sampled_from(("mqtt", "amqp"))),
        name,
        draw(st.sampled_from(CLIENT_IDS)),
        draw(st.sampled_from(PEERS)),
    )
    return Principal(name, False, anonymous, groups, certificate=certificate), origin


@st.composite
def patterns(draw: st.DrawFn, plain: bool = False) -> str:
    """Up to three levels, at most one of them a placeholder."""
    wild = st.sampled_from(("+",) if plain else ("+", "+", "a*", "*"))
    levels = draw(st.lists(st.one_of(LITERALS, LITERALS, wild), min_size=1, max_size=3))
    if not plain and draw(st.integers(0, 3)) == 0:
        levels[draw(st.integers(0, len(levels) - 1))] = draw(st.sampled_from(PLACEHOLDERS))
    if draw(st.integers(0, 3)) == 0:
        levels = [*levels[: draw(st.integers(0, 2))], "#"]
    text = "/".join(levels)
    return text or "a"


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LITERALS, st.just("+")), min_size=1, max_size=3))
    if draw(st.booleans()):
        levels = [*levels[:2], "#"]
    return "/".join(levels) or "+"


@st.composite
def rules(draw: st.DrawFn, kinds: tuple[str, ...] = ("topic",), size: int = 5) -> list[dict[str, Any]]:
    """A set of rules as they are written; those of everyone are frequent, so that they meet."""
    return [
        {
            "id": f"r{number}",
            "decision": draw(st.sampled_from(("allow", "allow", "deny"))),
            "subject": draw(st.sampled_from(SUBJECTS)),
            "actions": sorted(draw(st.sets(st.sampled_from([a.value for a in Action]), min_size=2))),
            "resources": [
                f"{draw(st.sampled_from(kinds))}:{draw(patterns())}" for _ in range(draw(st.integers(1, 3)))
            ],
            "from": draw(st.lists(st.sampled_from(RANGES), max_size=2)) if draw(st.booleans()) else [],
            "doors": draw(st.sampled_from(([], [], ["mqtt"], ["amqp", "http"]))),
        }
        for number in range(draw(st.integers(1, size)))
    ]


@st.composite
def names(draw: st.DrawFn) -> str:
    """A queue, a stream's group, an admin area, or a topic; a queue may be called `#`."""
    levels = st.lists(st.sampled_from((*ALPHABET, "+", "#")), min_size=1, max_size=3)
    kind = draw(st.sampled_from(("topic", "queue", "queue", "group", "group", "admin")))
    if kind == "topic":
        return draw(st.sampled_from(TOPICS))
    name = "/".join(draw(levels))
    group = draw(st.sampled_from(("g", "a", "z")))
    return f"$group/{name}/{group}" if kind == "group" else f"${kind}/{name}"


def matched_by(topic_filter: str) -> Iterator[str]:
    """Yield the topics over the alphabet that a filter matches."""
    levels = levels_of(topic_filter, {}, True)
    assert levels is not None
    return (topic for topic in TOPICS if reaches(levels, topic.split("/")))
