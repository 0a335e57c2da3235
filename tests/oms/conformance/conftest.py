"""An access point of each driver, and queues that nobody else uses."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.oms import MessagingAccessPoint, get_access_point
from tests.oms.conformance.drivers import PROVIDERS, Provider


@pytest.fixture(scope="session", params=PROVIDERS)
def provider(request: Any, tmp_path_factory: Any) -> Iterator[Provider]:
    with PROVIDERS[request.param](tmp_path_factory.mktemp(request.param)) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all: what a driver keeps open stays open from test to test."""
    for item in items:
        if Path(__file__).parent in item.path.parents and inspect.iscoroutinefunction(
            getattr(item, "function", None)
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def started(provider: Provider) -> AsyncIterator[None]:
    """The provider, used all the time: so a gateway in this process starts once."""
    async with get_access_point(provider.url, provider.attributes):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def access_point(provider: Provider) -> AsyncIterator[MessagingAccessPoint]:
    async with get_access_point(provider.url, provider.attributes) as found:
        yield found


@pytest.fixture
def queue() -> str:
    return f"q-{secrets.token_hex(6)}"


@pytest.fixture
def group() -> str:
    return f"g-{secrets.token_hex(6)}"
