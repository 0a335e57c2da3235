"""`/v1/cron`: what is published again and again. Who makes it manages schedules, and may publish there."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import msgspec

from gateway.api import Action, Gateway, HttpRequest, InvalidValue
from gateway.core.topic import check_topic
from gateway.http_api import CREATED, Api, Call, Route, answer

from .api import AREA
from .cron import Cron, Crons
from .entry import SKIP, Entry
from .shown import BODY_FIELDS, read_body, read_headers, time_of

RUNS_SHOWN: Final = 5
_TEXTS: Final = {"cron": None, "topic": None, "time_zone": "UTC", "missed": SKIP, "content_type": None}
_FLAGS: Final = {"retain": False, "enabled": True}
_FIELDS: Final = ("name", "qos", "headers", *_TEXTS, *_FLAGS, *BODY_FIELDS)


class CronCall(Call):
    """A request about cron schedules."""

    def __init__(self, gateway: Gateway, request: HttpRequest, parts: dict[str, str], crons: Crons) -> None:
        super().__init__(gateway, request, parts)
        self.crons = crons

    def show(self, cron: Cron, runs: int = 1) -> dict[str, Any]:
        """Return what is shown of one, with the times of its next runs."""
        entry = cron.entry
        shown = {
            "name": entry.name,
            "cron": entry.cron,
            "time_zone": entry.time_zone,
            "topic": entry.topic,
            "bytes": len(entry.body),
            "qos": entry.qos,
            "retain": entry.retain,
            "missed": entry.missed,
            "enabled": entry.enabled,
            "user": entry.user,
            "last_run": time_of(entry.last_ms) if entry.last_ms else None,
            "failed": cron.failed or None,
        }
        following = [cron.next_ms] if cron.next_ms else []
        if following and runs > 1:
            following += islice(entry.runs(cron.next_ms), runs - 1)
        return {**shown, "next_runs": [time_of(run_ms) for run_ms in following]}

    def entry(self) -> Entry:
        """Return what the body describes. Raise InvalidValue or InvalidTopic."""
        fields = self.fields(*_FIELDS)
        name = self.parts["id"]
        if fields.get("name", name) != name:
            raise InvalidValue(f"name: {name[:100]!r}, as in the path, is expected")
        texts = {key: _text(fields, key, default) for key, default in _TEXTS.items()}
        for key in ("cron", "topic"):
            if texts[key] is None:
                raise InvalidValue(f"{key} is missing")
        headers = read_headers(fields) or ()
        made = {
            **{key: value for key, value in texts.items() if value is not None},
            **{key: _flag(fields, key, default) for key, default in _FLAGS.items()},
            "name": name,
            "qos": fields.get("qos", 1),
            "body": read_body(fields) or b"",
            "headers": _pairs(fields) if headers else [],
            "user": self.session.principal.name,
            "made_ms": self.gateway.clock.wall_ms,
        }
        if not isinstance(made["qos"], int) or isinstance(made["qos"], bool):
            raise InvalidValue("qos: 0, 1 or 2 is expected")
        entry = msgspec.convert(made, Entry)
        check_topic(entry.topic)
        entry.check()
        return entry


def _pairs(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return headers as they were written."""
    given = fields["headers"]
    return list(given.items()) if isinstance(given, dict) else [(name, value) for name, value in given]


def _text(fields: dict[str, Any], name: str, default: str | None) -> str | None:
    value = fields.get(name, default)
    if value is not None and not isinstance(value, str):
        raise InvalidValue(f"{name}: a string is expected")
    return value


def _flag(fields: dict[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise InvalidValue(f"{name}: true or false is expected")
    return value


async def _list(call: CronCall) -> Any:
    crons = sorted(call.crons.all.values(), key=lambda cron: cron.entry.name)
    return {"cron": [call.show(cron) for cron in crons]}


async def _show(call: CronCall) -> Any:
    from .shown import show_body

    cron = call.crons.get(call.parts["id"])
    body = show_body(cron.entry.body)
    return {**call.show(cron, RUNS_SHOWN), "headers": cron.entry.headers, **body}


async def _put(call: CronCall) -> Any:
    call.gateway.begin_turn()
    entry = call.entry()
    call.session.check_publish(entry.topic)
    new = call.crons.put(entry)
    call.changed("cron.put", entry.name, f"{entry.cron!r} to {entry.topic}")
    await call.stored()
    return answer(CREATED if new else 200, call.show(call.crons.get(entry.name), RUNS_SHOWN))


async def _delete(call: CronCall) -> Any:
    call.gateway.begin_turn()
    entry = call.crons.delete(call.parts["id"])
    call.changed("cron.delete", entry.name, f"to {entry.topic}")
    await call.stored()


_EXAMPLE: Final = {
    "cron": "0 9 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "topic": "reports/daily",
    "body": "{}",
    "missed": "once",
}
ROUTES: Final = (
    Route("GET", "/v1/cron", AREA, Action.VIEW, _list, "List cron schedules"),
    Route("GET", "/v1/cron/{id}", AREA, Action.VIEW, _show, "Show a cron schedule, and its next runs"),
    Route("PUT", "/v1/cron/{id}", AREA, Action.MANAGE, _put, "Add or change a cron schedule", _EXAMPLE),
    Route("DELETE", "/v1/cron/{id}", AREA, Action.MANAGE, _delete, "Remove a cron schedule"),
)


class CronApi(Api):
    """Implements `gateway.api.HttpPart`."""

    def __init__(self, gateway: Gateway, crons: Crons) -> None:
        def call(request: HttpRequest, parts: dict[str, str]) -> CronCall:
            return CronCall(gateway, request, parts, crons)

        super().__init__(ROUTES, call)
