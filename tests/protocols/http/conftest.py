"""Fixtures of the HTTP door's tests; what they are made of is in http_support.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio

from tests.protocols.http.http_support import Running, close_door, open_door


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    opened = await open_door()
    yield opened
    await close_door(opened)


@pytest.fixture
def config() -> SimpleNamespace:
    """A configuration to be changed before a door is opened with it: `http` is the door's table."""
    http: dict[str, object] = {}
    return SimpleNamespace(limits=SimpleNamespace(), http=http, plugin=lambda _: http)
