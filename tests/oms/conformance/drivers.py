"""The drivers under test. A new one adds a factory here, and the whole suite runs over it.

A factory is a context manager: it starts what the driver talks to, and yields a `Provider`. It is entered
once for all tests, which use queues of their own. What a driver does not support it says itself
(`Driver.unsupported`), and the suite holds it to that: such a call must raise OMSUnsupportedError, and no
other may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.oms.key_value import Value
from tests.process import GatewayProcess, RocketGateway


@dataclass(frozen=True)
class Provider:
    """What is needed to make access points,
    and how the provider differs where the specification is silent.
    """

    url: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    #: Sending to a queue that nobody has made or bound is refused; otherwise it is made, or the message
    #: dropped.
    knows_destinations: bool = True


Factory = Callable[[Path], AbstractContextManager[Provider]]


@contextmanager
def local(directory: Path) -> Iterator[Provider]:
    """A gateway in the process of the tests, in memory."""
    yield Provider("oms:local://memory/conformance")


@contextmanager
def http(directory: Path) -> Iterator[Provider]:
    """The HTTP door of a gateway process."""
    gateway = GatewayProcess(directory).start()
    try:
        yield Provider(f"oms:http://127.0.0.1:{gateway.http_port}/conformance")
    finally:
        gateway.stop()
    assert not gateway.bugs()


@contextmanager
def rocketmq(directory: Path) -> Iterator[Provider]:
    """The door for RocketMQ clients of a gateway process."""
    pytest.importorskip("grpc")
    gateway = RocketGateway(directory)
    gateway.start()
    try:
        yield Provider(f"oms:rocketmq://{gateway.endpoints}/conformance", knows_destinations=False)
    finally:
        gateway.stop()
    assert not gateway.bugs()


PROVIDERS: dict[str, Factory] = {"local": local, "http": http, "rocketmq": rocketmq}
