"""One request to the API, and what its handlers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from ...api import Action, Gateway, HttpAnswer, HttpRequest, InvalidValue
from ...core.access import ADMIN_PREFIX
from ..directory import Directory


class Call:
    """One request: what its path names, and what it brought."""

    def __init__(
        self, directory: Directory, gateway: Gateway, request: HttpRequest, parts: dict[str, str]
    ) -> None:
        self.directory = directory
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

    def named(self, what: str) -> dict[str, Any]:
        """Return the body, an object with the id that the path has. Raise InvalidValue."""
        fields, name = self.json(), self.parts["id"]
        if not isinstance(fields, dict) or fields.setdefault("id", name) != name:
            raise InvalidValue(f"the body: a {what} with the id {name!r} is expected")
        return {key: value for key, value in fields.items() if key != "where"}  # as it was shown

    def asked(self) -> dict[str, list[str]]:
        """Return the query's parameters."""
        return parse_qs(self._request.query, keep_blank_values=True, max_num_fields=100)

    def changed(self, what: str, name: str, detail: str = "") -> None:
        """Tell the audit log."""
        self.session.changed(what, name, detail)

    async def stored(self) -> None:
        """Wait until every change so far is on disk. Raise NotStored."""
        self.gateway.begin_turn()
        await self.gateway.durable(self.gateway.broker.engine.position())


Handler = Callable[[Call], Awaitable[Any]]


class Route(NamedTuple):
    """One endpoint. `area` and `action` are what its caller has to be allowed."""

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


CREATED, NO_CONTENT = 201, 204


def place(where: str) -> str:
    """Return what is shown of where a thing is said: see `Table.where`."""
    return where or "the metadata store"


def answer(status: int, found: Any) -> HttpAnswer:
    """Return an answer in JSON, or one without a body."""
    return HttpAnswer(status, b"" if status == NO_CONTENT else msgspec.json.encode(found))
