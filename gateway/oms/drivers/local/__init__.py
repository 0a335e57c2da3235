"""The driver `local`: a gateway in this very process.

    oms:local://memory/REGION[:NAMESPACE]       in memory, or with the attribute DATA in that directory

All access points of one URL on one event loop share one gateway. It runs while one of them, or a client of
theirs, is started; what is in memory goes with the last of them. Nothing is serialized on the way: messages
are the core's own, and an await ends when the log has them.
"""

from __future__ import annotations

from pathlib import Path

from gateway.api import Session

from ...driver import (
    Check,
    ClientOptions,
    Driver,
    Feature,
    Receiver,
    Resources,
    Sender,
    StreamReader,
)
from ...errors import OMSDestinationError, OMSError, ResponseStatus
from ...fields import BORN_HOST
from ...keys import BuiltinKeys, ExtensionKeys
from .errors import translating
from .names import Place, place_of
from .reader import LocalReader
from .receiver import LocalReceiver
from .region import Region, offered, region_of
from .resources import LocalResources
from .sender import PROTOCOL, LocalSender

__all__ = ["LocalDriver", "offered"]

HOST = "memory"
NAME_DEFAULT = "oms"  # of the principal, if the URL has no account


class LocalDriver(Driver):
    """One access point of a region."""

    unsupported = {
        Feature.UPDATE_MESSAGE: "a message never changes once it is published",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        hosts = self.uri.hosts
        data = self.attributes.get_string(ExtensionKeys.DATA)
        self._data = str(Path(data).resolve() / self.uri.region) if data else ""
        if len(hosts) != 1 or (hosts[0].host != HOST and not data):
            raise OMSError(
                f"{self.uri}: oms:local://{HOST}/<region> is expected, or the attribute DATA",
                ResponseStatus.BAD_PARAMETER,
            )
        self._region: Region | None = None

    @property
    def region(self) -> Region:
        """The gateway, while the driver is started."""
        assert self._region is not None, "the driver is not started"
        return self._region

    async def start(self) -> None:
        region = region_of(self.uri.hosts[0].host, self.uri.region, self._data)
        await region.enter()
        self._region = region
        if self.uri.namespace and self.uri.namespace not in region.registry.namespaces:
            region.gateway.begin_turn()
            region.registry.add_namespace(self.uri.namespace)

    async def stop(self) -> None:
        region, self._region = self._region, None
        assert region is not None
        await region.leave()

    async def open_sender(self, options: ClientOptions, check: Check | None) -> Sender:
        return LocalSender(self, options, check)

    async def open_receiver(self, options: ClientOptions) -> Receiver:
        return LocalReceiver(self, options)

    async def open_reader(self, options: ClientOptions) -> StreamReader:
        return LocalReader(self, options)

    def resources(self) -> Resources:
        return LocalResources(self)

    def session(self, options: ClientOptions) -> Session:
        """Return a session for a client."""
        account = options.attributes.get_string(BuiltinKeys.ACCOUNT_ID) or NAME_DEFAULT
        with translating():
            return self.region.embedded.session(options.client_id, account, BORN_HOST, PROTOCOL)

    def place(self, queue: str) -> Place:
        """Return where a queue is. Raise OMSDestinationError."""
        namespace = self.check_namespace(queue)
        return place_of(namespace, self.split_queue(queue)[1])

    def check_namespace(self, queue: str) -> str:
        """Return a queue's namespace. Raise OMSDestinationError with NAMESPACE_NOT_FOUND."""
        namespace, _ = self.split_queue(queue)
        if namespace and namespace not in self.region.registry.namespaces:
            raise OMSDestinationError(
                f"there is no namespace {namespace!r}", ResponseStatus.NAMESPACE_NOT_FOUND
            )
        return namespace

    def namespace_of(self, topic: str) -> str:
        """Return the namespace that a topic is in."""
        first, slash, _ = topic.partition("/")
        return first if slash and first in self.region.registry.namespaces else ""

    def name_of(self, topic: str) -> str:
        """Return the name of a topic's queue, as it is said in the access point's namespace."""
        namespace = self.namespace_of(topic)
        name = topic[len(namespace) + 1 :] if namespace else topic
        return name if namespace == self.namespace else f"{namespace}://{name}"
