"""Pages of other origins in an administrator's browser, and the gateway's own pages.

A browser sends the Basic login that it remembers with whatever a page asks it to send: right
credentials prove nothing about the page.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.access.guarded import Guarded, password_of

Shared = Callable[..., Guarded]

#: What browsers send with a request that another site's page makes.
FOREIGN: dict[str, dict[str, str]] = {
    "another host": {"Origin": "https://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "the same name, another scheme's port": {"Origin": "http://localhost"},
    "an opaque origin": {"Origin": "null"},
    "an empty origin": {"Origin": ""},
    "a name that begins as ours": {"Origin": "http://127.0.0.1.evil.example"},
    "a user named as we are": {"Origin": "http://127.0.0.1@evil.example"},
    "no origin, cross-site": {"Sec-Fetch-Site": "cross-site"},
    "no origin, same-site": {"Sec-Fetch-Site": "same-site"},
    "another host that claims to be here": {
        "Origin": "https://evil.example",
        "Sec-Fetch-Site": "same-origin",
    },
}
RULE = {"subject": "user:evil", "actions": "all", "resources": ["topic:#"]}
USER = {"password": "correct horse", "admin": True}

#: (method, path, body): what a page would like to do.
CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", "/v1/admin/users/evil", USER),
    ("POST", "/v1/admin/users", {"users": []}),
    ("POST", "/v1/admin/users/root/end", {}),
    ("DELETE", "/v1/admin/users/victim", None),
    ("PUT", "/v1/admin/rules/evil", RULE),
    ("POST", "/v1/admin/rules", {"rules": []}),
    ("POST", "/v1/admin/rules-file", {}),
    ("DELETE", "/v1/admin/rules/kept", None),
    ("POST", "/v1/admin/keys", {"user": "root"}),
    ("PUT", "/v1/admin/quotas/evil", {"subject": "everyone", "connections": 1}),
    ("POST", "/v1/admin/explain", {}),
    ("POST", "/v1/topics/forged", "x"),
    ("POST", "/v1/topics/forged/batch", "{}"),
    ("PUT", "/v1/queues/forged", {}),
    ("DELETE", "/v1/queues/kept", None),
    ("POST", "/v1/queues/kept/purge", None),
    ("POST", "/v1/queues/kept/receive", None),
    ("PUT", "/api/queues/%2F/forged", {}),
    ("DELETE", "/api/queues/%2F/kept", None),
]
LABELS = [f"{method} {path}" for method, path, _ in CHANGES]


@pytest.fixture
def gateway(shared: Shared) -> Guarded:
    made = shared("evil")
    if made.ask("GET", "/v1/queues/kept").status_code == 404:
        made.user("victim")
        made.rule("kept", "user:nobody", "publish", "topic:kept")
        made.ask("PUT", "/v1/queues/kept", json={"bindings": ["kept"]})
        made.publish("kept", "x")
    return made


def state(admin: httpx.Client) -> list[Any]:
    """Return what there is."""
    paths = ("/v1/admin/users", "/v1/admin/rules", "/v1/admin/quotas", "/v1/admin/keys", "/v1/queues")
    return [*(admin.get(path).json() for path in paths), admin.get("/v1/topics/forged").status_code]


@pytest.fixture
def admin(gateway: Guarded) -> Iterator[httpx.Client]:
    """What the administrator's browser has: a login that it remembers."""
    login = ("root", password_of("root"))
    with httpx.Client(base_url=gateway.url, auth=login, verify=False, timeout=10) as client:
        yield client


def send(admin: httpx.Client, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    options = {"content": body} if isinstance(body, str) else {"json": body} if body is not None else {}
    return admin.request(method, path, headers=headers, **options)


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_page_of_another_origin_changes_anything(gateway: Guarded, admin: httpx.Client, kind: str) -> None:
    before, entries = state(admin), len(gateway.audit())
    for method, path, body in CHANGES:
        answer = send(admin, method, path, body, FOREIGN[kind])
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["type"] == "/docs#foreign-origin", (method, path)
        assert "access-control-allow-origin" not in answer.headers
    assert state(admin) == before
    assert len(gateway.audit()) == entries, "nothing was even tried"


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_and_a_browser_that_asks_first_is_given_no_permission(
    gateway: Guarded, kind: str, method: str
) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    answer = gateway.ask("OPTIONS", "/v1/admin/users/evil", "", headers={**FOREIGN[kind], **asked})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_read_cannot_be_seen_by_the_page(gateway: Guarded, kind: str) -> None:
    answer = gateway.ask("GET", "/v1/admin/users", headers=FOREIGN[kind])
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES[:1] + CHANGES[11:12], ids=["PUT", "POST"])
def test_what_is_no_foreign_page_may(admin: httpx.Client, method: str, path: str, body: Any) -> None:
    own = {"Origin": str(admin.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        answer = send(admin, method, path.replace("evil", "good"), body, headers)
        assert answer.status_code in (200, 201), answer.text
    admin.delete("/v1/admin/users/good")


# -- own pages -------------------------------------------------------------------------------------

PAGES = ("/", "/docs")


def directives(policy: str) -> dict[str, str]:
    """Return a policy's directives."""
    parts = [part.strip().partition(" ") for part in policy.split(";")]
    assert len({name for name, _, _ in parts}) == len(parts), "the first of two counts: say it once"
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_nothing_and_is_in_no_frame(gateway: Guarded, path: str) -> None:
    answer = gateway.ask("GET", path, "")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    [policy] = answer.headers.get_list("content-security-policy")
    found = directives(policy)
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
    assert found == dict.fromkeys(nothing, "'none'") | {"style-src": f"'sha256-{digest}'"}
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_that_its_policy_forbids(gateway: Guarded, path: str) -> None:
    text = gateway.ask("GET", path, "").text
    assert not re.search(r"<\s*(script|iframe|object|embed|base|form|link|img)\b", text, re.IGNORECASE)
    assert not re.search(r"<[^>]*\s(on[a-z]+|style)\s*=", text, re.IGNORECASE)
    assert not re.search(r"(href|src)\s*=\s*[\"']?\s*(javascript|data):", text, re.IGNORECASE)


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_finds_no_violation(gateway: Guarded, path: str) -> None:
    # A named skip in CI, too: no browser is installed there.
    api = pytest.importorskip("playwright.sync_api", reason="peer not installed: playwright")

    said: list[str] = []
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch()
        except api.Error:
            pytest.skip("peer not installed: Chromium (of playwright)")
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(gateway.url + path)
        family = page.evaluate("getComputedStyle(document.body).maxWidth")
        browser.close()
    assert said == []
    assert family != "none", "the style was not applied"


def test_the_login_is_no_exception(gateway: Guarded, admin: httpx.Client) -> None:
    """A wrong password and a foreign page: the page is what is refused, and no try is used up."""
    guess = ("root", password_of("root") + "x")
    for _ in range(20):
        answer = admin.put("/v1/admin/users/evil", auth=guess, headers=FOREIGN["another host"], json=USER)
        assert answer.status_code == 403
    assert gateway.ask("GET", "/v1/admin/users").status_code == 200
