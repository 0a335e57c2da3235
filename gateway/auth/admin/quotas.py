"""`/v1/admin/quotas`: what users and clients may take."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ...api import Action
from ...http_api import CREATED, Route, answer
from ..quotas import Quota, quota_from
from .call import Call, place


def show(quota: Quota, where: str) -> dict[str, Any]:
    """Return a quota as it is shown."""
    return {**msgspec.structs.asdict(quota), "where": place(where)}


async def _list(call: Call) -> Any:
    quotas = call.directory.quotas
    exceeded = call.gateway.authority.quotas.exceeded
    return {
        "quotas": [show(quota, quotas.where(quota.id)) for quota in quotas.all()],
        "exceeded": [{"quota": name, "limit": what, "count": n} for (name, what), n in exceeded.items()],
    }


async def _put(call: Call) -> Any:
    name, quota = call.parts["id"], quota_from(call.named("quota"))
    call.gateway.begin_turn()
    created = call.directory.put_quota(quota)
    call.changed("quota.create" if created else "quota.change", name)
    await call.stored()
    return answer(CREATED if created else 200, show(quota, ""))


async def _get(call: Call) -> Any:
    quotas, name = call.directory.quotas, call.parts["id"]
    return show(quotas.find(name), quotas.where(name))


async def _delete(call: Call) -> Any:
    name = call.parts["id"]
    call.gateway.begin_turn()
    call.directory.delete_quota(name)
    call.changed("quota.delete", name)
    await call.stored()


_QUOTA: Final = {"subject": "client:*", "scope": "client", "publish_rate": 100, "subscriptions": 50}
ROUTES: Final = (
    Route(
        "GET", "/v1/admin/quotas", "quotas", Action.VIEW, _list, "List quotas, and how often each was over"
    ),
    Route("GET", "/v1/admin/quotas/{id}", "quotas", Action.VIEW, _get, "Look at a quota"),
    Route("PUT", "/v1/admin/quotas/{id}", "quotas", Action.MANAGE, _put, "Add or change a quota", _QUOTA),
    Route("DELETE", "/v1/admin/quotas/{id}", "quotas", Action.MANAGE, _delete, "Remove a quota"),
)
