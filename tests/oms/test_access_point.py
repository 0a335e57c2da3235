"""From a URL to a driver: entry points, DRIVER_IMPL, versions, and the codes of what goes wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from gateway.oms import (
    BuiltinKeys,
    OMSError,
    OMSMessageFormatError,
    ResponseStatus,
    access_point,
    get_access_point,
)
from gateway.oms.access_point import BUILT_IN
from gateway.oms.driver import ENTRY_POINTS, ClientOptions, Driver, Receiver, Sender
from gateway.oms.transaction import TransactionChecker
from tests.test_layers import ROOT


class Silent(Driver):
    """A driver that is there."""

    async def open_sender(self, options: ClientOptions, check: TransactionChecker | None) -> Sender:
        raise NotImplementedError

    async def open_receiver(self, options: ClientOptions) -> Receiver:
        raise NotImplementedError


class Old(Silent):
    version = "0.3.1-alpha"


class Patched(Silent):
    version = "1.0.7-beta"


class Nameless(Silent):
    version = "newest"


class Broken(Silent):
    def __post_init__(self) -> None:
        raise OSError("no")


class Picky(Silent):
    def __post_init__(self) -> None:
        raise OMSMessageFormatError("an attribute", ResponseStatus.BAD_PARAMETER)


def at(implementation: str, url: str = "oms:any://h/r") -> Driver:
    return get_access_point(url, {"DRIVER_IMPL": f"{__name__}:{implementation}"}).driver


def test_attributes_of_the_url_are_in_effect() -> None:
    point = get_access_point(
        "oms:any://me@a:1,b/east:shop",
        {"driver_impl": f"{__name__}:Silent", "account_key": "s", "region": "west"},
    )
    assert dict(point.attributes) == {
        BuiltinKeys.DRIVER_IMPL: f"{__name__}:Silent",
        BuiltinKeys.ACCOUNT_KEY: "s",
        BuiltinKeys.REGION: "east",
        BuiltinKeys.ACCESS_POINTS: "a:1,b",
        BuiltinKeys.NAMESPACE: "shop",
        BuiltinKeys.ACCOUNT_ID: "me",
    }
    assert point.version == "1.0.0"
    assert point.driver.split_queue("q") == ("shop", "q")
    assert point.driver.split_queue("other://q") == ("other", "q")


def test_a_patch_or_a_beta_of_the_version_fits() -> None:
    assert isinstance(at("Patched"), Patched)


@pytest.mark.parametrize(
    ("implementation", "code"),
    [
        ("Nobody", 10000),
        ("ClientOptions", 10000),
        ("Broken", 10000),
        ("Nameless", 10002),
        ("Old", 10003),
        ("Picky", 1418),
    ],
)
def test_drivers_that_cannot_be(implementation: str, code: int) -> None:
    with pytest.raises(OMSError) as refused:
        at(implementation)
    assert refused.value.code == code


@pytest.mark.parametrize("implementation", ["no.such.module:X", "no colon", ":"])
def test_implementations_that_are_no_path(implementation: str) -> None:
    with pytest.raises(OMSError) as refused:
        get_access_point("oms:any://h/r", {"DRIVER_IMPL": implementation})
    assert refused.value.code == ResponseStatus.DRIVER_UNAVAILABLE


def test_a_driver_that_nobody_has_installed() -> None:
    with pytest.raises(OMSError, match="pulsar") as refused:
        get_access_point("oms:pulsar://h/r")
    assert refused.value.code == ResponseStatus.DRIVER_UNAVAILABLE


def test_what_comes_with_the_package_is_declared_and_there() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][ENTRY_POINTS]
    assert declared == BUILT_IN
    for path in declared.values():
        module, _, name = path.partition(":")
        assert issubclass(getattr(importlib.import_module(module), name), Driver)


def test_a_driver_of_somebody_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("silent", f"{__name__}:Silent", ENTRY_POINTS)
    monkeypatch.setattr(access_point, "entry_points", lambda group, name: [entry] if name == "silent" else [])
    assert isinstance(get_access_point("oms:silent://h/r").driver, Silent)


def test_the_api_needs_neither_grpc_nor_a_gateway() -> None:
    code = (
        "import sys, gateway.oms; "
        "bad = {'grpc', 'google.protobuf', 'gateway.server', 'httpx'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
