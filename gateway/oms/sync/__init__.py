"""The same API without `await`: calls block until what they ask for is done.

    with sync.get_access_point("oms:local://memory/here") as access_point:
        with access_point.create_producer() as producer:
            producer.send(producer.create_message("orders", b"one"))

Everything runs on one event loop in a thread of its own; any number of threads may call. Listeners and
checkers are called in worker threads, where they may block. Interceptors are called on the loop, and must
not.
"""

from .access_point import MessagingAccessPoint, get_access_point
from .consumer import ListenerContext, PullConsumer, PushConsumer
from .producer import BatchMessageSender, Producer, TransactionalResult
from .resource import ResourceManager
from .streaming import StreamingConsumer, StreamingIterator

__all__ = [
    "BatchMessageSender",
    "ListenerContext",
    "MessagingAccessPoint",
    "Producer",
    "PullConsumer",
    "PushConsumer",
    "ResourceManager",
    "StreamingConsumer",
    "StreamingIterator",
    "TransactionalResult",
    "get_access_point",
]
