"""`gateway transactions ...`: through the HTTP door of a running gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .client import Client, segment
from .show import asking, done, show


def _row(found: dict[str, Any]) -> list[str]:
    return [
        found["id"],
        found["principal"],
        found["state"] + (f" ({found['cause']})" if found["cause"] else ""),
        str(found["messages"]),
        str(found["bytes"]),
        _time(found["begun_ms"]),
        f"{found['checks']}, next {_time(found['next_check_ms'])}" if found["next_check_ms"] else "",
    ]


def _time(ms: int | None) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "seconds") if ms else ""


_HEADINGS = ("transaction", "of", "state", "messages", "bytes", "begun", "asked")


def _parameters(**asked: str | None) -> dict[str, str]:
    return {name: value for name, value in asked.items() if value is not None}


def list_transactions(
    url: str, user: str | None, state: str | None, principal: str | None, as_json: bool
) -> int:
    """List transactions, all of them."""

    def ask(client: Client) -> int:
        parameters: dict[str, str | int] = {**_parameters(state=state, principal=principal), "limit": 1000}
        found: list[dict[str, Any]] = []
        while True:
            answer = client.request("GET", "/v1/transactions", params=parameters)
            found += answer["transactions"]
            if answer["next"] is None:
                break
            parameters["after"] = answer["next"]
        return show({"transactions": found}, as_json, _HEADINGS, [_row(each) for each in found])

    return asking(url, user, ask)


def show_one(url: str, user: str | None, name: str, principal: str | None, as_json: bool) -> int:
    """Show a transaction and its messages."""

    def ask(client: Client) -> int:
        path = f"/v1/transactions/{segment(name)}"
        answer = client.request("GET", path, params=_parameters(principal=principal))
        if as_json:
            return done(answer, True, "")
        show(answer, False, _HEADINGS, [_row(answer)])
        rows = [
            [each["topic"], each["message_id"] or "", each["key"] or "", str(each["bytes"])]
            for each in answer["contents"]
        ]
        return show(answer, False, ("topic", "message id", "key", "bytes"), rows) if rows else 0

    return asking(url, user, ask)


def end(url: str, user: str | None, name: str, principal: str | None, commit: bool, as_json: bool) -> int:
    """Commit a transaction or roll it back."""

    def ask(client: Client) -> int:
        path = f"/v1/transactions/{segment(name)}/{'commit' if commit else 'rollback'}"
        answer = client.request("POST", path, params=_parameters(principal=principal))
        what = "committed" if commit else "rolled back"
        return done(answer, as_json, f"transaction {name!r} is {what}: {answer['messages']} messages")

    return asking(url, user, ask)
