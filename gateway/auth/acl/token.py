"""Rules that a token brings for its bearer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from ...api import InvalidValue, Principal
from .rule import rule_from
from .ruleset import RuleSet

CACHED_MAX: Final = 4096  # different lists of rules: tokens of one kind have the same


def rules_of(principal: Principal) -> RuleSet | None:
    """Return the rules in a principal's claims, None if there are none."""
    claims = principal.claims
    if not isinstance(claims, dict) or not claims.get("rules"):
        return None
    return _rules(msgspec.json.encode(claims["rules"]))


@lru_cache(CACHED_MAX)
def _rules(encoded: bytes) -> RuleSet:
    found: list[Any] = msgspec.json.decode(encoded)
    return RuleSet(rule_from(fields, subject="everyone") for fields in found)


def check_rules(rules: object) -> None:
    """Raise InvalidValue for a token whose rules make no sense: its bearer is not let in."""
    if not isinstance(rules, list):
        raise InvalidValue("the rules of a token are a list")
    for fields in rules:
        rule_from(fields, subject="everyone")
