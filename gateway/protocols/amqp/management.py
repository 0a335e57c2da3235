"""RabbitMQ's management API, the part that tools and client libraries use: routes and what they do.

Names in paths are percent-encoded; `%2F` is the default virtual host. Reading needs the right to
manage `$sys/overview`, changing something the right to manage that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from gateway.api import Gateway, HttpAnswer, HttpRequest
from gateway.core.access import Action
from gateway.core.errors import InvalidValue, NotFound
from gateway.core.message import Outcome

from . import names, views
from .definitions import Import, export_all
from .errors import AmqpFault, Reply, fault_of
from .exchanges import Exchange
from .message_api import get_messages, publish_message
from .policies import read_policy
from .vhost import Declared, Vhost

if TYPE_CHECKING:
    from . import Amqp

OVERVIEW_RESOURCE: Final = "$sys/overview"
ALIVENESS_QUEUE: Final = "aliveness-test"

#: Reply code -> HTTP status, for what is refused.
STATUSES: Final = {
    Reply.NOT_FOUND: 404,
    Reply.ACCESS_REFUSED: 403,
    Reply.RESOURCE_LOCKED: 405,
    Reply.PRECONDITION_FAILED: 400,
    Reply.COMMAND_INVALID: 400,
    Reply.INTERNAL_ERROR: 500,
}

Handler = Callable[["Call"], Any]
_encode = msgspec.json.Encoder().encode


class Call:
    """One request: what its path names, and what it brought."""

    def __init__(self, management: Management, request: HttpRequest, parts: dict[str, str]) -> None:
        self.amqp = management.amqp
        self.gateway = management.gateway
        self.request = request
        self.session = request.session
        self.parts = parts

    @property
    def vhosts(self) -> list[Vhost]:
        """The virtual host in the path, or all."""
        return [self.vhost] if "vhost" in self.parts else list(self.amqp.vhosts.all.values())

    @property
    def vhost(self) -> Vhost:
        """The virtual host in the path. Raise AmqpFault."""
        found = self.amqp.vhosts.get(self.parts["vhost"])
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no vhost '{self.parts['vhost']}'")
        return found

    @property
    def exchange(self) -> Exchange:
        """The exchange in the path. Raise AmqpFault."""
        name = self.parts["exchange"]
        return self.vhost.exchange("" if name == "amq.default" else name)

    @property
    def queue(self) -> Declared:
        """The queue in the path, also if a connection has it alone. Raise AmqpFault."""
        found = self.vhost.find(self.parts["queue"])
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no queue '{self.parts['queue']}'")
        return found

    def json(self) -> dict[str, Any]:
        """Return the body. Raise InvalidValue if it is no JSON object."""
        try:
            found = msgspec.json.decode(self.request.body or b"{}")
        except msgspec.DecodeError as error:
            raise InvalidValue(f"body: {error}") from error
        if not isinstance(found, dict):
            raise InvalidValue("body: a JSON object is expected")
        return found

    def asked(self, name: str) -> str:
        """Return a parameter of the query, or an empty string."""
        return parse_qs(self.request.query).get(name, [""])[0]

    def look(self) -> None:
        """Raise NotAuthorized unless the caller may read."""
        self.session.access.check(Action.MANAGE, OVERVIEW_RESOURCE)

    def manage(self, name: str) -> None:
        """Raise NotAuthorized unless the caller may change what has this name."""
        self.session.access.check(Action.MANAGE, names.queue_to_core(self.parts.get("vhost", "/"), name))

    def connections(self) -> list[Any]:
        """Return the connections, of the virtual host in the path if there is one."""
        wanted = self.parts.get("vhost")
        found = [c for c in self.amqp.connections if wanted is None or c.vhost.name == wanted]
        return sorted(found, key=lambda connection: connection.name)


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
            return self._call(handler, Call(self, request, parts))
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
        if isinstance(found, HttpAnswer):
            return found
        return HttpAnswer(204) if found is None else HttpAnswer(200, _encode(found))


def _refusal(status: int, error: str, reason: str) -> HttpAnswer:
    return HttpAnswer(status, _encode({"error": error, "reason": reason}))


CREATED: Final = HttpAnswer(201)

# -- looking ---------------------------------------------------------------------------------------


def _overview(call: Call) -> Any:
    call.look()
    return views.overview(call.amqp.vhosts, list(call.amqp.connections), call.gateway.broker)


def _nodes(call: Call) -> Any:
    call.look()
    return [views.node()]


def _node(call: Call) -> Any:
    call.look()
    return views.node()


def _cluster_name(call: Call) -> Any:
    return {"name": views.NODE}


def _whoami(call: Call) -> Any:
    principal = call.session.principal
    return {"name": principal.name, "tags": ["administrator"] if principal.admin else []}


def _users(call: Call) -> Any:
    call.look()
    return [
        {"name": name, "tags": ["administrator"] if user.admin else [], "limits": {}}
        for name, user in call.gateway.config.users.items()
    ]


def _permissions(call: Call) -> Any:
    call.look()
    return [
        {"user": name, "vhost": vhost.name, "configure": ".*", "write": ".*", "read": ".*"}
        for name, user in call.gateway.config.users.items()
        for vhost in call.vhosts
        if user.admin
    ]


def _nothing(call: Call) -> Any:
    call.look()
    return []


def _connections(call: Call) -> Any:
    call.look()
    return [views.connection(found) for found in call.connections()]


def _connection(call: Call) -> Any:
    call.look()
    return views.connection(_find_connection(call))


def _find_connection(call: Call) -> Any:
    for found in call.amqp.connections:
        if found.name == call.parts["name"]:
            return found
    raise AmqpFault(Reply.NOT_FOUND, f"no connection '{call.parts['name']}'")


def _close_connection(call: Call) -> None:
    call.look()
    call.gateway.begin_turn()
    _find_connection(call).refuse(0, AmqpFault(Reply.CONNECTION_FORCED, "Closed via management plugin"))


def _channels(call: Call) -> Any:
    call.look()
    return [views.channel(channel) for found in call.connections() for channel in found.channels.values()]


def _connection_channels(call: Call) -> Any:
    call.look()
    return [views.channel(channel) for channel in _find_connection(call).channels.values()]


def _consumers(call: Call) -> Any:
    call.look()
    return [
        views.consumer(channel, subscription)
        for found in call.connections()
        for channel in found.channels.values()
        for subscription in channel.receiving.subscriptions.values()
    ]


# -- virtual hosts ---------------------------------------------------------------------------------


def _vhosts(call: Call) -> Any:
    call.look()
    return [views.vhost(found) for found in call.vhosts]


def _vhost(call: Call) -> Any:
    call.look()
    return views.vhost(call.vhost)


def _put_vhost(call: Call) -> Any:
    call.look()
    call.gateway.begin_turn()
    known = call.amqp.vhosts.get(call.parts["vhost"]) is not None
    call.amqp.vhosts.declare(call.parts["vhost"])
    return None if known else CREATED


def _delete_vhost(call: Call) -> None:
    call.look()
    call.gateway.begin_turn()
    for found in call.connections():
        found.refuse(0, AmqpFault(Reply.CONNECTION_FORCED, f"vhost '{call.parts['vhost']}' is down"))
    call.amqp.vhosts.delete(call.parts["vhost"])


# -- exchanges -------------------------------------------------------------------------------------


def _exchanges(call: Call) -> Any:
    call.look()
    return [views.exchange(found) for vhost in call.vhosts for found in vhost.exchanges.values()]


def _exchange(call: Call) -> Any:
    call.look()
    return views.exchange(call.exchange)


def _put_exchange(call: Call) -> Any:
    name, fields = call.parts["exchange"], call.json()
    call.manage(name)
    call.gateway.begin_turn()
    known = name in call.vhost.exchanges
    call.vhost.declare_exchange(
        name,
        fields.get("type", "direct"),
        fields.get("durable", True),
        fields.get("auto_delete", False),
        fields.get("internal", False),
        fields.get("arguments", {}),
    )
    return None if known else CREATED


def _delete_exchange(call: Call) -> None:
    call.manage(call.exchange.name)
    call.gateway.begin_turn()
    call.vhost.delete_exchange(call.exchange.name, call.asked("if-unused") == "true")


def _from_exchange(call: Call) -> Any:
    call.look()
    if not call.exchange.name:
        return [views.default_binding(call.vhost, found) for found in call.vhost.all_queues()]
    return [views.binding(found) for found in call.exchange.bound]


def _to_exchange(call: Call) -> Any:
    call.look()
    to = call.exchange
    found = (bound for source in call.vhost.exchanges.values() for bound in source.bound)
    return [views.binding(bound) for bound in found if bound.exchange is to]


def _publish(call: Call) -> Any:
    call.gateway.begin_turn()
    return publish_message(call.vhost, call.exchange, call.session, call.json())


# -- queues ----------------------------------------------------------------------------------------


def _queues(call: Call) -> Any:
    call.look()
    return [views.queue(vhost, found) for vhost in call.vhosts for found in vhost.all_queues()]


def _queue(call: Call) -> Any:
    call.look()
    return views.queue(call.vhost, call.queue)


def _put_queue(call: Call) -> Any:
    name, fields = call.parts["queue"], call.json()
    call.manage(name)
    call.gateway.begin_turn()
    known = call.vhost.find(name) is not None
    durable, auto_delete = fields.get("durable", True), fields.get("auto_delete", False)
    call.vhost.declare_queue(name, durable, auto_delete, None, call, fields.get("arguments", {}))
    return None if known else CREATED


def _delete_queue(call: Call) -> None:
    declared = call.queue
    call.manage(declared.name)
    call.gateway.begin_turn()
    if call.asked("if-empty") == "true" and declared.queue.length():
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"queue '{declared.name}' is not empty")
    if call.asked("if-unused") == "true" and declared.queue.active:
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"queue '{declared.name}' is in use")
    call.gateway.broker.queues.delete(declared.queue)


def _purge(call: Call) -> None:
    call.manage(call.queue.name)
    call.gateway.begin_turn()
    call.gateway.broker.queues.purge(call.queue.queue)


def _get(call: Call) -> Any:
    call.gateway.begin_turn()
    return get_messages(call.vhost, call.queue, call.session, call.json())


def _to_queue(call: Call) -> Any:
    call.look()
    declared = call.queue
    own = [views.default_binding(call.vhost, declared)]
    return own + [views.binding(found) for found in declared.bound]


# -- bindings --------------------------------------------------------------------------------------


def _bindings(call: Call) -> Any:
    call.look()
    found: list[Any] = []
    for vhost in call.vhosts:
        found += [views.default_binding(vhost, declared) for declared in vhost.all_queues()]
        found += [views.binding(b) for source in vhost.exchanges.values() for b in source.bound]
    return found


def _between(call: Call) -> list[Any]:
    to = call.queue if "queue" in call.parts else call.vhost.exchange(call.parts["to"])
    if isinstance(to, Declared):
        return [bound for bound in to.bound if bound.source is call.exchange]
    return [bound for bound in call.exchange.bound if bound.exchange is to]


def _some_bindings(call: Call) -> Any:
    call.look()
    return [views.binding(found) for found in _between(call)]


def _post_binding(call: Call) -> Any:
    fields = call.json()
    to = call.queue if "queue" in call.parts else call.vhost.exchange(call.parts["to"])
    call.manage(to.name)
    call.gateway.begin_turn()
    key, arguments = fields.get("routing_key", ""), fields.get("arguments", {})
    call.vhost.bind(call.exchange, to, key, arguments)
    return CREATED


def _one_binding(call: Call) -> Any:
    call.look()
    return views.binding(_find_binding(call))


def _find_binding(call: Call) -> Any:
    for bound in _between(call):
        if views.properties_key(bound) == call.parts["properties"]:
            return bound
    raise AmqpFault(Reply.NOT_FOUND, "no such binding")


def _delete_binding(call: Call) -> None:
    bound = _find_binding(call)
    call.manage(bound.destination_name)
    call.gateway.begin_turn()
    to = call.queue if "queue" in call.parts else bound.exchange
    call.vhost.unbind(bound.source, to, bound.key, bound.arguments)


# -- policies and definitions ----------------------------------------------------------------------


def _policies(call: Call) -> Any:
    call.look()
    return [p.to_mapping(vhost.name) for vhost in call.vhosts for p in vhost.policies.values()]


def _policy(call: Call) -> Any:
    call.look()
    found = call.vhost.policies.get(call.parts["policy"])
    if found is None:
        raise AmqpFault(Reply.NOT_FOUND, f"no policy '{call.parts['policy']}'")
    return found.to_mapping(call.vhost.name)


def _put_policy(call: Call) -> Any:
    call.look()
    call.gateway.begin_turn()
    name = call.parts["policy"]
    known = name in call.vhost.policies
    call.vhost.set_policy(read_policy(name, call.json()))
    return None if known else CREATED


def _delete_policy(call: Call) -> None:
    call.look()
    call.gateway.begin_turn()
    call.vhost.drop_policy(call.parts["policy"])


def _definitions(call: Call) -> Any:
    call.look()
    return export_all(call.amqp.vhosts, call.vhost if "vhost" in call.parts else None)


def _post_definitions(call: Call) -> Any:
    call.look()
    call.gateway.begin_turn()
    taken = Import(call.amqp.vhosts, call.vhost if "vhost" in call.parts else None)
    taken.run(call.json())
    return {"imported": taken.done, "skipped": taken.skipped}


# -- health ----------------------------------------------------------------------------------------


def _aliveness(call: Call) -> Any:
    """Publish a message and get it back."""
    call.look()
    call.gateway.begin_turn()
    vhost = call.vhost
    declared = vhost.declare_queue(ALIVENESS_QUEUE, False, False, None, call, {})
    sent = {"routing_key": ALIVENESS_QUEUE, "payload": "test", "payload_encoding": "string", "properties": {}}
    publish_message(vhost, vhost.exchange(""), call.session, sent)
    fetcher = call.session.fetcher()
    delivery = call.session.fetch(fetcher, declared.queue.name)
    if delivery is None or delivery.message.body != b"test":
        raise AmqpFault(Reply.INTERNAL_ERROR, "what was published did not come back")
    call.session.settle(delivery, Outcome.ACK)
    return {"status": "ok"}


def _healthy(call: Call) -> Any:
    return {"status": "ok"}


_V, _X, _Q = "(?P<vhost>[^/]+)", "(?P<exchange>[^/]+)", "(?P<queue>[^/]+)"
_TO, _NAME, _PROPS = "(?P<to>[^/]+)", "(?P<name>[^/]+)", "(?P<properties>[^/]+)"
_P = "(?P<policy>[^/]+)"

_TABLE: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "overview", _overview),
    ("GET", "nodes", _nodes),
    ("GET", f"nodes/{_NAME}", _node),
    ("GET", "cluster-name", _cluster_name),
    ("GET", "whoami", _whoami),
    ("GET", "users", _users),
    ("GET", f"(permissions|vhosts/{_V}/permissions)", _permissions),
    ("GET", "(topic-permissions|parameters|global-parameters|extensions|operator-policies)", _nothing),
    ("GET", f"(connections|vhosts/{_V}/connections)", _connections),
    ("GET", f"connections/{_NAME}", _connection),
    ("DELETE", f"connections/{_NAME}", _close_connection),
    ("GET", f"connections/{_NAME}/channels", _connection_channels),
    ("GET", "channels", _channels),
    ("GET", f"vhosts/{_V}/channels", _channels),
    ("GET", f"consumers(/{_V})?", _consumers),
    ("GET", "vhosts", _vhosts),
    ("GET", f"vhosts/{_V}", _vhost),
    ("PUT", f"vhosts/{_V}", _put_vhost),
    ("DELETE", f"vhosts/{_V}", _delete_vhost),
    ("GET", f"exchanges(/{_V})?", _exchanges),
    ("GET", f"exchanges/{_V}/{_X}", _exchange),
    ("PUT", f"exchanges/{_V}/{_X}", _put_exchange),
    ("DELETE", f"exchanges/{_V}/{_X}", _delete_exchange),
    ("GET", f"exchanges/{_V}/{_X}/bindings/source", _from_exchange),
    ("GET", f"exchanges/{_V}/{_X}/bindings/destination", _to_exchange),
    ("POST", f"exchanges/{_V}/{_X}/publish", _publish),
    ("GET", f"queues(/{_V})?", _queues),
    ("GET", f"queues/{_V}/{_Q}", _queue),
    ("PUT", f"queues/{_V}/{_Q}", _put_queue),
    ("DELETE", f"queues/{_V}/{_Q}", _delete_queue),
    ("DELETE", f"queues/{_V}/{_Q}/contents", _purge),
    ("POST", f"queues/{_V}/{_Q}/get", _get),
    ("GET", f"queues/{_V}/{_Q}/bindings", _to_queue),
    ("GET", f"bindings(/{_V})?", _bindings),
    ("GET", f"bindings/{_V}/e/{_X}/q/{_Q}", _some_bindings),
    ("POST", f"bindings/{_V}/e/{_X}/q/{_Q}", _post_binding),
    ("GET", f"bindings/{_V}/e/{_X}/q/{_Q}/{_PROPS}", _one_binding),
    ("DELETE", f"bindings/{_V}/e/{_X}/q/{_Q}/{_PROPS}", _delete_binding),
    ("GET", f"bindings/{_V}/e/{_X}/e/{_TO}", _some_bindings),
    ("POST", f"bindings/{_V}/e/{_X}/e/{_TO}", _post_binding),
    ("GET", f"bindings/{_V}/e/{_X}/e/{_TO}/{_PROPS}", _one_binding),
    ("DELETE", f"bindings/{_V}/e/{_X}/e/{_TO}/{_PROPS}", _delete_binding),
    ("GET", f"policies(/{_V})?", _policies),
    ("GET", f"policies/{_V}/{_P}", _policy),
    ("PUT", f"policies/{_V}/{_P}", _put_policy),
    ("DELETE", f"policies/{_V}/{_P}", _delete_policy),
    ("GET", f"definitions(/{_V})?", _definitions),
    ("POST", f"definitions(/{_V})?", _post_definitions),
    ("GET", f"aliveness-test/{_V}", _aliveness),
    ("GET", "health/checks/.*", _healthy),
    ("GET", f"healthchecks/node(/{_NAME})?", _healthy),
)
_ROUTES: Final = tuple((method, re.compile(f"/api/{path}/?"), handler) for method, path, handler in _TABLE)
