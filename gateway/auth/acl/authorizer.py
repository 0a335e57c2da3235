"""The authorizer that goes by the rules, and the candidate that runs beside them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ...api import Action, Origin, Principal, Ruling
from .rule import Rule
from .ruleset import RuleSet
from .subject import Subject
from .token import rules_of

DIFFERENCES_MAX: Final = 10_000  # that a candidate's run remembers, the newest: about 1 KB each
SILENT: Final = Ruling(False)


class Acl:
    """Decides by the rules in force; notes what a candidate would decide otherwise."""

    def __init__(self) -> None:
        self.rules = RuleSet()
        self.shadow: Shadow | None = None

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        """Decide."""
        subject = Subject(principal, origin)
        ruling = self.rules.decide(subject, action, resource)
        if self.shadow is not None:
            self.shadow.compare(subject, origin, action, resource, ruling or SILENT)
        own = rules_of(principal)
        if own is None or (ruling is not None and not ruling.allowed):
            return ruling
        said = own.decide(subject, action, resource)
        return said if said is not None and (ruling is None or not said.allowed) else ruling

    @contextmanager
    def unobserved(self) -> Iterator[None]:
        """Have what is asked now not compared with a candidate: it is no real operation."""
        shadow, self.shadow = self.shadow, None
        try:
            yield
        finally:
            self.shadow = shadow

    def welcomes(self, origin: Origin) -> bool:
        """Tell whether clients without a login are let in from there."""
        return self.rules.welcomes(Subject(Principal("", anonymous=True), origin))


class Shadow:
    """A candidate set of rules, and the real operations that it would decide otherwise."""

    def __init__(self, rules: Iterable[Rule], started_ms: int) -> None:
        self.rules = RuleSet(rules)
        self.started_ms = started_ms
        self.compared = 0
        self._found: OrderedDict[tuple[str, str, str, str, str], dict[str, Any]] = OrderedDict()

    def compare(self, subject: Subject, origin: Origin, action: Action, resource: str, live: Ruling) -> None:
        """Note an operation, if the candidate says otherwise."""
        self.compared += 1
        candidate = self.rules.decide(subject, action, resource) or SILENT
        if candidate.allowed == live.allowed:
            return
        name = subject.principal.name
        key = (origin.protocol, name, origin.client_id, action.value, resource)
        found = self._found.pop(key, None)
        if found is None:
            found = {
                "user": name,
                "client_id": origin.client_id,
                "door": origin.protocol,
                "action": action.value,
                "resource": resource,
                "count": 0,
            }
        found["count"] += 1
        found["live"] = {"allowed": live.allowed, "rule": live.rule}
        found["candidate"] = {"allowed": candidate.allowed, "rule": candidate.rule}
        self._found[key] = found
        if len(self._found) > DIFFERENCES_MAX:
            self._found.popitem(last=False)

    def differences(self) -> list[dict[str, Any]]:
        """Return what would change, the latest last."""
        return list(self._found.values())
