"""`gateway explain`: what would happen, and why."""

from __future__ import annotations

import json
from typing import Any

from .client import Client
from .show import asking


def explain(url: str, user: str | None, fields: dict[str, Any], as_json: bool) -> int:
    """Ask, and print the answer."""

    def ask(client: Client) -> int:
        wanted = {key: value for key, value in fields.items() if value}
        answer = client.request("POST", "/v1/admin/explain", json=wanted)
        print(json.dumps(answer) if as_json else "\n".join(_lines(answer)))
        return 0

    return asking(url, user, ask)


def _lines(answer: dict[str, Any]) -> list[str]:
    who = answer["as"]
    name = who["user"] or "a client without a login"
    lines = [f"{'ALLOWED' if answer['allowed'] else 'REFUSED'}: {answer['why']}"]
    if answer["allowed"] and answer["rule"]:
        lines[0] += f" by rule {answer['rule']!r}"
    lines.append(f"  for {name} at the {who['door']} door, from {who['address']}")
    lines += [f"  note: {remark}" for remark in answer["remarks"]]
    for step in answer["applied"]:
        lines.append(f"  rule {step['rule']}: {step['decision']}")
    for step in answer["not_applied"]:
        lines.append(f"  rule {step['rule']}: does not apply, {step['because']}")
    if "receivers" in answer and answer["allowed"]:
        lines += _receivers(answer["receivers"])
    return lines


def _receivers(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["  nobody would receive it"]
    lines = []
    for receiver in found:
        if "queue" in receiver:
            to = f"queue {receiver['queue']!r}"
        else:
            to = f"{receiver['door']} client {receiver['client_id'] or receiver['user']!r}"
        lines.append(f"  would go to {to} by {receiver['by']}")
    return lines
