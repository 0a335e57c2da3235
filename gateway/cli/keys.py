"""`gateway keys ...`: API keys, through the HTTP door of a running gateway."""

from __future__ import annotations

from typing import Any

from .client import Client, segment
from .show import asking, done, show, show_secret


def list_keys(url: str, user: str | None, as_json: bool) -> int:
    """List keys; none is shown."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/admin/keys")
        rows = [
            [key["id"], key["user"], " ".join(key["groups"]), key["description"]] for key in answer["keys"]
        ]
        return show(answer, as_json, ["id", "user", "groups", "description"], rows)

    return asking(url, user, ask)


def create(
    url: str, user: str | None, of: str, description: str, days: float, groups: list[str], as_json: bool
) -> int:
    """Make a key, which is shown only now."""

    def ask(client: Client) -> int:
        fields: dict[str, Any] = {"user": of, "description": description, "groups": groups}
        if days:
            fields["expires_in"] = days * 86_400
        answer = client.request("POST", "/v1/admin/keys", json=fields)
        key = answer.pop("key")
        done(answer, as_json, f"key {answer['id']} of user {of!r} is made")
        return show_secret("the key", key, as_json)

    return asking(url, user, ask)


def delete(url: str, user: str | None, key_id: str, as_json: bool) -> int:
    """Remove a key."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/admin/keys/{segment(key_id)}")
        return done({"deleted": key_id}, as_json, f"key {key_id} is removed")

    return asking(url, user, ask)
