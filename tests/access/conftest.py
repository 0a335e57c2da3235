"""Gateways with users and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.access.guarded import Guarded


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    """Make and start gateways; they are stopped, and must not have logged a bug."""
    made: list[Guarded] = []

    def make(*users: str, settings: str = "", sets: tuple[str, ...] = ()) -> Guarded:
        process = Guarded(tmp_path / f"gateway{len(made)}", users, settings, sets)
        made.append(process)
        process.start()
        return process

    yield make
    for process in made:
        process.stop()
        assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """The same for a whole module: the first call makes it."""
    made: list[Guarded] = []

    def make(*users: str, settings: str = "") -> Guarded:
        if not made:
            made.append(Guarded(tmp_path_factory.mktemp("shared"), users, settings))
            made[0].start()
        return made[0]

    yield make
    for process in made:
        process.stop()
        assert not process.bugs(), "\n".join(process.errors)
