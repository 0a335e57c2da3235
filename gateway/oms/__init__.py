"""OpenMessaging for Python: one API over any broker, by a URL.

    async with get_access_point("oms:local://memory/here") as access_point:
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message("orders", b"one"))

The API follows OpenMessaging 1.0.0, with the streaming consumers and batches of 0.3.1, and the selectors of
2; what is our own is said in its docstring. `driver` is what a driver implements, `sync` the same without
`await`. It needs no gateway in the process, unless the driver is `local`.
"""

from .access_point import MessagingAccessPoint, get_access_point
from .consumer import PullConsumer
from .driver import Feature, MessageSelector, Routing, SelectorType, SendResult, TransactionStatus
from .errors import (
    OMSBatchError,
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    OMSTimeoutError,
    OMSTransactionError,
    OMSUnsupportedError,
    ResponseStatus,
)
from .interceptor import ConsumerInterceptor, InterceptorContext, ProducerInterceptor
from .key_value import KeyValue
from .keys import GROUP_DEFAULT, BuiltinKeys, ExtensionKeys
from .lifecycle import ServiceLifecycle, ServiceState
from .message import (
    Durability,
    ExtensionHeader,
    Header,
    Message,
    MessageFactory,
    MessageReceipt,
    QoS,
    QueueMetaData,
)
from .producer import BatchMessageSender, Producer, TransactionalResult
from .push import ListenerContext, PushConsumer
from .resource import ResourceManager
from .streaming import StreamingConsumer, StreamingIterator
from .transaction import TransactionCheck
from .uri import AccessPointURI, Endpoint
from .version import SPEC_VERSION

__all__ = [
    "GROUP_DEFAULT",
    "SPEC_VERSION",
    "AccessPointURI",
    "BatchMessageSender",
    "BuiltinKeys",
    "ConsumerInterceptor",
    "Durability",
    "Endpoint",
    "ExtensionHeader",
    "ExtensionKeys",
    "Feature",
    "Header",
    "InterceptorContext",
    "KeyValue",
    "ListenerContext",
    "Message",
    "MessageFactory",
    "MessageReceipt",
    "MessageSelector",
    "MessagingAccessPoint",
    "OMSBatchError",
    "OMSDestinationError",
    "OMSError",
    "OMSMessageFormatError",
    "OMSSecurityError",
    "OMSTimeoutError",
    "OMSTransactionError",
    "OMSUnsupportedError",
    "Producer",
    "ProducerInterceptor",
    "PullConsumer",
    "PushConsumer",
    "QoS",
    "QueueMetaData",
    "ResourceManager",
    "ResponseStatus",
    "Routing",
    "SelectorType",
    "SendResult",
    "ServiceLifecycle",
    "ServiceState",
    "StreamingConsumer",
    "StreamingIterator",
    "TransactionCheck",
    "TransactionStatus",
    "TransactionalResult",
    "get_access_point",
]
