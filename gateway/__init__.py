"""A messaging gateway: MQTT, HTTP and more over one message model, one core and one log.

What a plugin author imports. The interfaces are in `gateway.api`, the hooks in
`gateway.hookspecs`, the test kit in `gateway.testing`.
"""

from .core.access import Action, Credentials, Principal
from .core.delivery import Delivery
from .core.errors import AuthenticationFailed, GatewayError, NotAuthorized
from .core.message import Message, Origin, Outcome, Properties, Qos
from .core.session import Session
from .hookspecs import hookimpl
from .version import __version__

__all__ = [
    "Action",
    "AuthenticationFailed",
    "Credentials",
    "Delivery",
    "GatewayError",
    "Message",
    "NotAuthorized",
    "Origin",
    "Outcome",
    "Principal",
    "Properties",
    "Qos",
    "Session",
    "__version__",
    "hookimpl",
]
