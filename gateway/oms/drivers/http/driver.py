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
from gateway.oms.names import topic_of

from .connection import Connection
from .reading import HttpReader
from .receiving import HttpReceiver
from .resources import HttpResources
from .sending import HttpSender


class HttpDriver(Driver):
    """To a gateway's HTTP door."""

    unsupported: ClassVar[Mapping[Feature, str]] = {
        Feature.NAMESPACES: "the door has none; one is there when a queue is named in it",
        Feature.FILTERS: "the door has selectors of consumers alone",
        Feature.ROUTINGS: "the door binds a group to its own queue alone",
        Feature.UPDATE_MESSAGE: "what waits can be edited only at the door's own API",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.connection = Connection(self.uri, self.attributes)

    async def start(self) -> None:
        self.connection.open()

    async def stop(self) -> None:
        await self.connection.close()

    async def open_sender(self, options: ClientOptions, check: Check | None) -> Sender:
        return HttpSender(self, options, check)

    async def open_receiver(self, options: ClientOptions) -> Receiver:
        return HttpReceiver(self, options)

    async def open_reader(self, options: ClientOptions) -> StreamReader:
        return HttpReader(self, options)

    def resources(self) -> Resources:
        return HttpResources(self)

    def topic_of(self, queue: str) -> str:
        """Return the topic of a queue by the name that it has here. Raise OMSDestinationError."""
        return topic_of(*self.split_queue(queue))

    def name_of(self, topic: str) -> str:
        """Return the name that applications have for a topic: that of a queue in the namespace, if it is."""
        prefix = f"{self.namespace}/"
        return topic.removeprefix(prefix) if self.namespace else topic
