"""Web pages of other origins: refused unless `plugins.http.origins` names them.

A browser lets any page send requests and open WebSockets to a gateway it can reach, also
one on the visitor's own machine. Its `Origin` header tells; what is no browser sends none.
"""

from __future__ import annotations

from collections.abc import Collection

from .answers import Event, Header, Send
from .problems import Refused

ANY = "*"
PREFLIGHT_SECONDS = 600  # what browsers remember at most is between 10 minutes and 2 hours
ALLOWED = (
    b"authorization, content-type, content-encoding, if-none-match, idempotency-key, last-event-id, "
    b"traceparent, x-api-key, x-message-id, x-reply-to, x-correlation-data, x-priority, x-key, x-tag, "
    b"x-keys, x-text, x-timestamp"
)
EXPOSED = (
    b"etag, x-retained, x-message-id, x-reply-to, x-correlation-data, x-priority, x-key, x-tag, x-keys, "
    b"x-qos, x-expires-at, traceparent"
)
_PLAIN = ("http", "ws")
_FOREIGN_SITES = (b"cross-site", b"same-site")  # Fetch Metadata; `none` is the visitor's own doing
_SAFE = ("GET", "HEAD")  # change nothing, and the browser keeps the answer from the page


def allowed_origin(
    origins: Collection[str], origin: bytes, headers: list[Header], method: str, scheme: str
) -> bool:
    """Tell whether the page may read the answer. Raise Refused if it may not even ask."""
    name = origin.decode("latin-1")
    if name in origins or ANY in origins:
        return True
    page_scheme, _, host = name.partition("://")
    if host == _host(headers) and (page_scheme == "https" or scheme in _PLAIN):
        # The gateway's own pages need no permission. Those that came without TLS are not the TLS door's:
        # anybody on the way can have written them. A proxy may have put TLS around the plain door.
        return False
    if method in _SAFE:
        return False
    raise Refused(
        "foreign-origin",
        f"pages of {name[:200]!r} may not use this gateway; name it in plugins.http.origins if they are to",
    )


def check_site(site: bytes | None, method: str) -> None:
    """Raise Refused for a request without Origin that a browser says another site's page has made."""
    if site in _FOREIGN_SITES and method not in _SAFE:
        raise Refused("foreign-origin", "pages of other sites may not use this gateway")


def _host(headers: list[Header]) -> str:
    for name, value in headers:
        if name == b"host":
            return value.decode("latin-1")
    return ""


def _permission(origins: Collection[str], origin: bytes) -> list[Header]:
    if origin.decode("latin-1") in origins:
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Origin"),
        ]
    # Any page may ask, but not with a login that the browser remembers for its visitor.
    return [(b"access-control-allow-origin", b"*")]


def with_origin(origins: Collection[str], origin: bytes, send: Send) -> Send:
    """Return a `send` that lets pages of the origin read the answer."""
    permission = [*_permission(origins, origin), (b"access-control-expose-headers", EXPOSED)]

    async def sending(event: Event) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event.get("headers", ()), *permission]
        await send(event)

    return sending


async def preflight(origins: Collection[str], origin: bytes, send: Send) -> None:
    """Answer a browser that asks what pages of the origin may do."""
    headers: list[Header] = []
    if origin.decode("latin-1") in origins or ANY in origins:
        headers += [
            *_permission(origins, origin),
            (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
            (b"access-control-allow-headers", ALLOWED),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
