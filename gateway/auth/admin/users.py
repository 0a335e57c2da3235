"""`/v1/admin/users`: who there is. Passwords come in and never go out."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from ...api import Action, AuthenticationFailed, InvalidValue, NotAuthorized
from ...http_api import CREATED, Route, answer
from ..hashes import hash_password, known
from ..passwords import PASSWORD_BYTES_MAX
from ..scram import make_verifier
from ..users import User, seal_for_user
from .call import Call, place

PASSWORD_MIN: Final = 8  # NIST SP 800-63B, 5.1.1.2
NAME_MAX: Final = 256  # characters
GROUPS_MAX: Final = 100
IMPORT_MAX: Final = 100_000  # users of one request
SECRET_BYTES: Final = (8, 1024)
_FIELDS: Final = ("password", "password_hash", "secret", "admin", "disabled", "groups")


def show(user: User, where: str) -> dict[str, Any]:
    """Return what is shown of a user."""
    return {
        "name": user.name,
        "admin": user.admin,
        "disabled": user.disabled,
        "groups": list(user.groups),
        "password": bool(user.password),
        "scram": bool(user.scram),
        "secret": bool(user.secret),
        "where": place(where),
    }


async def _list(call: Call) -> Any:
    users = call.directory.users
    return {"users": [show(user, users.where(user.name)) for user in users.all()]}


async def _get(call: Call) -> Any:
    return _shown(call, call.parts["name"])


def _shown(call: Call, name: str) -> dict[str, Any]:
    users = call.directory.users
    return show(users.find(name), users.where(name))


async def _put(call: Call) -> Any:
    name, fields = call.parts["name"], call.fields(*_FIELDS)
    changes = await _changes(call, name, fields)
    known_as = call.directory.user(name)  # after the hash, which takes long: others may have changed it
    user = msgspec.structs.replace(known_as or User(name), **changes)
    check_admin(call, user, known_as)
    call.gateway.begin_turn()
    created = call.directory.put_users([user])
    call.changed("user.create" if created else "user.change", name, ", ".join(sorted(fields)))
    await call.stored()
    return answer(CREATED if created else 200, _shown(call, name))


async def _import(call: Call) -> Any:
    """Take many at once: hashes only, as hashing passwords would take minutes."""
    found = call.fields("users").get("users")
    if not isinstance(found, list) or len(found) > IMPORT_MAX:
        raise InvalidValue(f"users: a list of at most {IMPORT_MAX} users is expected")
    made = []
    for fields in found:
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            raise InvalidValue("users: each is an object with a name")
        fields = dict(fields)
        name = fields.pop("name")
        for field in fields:
            if field not in _FIELDS:
                raise InvalidValue(f"users: {field[:80]!r}: unknown; known: name, {', '.join(_FIELDS)}")
        made.append(msgspec.structs.replace(User(name), **await _changes(call, name, fields)))
    check_admin(call, *made, *(call.directory.user(user.name) for user in made))
    call.gateway.begin_turn()
    created = call.directory.put_users(made)
    call.changed("user.import", "users", f"{len(made)} users, {created} of them new")
    await call.stored()
    return {"users": len(made), "created": created}


async def _delete(call: Call) -> Any:
    name = call.parts["name"]
    check_admin(call, call.directory.user(name))
    call.gateway.begin_turn()
    call.directory.delete_user(name)
    call.changed("user.delete", name)
    await call.stored()


async def _end(call: Call) -> Any:
    name = call.parts["name"]
    check_admin(call, call.directory.user(name))
    call.gateway.begin_turn()
    error = AuthenticationFailed("an administrator has ended this session")
    count = call.gateway.authority.end_all(name, error)
    call.changed("user.end", name, f"{count} sessions")
    return {"ended": count}


def check_admin(call: Call, *users: User | None) -> None:
    """Raise NotAuthorized if somebody who is no administrator makes one, or changes one."""
    if not call.session.principal.admin and any(user is not None and user.admin for user in users):
        raise NotAuthorized("only an administrator may add, change or remove administrators")


async def _changes(call: Call, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what the fields of a request make of a user's. Raise InvalidValue."""
    if not 0 < len(name) <= NAME_MAX or any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise InvalidValue(f"a user's name has 1 to {NAME_MAX} characters, none of them a control character")
    changes: dict[str, Any] = {}
    for key in ("admin", "disabled"):
        if key in fields:
            if not isinstance(fields[key], bool):
                raise InvalidValue(f"{key}: true or false is expected")
            changes[key] = fields[key]
    if "groups" in fields:
        changes["groups"] = _groups(fields["groups"])
    if "password_hash" in fields:
        stored = fields["password_hash"]
        if not isinstance(stored, str) or not known(stored):
            raise InvalidValue("password_hash: no form that the gateway knows; see docs/security.md")
        changes.update(password=stored, scram="")
    if "password" in fields:
        changes.update(await _secrets(fields["password"]))
    if "secret" in fields:
        changes["secret"] = _sealed(call, name, fields["secret"])
    return changes


def _groups(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > GROUPS_MAX or not all(isinstance(g, str) for g in found):
        raise InvalidValue(f"groups: a list of at most {GROUPS_MAX} names is expected")
    return tuple(dict.fromkeys(found))


async def _secrets(password: Any) -> dict[str, str]:
    """Return what is kept of a password. In a thread: it takes long by design."""
    if not isinstance(password, str) or len(password) < PASSWORD_MIN:
        raise InvalidValue(f"password: at least {PASSWORD_MIN} characters are expected")
    if len(password.encode("utf-8", "replace")) > PASSWORD_BYTES_MAX:
        raise InvalidValue(f"password: at most {PASSWORD_BYTES_MAX} bytes are expected")
    hashed, verifier = await asyncio.to_thread(lambda: (hash_password(password), make_verifier(password)))
    return {"password": hashed, "scram": verifier}


def _sealed(call: Call, name: str, secret: Any) -> str:
    """Return a shared secret (for signatures and PSK) as it is kept; "" takes it away."""
    if secret == "":
        return ""
    if not isinstance(secret, str) or not SECRET_BYTES[0] <= len(secret.encode()) <= SECRET_BYTES[1]:
        raise InvalidValue(f"secret: {SECRET_BYTES[0]} to {SECRET_BYTES[1]} bytes are expected")
    return seal_for_user(call.directory.sealer(), name, secret.encode())


_USER: Final = {"password": "correct horse battery", "admin": False, "groups": ["sensors"]}
ROUTES: Final = (
    Route("GET", "/v1/admin/users", "users", Action.VIEW, _list, "List users"),
    Route("POST", "/v1/admin/users", "users", Action.MANAGE, _import, "Take over users", {"users": []}),
    Route("GET", "/v1/admin/users/{name}", "users", Action.VIEW, _get, "Look at a user"),
    Route("PUT", "/v1/admin/users/{name}", "users", Action.MANAGE, _put, "Add or change a user", _USER),
    Route("DELETE", "/v1/admin/users/{name}", "users", Action.MANAGE, _delete, "Remove a user"),
    Route("POST", "/v1/admin/users/{name}/end", "users", Action.MANAGE, _end, "End a user's sessions", {}),
)
