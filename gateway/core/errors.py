"""What can go wrong by somebody else's doing.

One hierarchy. Each protocol translates these classes into its own codes in one table;
any other exception that escapes a connection is our bug and is logged with its traceback.
`detail` is one sentence for the peer: what was refused, and what to do about it.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Something a peer asked for was refused."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AuthenticationFailed(GatewayError):
    """Nobody vouched for these credentials."""


class Throttled(AuthenticationFailed):
    """Too many logins have failed; try again after `retry_ms`."""

    def __init__(self, detail: str, retry_ms: int = 0) -> None:
        super().__init__(detail)
        self.retry_ms = retry_ms


class NotAuthorized(GatewayError):
    """The principal may not do this here; `rule` is the id of the rule that says so, if one does."""

    def __init__(self, detail: str, rule: str = "") -> None:
        super().__init__(detail)
        self.rule = rule


class InvalidTopic(GatewayError):
    """A topic name or topic filter breaks the rules of `gateway.core.topic`."""


class InvalidValue(GatewayError):
    """A value that was given for something makes no sense; `detail` names it."""


class NotFound(GatewayError):
    """The queue, group, delivery or topic does not exist (any more)."""


class Conflict(GatewayError):
    """It exists, but not in the way that was asked for; `detail` names the difference."""


class QueueFull(GatewayError):
    """A queue with overflow `reject` is at its limit; nothing was enqueued anywhere."""


class NotStored(GatewayError):
    """The storage engine could not write: disk full, or an I/O error."""


class TooLarge(GatewayError):
    """A packet, body or name is over its limit."""


class QuotaExceeded(GatewayError):
    """A limit on connections, subscriptions or rates was reached; try again after `retry_ms`, if not 0."""

    def __init__(self, detail: str, retry_ms: int = 0) -> None:
        super().__init__(detail)
        self.retry_ms = retry_ms


class StorageError(GatewayError):
    """The data directory cannot be used as it is; the gateway does not start."""
