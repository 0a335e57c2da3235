"""Programs nobody here wrote. Missing ones are a named skip on a laptop, a failure in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require(name: str, present: bool) -> None:
    """Skip unless the peer is present; fail where the environment says that peers are required."""
    if present:
        return
    if os.environ.get("GATEWAY_TEST_PEERS") == "required":
        pytest.fail(f"peer not installed: {name}")
    pytest.skip(f"peer not installed: {name}")


def executable(name: str) -> str:
    """Return the path of a peer program."""
    path = shutil.which(name)
    require(name, path is not None)
    assert path is not None
    return path
