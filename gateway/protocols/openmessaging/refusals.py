"""Who was refused, in the log: by name, and not more often than people can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from gateway.rocketmq.numbers import Code

if TYPE_CHECKING:
    from gateway.api import Clock

    from .call import Context

log = structlog.get_logger("gateway")

INTERVAL_MS: Final = 10_000  # between two lines about one client, procedure and code
LINES_MAX: Final = 100  # in that time, whoever they are about: client ids cost nothing
TEXT_MAX: Final = 500  # characters of what comes from a client

#: What clients ask in their ordinary life, and are told in so many words: nothing to log.
ORDINARY: Final = frozenset((Code.MESSAGE_NOT_FOUND,))


class Refusals:
    """What was logged lately. The memory of it begins anew with each interval."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged: set[tuple[str, str, Code]] = set()
        self._since_ms = 0
        self._suppressed = 0
        self.counts: dict[Code, int] = {}

    def note(self, procedure: str, context: Context, code: Code, detail: str) -> None:
        """A call was refused."""
        if code in ORDINARY:
            return
        self.counts[code] = self.counts.get(code, 0) + 1
        self._begin()
        metadata = {str(name): str(value) for name, value in context.invocation_metadata()}
        client_id = metadata.get("x-mq-client-id", "")[:TEXT_MAX]
        key = (client_id, procedure, code)
        if key in self._logged:
            return
        if len(self._logged) >= LINES_MAX:
            self._suppressed += 1
            return
        self._logged.add(key)
        log.info(
            "refused",
            door="openmessaging",
            rpc=procedure,
            client=client_id,
            peer=context.peer(),
            agent=_agent(metadata),
            code=f"{code.name} {code.value}",
            reason=detail[:TEXT_MAX],
        )

    def _begin(self) -> None:
        """Begin another interval if it is time."""
        now_ms = self._clock.monotonic_ms
        if now_ms - self._since_ms < INTERVAL_MS:
            return
        if self._suppressed:
            log.info("refused", door="openmessaging", others=self._suppressed)
        self._since_ms = now_ms
        self._suppressed = 0
        self._logged.clear()


def _agent(metadata: dict[str, str]) -> str:
    """Return what a client says it is made of."""
    language, version = metadata.get("x-mq-language", ""), metadata.get("x-mq-client-version", "")
    return f"{language} {version} {metadata.get('user-agent', '')}".strip()[:TEXT_MAX]
