"""One cron schedule: what it says, how it is kept, and when it runs next.

The expression is read by `cronsim`, which follows Debian's cron also where clocks change: what falls
into the hour that is left out in spring runs right after it, what falls into the hour that comes twice
runs once, but for `*` and steps of hours. Five fields, or six with seconds first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.api import InvalidValue

if TYPE_CHECKING:
    from cronsim import CronSim

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EXPRESSION_CHARS_MAX: Final = 200  # a list of all minutes has 169
BODY_BYTES_MAX: Final = 64 << 10  # in memory, and in each checkpoint of the keys
SKIP, ONCE = "skip", "once"


class Entry(msgspec.Struct, kw_only=True):
    """What is kept of one. Times are Unix milliseconds by the wall clock: that is what cron goes by."""

    name: str
    cron: str
    time_zone: str = "UTC"
    topic: str
    body: bytes = b""
    qos: int = 1
    retain: bool = False
    content_type: str | None = None
    headers: list[tuple[str, Any]] = []  # as `core.values.to_json` has them
    missed: str = SKIP  # what becomes of runs while the gateway was away
    enabled: bool = True
    user: str = ""  # who made it
    made_ms: int = 0
    last_ms: int = 0  # the run that was published last

    def runs(self, after_ms: int) -> Iterator[int]:
        """Yield the times of runs after a time, seconds being the finest. Raise InvalidValue."""
        from cronsim import CronSim, CronSimError

        try:
            found: CronSim = CronSim(self.cron, datetime.fromtimestamp(after_ms / 1000, zone(self.time_zone)))
            for time in found:
                yield int(time.timestamp() * 1000)
        except CronSimError as error:
            raise InvalidValue(
                f"cron: {str(error).lower()}; five fields such as '0 9 * * MON' are expected"
            ) from error

    def next_ms(self, after_ms: int) -> int:
        """Return the first run after a time, 0 if there is none. Raise InvalidValue."""
        return next(self.runs(after_ms), 0)

    def check(self) -> None:
        """Raise InvalidValue unless it makes sense."""
        if not NAME.fullmatch(self.name):
            raise InvalidValue("name: 1 to 100 letters, digits, '.', '_' and '-' are expected")
        if len(self.cron) > EXPRESSION_CHARS_MAX:
            raise InvalidValue(f"cron: at most {EXPRESSION_CHARS_MAX} characters are expected")
        if self.missed not in (SKIP, ONCE):
            raise InvalidValue(f"missed is {self.missed[:40]!r}; skip or once is expected")
        if self.qos not in (0, 1, 2):
            raise InvalidValue(f"qos is {self.qos}; 0, 1 or 2 is expected")
        if len(self.body) > BODY_BYTES_MAX:
            raise InvalidValue(f"the body has {len(self.body)} bytes; {BODY_BYTES_MAX} are allowed")
        zone(self.time_zone)
        if not self.next_ms(self.made_ms):
            raise InvalidValue("cron: it never runs")


def zone(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA's database. Raise InvalidValue."""
    if name == "UTC":
        return UTC  # also where there is no database
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidValue(f"time_zone is {name[:40]!r}; a name such as Europe/Berlin is expected") from error
