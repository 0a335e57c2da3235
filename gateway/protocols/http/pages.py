"""The pages of the door: a landing page, and the endpoints as HTML made from OpenAPI.

No script and nothing from elsewhere: both work on a machine without a network.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

from .problems import KINDS

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { overflow-x: auto; padding: .6rem .8rem; border-radius: .4rem; background: #8882; }
details { margin: .4rem 0; border: 1px solid #8884; border-radius: .4rem; padding: .4rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 600; }
.about { opacity: .75; margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; }
"""


#: Pages run no script, load nothing, send nothing and are in no other page's frame.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def page(title: str, body: str) -> str:
    """Return a whole page."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>"
    )


def landing(version: str) -> str:
    """Return the page at /."""
    return page(
        "gateway",
        f"<h1>gateway {escape(version)}</h1><p>This is the HTTP door. A message published here reaches "
        "subscribers and queues of every other door.</p>"
        "<pre>curl -d 21.5 http://HOST/v1/topics/home/kitchen/temperature\n"
        "curl http://HOST/v1/topics/home/kitchen/temperature\n"
        "curl -N 'http://HOST/v1/subscribe?filter=home/%23'</pre>"
        '<ul><li><a href="/docs">Every endpoint</a> (<a href="/openapi.json">OpenAPI</a>)</li>'
        '<li><a href="/health">Health</a></li><li><a href="/metrics">Metrics</a></li>'
        '<li><a href="/v1/admin/overview">Overview</a></li></ul>',
    )


def reference(document: dict[str, Any]) -> str:
    """Return the page at /docs."""
    sections: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            sections.setdefault(tag, []).append(_operation(path, method, operation))
    parts = [f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])}</p>"]
    for tag, entries in sections.items():
        parts.append(f"<h2>{escape(tag)}</h2>{''.join(entries)}")
    parts.append(_problems())
    return page("gateway: endpoints", "".join(parts))


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td>"
        f"<td>{escape(p.get('description') or p.get('schema', {}).get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(response.get('description', ''))}</td></tr>"
        for status, response in operation.get("responses", {}).items()
    )
    return (
        f'<details><summary><span class="method">{method.upper()}</span><code>{escape(path)}</code>'
        f'<span class="about">{escape(operation.get("summary", ""))}</span></summary>'
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"<table>{rows}</table><h4>Answers</h4><table>{answers}</table></details>"
    )


def _problems() -> str:
    rows = "".join(
        f'<tr id="{kind}"><td><code>/docs#{kind}</code></td><td>{status}</td><td>{escape(title)}</td></tr>'
        for kind, (status, title) in KINDS.items()
    )
    intro = "Errors are problem details (RFC 9457); their <code>type</code> is one of:"
    return f"<h2>Problems</h2><p>{intro}</p><table>{rows}</table>"
