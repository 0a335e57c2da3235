"""`gateway users ...`: through the HTTP door of a running gateway."""

from __future__ import annotations

import getpass
import json
import secrets
import sys
from typing import Any

from ..protocols.coap.oscore.oscore_codec import OWN_ID
from .client import Client, Refused, segment
from .show import asking, done, show, show_secret

PASSWORD_BYTES = 18  # 144 bits, in 24 characters
SECRET_BYTES = 24  # 192 bits, in 32 characters: more than the ciphers of DTLS-PSK and OSCORE use


def list_users(url: str, user: str | None, as_json: bool) -> int:
    """List users."""

    def ask(client: Client) -> int:
        answer = client.request("GET", "/v1/admin/users")
        rows = [
            [
                found["name"],
                "yes" if found["admin"] else "",
                "yes" if found["disabled"] else "",
                " ".join(found["groups"]),
                found["where"],
            ]
            for found in answer["users"]
        ]
        return show(answer, as_json, ["user", "admin", "disabled", "groups", "kept in"], rows)

    return asking(url, user, ask)


def add(
    url: str, user: str | None, name: str, admin: bool, groups: list[str], from_stdin: bool, as_json: bool
) -> int:
    """Add a user."""

    def ask(client: Client) -> int:
        password, generated = ask_password(name, from_stdin)
        fields = {"password": password, "admin": admin, "groups": groups}
        answer = client.request("PUT", f"/v1/admin/users/{segment(name)}", json=fields)
        done(answer, as_json, f"user {name!r} is added")
        return show_secret("its password", password, as_json) if generated else 0

    return asking(url, user, ask)


def change(
    url: str,
    user: str | None,
    name: str,
    admin: bool | None,
    disabled: bool | None,
    groups: list[str] | None,
    password: bool,
    from_stdin: bool,
    as_json: bool,
) -> int:
    """Change a user."""

    def ask(client: Client) -> int:
        client.request("GET", f"/v1/admin/users/{segment(name)}")  # or it would be added
        fields: dict[str, Any] = {"admin": admin, "disabled": disabled, "groups": groups}
        fields = {key: value for key, value in fields.items() if value is not None}
        generated = False
        if password:
            fields["password"], generated = ask_password(name, from_stdin)
        answer = client.request("PUT", f"/v1/admin/users/{segment(name)}", json=fields)
        done(answer, as_json, f"user {name!r} is changed; its sessions have ended")
        return show_secret("its password", fields["password"], as_json) if generated else 0

    return asking(url, user, ask)


def secret(url: str, user: str | None, name: str, from_stdin: bool, as_json: bool) -> int:
    """Give a user another shared key, and say what a client does with it."""

    def ask(client: Client) -> int:
        key = sys.stdin.readline().rstrip("\n") if from_stdin else secrets.token_urlsafe(SECRET_BYTES)
        if not key:
            raise Refused("standard input has no key")
        path = f"/v1/admin/users/{segment(name)}"
        client.request("GET", path)  # or it would be added
        answer = client.request("PUT", path, json={"secret": key})
        settings = oscore_settings(name)
        done(
            {**answer, "oscore": settings},
            as_json,
            f"user {name!r} has another shared key; its sessions have ended\n"
            f"DTLS-PSK: the identity is {name!r}\n"
            f"OSCORE: {json.dumps(settings)}",
        )
        return 0 if from_stdin else show_secret("its key", key, as_json)

    return asking(url, user, ask)


def oscore_settings(name: str) -> dict[str, str]:
    """Return a device's side of its OSCORE context, but for the secret, as aiocoap's settings.json has it."""
    context = {"id-context_ascii": name} if name.isascii() else {"id-context_hex": name.encode().hex()}
    return {"sender-id_ascii": "", "recipient-id_ascii": OWN_ID.decode(), **context}


def delete(url: str, user: str | None, name: str, as_json: bool) -> int:
    """Remove a user."""

    def ask(client: Client) -> int:
        client.request("DELETE", f"/v1/admin/users/{segment(name)}")
        return done({"deleted": name}, as_json, f"user {name!r} is removed")

    return asking(url, user, ask)


def end(url: str, user: str | None, name: str, as_json: bool) -> int:
    """End a user's sessions."""

    def ask(client: Client) -> int:
        answer = client.request("POST", f"/v1/admin/users/{segment(name)}/end", json={})
        return done(answer, as_json, f"{answer['ended']} sessions of {name!r} have ended")

    return asking(url, user, ask)


def hash_(from_stdin: bool) -> int:
    """Print the hash of a password."""
    from ..auth.hashes import hash_password

    try:
        password, _ = ask_password("the hash", from_stdin or not sys.stdin.isatty())
    except Refused as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    print(hash_password(password))
    return 0


def ask_password(name: str, from_stdin: bool) -> tuple[str, bool]:
    """Return (password, whether it was made up). Raise Refused for an empty one."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise Refused("standard input has no password")
        return password, False
    if sys.stdin.isatty():
        password = getpass.getpass(f"password for {name} (empty: generate one): ")
        if password:
            return password, False
    return secrets.token_urlsafe(PASSWORD_BYTES), True
