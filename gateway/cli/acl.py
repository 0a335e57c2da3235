"""`gateway acl ...`: rules, through the HTTP door of a running gateway."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

from .client import Client, Refused, segment
from .faults import EXIT_FAULT
from .show import asking, done, show


def list_rules(url: str, user: str | None, as_json: bool) -> int:
    """List rules."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/admin/rules")
        rows = [
            [
                rule["id"],
                rule["decision"],
                rule["subject"],
                ",".join(rule["actions"]),
                " ".join(rule["resources"]),
                " ".join([*rule.get("from", []), *(f"at {door}" for door in rule.get("doors", []))]),
                rule["where"],
            ]
            for rule in answer["rules"]
        ]
        headings = ["rule", "decision", "subject", "actions", "resources", "only", "kept in"]
        return show(answer, as_json, headings, rows)

    return asking(url, user, ask)


def put(
    url: str,
    user: str | None,
    decision: str,
    subject: str,
    actions: str,
    resources: list[str],
    rule_id: str | None,
    sources: list[str],
    doors: list[str],
    as_json: bool,
) -> int:
    """Add a rule, or change the one of that id."""

    def ask(client: Client) -> int:
        name = rule_id or f"r-{secrets.token_hex(4)}"
        rule: dict[str, Any] = {
            "decision": decision,
            "subject": subject,
            "actions": actions.split(","),
            "resources": resources,
            "from": sources,
            "doors": doors,
        }
        answer = client.request("PUT", f"/v1/admin/rules/{segment(name)}", json=rule)
        return done(answer, as_json, f"rule {name!r} is in force")

    return asking(url, user, ask)


def delete(url: str, user: str | None, rule_id: str, as_json: bool) -> int:
    """Remove a rule."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/admin/rules/{segment(rule_id)}")
        return done({"deleted": rule_id}, as_json, f"rule {rule_id!r} is removed")

    return asking(url, user, ask)


def reload(url: str, user: str | None, as_json: bool) -> int:
    """Have the file of rules read again."""

    def ask(client: Client) -> int:
        answer = client.request("POST", "/v1/admin/rules-file", json={})
        return done(answer, as_json, f"{answer['rules']} rules are in force")

    return asking(url, user, ask)


def check(path: Path, as_json: bool) -> int:
    """Validate a file of rules."""
    from ..api import InvalidValue
    from ..auth.acl.files import read_rules
    from ..auth.store import by_id

    try:
        rules = by_id(read_rules(path), str(path))
    except InvalidValue as error:
        print(json.dumps({"ok": False, "fault": error.detail}) if as_json else error.detail, file=sys.stderr)
        return EXIT_FAULT
    return done({"ok": True, "rules": len(rules)}, as_json, f"{path}: ok, {len(rules)} rules")


# -- candidates ------------------------------------------------------------------------------------


def shadow_start(url: str, user: str | None, path: Path, alone: bool, as_json: bool) -> int:
    """Run the rules of a file as a candidate."""
    from ..api import InvalidValue
    from ..auth.acl.files import read_rules

    def ask(client: Client) -> int:
        try:
            rules = [rule.to_mapping() for rule in read_rules(path)]
        except InvalidValue as error:
            raise Refused(error.detail) from error
        answer = client.request("PUT", "/v1/admin/shadow", json={"rules": rules, "beside": not alone})
        text = f"a candidate of {answer['rules']} rules runs; see `gateway acl shadow show`"
        return done(answer, as_json, text)

    return asking(url, user, ask)


def shadow_show(url: str, user: str | None, as_json: bool) -> int:
    """List what the candidate would change."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/admin/shadow")
        rows = [
            [
                found["user"] or "anonymous",
                found["door"],
                found["client_id"],
                found["action"],
                found["resource"],
                _ruling(found["live"]),
                _ruling(found["candidate"]),
                str(found["count"]),
            ]
            for found in answer["differences"]
        ]
        headings = ["user", "door", "client", "action", "resource", "now", "candidate", "times"]
        return show(answer, as_json, headings, rows)

    return asking(url, user, ask)


def _ruling(ruling: dict[str, Any]) -> str:
    word = "allowed" if ruling["allowed"] else "denied"
    return f"{word} ({ruling['rule']})" if ruling["rule"] else word


def shadow_stop(url: str, user: str | None, as_json: bool) -> int:
    """Stop the candidate."""

    def ask(client: Client) -> int:
        client.request("DELETE", "/v1/admin/shadow")
        return done({"stopped": True}, as_json, "the candidate is stopped")

    return asking(url, user, ask)
