"""The access point: a URL, the driver that it names, and the clients that are made of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

from .client import Connection, consumer_options, producer_options
from .consumer import PullConsumer
from .driver import ENTRY_POINTS, Driver
from .errors import OMSError, ResponseStatus
from .key_value import KeyValue, Value, attributes_of
from .keys import BuiltinKeys
from .lifecycle import ServiceLifecycle
from .message import MessageFactory
from .producer import Producer
from .push import PushConsumer
from .resource import ResourceManager
from .streaming import StreamingConsumer
from .transaction import TransactionChecker
from .uri import AccessPointURI
from .version import check_version

#: What comes with the package, for where it is not installed and has no entry points.
BUILT_IN = {
    "local": "gateway.oms.drivers.local:LocalDriver",
    "rocketmq": "gateway.oms.drivers.rocketmq:RocketMQDriver",
    "http": "gateway.oms.drivers.http:HttpDriver",
}


class MessagingAccessPoint(ServiceLifecycle):
    """Makes clients. Starting it is optional: it keeps the driver going while no client runs.

    Attributes of clients are keyword arguments, in upper or lower case:
    `create_pull_consumer(consumer_id="g")`.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._connection = Connection(driver)
        self._driver = driver

    @property
    def version(self) -> str:
        """The version of OpenMessaging that the driver implements."""
        return self._driver.version

    @property
    def attributes(self) -> KeyValue:
        """The attributes in effect, those of the URL among them."""
        return self._driver.attributes

    @property
    def driver(self) -> Driver:
        """The driver: what it lacks is in its `unsupported`."""
        return self._driver

    def create_producer(
        self, transaction_checker: TransactionChecker | None = None, **attributes: Value
    ) -> Producer:
        """Return a new producer; with a checker it has transactions."""
        return Producer(self._connection, producer_options(self.attributes, attributes), transaction_checker)

    def create_push_consumer(self, **attributes: Value) -> PushConsumer:
        """Return a new push consumer."""
        return PushConsumer(self._connection, consumer_options(self.attributes, attributes, push=True))

    def create_pull_consumer(self, **attributes: Value) -> PullConsumer:
        """Return a new pull consumer."""
        return PullConsumer(self._connection, consumer_options(self.attributes, attributes))

    def create_streaming_consumer(self, **attributes: Value) -> StreamingConsumer:
        """Return a new streaming consumer."""
        return StreamingConsumer(self._connection, consumer_options(self.attributes, attributes))

    def resource_manager(self) -> ResourceManager:
        """Return a resource manager, to be started like a client."""
        return ResourceManager(self._connection)

    def message_factory(self) -> MessageFactory:
        """Return what makes messages."""
        return MessageFactory()

    async def _start(self) -> None:
        await self._connection.enter()

    async def _stop(self) -> None:
        await self._connection.leave()


def get_access_point(url: str, attributes: Mapping[str, Value] | None = None) -> MessagingAccessPoint:
    """Return the access point of a URL. Nothing is opened before a client of it starts.

    Raise OMSError: URL_ILLEGAL, DRIVER_UNAVAILABLE, IMPLEMENTATION_VERSION_ILLEGAL, SPECIFICATION_MISMATCH.
    """
    uri = AccessPointURI.parse(url)
    of_url = {
        BuiltinKeys.ACCESS_POINTS: uri.access_points,
        BuiltinKeys.REGION: uri.region,
        BuiltinKeys.NAMESPACE: uri.namespace,
        BuiltinKeys.ACCOUNT_ID: uri.account,
    }
    given: dict[str, Value] = {name: value for name, value in of_url.items() if value}
    merged = attributes_of(attributes, given)
    found = _driver_class(uri.driver, merged.get_string(BuiltinKeys.DRIVER_IMPL))
    check_version(found.version)
    try:
        driver = found(uri, merged)
    except OMSError:
        raise
    except Exception as error:
        raise _unavailable(uri.driver, f"it cannot be made: {error}") from error
    return MessagingAccessPoint(driver)


def _driver_class(name: str, implementation: str | None) -> type[Driver]:
    try:
        found = _by_path(implementation) if implementation else _by_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise _unavailable(name, str(error)) from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise _unavailable(name, f"{found!r} is no class of drivers")
    return found


def _by_name(name: str) -> object:
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return entry.load()
    path = BUILT_IN.get(name)
    if path is None:
        raise ImportError("nothing of that name is installed")
    return _by_path(path)


def _by_path(path: str) -> object:
    module, colon, attribute = path.partition(":")
    if not colon:
        raise ValueError(f"{path!r} is not package.module:Class")
    return getattr(importlib.import_module(module), attribute)


def _unavailable(name: str, why: str) -> OMSError:
    return OMSError(f"there is no driver {name!r}: {why}", ResponseStatus.DRIVER_UNAVAILABLE)
