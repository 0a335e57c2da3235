"""Who was refused, in the log: by name, and not more often than people can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from gateway.rocketmq.numbers import Code

if TYPE_CHECKING:
    from gateway.api import Clock

    from .call import Context

log = structlog.get_logger("gateway")

INTERVAL_MS: Final = 10_000  # between two lines about one client and code
REMEMBERED_MAX: Final = 4096  # pairs of these

#: What clients ask in their ordinary life, and are told in so many words: nothing to log.
ORDINARY: Final = frozenset((Code.MESSAGE_NOT_FOUND,))


class Refusals:
    """What was logged lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_ms: dict[tuple[str, str, Code], int] = {}

    def note(self, procedure: str, context: Context, code: Code, detail: str) -> None:
        """A call was refused."""
        if code in ORDINARY:
            return
        metadata = dict(context.invocation_metadata())
        client_id = str(metadata.get("x-mq-client-id", ""))
        key = (client_id, procedure, code)
        now_ms = self._clock.monotonic_ms
        last_ms = self._logged_ms.get(key)
        if last_ms is not None and now_ms - last_ms < INTERVAL_MS:
            return
        if len(self._logged_ms) >= REMEMBERED_MAX:
            self._logged_ms.clear()
        self._logged_ms[key] = now_ms
        log.info(
            "refused",
            door="openmessaging",
            rpc=procedure,
            client=client_id,
            peer=context.peer(),
            code=f"{code.name} {code.value}",
            reason=detail,
        )
