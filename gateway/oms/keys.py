"""Names of attributes that the API knows: of access points, of clients, of queues.

Applications may give them in upper or lower case, and as keyword arguments; the value of a time is
milliseconds here, as everywhere in OpenMessaging where a number stands alone.
"""

from __future__ import annotations

from typing import Final


class BuiltinKeys:
    """OpenMessaging's own keys, 0.3.1's among them."""

    DRIVER_IMPL: Final = "DRIVER_IMPL"  # "package.module:Class", instead of the entry point of that name
    ACCESS_POINTS: Final = "ACCESS_POINTS"  # host:port[,host:port]; the URL's
    ACCOUNT_ID: Final = "ACCOUNT_ID"  # the URL's, if it has one
    ACCOUNT_KEY: Final = "ACCOUNT_KEY"  # the account's secret: never in a URL
    REGION: Final = "REGION"
    NAMESPACE: Final = "NAMESPACE"
    PRODUCER_ID: Final = "PRODUCER_ID"
    CONSUMER_ID: Final = "CONSUMER_ID"  # the consumer group
    OPERATION_TIMEOUT: Final = "OPERATION_TIMEOUT"  # ms
    ROUTING_SOURCE: Final = "ROUTING_SOURCE"
    ROUTING_DESTINATION: Final = "ROUTING_DESTINATION"
    ROUTING_EXPRESSION: Final = "ROUTING_EXPRESSION"


class ExtensionKeys:
    """Keys of ours: what OpenMessaging leaves open and applications need to say."""

    BROADCAST: Final = "BROADCAST"  # true: each consumer gets everything from when it starts on
    INVISIBLE_TIME: Final = "INVISIBLE_TIME"  # ms until what is not acknowledged comes again
    RETRY_DELAY: Final = "RETRY_DELAY"  # ms until what a listener failed at comes again; else the queue says
    CHECK_DELAY: Final = (
        "CHECK_DELAY"  # ms until an open transaction is asked about first; else the broker says
    )
    CONSUME_CONCURRENCY: Final = "CONSUME_CONCURRENCY"  # listeners of one push consumer at a time
    BATCH_SIZE: Final = "BATCH_SIZE"  # messages a batch listener gets at most
    DATA: Final = "DATA"  # local: the directory of the commit log; without it the gateway is in memory


GROUP_DEFAULT: Final = "oms.default"  # of consumers without CONSUMER_ID: they compete, point to point
OPERATION_TIMEOUT_MS_DEFAULT: Final = 5000  # RocketMQ's and OpenMessaging's
INVISIBLE_TIME_MS_DEFAULT: Final = 30_000  # as a lease by HTTP
CONSUME_CONCURRENCY_DEFAULT: Final = 32  # RocketMQ's pull batch
BATCH_SIZE_DEFAULT: Final = 32  # the same
