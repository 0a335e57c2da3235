"""The blocking access point."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .. import access_point as aio
from ..driver import Driver
from ..key_value import KeyValue, Value
from ..message import Message, MessageFactory
from ..transaction import TransactionCheck
from .consumer import PullConsumer, PushConsumer
from .producer import Producer
from .resource import ResourceManager
from .service import Service
from .streaming import StreamingConsumer
from .thread import THREAD

#: Called in a worker thread: it may block.
Checker = Callable[[Message, TransactionCheck], None]


class MessagingAccessPoint(Service):
    """Makes blocking clients: see `gateway.oms.MessagingAccessPoint`."""

    _inner: aio.MessagingAccessPoint

    @property
    def version(self) -> str:
        """The version of OpenMessaging that the driver implements."""
        return self._inner.version

    @property
    def attributes(self) -> KeyValue:
        """The attributes in effect."""
        return self._inner.attributes

    @property
    def driver(self) -> Driver:
        """The driver."""
        return self._inner.driver

    def create_producer(self, transaction_checker: Checker | None = None, **attributes: Value) -> Producer:
        """Return a new producer; with a checker, which is called in a worker thread, it has transactions."""
        if transaction_checker is None:
            return Producer(self._inner.create_producer(None, **attributes))
        checker = transaction_checker

        async def check(message: Message, context: TransactionCheck) -> None:
            await THREAD.in_worker(checker, message, context)

        return Producer(self._inner.create_producer(check, **attributes))

    def create_push_consumer(self, **attributes: Value) -> PushConsumer:
        """Return a new push consumer."""
        return PushConsumer(self._inner.create_push_consumer(**attributes))

    def create_pull_consumer(self, **attributes: Value) -> PullConsumer:
        """Return a new pull consumer."""
        return PullConsumer(self._inner.create_pull_consumer(**attributes))

    def create_streaming_consumer(self, **attributes: Value) -> StreamingConsumer:
        """Return a new streaming consumer."""
        return StreamingConsumer(self._inner.create_streaming_consumer(**attributes))

    def resource_manager(self) -> ResourceManager:
        """Return a resource manager, to be started like a client."""
        return ResourceManager(self._inner.resource_manager())

    def message_factory(self) -> MessageFactory:
        """Return what makes messages."""
        return self._inner.message_factory()


def get_access_point(url: str, attributes: Mapping[str, Value] | None = None) -> MessagingAccessPoint:
    """Return the access point of a URL, as `gateway.oms.get_access_point` does."""
    return MessagingAccessPoint(aio.get_access_point(url, attributes))
