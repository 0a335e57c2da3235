"""Finds the endpoint, checks the caller, and describes all endpoints for the door's document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from ...api import Gateway, HttpAnswer, HttpRequest, NotFound
from ..directory import Directory
from .call import CREATED, NO_CONTENT, Call, Route, answer
from .explain import ROUTES as EXPLAIN
from .keys import ROUTES as KEYS
from .quotas import ROUTES as QUOTAS
from .rules import ROUTES as RULES
from .users import ROUTES as USERS

ROUTES: Final[tuple[Route, ...]] = (*USERS, *KEYS, *RULES, *QUOTAS, *EXPLAIN)


def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


_PATTERNS: Final = tuple((_compiled(route.path), route) for route in ROUTES)


class AccessApi:
    """Implements `gateway.api.HttpPart`."""

    http_prefixes = tuple({route.path.partition("/{")[0] for route in ROUTES})

    def __init__(self, directory: Directory, gateway: Gateway) -> None:
        self._directory = directory
        self._gateway = gateway

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        """Answer. Raise a GatewayError."""
        allowed: list[str] = []
        for pattern, route in _PATTERNS:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            allowed.append(route.method)
            if route.method != request.method:
                continue
            request.session.check(route.action, route.resource)
            parts = {name: unquote(value) for name, value in match.groupdict().items()}
            found = await route.handler(Call(self._directory, self._gateway, request, parts))
            if isinstance(found, HttpAnswer):
                return found
            return answer(NO_CONTENT if found is None else 200, found)
        if allowed:
            return answer(405, {"title": "Method not allowed", "status": 405, "detail": ", ".join(allowed)})
        raise NotFound(f"there is no {request.path[:200]!r}; see /docs for what there is")

    def http_document(self) -> Mapping[str, Any]:
        """Return OpenAPI's path items."""
        paths: dict[str, Any] = {}
        for route in ROUTES:
            operation: dict[str, Any] = {
                "summary": route.summary,
                "description": f"For whoever may {route.action.value} the admin area `{route.area}`.",
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in re.findall(r"\{(\w+)\}", route.path)
                ],
                "responses": _responses(route),
            }
            if route.body is not None:
                content = {"application/json": {"schema": {"type": "object"}, "example": route.body}}
                operation["requestBody"] = {"content": content}
            paths.setdefault(route.path, {})[route.method.lower()] = operation
        return paths


def _responses(route: Route) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    body: dict[str, Any] = {"application/json": {"schema": {}}}
    found: dict[str, Any] = {"200": {"description": "Done", "content": body}}
    if route.method in ("PUT", "POST"):
        found[str(CREATED)] = {"description": "Created", "content": body}
    if route.method == "DELETE":
        found = {str(NO_CONTENT): {"description": "Done"}}
    for status, text in ((400, "Malformed"), (401, "No login"), (403, "Not allowed"), (404, "Not there")):
        found[str(status)] = {"description": text, "content": problem}
    for status, text in ((409, "Said elsewhere"), (422, "Makes no sense"), (429, "Too often")):
        found[str(status)] = {"description": text, "content": problem}
    return found
