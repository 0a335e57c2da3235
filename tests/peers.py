"""Programs nobody here wrote. Missing ones are a named skip on a laptop, a failure in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

#: Where Node finds its packages: `make test` puts them there.
NODE_APP = Path(__file__).parent / "interop" / "node_app"


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


def python_with(package: str, variable: str) -> str:
    """Return the interpreter that has a package: the one an environment variable names, or our own."""
    named = os.environ.get(variable, "")
    if not named and importlib.util.find_spec(package) is not None:
        return sys.executable
    require(f"{package} ({variable})", bool(named) and Path(named).exists())
    return named


def aiocoap_python() -> str:
    """Return the interpreter that has aiocoap, with its WebSocket where there is an environment for it."""
    return python_with("aiocoap", "GATEWAY_TEST_AIOCOAP_PYTHON")


def coap_client() -> str:
    """Return libcoap's client, the one with OpenSSL: Debian calls it so, a build by hand `coap-client`."""
    return executable("coap-client-openssl" if shutil.which("coap-client-openssl") else "coap-client")


def node_package(name: str) -> str:
    """Return the path of Node, which finds the package in `NODE_APP`."""
    node = executable("node")
    require(f"{name} (npm install in {NODE_APP})", (NODE_APP / "node_modules" / name).is_dir())
    return node
