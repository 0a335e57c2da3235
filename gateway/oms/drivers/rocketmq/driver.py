"""The driver as the API sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gateway.oms.driver import (
    Check,
    ClientOptions,
    Driver,
    Feature,
    Receiver,
    Resources,
    Sender,
    StreamReader,
)
from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.keys import OPERATION_TIMEOUT_MS_DEFAULT
from gateway.rocketmq.numbers import ClientType

from .broadcast import BroadcastReceiver
from .client import Client, Site
from .options import Account, servers, tls_of
from .reading import RocketReader
from .receiving import RocketReceiver
from .sending import RocketSender
from .topics import Topics
from .wire import Wires

_NO_ADMINISTRATION = "RocketMQ's gRPC protocol has no procedure for it"


class RocketMQDriver(Driver):
    """`oms:rocketmq://host[:8081]/region[:namespace]`."""

    unsupported: ClassVar[Mapping[Feature, str]] = {
        Feature.NAMESPACES: "those of RocketMQ are not made: a name is enough",
        Feature.QUEUES: "RocketMQ's topics are made by its administrators, the gateway's when they are used",
        Feature.LIST_QUEUES: _NO_ADMINISTRATION,
        Feature.QUEUE_ATTRIBUTES: _NO_ADMINISTRATION,
        Feature.FILTERS: "in RocketMQ a consumer says what it wants: bind with a selector",
        Feature.ROUTINGS: _NO_ADMINISTRATION,
        Feature.UPDATE_MESSAGE: _NO_ADMINISTRATION,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._servers = servers(self.uri)
        self._tls = tls_of(self.attributes)
        self._account = Account.of(self.attributes)
        self._site: Site | None = None

    async def start(self) -> None:
        """See the base."""
        self._site = Site(self._servers, Wires(self._tls), self._account)

    async def stop(self) -> None:
        """See the base."""
        site, self._site = self._site, None
        assert site is not None, "what stops has started"
        await site.wires.close()

    def _client(self, kind: ClientType, options: ClientOptions) -> Client:
        if self._site is None:
            raise OMSError("the driver is stopped", ResponseStatus.SERVICE_UNAVAILABLE)
        return Client(self._site, kind, self.namespace, options)

    async def open_sender(self, options: ClientOptions, check: Check | None) -> Sender:
        """See the base."""
        client = self._client(ClientType.PRODUCER, options)
        sender = RocketSender(client, Topics(self.split_queue), check, options)
        await client.start(sender)
        return sender

    async def open_receiver(self, options: ClientOptions) -> Receiver:
        """See the base."""
        kind = ClientType.PUSH_CONSUMER if options.push else ClientType.SIMPLE_CONSUMER
        if options.broadcast:
            kind = ClientType.PULL_CONSUMER
        client, topics = self._client(kind, options), Topics(self.split_queue)
        make = BroadcastReceiver if options.broadcast else RocketReceiver
        receiver = make(client, topics, options)
        await client.start(receiver)
        return receiver

    async def open_reader(self, options: ClientOptions) -> StreamReader:
        """See the base."""
        client = self._client(ClientType.PULL_CONSUMER, options)
        reader = RocketReader(client, Topics(self.split_queue))
        await client.start(reader)
        return reader

    def resources(self) -> Resources:
        """See the base."""
        options = ClientOptions("", "", False, OPERATION_TIMEOUT_MS_DEFAULT / 1000, 0, False, self.attributes)
        client = self._client(ClientType.PRODUCER, options)
        return RocketResources(client, Topics(self.split_queue))


class RocketResources(Resources):
    """What a client without rights to administer can find out."""

    def __init__(self, client: Client, topics: Topics) -> None:
        self._client = client
        self._topics = topics

    async def list_streams(self, queue: str) -> list[int]:
        """See the base."""
        return await RocketReader(self._client, self._topics).partitions(queue)
