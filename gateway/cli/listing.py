"""`gateway queues ...` and `gateway topics`: tables, or JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .client import Client, Refused, fail, segment


def topics(url: str, user: str | None, prefix: str, limit: int, as_json: bool) -> int:
    """List topics."""
    try:
        answer = Client(url, user).request("GET", "/v1/topics", params={"prefix": prefix, "limit": limit})
    except Refused as error:
        return fail(error)
    rows = [[t["topic"], "yes" if t.get("retained") else ""] for t in answer["topics"]]
    return _show(answer, as_json, ["topic", "retained"], rows)


def queues(url: str, user: str | None, prefix: str, limit: int, as_json: bool) -> int:
    """List queues."""
    try:
        answer = Client(url, user).request("GET", "/v1/queues", params={"prefix": prefix, "limit": limit})
    except Refused as error:
        return fail(error)
    rows = [
        [q["name"], q["kind"], str(q["depth"]), str(q["unsettled"]), str(q["consumers"]), _yes(q["durable"])]
        for q in answer["queues"]
    ]
    return _show(answer, as_json, ["queue", "kind", "waiting", "unsettled", "consumers", "durable"], rows)


def queue(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Show one queue."""
    try:
        answer = Client(url, user).request("GET", f"/v1/queues/{segment(name)}")
    except Refused as error:
        return fail(error)
    rows = [[key, _text(value)] for key, value in answer.items()]
    return _show(answer, as_json, ["property", "value"], rows)


def create(
    url: str,
    user: str | None,
    name: str,
    kind: str,
    bindings: list[str],
    selector: str | None,
    policy: list[str],
    durable: bool,
    as_json: bool,
) -> int:
    """Create a queue."""
    limits: dict[str, object] = {}
    for item in policy:
        key, separator, value = item.partition("=")
        if not separator:
            return fail(Refused(f"--policy {item!r}: KEY=VALUE is expected"))
        truth = {"true": True, "false": False}.get(value)
        number = int(value) if value.isascii() and value.isdigit() else value
        limits[key] = number if truth is None else truth
    bound = bindings if selector is None else [{"filter": one, "selector": selector} for one in bindings]
    wanted = {"kind": kind, "durable": durable, "bindings": bound, "policy": limits}
    return _act(url, user, "PUT", f"/v1/queues/{segment(name)}", as_json, f"queue {name} is there", wanted)


def delete(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Delete a queue."""
    return _act(url, user, "DELETE", f"/v1/queues/{segment(name)}", as_json, f"queue {name} is deleted")


def purge(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Drop what waits in a queue."""
    return _act(url, user, "POST", f"/v1/queues/{segment(name)}/purge", as_json, f"queue {name} is purged")


def seek(url: str, user: str | None, name: str, group: str, to: str, as_json: bool) -> int:
    """Move a stream's group."""
    path = f"/v1/queues/{segment(name)}/groups/{segment(group)}/seek"
    offset: int | str = int(to) if to.isascii() and to.isdigit() else to
    try:
        answer = Client(url, user).request("POST", path, json={"offset": offset})
    except Refused as error:
        return fail(error)
    print(json.dumps(answer) if as_json else f"group {group} of {name} goes on at offset {answer['cursor']}")
    return 0


def browse(url: str, user: str | None, name: str, start: int, limit: int, as_json: bool) -> int:
    """Show waiting messages."""
    try:
        answer = Client(url, user).request(
            "GET", f"/v1/queues/{segment(name)}/browse", params={"start": start, "limit": limit}
        )
    except Refused as error:
        return fail(error)
    rows = [
        [
            str(m["offset"]),
            m["topic"],
            str(m.get("body", m.get("body_base64", "")))[:60],
            str(m.get("attempts", "")),
        ]
        for m in answer["messages"]
    ]
    return _show(answer, as_json, ["offset", "topic", "body", "attempts"], rows)


def _act(
    url: str, user: str | None, method: str, path: str, as_json: bool, done: str, body: object = None
) -> int:
    try:
        answer = Client(url, user).request(method, path, **({} if body is None else {"json": body}))
    except Refused as error:
        return fail(error)
    print(json.dumps(answer) if as_json else done)
    return 0


def _show(answer: Any, as_json: bool, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    if as_json:
        print(json.dumps(answer))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    return 0


def _yes(value: object) -> str:
    return "yes" if value else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
