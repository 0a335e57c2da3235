"""Driver `rocketmq`: the gRPC protocol of RocketMQ 5, to this gateway's door or to RocketMQ's own proxy.

options      what attributes mean: servers, login, TLS
wire         gRPC: channels and procedures
statuses     codes as OpenMessaging's errors
endpoints    addresses
ids          of messages and clients
telemetry    the stream of settings and of questions about transactions
routes       where a topic is
client       one client: settings, heartbeats, requests
topics       names of queues
translate    messages there and back
lanes        what goes together in one request
sending      a producer: retries, recall, transactions
polls        what waits at the server
acks         acknowledgements together
receiving    a consumer
reading      streams by offset
broadcast    a consumer that gets everything
driver       what the API sees
"""

try:
    import grpc  # noqa: F401
except ImportError as error:
    raise ImportError("gRPC is not installed; pip install 'gateway[openmessaging]'") from error

from .driver import RocketMQDriver

__all__ = ["RocketMQDriver"]
