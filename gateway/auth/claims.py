"""What a verified token says, checked (RFC 7519, section 4): when, from whom, for whom, about whom.

Strict where the standard leaves a choice: times are numbers, an issuer that is expected must be
there, and so must an expiry unless the configuration says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

from ..api import AuthenticationFailed
from .names import checked_name

GROUPS_MAX = 200  # an identity provider that sends more sends links to them instead
LEEWAY_SECONDS_MAX = 600.0  # clocks that differ by more need a time server, not leeway
EXPIRY_MAX = 253_402_300_800.0  # Unix time of the year 10000: what is later is a mistake of units

Claims = dict[str, Any]


def check_times(claims: Claims, now: float, leeway_seconds: float, require_expiry: bool) -> float:
    """Return the expiry in Unix seconds, 0 if there is none. Raise AuthenticationFailed."""
    expiry = _time(claims, "exp")
    if expiry is None:
        if require_expiry:
            raise AuthenticationFailed("the token has no expiry (exp)")
        expiry = 0.0
    elif expiry + leeway_seconds <= now:  # [4.1.4]: on or after
        raise AuthenticationFailed("the token has expired")
    for claim in ("nbf", "iat"):
        begins = _time(claims, claim)
        if begins is not None and begins - leeway_seconds > now:
            raise AuthenticationFailed(f"the token is not valid yet ({claim}); compare the clocks")
    return expiry


def _time(claims: Claims, claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= EXPIRY_MAX:
        raise AuthenticationFailed(f"the token's {claim} is no time in seconds")
    return float(value)


def check_parties(claims: Claims, issuer: str, audience: str) -> None:
    """Check who made the token and for whom; "" expects nobody. Raise AuthenticationFailed."""
    if issuer and claims.get("iss") != issuer:
        raise AuthenticationFailed("the token is of another issuer (iss)")
    meant = claims.get("aud")
    if audience:
        if meant != audience and not (isinstance(meant, list) and audience in meant):
            raise AuthenticationFailed("the token is for another audience (aud)")
    elif meant is not None and meant != []:
        # [4.1.3]: who does not find itself in it must refuse.
        raise AuthenticationFailed("the token is for an audience (aud), and none is configured here")


def name_of(claims: Claims, claim: str) -> str:
    """Return the bearer's name. Raise AuthenticationFailed if there is none."""
    return checked_name(claims.get(claim, ""), f"the token's {claim}")


def groups_of(claims: Claims, claim: str) -> frozenset[str]:
    """Return the groups: a list, or one text with spaces between them. Raise AuthenticationFailed."""
    value = claims.get(claim) if claim else None
    if value is None:
        return frozenset()
    groups = value.split(" ") if isinstance(value, str) else value
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise AuthenticationFailed(f"the token's {claim} are no list of groups")
    if len(groups) > GROUPS_MAX:
        raise AuthenticationFailed(f"the token's {claim} are more than {GROUPS_MAX}")
    return frozenset(group for group in groups if group)


def is_admin(claims: Claims, groups: frozenset[str], claim: str, group: str) -> bool:
    """Tell whether the token makes an administrator: only what is configured can."""
    return (bool(claim) and claims.get(claim) is True) or (bool(group) and group in groups)


def leeway_fault(leeway_seconds: float) -> str:
    """Return what is wrong with a leeway, "" if nothing is."""
    if math.isfinite(leeway_seconds) and 0 <= leeway_seconds <= LEEWAY_SECONDS_MAX:
        return ""
    return f"leeway_seconds: {leeway_seconds} is not from 0 to {LEEWAY_SECONDS_MAX:.0f}"
