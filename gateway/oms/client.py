"""What producers and consumers have in common: an access point, its driver, and attributes of their own."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping

from .driver import ClientOptions, Driver, Feature
from .errors import OMSError, ResponseStatus
from .key_value import KeyValue, Value, attributes_of
from .keys import (
    GROUP_DEFAULT,
    INVISIBLE_TIME_MS_DEFAULT,
    OPERATION_TIMEOUT_MS_DEFAULT,
    BuiltinKeys,
    ExtensionKeys,
)
from .lifecycle import ServiceLifecycle
from .message import QueueMetaData


class Connection:
    """The access point's driver, running as long as somebody uses it."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._users = 0
        self._life = _DriverLife(driver)

    async def enter(self) -> None:
        """Use the driver; started if it is not."""
        self._users += 1
        try:
            await self._life.start()
        except BaseException:
            self._users -= 1
            raise

    async def leave(self) -> None:
        """Use it no more; stopped if nobody does."""
        self._users -= 1
        if self._users == 0:
            await self._life.stop()


class _DriverLife(ServiceLifecycle):
    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    async def _start(self) -> None:
        await self._driver.start()

    async def _stop(self) -> None:
        await self._driver.stop()


class Client(ServiceLifecycle):
    """Base class of producers and consumers: what is between entering the driver and leaving it."""

    def __init__(self, connection: Connection, options: ClientOptions) -> None:
        super().__init__()
        self._connection = connection
        self._driver = connection.driver
        self.options = options

    @property
    def attributes(self) -> KeyValue:
        """The attributes in effect: the access point's, and this client's over them."""
        return self.options.attributes

    async def queue_metadata(self, queue: str) -> list[QueueMetaData]:
        """Return the partitions of a queue. Raise OMSUnsupportedError if the driver cannot tell."""
        self._driver.require(Feature.STREAMS)
        self._check_started()
        found = await self._driver.resources().list_streams(queue)
        return [QueueMetaData(queue, partition) for partition in found]

    async def _start(self) -> None:
        await self._connection.enter()
        try:
            await self._open()
        except BaseException:
            await self._connection.leave()
            raise

    async def _stop(self) -> None:
        try:
            await self._close()
        finally:
            await self._connection.leave()

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError


async def close_all(closes: list[Callable[[], Awaitable[None]]]) -> None:
    """Close everything, also when something fails; raise the first failure."""
    failed: BaseException | None = None
    for close in closes:
        try:
            await close()
        except BaseException as error:
            failed = failed or error
    if failed is not None:
        raise failed


def producer_options(shared: KeyValue, own: Mapping[str, Value]) -> ClientOptions:
    """Return what a producer is made with. Raise OMSMessageFormatError for attributes that cannot be."""
    attributes = attributes_of(shared, own)
    client_id = attributes.get_string(BuiltinKeys.PRODUCER_ID) or _made_up("producer")
    return _options(attributes, client_id, "", push=False)


def consumer_options(shared: KeyValue, own: Mapping[str, Value], push: bool = False) -> ClientOptions:
    """Return what a consumer is made with. Raise OMSMessageFormatError for attributes that cannot be."""
    attributes = attributes_of(shared, own)
    client_id = _made_up("consumer")
    group = attributes.get_string(BuiltinKeys.CONSUMER_ID) or GROUP_DEFAULT
    if attributes.get_boolean(ExtensionKeys.BROADCAST):
        group = f"{group}-{client_id}"
    return _options(attributes, client_id, group, push)


def _made_up(kind: str) -> str:
    return f"oms-{kind}-{secrets.token_hex(6)}"


def _options(attributes: KeyValue, client_id: str, group: str, push: bool) -> ClientOptions:
    return ClientOptions(
        client_id=client_id,
        group=group,
        broadcast=attributes.get_boolean(ExtensionKeys.BROADCAST),
        operation_timeout=_seconds(attributes, BuiltinKeys.OPERATION_TIMEOUT, OPERATION_TIMEOUT_MS_DEFAULT),
        invisible=_seconds(attributes, ExtensionKeys.INVISIBLE_TIME, INVISIBLE_TIME_MS_DEFAULT),
        push=push,
        attributes=attributes,
    )


def _seconds(attributes: KeyValue, name: str, default_ms: int) -> float:
    found = attributes.get_int(name, default_ms)
    if found <= 0:
        raise OMSError(f"{name} is {found} ms", ResponseStatus.BAD_PARAMETER)
    return found / 1000


def positive(attributes: KeyValue, name: str, default: int) -> int:
    """Return a whole number from 1 on. Raise OMSError with BAD_PARAMETER."""
    found = attributes.get_int(name, default)
    if found < 1:
        raise OMSError(f"{name} is {found}", ResponseStatus.BAD_PARAMETER)
    return found
