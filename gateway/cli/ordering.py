"""`gateway queues keys|park|unpark|skip|forget`: ordering keys, and groups of streams, by an operator."""

from __future__ import annotations

from datetime import UTC, datetime

from .client import Client, Refused, fail, segment
from .show import done, show


def keys(url: str, user: str | None, name: str, group: str, failing: bool, limit: int, as_json: bool) -> int:
    """List ordering keys that are busy, fail or are parked."""
    parameters = {"group": group, "failing": failing, "limit": limit}
    try:
        answer = Client(url, user).request("GET", f"/v1/queues/{segment(name)}/keys", params=parameters)
    except Refused as error:
        return fail(error)
    rows = [
        [k["key"], k["state"], str(k["attempts"]), _time(k["since_ms"]), str(k["behind"])]
        for k in answer["keys"]
    ]
    return show(answer, as_json, ["key", "state", "attempts", "since", "behind"], rows)


def park(url: str, user: str | None, name: str, key: str, group: str, as_json: bool) -> int:
    """Hold a key back."""
    return _on_key(url, user, name, key, group, as_json, "park", f"key {key} of {name} is parked")


def unpark(url: str, user: str | None, name: str, key: str, group: str, as_json: bool) -> int:
    """Let a key go on."""
    return _on_key(url, user, name, key, group, as_json, "unpark", f"key {key} of {name} goes on")


def skip(url: str, user: str | None, name: str, key: str, group: str, as_json: bool) -> int:
    """Give up the message a key is stuck at."""
    return _on_key(url, user, name, key, group, as_json, "skip", f"what key {key} is at is given up")


def forget(url: str, user: str | None, name: str, group: str, as_json: bool) -> int:
    """Remove a stream's group."""
    path = f"/v1/queues/{segment(name)}/groups/{segment(group)}"
    return _act(url, user, "DELETE", path, {}, as_json, f"group {group} of {name} is removed")


def _on_key(
    url: str, user: str | None, name: str, key: str, group: str, as_json: bool, what: str, text: str
) -> int:
    path = f"/v1/queues/{segment(name)}/keys/{segment(key)}/{what}"
    return _act(url, user, "POST", path, {"group": group}, as_json, text)


def _act(
    url: str, user: str | None, method: str, path: str, parameters: dict[str, str], as_json: bool, text: str
) -> int:
    try:
        answer = Client(url, user).request(method, path, params=parameters)
    except Refused as error:
        return fail(error)
    return done(answer, as_json, text)


def _time(since_ms: int | None) -> str:
    if since_ms is None:
        return ""
    return datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="seconds")
