"""`gateway publish` and `gateway subscribe`."""

from __future__ import annotations

import json
import sys
from typing import Any

from .client import Client, Refused, fail, topic_path


def publish(
    url: str,
    user: str | None,
    topic: str,
    body: str,
    qos: int,
    retain: bool,
    ttl: float | None,
    content_type: str | None,
    headers: list[str],
    as_json: bool,
) -> int:
    """Publish one message; print where it went."""
    content = sys.stdin.buffer.read() if body == "-" else body.encode()
    fields = {"Content-Type": content_type or "text/plain; charset=utf-8"}
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator:
            return fail(Refused(f"--header {header!r}: NAME=VALUE is expected"))
        fields[f"X-Property-{name}"] = value
    parameters: dict[str, Any] = {"qos": qos, "retain": str(retain).lower()}
    if ttl is not None:
        parameters["ttl"] = ttl
    try:
        answer = Client(url, user).request(
            "POST", f"/v1/topics/{topic_path(topic)}", content=content, headers=fields, params=parameters
        )
    except Refused as error:
        return fail(error)
    if as_json:
        print(json.dumps(answer))
    elif not answer.get("subscribers", True):
        print(f"published {answer['id']}; nobody is subscribed to {topic}")
    else:
        print(f"published {answer['id']}")
    return 0


def subscribe(
    url: str,
    user: str | None,
    filters: list[str],
    count: int,
    retained: bool,
    selector: str | None,
    as_json: bool,
) -> int:
    """Print messages until `count` have come, or for ever."""
    parameters: list[tuple[str, str | int | float | bool | None]] = [("filter", f) for f in filters]
    parameters.append(("retained", str(retained).lower()))
    if selector is not None:
        parameters.append(("selector", selector))
    seen = 0
    try:
        for message in Client(url, user).events("/v1/subscribe", parameters):
            print(json.dumps(message) if as_json else _line(message), flush=True)
            seen += 1
            if count and seen >= count:
                break
    except Refused as error:
        return fail(error)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return 0


def _line(message: dict[str, Any]) -> str:
    body = message["body"] if "body" in message else f"(base64) {message.get('body_base64', '')}"
    return f"{message['topic']} {body}"
