"""Fair use, as it is written: what each user or client of some subject may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..api import InvalidValue, Limits, Origin, Principal
from .acl.rule import subject_of
from .acl.subject import Subject

QUOTA_KEY: Final = "auth/quota/"
QUOTAS_MAX: Final = 10_000
SCOPES: Final = ("user", "client")
_LIMITS: Final = ("connections", "publish_rate", "publish_bytes", "queues", "retained", "subscriptions")


class Quota(msgspec.Struct, frozen=True):
    """Limits for every user, or every client, that the subject names; 0 is no limit."""

    id: str
    subject: str
    scope: str = "user"
    connections: int = 0
    publish_rate: float = 0.0
    publish_bytes: float = 0.0
    queues: int = 0
    retained: int = 0
    subscriptions: int = 0

    def limits(self) -> Limits:
        """Return the limits as the core counts them."""
        return Limits(
            self.id,
            self.scope,
            self.connections,
            self.publish_rate,
            self.publish_bytes,
            self.queues,
            self.retained,
            self.subscriptions,
        )


def quota_from(fields: Mapping[str, Any]) -> Quota:
    """Return the quota a mapping says. Raise InvalidValue."""
    try:
        quota = msgspec.convert(fields, Quota)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise InvalidValue(f"quota: {error}") from error
    unknown = [name for name in fields if name not in Quota.__struct_fields__]
    if unknown:
        raise InvalidValue(f"quota: unknown key {str(unknown[0])[:80]!r}")
    subject_of(quota.subject)
    if quota.scope not in SCOPES:
        raise InvalidValue(f"quota: scope: one of {', '.join(SCOPES)} is expected")
    for name in _LIMITS:
        if not 0 <= getattr(quota, name) < 1 << 60:
            raise InvalidValue(f"quota: {name}: a limit is not negative; 0 is none")
    return quota


class QuotaLimiter:
    """Says which quotas hold for somebody; implements `gateway.api.Limiter`."""

    def __init__(self) -> None:
        self._quotas: tuple[Quota, ...] = ()

    def set(self, quotas: Sequence[Quota]) -> None:
        """Take these instead of what there was."""
        self._quotas = tuple(quotas)

    def limits(self, principal: Principal, origin: Origin) -> Sequence[Limits]:
        """Return all that hold. Administrators have none: somebody must be able to put things right."""
        if not self._quotas or principal.admin:
            return ()
        subject = Subject(principal, origin)
        return [quota.limits() for quota in self._quotas if subject.is_called(quota.subject)]
