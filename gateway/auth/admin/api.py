"""All endpoints of the API for users, rules, quotas, explanations and candidates."""

from __future__ import annotations

from typing import Final

from ...api import Gateway
from ...http_api import Api, Route
from ..directory import Directory
from .call import Call
from .explain import ROUTES as EXPLAIN
from .keys import ROUTES as KEYS
from .quotas import ROUTES as QUOTAS
from .rules import ROUTES as RULES
from .users import ROUTES as USERS

ROUTES: Final[tuple[Route, ...]] = (*USERS, *KEYS, *RULES, *QUOTAS, *EXPLAIN)


class AccessApi(Api):
    """Implements `gateway.api.HttpPart`."""

    def __init__(self, directory: Directory, gateway: Gateway) -> None:
        super().__init__(ROUTES, lambda request, parts: Call(directory, gateway, request, parts))
