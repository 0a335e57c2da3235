"""`gateway dlq ...`: through the HTTP door of a running gateway."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from .client import Client, Refused, segment
from .show import asking, done, show

BASE = "/v1/dead-letters"
POLL_SECONDS = 0.3  # between two looks at a replay that is waited for
HEADINGS = ["replay", "queue", "to", "state", "sent", "looked at", "left", "waiting"]


def _path(queue: str, rest: str = "") -> str:
    return f"{BASE}/{segment(queue)}/{rest}"


def queues(url: str, user: str | None, as_json: bool) -> int:
    """List queues of dead letters."""

    def ask(client: Client) -> int:
        answer = client.request("GET", BASE)
        rows = [[q["queue"], str(q["letters"]), str(q["bytes"]), str(q["held"])] for q in answer["queues"]]
        return show(answer, as_json, ["queue", "letters", "bytes", "in hands"], rows)

    return asking(url, user, ask)


def letters(
    url: str, user: str | None, queue: str, selector: str, limit: int, after: int, as_json: bool
) -> int:
    """List letters of one."""

    def ask(client: Client) -> int:
        asked = {"limit": limit, "after": after, **({"selector": selector} if selector else {})}
        answer = client.request("GET", _path(queue, "letters"), params=asked)
        rows = []
        for letter in answer["letters"]:
            story = letter["story"]
            told = [story.get(name, "") for name in ("cause", "topic", "attempts", "consumer", "reason")]
            rows.append([str(letter["position"]), *(str(item).split("\n")[0] for item in told)])
        status = show(answer, as_json, ["position", "cause", "topic", "attempts", "consumer", "reason"], rows)
        if answer["next"] and not as_json:
            print(f"more: --after {answer['next']}")
        return status

    return asking(url, user, ask)


def show_letter(url: str, user: str | None, queue: str, position: int, as_json: bool) -> int:
    """Show one letter."""

    def ask(client: Client) -> int:
        return _show_one(client.request("GET", _path(queue, f"letters/{position}")), as_json)

    return asking(url, user, ask)


def _show_one(answer: dict[str, Any], as_json: bool) -> int:
    rows = [[key, _text(value)] for key, value in answer.items() if not isinstance(value, dict)]
    rows += [[f"story: {name}", _text(value)] for name, value in answer["story"].items()]
    rows += [[f"header: {name}", _text(value)] for name, value in answer["headers"].items()]
    return show(answer, as_json, ["", "value"], rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def edit(
    url: str,
    user: str | None,
    queue: str,
    position: int,
    headers: list[str],
    body: str | None,
    properties: dict[str, str | None],
    as_json: bool,
) -> int:
    """Change one letter."""

    def ask(client: Client) -> int:
        fields: dict[str, Any] = {name: value for name, value in properties.items() if value is not None}
        if headers:
            fields["headers"] = dict(_header(each) for each in headers)
        if body is not None:
            fields["body"] = sys.stdin.read() if body == "-" else body
        if not fields:
            raise Refused("nothing to change: --header, --body, --key, --tag or --content-type is expected")
        return _show_one(client.request("PUT", _path(queue, f"letters/{position}"), json=fields), as_json)

    return asking(url, user, ask)


def _header(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise Refused(f"--header {text!r}: NAME=VALUE is expected")
    if not value:
        return name, None
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def replay(
    url: str, user: str | None, queue: str, wanted: dict[str, object], wait: bool, as_json: bool
) -> int:
    """Send letters on."""

    def ask(client: Client) -> int:
        answer = client.request("POST", _path(queue, "replay"), json=wanted)
        if wanted["dry_run"]:
            rows = [[str(each["position"]), each["to"], each["topic"]] for each in answer["first"]]
            status = show(answer, as_json, ["position", "to", "topic"], rows)
            if not as_json:
                more = "" if answer["complete"] else ", and there are more to look at"
                print(f"{answer['would_send']} would be sent{more}")
                _say_left(answer["would_leave"])
            return status
        return _finish(client, _followed(client, answer) if wait else answer, as_json)

    return asking(url, user, ask)


def _followed(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    path = f"{BASE}-replays/{job['id']}"
    try:
        while job["state"] == "running":
            time.sleep(POLL_SECONDS)
            job = client.request("GET", path)
    except KeyboardInterrupt:
        client.request("DELETE", path)
        job = client.request("GET", path)
    return job


def _finish(client: Client, job: dict[str, Any], as_json: bool) -> int:
    status = show(job, as_json, HEADINGS, [_row(job)])
    if not as_json:
        _say_left(job["left"])
    return status


def _say_left(left: dict[str, int]) -> None:
    for why, count in left.items():
        print(f"left {count}: {why}")


def _row(job: dict[str, Any]) -> list[str]:
    left = sum(job["left"].values())
    found = (job["id"], job["queue"], job["to"], job["state"], job["sent"], job["looked_at"], left)
    return [*map(str, found), str(job["waiting"])]


def replays(url: str, user: str | None, as_json: bool) -> int:
    """List replays."""

    def ask(client: Client) -> int:
        answer = client.request("GET", f"{BASE}-replays")
        return show(answer, as_json, HEADINGS, [_row(job) for job in answer["replays"]])

    return asking(url, user, ask)


def stop(url: str, user: str | None, number: int, as_json: bool) -> int:
    """Stop a replay."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"{BASE}-replays/{number}")
        return done({"stopped": number}, as_json, f"replay {number} is stopped")

    return asking(url, user, ask)


def purge(url: str, user: str | None, queue: str, count: int, yes: bool, as_json: bool) -> int:
    """Throw all letters away."""

    def ask(client: Client) -> int:
        wanted = count
        if yes:
            found = {each["queue"]: each["letters"] for each in client.request("GET", BASE)["queues"]}
            wanted = found.get(f"$dead/{queue}", found.get(queue, 0))
        elif count < 0:
            raise Refused("say how many letters are to go, with --count, or --yes")
        answer = client.request("POST", _path(queue, "purge"), json={"count": wanted})
        return done(answer, as_json, f"{answer['purged']} letters are gone")

    return asking(url, user, ask)
