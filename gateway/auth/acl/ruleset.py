"""A set of rules, and what it decides: one deny outvotes any allow, silence is a no."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ...api import Action, Ruling
from .index import Index
from .pattern import Pattern, covers, matches, overlaps, resolve
from .rule import Rule
from .subject import Subject

#: Actions whose resource may be a filter: all it matches must be allowed, nothing of it denied.
FILTER_ACTIONS: Final = (Action.SUBSCRIBE, Action.MANAGE)
SUPERUSER: Final = "builtin.superuser"


class Step(NamedTuple):
    """What one rule said, for people: `reason` is why it does not apply, empty if it does."""

    rule: Rule
    reason: str

    @property
    def applies(self) -> bool:
        """Whether the rule had a say."""
        return not self.reason


class RuleSet:
    """Rules in order, indexed. Never changed: a change makes another."""

    __slots__ = ("_exact", "_lengths", "_order", "_prefixed", "rules")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        self._exact: dict[tuple[str, str], Index] = {}
        self._prefixed: dict[tuple[str, str], Index] = {}  # subjects that end with *
        for rule in self.rules:
            table, name = self._exact, rule.name
            if name.endswith("*"):
                table, name = self._prefixed, name[:-1]
            index = table.setdefault((rule.kind, name), Index())
            for pattern in rule.patterns:
                index.add(rule, pattern)
        self._lengths: dict[str, set[int]] = {}  # of prefixes: a name has few, whatever rules there are
        for kind, prefix in self._prefixed:
            self._lengths.setdefault(kind, set()).add(len(prefix))

    def decide(self, subject: Subject, action: Action, resource: str) -> Ruling | None:
        """Return the ruling, None if no rule says anything."""
        if subject.principal.admin:
            return Ruling(True, SUPERUSER)
        wanted = resource.split("/")
        filters = _is_filter(action, resource)
        allowed: Rule | None = None
        denied: Rule | None = None
        for index in self._indexes(subject):
            for rule, pattern in index.candidates(wanted, subject.values, filters):
                if action not in rule.actions or _excluded(rule, subject):
                    continue
                if not _reaches(rule, pattern, subject, wanted, filters):
                    continue
                if rule.allows:
                    allowed = self._first(allowed, rule)
                else:
                    denied = self._first(denied, rule)
        if denied is not None:
            return Ruling(False, denied.id)
        return Ruling(True, allowed.id) if allowed is not None else None

    def steps(self, subject: Subject, action: Action, resource: str) -> Iterator[Step]:
        """Yield what each rule says, one by one."""
        wanted = resource.split("/")
        filters = _is_filter(action, resource)
        for rule in self.rules:
            reason = "" if subject.is_called(rule.subject) else f"it is about {rule.subject}"
            if not reason and action not in rule.actions:
                reason = f"it is about {', '.join(sorted(a.value for a in rule.actions))}"
            reason = reason or _excluded(rule, subject)
            if not reason and not any(_reaches(rule, p, subject, wanted, filters) for p in rule.patterns):
                reason = "it is about other resources"
            yield Step(rule, reason)

    def welcomes(self, subject: Subject) -> bool:
        """Tell whether a rule lets clients without a login in, from there, at that door."""
        rules = (rule for rule in self.rules if rule.kind == "anonymous" and rule.allows)
        return any(not _excluded(rule, subject) for rule in rules)

    def _indexes(self, subject: Subject) -> Iterator[Index]:
        for identity in subject.identities:
            index = self._exact.get(identity)
            if index is not None:
                yield index
            kind, name = identity
            for length in self._lengths.get(kind, ()):
                index = self._prefixed.get((kind, name[:length]))
                if index is not None and len(name) >= length:
                    yield index

    def _first(self, found: Rule | None, rule: Rule) -> Rule:
        return rule if found is None or self._order[rule.id] < self._order[found.id] else found


def _is_filter(action: Action, resource: str) -> bool:
    return action in FILTER_ACTIONS and not resource.startswith(("$queue/", "$group/", "$admin/"))


def _reaches(rule: Rule, pattern: Pattern, subject: Subject, wanted: list[str], filters: bool) -> bool:
    resolved = resolve(pattern, subject.values, spread=not rule.allows)
    if resolved is None:
        return False
    if not filters:
        return matches(resolved, wanted)
    return covers(resolved, wanted) if rule.allows else overlaps(resolved, wanted)


def _excluded(rule: Rule, subject: Subject) -> str:
    """Return why a rule does not hold where somebody comes from, "" if it does."""
    if rule.doors and subject.door not in rule.doors:
        return f"it holds at the doors {', '.join(rule.doors)}"
    if rule.sources:
        address = subject.address
        if address is None or not any(address in network for network in rule.sources):
            return f"it holds for {', '.join(str(network) for network in rule.sources)}"
    elif rule.kind == "anonymous" and rule.allows and not subject.local:
        return "without `from` it lets anonymous clients of this machine in, no others"
    return ""
