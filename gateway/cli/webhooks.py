"""`gateway webhooks ...`: through the HTTP door of a running gateway."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from .client import Client, Refused, segment
from .show import asking, done, show, show_secret


def list_webhooks(url: str, user: str | None, as_json: bool) -> int:
    """List webhooks."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/webhooks")
        rows = [
            [
                hook["name"],
                hook["url"],
                " ".join(hook["filters"]) or f"queue {hook['queue']}",
                hook["state"]
                if hook["breaker"] == "closed"
                else f"{hook['state']}, breaker {hook['breaker']}",
                str(hook["delivered"]),
                str(hook["failed"]),
                hook["reason"] or (hook["last_error"] or {}).get("reason", ""),
            ]
            for hook in answer["webhooks"]
        ]
        return show(answer, as_json, ["webhook", "url", "gets", "state", "delivered", "failed", "last"], rows)

    return asking(url, user, ask)


def add(
    url: str, user: str | None, name: str, fields: dict[str, Any], policy: str, stdin: bool, as_json: bool
) -> int:
    """Make a webhook, or change the one of that name."""

    def ask(client: Client) -> int:
        wanted = {key: value for key, value in fields.items() if value not in (None, "", [])}
        if policy:
            try:
                wanted["policy"] = json.loads(policy)
            except ValueError as error:
                raise Refused(f"--policy is not JSON: {error}") from error
        if stdin:
            wanted["secret"] = sys.stdin.readline().rstrip("\n")
        answer = client.request("PUT", f"/v1/webhooks/{segment(name)}", json=wanted)
        secret = answer.pop("secret", "")
        why = f": {answer['reason']}" if answer["reason"] else ""
        done(answer, as_json, f"webhook {name!r} is {answer['state']}{why}")
        return show_secret("its secret", secret, as_json) if secret else 0

    return asking(url, user, ask)


def look(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Show a webhook and its latest attempts."""

    def ask(client: Client) -> int:
        path = f"/v1/webhooks/{segment(name)}"
        answer = client.request("GET", path)
        answer["attempts"] = client.request("GET", f"{path}/attempts")["attempts"]
        if as_json:
            return done(answer, True, "")
        shown = {
            key: value for key, value in answer.items() if key not in ("attempts", "last_error", "policy")
        }
        for key, value in shown.items():
            print(f"{key}: {' '.join(value) if isinstance(value, list) else value}")
        rows = [
            [
                datetime.fromtimestamp(attempt["time_ms"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                attempt["message_id"],
                str(attempt["attempt"]),
                str(attempt["status"] or "none"),
                str(attempt["latency_ms"]),
                attempt["reason"],
            ]
            for attempt in answer["attempts"]
        ]
        return show(answer, False, ["time", "message", "attempt", "status", "ms", "reason"], rows)

    return asking(url, user, ask)


def pause(url: str, user: str | None, name: str, reason: str, as_json: bool) -> int:
    """Make no requests for now."""
    fields = {"reason": reason} if reason else {}
    return _do(url, user, name, "pause", fields, as_json, "is paused; its messages wait")


def resume(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Go on."""
    return _do(url, user, name, "resume", {}, as_json, "goes on")


def test(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Make one request now; exit status 1 if it was not taken."""

    def ask(client: Client) -> int:
        answer = client.request("POST", f"/v1/webhooks/{segment(name)}/test", json={})
        taken = f"status {answer['status']} after {answer['latency_ms']} ms"
        done(answer, as_json, answer["reason"] or taken)
        return 1 if answer["reason"] else 0

    return asking(url, user, ask)


def rotate(url: str, user: str | None, name: str, overlap: float, as_json: bool) -> int:
    """Sign with a new secret, and with the one before for a while."""

    def ask(client: Client) -> int:
        path = f"/v1/webhooks/{segment(name)}/rotate"
        answer = client.request("POST", path, json={"overlap_seconds": overlap})
        secret = answer.pop("secret")
        done(answer, as_json, f"webhook {name!r} signs with both for {overlap:g} seconds")
        return show_secret("its secret", secret, as_json)

    return asking(url, user, ask)


def remove(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Remove a webhook, and its queue."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/webhooks/{segment(name)}")
        return done({"deleted": name}, as_json, f"webhook {name!r} is removed")

    return asking(url, user, ask)


def _do(
    url: str, user: str | None, name: str, what: str, fields: dict[str, Any], as_json: bool, text: str
) -> int:
    def ask(client: Client) -> int:
        answer = client.request("POST", f"/v1/webhooks/{segment(name)}/{what}", json=fields)
        why = f", but {answer['state']}: {answer['reason']}" if answer["state"] == "refused" else ""
        return done(answer, as_json, f"webhook {name!r} {text}{why}")

    return asking(url, user, ask)
