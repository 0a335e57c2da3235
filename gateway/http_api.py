"""What APIs below paths of their own share: find the endpoint, check the caller, describe it all.

A plugin makes a table of `Route`s and offers one `Api` of it by the hook `gateway_http_parts`. A caller is
checked by the admin area that the route names, before its handler runs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote

import msgspec

from .api import Action, Gateway, HttpAnswer, HttpRequest, InvalidValue, NotFound
from .core.access import ADMIN_PREFIX

CREATED, NO_CONTENT = 201, 204
PARAMETERS_MAX: Final = 100  # of a query


class Call:
    """One request: what its path names, and what it brought."""

    def __init__(self, gateway: Gateway, request: HttpRequest, parts: dict[str, str]) -> None:
        self.gateway = gateway
        self.session = request.session
        self.parts = parts
        self._request = request

    def json(self) -> Any:
        """Return the body. Raise InvalidValue."""
        if not self._request.body:
            return {}
        try:
            return msgspec.json.decode(self._request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidValue(f"the body is not JSON: {error}") from error

    def fields(self, *known: str) -> dict[str, Any]:
        """Return the members of the body, an object. Raise InvalidValue for one that is not known."""
        found = self.json()
        if not isinstance(found, dict):
            raise InvalidValue("the body: a JSON object is expected")
        for name in found:
            if name not in known:
                raise InvalidValue(f"{name[:80]!r}: unknown; known: {', '.join(known)}")
        return found

    def asked(self) -> dict[str, list[str]]:
        """Return the query's parameters."""
        return parse_qs(self._request.query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)

    def changed(self, what: str, name: str, detail: str = "") -> None:
        """Tell the audit log."""
        self.session.changed(what, name, detail)

    async def stored(self) -> None:
        """Wait until every change so far is on disk. Raise NotStored."""
        self.gateway.begin_turn()
        await self.gateway.durable(self.gateway.broker.engine.position())


#: Takes a `Call`, or what its API has made of it; what it returns is encoded, None is no content.
Handler = Callable[[Any], Awaitable[Any]]


class Route(NamedTuple):
    """One endpoint. `area` and `action` are what its caller has to be allowed; "": the handler asks."""

    method: str
    path: str
    area: str
    action: Action
    handler: Handler
    summary: str
    body: dict[str, Any] | None = None  # an example

    @property
    def resource(self) -> str:
        """What the action is about."""
        return ADMIN_PREFIX + self.area


def answer(status: int, found: Any) -> HttpAnswer:
    """Return an answer in JSON, or one without a body."""
    return HttpAnswer(status, b"" if status == NO_CONTENT else msgspec.json.encode(found))


class Api:
    """Implements `gateway.api.HttpPart`."""

    def __init__(self, routes: Sequence[Route], call: Callable[[HttpRequest, dict[str, str]], Call]) -> None:
        self.http_prefixes = tuple({route.path.partition("/{")[0] for route in routes})
        self._routes = [(_compiled(route.path), route) for route in routes]
        self._call = call

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        """Answer. Raise a GatewayError."""
        allowed: list[str] = []
        for pattern, route in self._routes:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            allowed.append(route.method)
            if route.method != request.method:
                continue
            if route.area:
                request.session.check(route.action, route.resource)
            parts = {name: unquote(value) for name, value in match.groupdict().items()}
            found = await route.handler(self._call(request, parts))
            if isinstance(found, HttpAnswer):
                return found
            return answer(NO_CONTENT if found is None else 200, found)
        if allowed:
            return answer(405, {"title": "Method not allowed", "status": 405, "detail": ", ".join(allowed)})
        raise NotFound(f"there is no {request.path[:200]!r}; see /docs for what there is")

    def http_document(self) -> Mapping[str, Any]:
        """Return OpenAPI's path items."""
        paths: dict[str, Any] = {}
        for _, route in self._routes:
            operation: dict[str, Any] = {
                "summary": route.summary,
                "description": _who(route),
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


def _who(route: Route) -> str:
    if not route.area:
        return "For everybody, about what is their own."
    return f"For whoever may {route.action.value} the admin area `{route.area}`."


def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


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
