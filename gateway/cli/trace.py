"""`gateway trace`: what became of a message, as a story or as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .client import Client, Refused, fail, segment


def trace(url: str, user: str | None, wanted: str, limit: int, as_json: bool) -> int:
    """Print the journeys of all messages with an id or key."""
    path = f"/v1/messages/{segment(wanted)}/journey"
    try:
        answer = Client(url, user).request("GET", path, params={"limit": limit})
    except Refused as error:
        return fail(error)
    if as_json:
        print(json.dumps(answer))
        return 0
    print("\n\n".join("\n".join(_story(found)) for found in answer["journeys"]))
    return 0


def _story(found: dict[str, Any]) -> list[str]:
    name = found["id"] or "message"
    about = f"{found['size']} bytes to {found['topic']}, QoS {found['qos']}"
    lines = [f"{name} at position {found['position']}: {about}"]
    if found["keys"]:
        lines.append(f"  keys: {', '.join(found['keys'])}")
    lines.append(f"  {_time(found['stored_at'])}  accepted from {_who(found['from'])}")
    if not found["queues"]:
        lines.append("  no queue waits for it")
    for stay in found["queues"]:
        by = f" by {', '.join(stay['subscriptions'])}" if stay["subscriptions"] else ""
        lines.append(f"  {stay['queue']}{by}: {stay['state']}")
        lines += [f"    {_time(event['at'])}  {_event(event)}" for event in stay["events"]]
    for letter in found["dead_letters"]:
        where = f"{letter['topic']} (position {letter['position']})"
        lines.append(f"  dead-lettered from {letter['queue']} to {where}: {letter['cause']}")
    return lines


def _event(event: dict[str, Any]) -> str:
    text: str = event["event"]
    if event.get("outcome"):
        text += f": {event['outcome']}"
    if event.get("group"):
        text += f", group {event['group']}"
    if event.get("consumer"):
        text += f" to {_who(event['consumer'])}"
    return text


def _who(origin: dict[str, str]) -> str:
    who = origin["client_id"] or origin["principal"] or "somebody"
    address = f" at {origin['address']}" if origin["address"] else ""
    return f"{who} by {origin['protocol']}{address}"


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")
