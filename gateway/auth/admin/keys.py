"""`/v1/admin/keys`: API keys. A key is shown once, when it is made."""

from __future__ import annotations

from typing import Any, Final

from ...api import Action, InvalidValue
from ...http_api import CREATED, Route, answer
from ..keys import ApiKey, make_key
from .call import Call
from .users import check_admin

SECONDS_MAX: Final = 10 * 365 * 86_400
_FIELDS: Final = ("user", "description", "expires_in", "groups")


def show(key: ApiKey) -> dict[str, Any]:
    """Return what is shown of a key."""
    return {
        "id": key.id,
        "user": key.user,
        "description": key.description,
        "groups": list(key.groups),
        "created_ms": key.created_ms,
        "expires_ms": key.expires_at_ms or None,
    }


async def _list(call: Call) -> Any:
    return {"keys": [show(key) for key in call.directory.keys.all()]}


async def _create(call: Call) -> Any:
    fields = call.fields(*_FIELDS)
    name, seconds, groups = fields.get("user"), fields.get("expires_in", 0), fields.get("groups", [])
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= SECONDS_MAX:
        raise InvalidValue(f"expires_in: 0 (never) to {SECONDS_MAX} seconds are expected")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidValue("groups: a list of names is expected")
    user = call.directory.user(name) if isinstance(name, str) else None
    if user is None:
        raise InvalidValue(f"user: there is no user {name!r}")
    check_admin(call, user)
    now_ms = call.gateway.clock.wall_ms
    expires_ms = now_ms + int(seconds * 1000) if seconds else 0
    description = fields.get("description", "")
    if not isinstance(description, str):
        raise InvalidValue("description: a string is expected")
    try:
        text, key = make_key(user.name, now_ms, expires_ms, description, tuple(groups))
    except ValueError as error:
        raise InvalidValue(str(error)) from error
    call.gateway.begin_turn()
    call.directory.keys.put(key.id, key)
    call.changed("key.create", key.id, f"of user {key.user!r}")
    await call.stored()
    return answer(CREATED, {**show(key), "key": text})


async def _delete(call: Call) -> Any:
    name = call.parts["id"]
    key = call.directory.keys.find(name)
    check_admin(call, call.directory.user(key.user))
    call.gateway.begin_turn()
    call.directory.delete_key(name)
    call.changed("key.delete", name, f"of user {key.user!r}")
    await call.stored()


_KEY: Final = {"user": "backend", "description": "nightly reports", "expires_in": 86400}
ROUTES: Final = (
    Route("GET", "/v1/admin/keys", "users", Action.VIEW, _list, "List API keys"),
    Route("POST", "/v1/admin/keys", "users", Action.MANAGE, _create, "Make an API key", _KEY),
    Route("DELETE", "/v1/admin/keys/{id}", "users", Action.MANAGE, _delete, "Remove an API key"),
)
