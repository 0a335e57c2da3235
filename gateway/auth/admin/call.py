"""One request to the API, and what its handlers share."""

from __future__ import annotations

from typing import Any

from ... import http_api
from ...api import Gateway, HttpRequest, InvalidValue
from ..directory import Directory


class Call(http_api.Call):
    """One request, and what it is about."""

    def __init__(
        self, directory: Directory, gateway: Gateway, request: HttpRequest, parts: dict[str, str]
    ) -> None:
        super().__init__(gateway, request, parts)
        self.directory = directory

    def named(self, what: str) -> dict[str, Any]:
        """Return the body, an object with the id that the path has. Raise InvalidValue."""
        fields, name = self.json(), self.parts["id"]
        if not isinstance(fields, dict) or fields.setdefault("id", name) != name:
            raise InvalidValue(f"the body: a {what} with the id {name!r} is expected")
        return {key: value for key, value in fields.items() if key != "where"}  # as it was shown


def place(where: str) -> str:
    """Return what is shown of where a thing is said: see `Table.where`."""
    return where or "the metadata store"
