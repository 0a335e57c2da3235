"""RabbitMQ's management API, the part that tools and client libraries use: its routes are at the end.

Names in paths are percent-encoded; `%2F` is the default virtual host. Reading needs the right to
manage `$sys/overview`, changing something the right to manage that.

call                       a request
status, topology, queues,
policies, messages         what the routes do
views                      what they show
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from gateway.api import Gateway, HttpAnswer, HttpRequest
from gateway.core.errors import InvalidValue, NotFound

from ..errors import AmqpFault, Reply, fault_of
from . import policies, queues, status, topology
from .call import Call

if TYPE_CHECKING:
    from .. import Amqp

#: Reply code -> HTTP status, for what is refused.
STATUSES: Final = {
    Reply.NOT_FOUND: 404,
    Reply.ACCESS_REFUSED: 403,
    Reply.RESOURCE_LOCKED: 405,
    Reply.PRECONDITION_FAILED: 400,
    Reply.COMMAND_INVALID: 400,
    Reply.INTERNAL_ERROR: 500,
}

Handler = Callable[[Call], Any]
_encode = msgspec.json.Encoder().encode


class Management:
    """Finds the route, and turns what is refused into an answer."""

    def __init__(self, amqp: Amqp, gateway: Gateway) -> None:
        self.amqp = amqp
        self.gateway = gateway

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request whose path begins with `/api/`."""
        allowed: list[str] = []
        for method, pattern, handler in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            allowed.append(method)
            if method != request.method and not (method == "GET" and request.method == "HEAD"):
                continue
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            return self._call(handler, Call(self.amqp, self.gateway, request, parts))
        if allowed:
            return _refusal(405, "method_not_allowed", f"{', '.join(allowed)} is possible here")
        return _refusal(404, "Object Not Found", "Not Found")

    def _call(self, handler: Handler, call: Call) -> HttpAnswer:
        try:
            found = handler(call)
        except (NotFound, AmqpFault, InvalidValue) as error:
            fault = fault_of(error)
            status = STATUSES.get(fault.code, 400)
            return _refusal(status, "bad_request" if status == 400 else "Object Not Found", fault.detail)
        if call.request.method not in ("GET", "HEAD") and handler not in _MESSAGES:
            call.session.changed("management." + call.request.method.lower(), call.request.path)
        if isinstance(found, HttpAnswer):
            return found
        return HttpAnswer(204) if found is None else HttpAnswer(200, _encode(found))


def _refusal(status: int, error: str, reason: str) -> HttpAnswer:
    return HttpAnswer(status, _encode({"error": error, "reason": reason}))


_V, _X, _Q = "(?P<vhost>[^/]+)", "(?P<exchange>[^/]+)", "(?P<queue>[^/]+)"
_TO, _NAME, _PROPS = "(?P<to>[^/]+)", "(?P<name>[^/]+)", "(?P<properties>[^/]+)"
_P = "(?P<policy>[^/]+)"

_TABLE: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "overview", status.overview),
    ("GET", "nodes", status.nodes),
    ("GET", f"nodes/{_NAME}", status.node),
    ("GET", "cluster-name", status.cluster_name),
    ("GET", "whoami", status.whoami),
    ("GET", "users", status.users),
    ("GET", f"(permissions|vhosts/{_V}/permissions)", status.permissions),
    ("GET", "(topic-permissions|parameters|global-parameters|extensions|operator-policies)", status.nothing),
    ("GET", f"(connections|vhosts/{_V}/connections)", status.connections),
    ("GET", f"connections/{_NAME}", status.connection),
    ("DELETE", f"connections/{_NAME}", status.close_connection),
    ("GET", f"connections/{_NAME}/channels", status.connection_channels),
    ("GET", "channels", status.channels),
    ("GET", f"vhosts/{_V}/channels", status.channels),
    ("GET", f"consumers(/{_V})?", status.consumers),
    ("GET", "vhosts", topology.vhosts),
    ("GET", f"vhosts/{_V}", topology.vhost),
    ("PUT", f"vhosts/{_V}", topology.put_vhost),
    ("DELETE", f"vhosts/{_V}", topology.delete_vhost),
    ("GET", f"exchanges(/{_V})?", topology.exchanges),
    ("GET", f"exchanges/{_V}/{_X}", topology.exchange),
    ("PUT", f"exchanges/{_V}/{_X}", topology.put_exchange),
    ("DELETE", f"exchanges/{_V}/{_X}", topology.delete_exchange),
    ("GET", f"exchanges/{_V}/{_X}/bindings/source", topology.from_exchange),
    ("GET", f"exchanges/{_V}/{_X}/bindings/destination", topology.to_exchange),
    ("POST", f"exchanges/{_V}/{_X}/publish", topology.publish),
    ("GET", f"queues(/{_V})?", queues.queues),
    ("GET", f"queues/{_V}/{_Q}", queues.queue),
    ("PUT", f"queues/{_V}/{_Q}", queues.put_queue),
    ("DELETE", f"queues/{_V}/{_Q}", queues.delete_queue),
    ("DELETE", f"queues/{_V}/{_Q}/contents", queues.purge),
    ("POST", f"queues/{_V}/{_Q}/get", queues.get),
    ("GET", f"queues/{_V}/{_Q}/bindings", queues.to_queue),
    ("GET", f"bindings(/{_V})?", queues.bindings),
    ("GET", f"bindings/{_V}/e/{_X}/q/{_Q}", queues.some_bindings),
    ("POST", f"bindings/{_V}/e/{_X}/q/{_Q}", queues.post_binding),
    ("GET", f"bindings/{_V}/e/{_X}/q/{_Q}/{_PROPS}", queues.one_binding),
    ("DELETE", f"bindings/{_V}/e/{_X}/q/{_Q}/{_PROPS}", queues.delete_binding),
    ("GET", f"bindings/{_V}/e/{_X}/e/{_TO}", queues.some_bindings),
    ("POST", f"bindings/{_V}/e/{_X}/e/{_TO}", queues.post_binding),
    ("GET", f"bindings/{_V}/e/{_X}/e/{_TO}/{_PROPS}", queues.one_binding),
    ("DELETE", f"bindings/{_V}/e/{_X}/e/{_TO}/{_PROPS}", queues.delete_binding),
    ("GET", f"policies(/{_V})?", policies.policies),
    ("GET", f"policies/{_V}/{_P}", policies.policy),
    ("PUT", f"policies/{_V}/{_P}", policies.put_policy),
    ("DELETE", f"policies/{_V}/{_P}", policies.delete_policy),
    ("GET", f"definitions(/{_V})?", policies.definitions),
    ("POST", f"definitions(/{_V})?", policies.post_definitions),
    ("GET", f"aliveness-test/{_V}", status.aliveness),
    ("GET", "health/checks/.*", status.healthy),
    ("GET", f"healthchecks/node(/{_NAME})?", status.healthy),
)
_MESSAGES: Final = (topology.publish, queues.get)  # these change nothing that is administered
_ROUTES: Final = tuple((method, re.compile(f"/api/{path}/?"), handler) for method, path, handler in _TABLE)
