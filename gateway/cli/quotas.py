"""`gateway quotas ...`: through the HTTP door of a running gateway."""

from __future__ import annotations

from typing import Any

from .client import Client, segment
from .show import asking, done, show

LIMITS = ("connections", "publish_rate", "publish_bytes", "queues", "retained", "subscriptions")


def list_quotas(url: str, user: str | None, as_json: bool) -> int:
    """List quotas."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/admin/quotas")
        exceeded: dict[str, int] = {}
        for found in answer["exceeded"]:
            exceeded[found["quota"]] = exceeded.get(found["quota"], 0) + found["count"]
        rows = [
            [
                quota["id"],
                quota["subject"],
                quota["scope"],
                " ".join(f"{name}={quota[name]:g}" for name in LIMITS if quota[name]),
                str(exceeded.get(quota["id"], 0)),
                quota["where"],
            ]
            for quota in answer["quotas"]
        ]
        return show(answer, as_json, ["quota", "subject", "per", "limits", "exceeded", "kept in"], rows)

    return asking(url, user, ask)


def put(url: str, user: str | None, name: str, fields: dict[str, Any], as_json: bool) -> int:
    """Add or change a quota."""

    def ask(client: Client) -> int:
        answer = client.request("PUT", f"/v1/admin/quotas/{segment(name)}", json=fields)
        return done(answer, as_json, f"quota {name!r} is in force")

    return asking(url, user, ask)


def delete(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Remove a quota."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/admin/quotas/{segment(name)}")
        return done({"deleted": name}, as_json, f"quota {name!r} is removed")

    return asking(url, user, ask)
