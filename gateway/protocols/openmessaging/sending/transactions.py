"""Messages of type TRANSACTION, which nobody sees until their producer commits; and EndTransaction.

Each is a transaction of the core's, with one message, whose id is the message's. Who does not decide is
asked by a command on a Telemetry stream: the client that has sent it, if it is there, and then in turn those
of the same user that publish to the topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from gateway.api import Action, Conflict, Gateway, GatewayError, InvalidValue, NotFound
from gateway.core.half import Half, State, check_id, unwrap
from gateway.core.message import Message
from gateway.rocketmq.numbers import Code, MessageType, TransactionResolution, TransactionSource
from gateway.rocketmq.payload import put_ms, to_ms
from gateway.rocketmq.schema import CLASSES, Resource, Status, TelemetryCommand

from ..call import Call, Handler
from ..clients.client import Client
from ..clients.logins import Logins
from ..errors import Refused
from ..names import resource_name, topic_of
from ..translate import from_message

PROTOCOL: Final = "openmessaging"
PUBLISHES_MAX: Final = 1000  # topics of one client that are remembered, to ask it about others' messages
IMMUNITY_MS_MAX: Final = 3_600_000  # RocketMQ's: an hour until the first question

OK: Final = Status(code=Code.OK)
_EndTransactionResponse: Final = CLASSES["EndTransactionResponse"]
_COMMITS: Final = {TransactionResolution.COMMIT: True, TransactionResolution.ROLLBACK: False}


class Transactions:
    """A `Part`."""

    def __init__(self, gateway: Gateway, logins: Logins) -> None:
        self._gateway = gateway
        self._logins = logins
        self._halves = gateway.broker.halves
        self._halves.check_back.checkers.append(self.ask)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"EndTransaction": self.end}

    def prepare(self, client: Client, wire: Any, message: Message) -> tuple[str, int]:
        """Keep a message until its producer decides; return the transaction's id, and where it is.

        A message that has come before is not kept twice. Raise what `Halves.add` raises.
        """
        id = transaction_id(message.properties.message_id or "")
        known = self._known(client, id)
        if known is not None:
            if known.state is State.OPEN:
                return id, known.positions[-1] if known.positions else known.number
            raise Conflict("the message was sent before, and its transaction has ended")
        immunity_ms = 0
        system = wire.system_properties
        if system.HasField("orphaned_transaction_recovery_duration"):
            wanted_ms = to_ms(system.orphaned_transaction_recovery_duration)
            immunity_ms = min(max(0, wanted_ms), IMMUNITY_MS_MAX)
        if len(client.publishes) < PUBLISHES_MAX:
            client.publishes.add(message.topic)
        return id, self._halves.add(client.session, id, message, immunity_ms)

    def _known(self, client: Client, id: str) -> Half | None:
        try:
            return self._halves.find(client.session, id, None, Action.MANAGE)
        except NotFound:
            return None

    async def end(self, call: Call, request: Any) -> Any:
        """Commit or roll back. Raise Refused for a transaction that is not known, or Conflict."""
        topic_of(call.client, request.topic)
        commit = _COMMITS.get(request.resolution)
        if commit is None:
            raise Refused(Code.BAD_REQUEST, "resolution: COMMIT or ROLLBACK is expected")
        cause = "check" if request.source == TransactionSource.SOURCE_SERVER_CHECK else "producer"
        try:
            check_id(request.transaction_id)
            position = self._halves.resolve(call.session, request.transaction_id, commit, cause=cause)
        except (NotFound, InvalidValue) as error:
            raise Refused(Code.INVALID_TRANSACTION_ID, error.detail) from error
        await self._gateway.durable(position)
        return _EndTransactionResponse(status=OK)

    # -- asking ---------------------------------------------------------------------------------

    def ask(self, half: Half) -> None:
        """Ask a producer what is to become of its transaction (`checkback.Checker`)."""
        if half.origin.protocol != PROTOCOL or not half.positions:
            return
        broker = self._gateway.broker
        try:
            message = unwrap(broker.engine.read(half.positions[0]), broker.clock.now_ms)
        except GatewayError:
            return  # the log has lost it: it can only be rolled back
        client = self._producer(half, message.topic)
        if client is not None:
            client.tell(self._question(client, half, message))

    def _producer(self, half: Half, topic: str) -> Client | None:
        """Return who is to be asked this time, if anybody is there."""
        principal, id = half.origin.principal, half.origin.client_id
        found = [each for each in self._logins.named(id) if _hears(each, principal)]
        # A client that says nothing any more may look as if it were there: the next question is another's.
        if not found or half.checks > 1:
            found += [
                each
                for each in self._logins
                if topic in each.publishes and each.id != id and _hears(each, principal)
            ]
        return found[(half.checks - 1) % len(found)] if found else None

    def _question(self, client: Client, half: Half, message: Message) -> Any:
        namespace, name = resource_name(client, message.topic)
        topic = Resource(resource_namespace=namespace, name=name)
        command = TelemetryCommand()
        question = command.recover_orphaned_transaction_command
        question.transaction_id = half.id
        now_ms = self._gateway.clock.now_ms
        system = from_message(question.message, message, topic, message.topic, half.positions[0], 0, now_ms)
        system.message_type = MessageType.TRANSACTION
        if half.options.immunity_ms:
            put_ms(system.orphaned_transaction_recovery_duration, half.options.immunity_ms)
        return command


def _hears(client: Client, principal: str) -> bool:
    """Tell whether a client is a user's, and can be told something."""
    return bool(client.lines) and client.session.principal.name == principal


def transaction_id(message_id: str) -> str:
    """Return the id of the transaction of a message: its own, if it can be one."""
    try:
        check_id(message_id)
    except InvalidValue:
        return sha256(message_id.encode()).hexdigest()
    return message_id
