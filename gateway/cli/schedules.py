"""`gateway schedules ...` and `gateway cron ...`: what is published later, through the HTTP door."""

from __future__ import annotations

from typing import Any

from .client import Client, segment, topic_path
from .show import asking, done, show

_HEADINGS = ["id", "due", "topic", "bytes", "user", "by"]
_CRON_HEADINGS = ["name", "cron", "zone", "topic", "missed", "next run", "failed"]


def list_schedules(
    url: str, user: str | None, topic: str, begin: str, end: str, limit: int, as_json: bool
) -> int:
    """List what waits, the earliest first."""

    def ask(client: Client) -> int:
        asked = {"topic": topic, "from": begin, "to": end, "limit": str(limit)}
        answer = client.request("GET", "/v1/schedules", params={k: v for k, v in asked.items() if v})
        rows = [
            [
                found["id"],
                found["deliver_at_time"],
                found["topic"],
                str(found["bytes"]),
                found["user"],
                found["protocol"],
            ]
            for found in answer["schedules"]
        ]
        return show(answer, as_json, _HEADINGS, rows)

    return asking(url, user, ask)


def show_schedule(url: str, user: str | None, id: str, as_json: bool) -> int:
    """Show one."""

    def ask(client: Client) -> int:
        return _show_all(client.request("GET", f"/v1/schedules/{segment(id)}"), as_json)

    return asking(url, user, ask)


def add(url: str, user: str | None, topic: str, body: str, delay: str, at: str, as_json: bool) -> int:
    """Publish later."""

    def ask(client: Client) -> int:
        asked = {"delay": delay, "deliver_at": at}
        params = {name: value for name, value in asked.items() if value}
        path = f"/v1/topics/{topic_path(topic)}"
        answer = client.request("POST", path, content=body.encode(), params=params)
        waits = answer.get("schedule")
        return done(answer, as_json, f"schedule {waits}" if waits else "it was due, and is published")

    return asking(url, user, ask)


def edit(
    url: str, user: str | None, id: str, delay: float | None, at: str, body: str | None, as_json: bool
) -> int:
    """Change when, or what, is published."""

    def ask(client: Client) -> int:
        given = {"delay": delay, "deliver_at": at or None, "body": body}
        fields = {name: value for name, value in given.items() if value is not None}
        answer = client.request("PUT", f"/v1/schedules/{segment(id)}", json=fields)
        return done(answer, as_json, f"it is schedule {answer['id']} now, due {answer['deliver_at_time']}")

    return asking(url, user, ask)


def cancel(url: str, user: str | None, id: str, as_json: bool) -> int:
    """Have it never be published."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/schedules/{segment(id)}")
        return done({"cancelled": id}, as_json, f"schedule {id} is cancelled")

    return asking(url, user, ask)


def publish(url: str, user: str | None, id: str, as_json: bool) -> int:
    """Publish it now."""

    def ask(client: Client) -> int:
        answer = client.request("POST", f"/v1/schedules/{segment(id)}/publish")
        return done(answer, as_json, f"schedule {id} is published")

    return asking(url, user, ask)


def list_crons(url: str, user: str | None, as_json: bool) -> int:
    """List what is published again and again."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/cron")
        rows = [
            [
                found["name"],
                found["cron"],
                found["time_zone"],
                found["topic"],
                found["missed"],
                (found["next_runs"] or ["never"])[0],
                found["failed"] or "",
            ]
            for found in answer["cron"]
        ]
        return show(answer, as_json, _CRON_HEADINGS, rows)

    return asking(url, user, ask)


def show_cron(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Show one, and its next runs."""

    def ask(client: Client) -> int:
        return _show_all(client.request("GET", f"/v1/cron/{segment(name)}"), as_json)

    return asking(url, user, ask)


def put_cron(url: str, user: str | None, name: str, fields: dict[str, Any], as_json: bool) -> int:
    """Add or change one."""

    def ask(client: Client) -> int:
        answer = client.request("PUT", f"/v1/cron/{segment(name)}", json=fields)
        return done(
            answer,
            as_json,
            f"cron schedule {name} runs next at {', '.join(answer['next_runs'][:1]) or 'no time'}",
        )

    return asking(url, user, ask)


def delete_cron(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Remove one."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/cron/{segment(name)}")
        return done({"deleted": name}, as_json, f"cron schedule {name} is removed")

    return asking(url, user, ask)


def _show_all(answer: dict[str, Any], as_json: bool) -> int:
    rows = [[name, _plain(value)] for name, value in answer.items() if value not in (None, [], {})]
    return show(answer, as_json, ["", ""], rows)


def _plain(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
