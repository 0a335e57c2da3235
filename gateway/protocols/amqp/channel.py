"""One channel: its methods, in a table at the end.

Publishing is in `publisher`, consuming in `consumers`, what exists in `vhost`. A rule that is
broken here ends the channel, or the connection if the standard says so; nobody else notices.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.core.access import Action, queue_resource
from gateway.core.delivery import Delivery
from gateway.core.errors import GatewayError
from gateway.core.message import Outcome
from gateway.core.selector import Selector
from gateway.core.shares import is_share
from gateway.core.shares import selector_of as share_selector
from gateway.core.stream import StreamQueue
from gateway.core.topic import QUEUE_PREFIX

from . import names, streams
from .arguments import selector_of
from .consumers import Receiving, Subscription
from .declared import Declared, shared
from .declaring import DECLARING
from .errors import AmqpFault, Reply, fault_of
from .frames import encode_frame
from .methods import Method, encode_method, make
from .publisher import DIRECT_REPLY, Publisher
from .tables import Table
from .transactions import Transaction

if TYPE_CHECKING:
    from .connection import AmqpConnection

GENERATED: Final = "amq.gen-"
TAG: Final = "amq.ctag-"


class Channel:
    """One of a connection's conversations."""

    __slots__ = (
        "closing",
        "connection",
        "last_queue",
        "number",
        "publisher",
        "receiving",
        "reply_queue",
        "stopped",
        "transaction",
        "vhost",
    )

    def __init__(self, connection: AmqpConnection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.vhost = connection.vhost
        self.publisher = Publisher(self)
        self.receiving = Receiving(self)
        self.last_queue = ""  # a method that names no queue means this one
        self.reply_queue = ""  # of direct reply-to
        self.transaction: Transaction | None = None
        self.stopped = False  # by the client's channel.flow
        self.closing = False  # we have closed it, and wait for its close-ok

    # -- what the connection calls -----------------------------------------------------------------

    def take(self, method: Method) -> None:
        """Do what a method says. Raise AmqpFault."""
        handler = _HANDLERS.get(type(method))
        if handler is None:
            raise AmqpFault(Reply.COMMAND_INVALID, f"{method.name} does not belong on a channel")
        try:
            handler(self, method)
        except AmqpFault:
            raise
        except GatewayError as error:
            raise fault_of(error) from error

    def acknowledge(self, tag: int, multiple: bool) -> list[Delivery]:
        """Return what a basic.ack settles. Raise AmqpFault."""
        if self.transaction is None:
            return self.receiving.take(tag, multiple)
        self._settle_later(tag, multiple, Outcome.ACK)
        return []

    def _settle_later(self, tag: int, multiple: bool, outcome: Outcome) -> None:
        assert self.transaction is not None
        before = list(self.receiving.unacked)
        deliveries = self.receiving.take(tag, multiple)
        tags = [tag] if not multiple else before[: len(deliveries)]
        self.transaction.settle(tags, deliveries, outcome)

    def end(self) -> None:
        """The channel is closed, whoever did it."""
        if self.transaction is not None:
            self.transaction.rollback()
        self.publisher.close()
        self.receiving.close()
        if self.reply_queue:
            self._forget_replies()
            self.drop(self.reply_queue)

    def answer(self, method: Any) -> None:
        """Send a method."""
        self.connection.send(encode_frame(self.number, encode_method(method)))

    def answer_stored(self, method: Any) -> None:
        """Send a method once what it says is on disk; a fault if it never will be."""
        connection = self.connection

        def stored(done: bool) -> None:
            if connection.channels.get(self.number) is not self or self.closing:
                return
            if done:
                self.answer(method)
            else:
                connection.refuse(
                    self.number, AmqpFault(Reply.INTERNAL_ERROR, "it could not be stored"), method
                )

        connection.gateway.when_durable(connection.session.broker.engine.position(), stored)

    # -- channel -----------------------------------------------------------------------------------

    def _flow(self, method: Any) -> None:
        self.stopped = not method.active
        if self.stopped or not self.connection.is_congested:
            self.receiving.hold(self.stopped)
        self.answer(make(commands.Channel.FlowOk, bool(method.active)))

    def _flow_ok(self, method: Any) -> None:
        pass  # we never send channel.flow

    def _close(self, method: Any) -> None:
        self.connection.drop_channel(self)
        self.answer(make(commands.Channel.CloseOk))

    # -- queues ----------------------------------------------------------------------------------------

    def queue(self, name: str) -> Declared:
        """Return the queue that a method means. Raise AmqpFault."""
        return self.vhost.queue(self.named(name), self.connection)

    def named(self, name: str) -> str:
        """Return the name of a queue, the last one declared if none is given. Raise AmqpFault."""
        if name:
            return name
        if not self.last_queue:
            raise AmqpFault(Reply.NOT_FOUND, "no previously declared queue")
        return self.last_queue

    def drop(self, name: str) -> None:
        """Delete a queue, if it is there."""
        declared = self.vhost.find(name)
        if declared is not None:
            self.connection.session.broker.queues.delete(declared.queue)

    def done(self, method: Any, answer: Any, keep: bool = False) -> None:
        """Answer, unless the client said it need not be; with `keep` once it is on disk."""
        if getattr(method, "nowait", False):
            return
        if keep:
            self.answer_stored(answer)
        else:
            self.answer(answer)

    def manage(self, name: str) -> None:
        """Raise NotAuthorized unless this client may change the queue of this name."""
        self.connection.session.check(Action.MANAGE, self._resource(name))

    def manage_exchange(self, name: str) -> None:
        """Raise NotAuthorized unless this client may change the exchange of this name: its topics' place."""
        self.connection.session.check(Action.MANAGE, names.exchange_filter(self.vhost.name, name))

    def changed(self, what: str, name: str, detail: str = "") -> None:
        """Tell the audit log of a change to a queue."""
        self.connection.session.changed(what, self._resource(name), detail)

    def exchange_changed(self, what: str, name: str, detail: str = "") -> None:
        """Tell the audit log of a change to an exchange."""
        self.connection.session.changed(what, names.exchange_filter(self.vhost.name, name), detail)

    def _resource(self, queue: str) -> str:
        return queue_resource(names.queue_to_core(self.vhost.name, queue))

    # -- consuming ---------------------------------------------------------------------------------

    def _qos(self, method: Any) -> None:
        if method.prefetch_size:
            raise AmqpFault(Reply.NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            self.receiving.limit_all(method.prefetch_count)
        else:
            self.receiving.prefetch = method.prefetch_count
        self.answer(make(commands.Basic.QosOk))

    def _consume(self, method: Any) -> None:
        receiving = self.receiving
        tag = method.consumer_tag or TAG + secrets.token_urlsafe(16)
        if tag in receiving.subscriptions:
            raise AmqpFault(Reply.NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
        name = self.named(method.queue)
        if name == DIRECT_REPLY:
            self._consume_replies(tag, method)
            return
        selector = selector_of(self.connection.session.broker.selectors, method.arguments)
        declared = self._to_consume(name, selector)
        queue, session = declared.queue, self.connection.session
        session.check_consume(queue.name)  # before consume-ok: what is refused has not begun
        session.check_use()
        busy = declared.sole is not None or (method.exclusive and queue.active)
        if busy:
            text = f"queue '{name}' in vhost '{self.vhost.name}' in exclusive use"
            raise AmqpFault(Reply.ACCESS_REFUSED, text)
        group = ""
        if isinstance(queue, StreamQueue):
            group = self._begin_stream(queue, method)
        session = self.connection.session
        session.check_consume(queue.name, group)  # before the answer that it is done
        if not is_share(queue.name):
            session.broker.queues.check_selector(queue, group, selector)
        session.check_use()
        if not method.nowait:
            self.answer(make(commands.Basic.ConsumeOk, tag))
        made = receiving.consume(
            declared, tag, method.no_ack, _priority(method.arguments), group, selector=selector
        )
        made.consumer.gone = lambda: self._consumer_gone(made)
        if method.exclusive:
            declared.sole = made

    def _to_consume(self, name: str, selector: Selector | None) -> Declared:
        """Return a queue, or a shared subscription. Raise a GatewayError."""
        if is_share(name) and self.vhost.name == names.DEFAULT_VHOST:
            return shared(self.connection.session, name, selector)
        return self.vhost.queue(name, self.connection)

    def _begin_stream(self, queue: StreamQueue, method: Any) -> str:
        if method.no_ack:
            raise AmqpFault(Reply.NOT_IMPLEMENTED, "a stream's consumers have to acknowledge")
        if not self.receiving.prefetch:
            name = names.core_to_queue(queue.name)[1]
            text = f"consumer prefetch count is not set for stream queue '{name}'"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)
        return streams.begin(queue, method.arguments, self.connection.session.broker.clock)

    def _consumer_gone(self, subscription: Subscription) -> None:
        """The queue was deleted under a consumer [consumer cancel notification]."""
        if self.receiving.subscriptions.pop(subscription.tag, None) is None:
            return
        session = self.connection.session
        session.cancel(subscription.consumer)
        if self.connection.can("consumer_cancel_notify"):
            self.answer(make(commands.Basic.Cancel, subscription.tag, True))

    def _consume_replies(self, tag: str, method: Any) -> None:
        if not method.no_ack:
            text = "reply consumer cannot acknowledge"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)
        if self.reply_queue:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "reply consumer already set")
        name = f"{DIRECT_REPLY}.{secrets.token_urlsafe(24)}"
        connection = self.connection
        declared = self.vhost.declare_queue(name, False, True, connection, connection, {})
        connection.exclusive.add(declared.queue.name)
        self.reply_queue = name
        connection.session.broker.replies.queues.add(QUEUE_PREFIX + declared.queue.name)
        connection.reply_channels.add(self.number)
        connection.session.check_use()
        if not method.nowait:
            self.answer(make(commands.Basic.ConsumeOk, tag))
        self.receiving.consume(declared, tag, True, 0, own=True)

    def _cancel(self, method: Any) -> None:
        subscription = self.receiving.cancel(method.consumer_tag)
        if subscription is not None and subscription.declared.name == self.reply_queue:
            self.connection.reply_channels.discard(self.number)
            self._forget_replies()
            self.reply_queue = ""
        if not method.nowait:
            self.answer(make(commands.Basic.CancelOk, method.consumer_tag))

    def _forget_replies(self) -> None:
        topic = names.to_topic(self.vhost.name, "", self.reply_queue)
        self.connection.session.broker.replies.queues.discard(topic)

    def _cancel_ok(self, method: Any) -> None:
        pass  # the answer to our notification

    def _get(self, method: Any) -> None:
        name = self.named(method.queue)  # it has no arguments that could ask for a selector
        declared = self._to_consume(name, share_selector(self.connection.session.broker.catalog, name))
        if isinstance(declared.queue, StreamQueue):
            text = f"queue '{declared.name}' is a stream: basic.get cannot read it"
            raise AmqpFault(Reply.NOT_IMPLEMENTED, text)
        if declared.sole is not None:
            text = f"queue '{declared.name}' in vhost '{self.vhost.name}' in exclusive use"
            raise AmqpFault(Reply.ACCESS_REFUSED, text)
        answer = self.receiving.get(declared, method.no_ack)
        if answer is not None:
            self.connection.send(answer)
        else:
            self.answer(make(commands.Basic.GetEmpty))

    def _reject(self, method: Any) -> None:
        self._give_back(method.delivery_tag, False, method.requeue)

    def _nack(self, method: Any) -> None:
        self._give_back(method.delivery_tag, method.multiple, method.requeue)

    def _give_back(self, tag: int, multiple: bool, requeue: bool) -> None:
        outcome = Outcome.REQUEUE if requeue else Outcome.REJECT
        if self.transaction is not None:
            self._settle_later(tag, multiple, outcome)
        else:
            self.receiving.settle(self.receiving.take(tag, multiple), outcome)

    def _recover(self, method: Any) -> None:
        if not method.requeue:
            raise AmqpFault(Reply.NOT_IMPLEMENTED, "requeue=false")
        self.receiving.requeue_all()
        if isinstance(method, commands.Basic.Recover):
            self.answer(make(commands.Basic.RecoverOk))

    # -- confirms and transactions -----------------------------------------------------------------

    def _confirm_select(self, method: Any) -> None:
        if self.transaction is not None:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
        self.publisher.confirming = True
        if not method.nowait:
            self.answer(make(commands.Confirm.SelectOk))

    def _tx_select(self, method: Any) -> None:
        if self.publisher.confirming:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "cannot switch from confirm to tx mode")
        if self.transaction is None:
            self.transaction = Transaction(self)
        self.answer(make(commands.Tx.SelectOk))

    def _tx_commit(self, method: Any) -> None:
        self._begun().commit(method)

    def _tx_rollback(self, method: Any) -> None:
        self._begun().rollback()
        self.answer(make(commands.Tx.RollbackOk))

    def _begun(self) -> Transaction:
        if self.transaction is None:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "channel is not transactional")
        return self.transaction


def _priority(arguments: Table) -> int:
    value = arguments.get("x-priority", 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise AmqpFault(Reply.PRECONDITION_FAILED, f"invalid arg 'x-priority': {value!r} is no integer")
    return max(-(1 << 31), min(value, (1 << 31) - 1))


_HANDLERS: Final[dict[type, Callable[[Channel, Any], None]]] = {
    **DECLARING,
    commands.Channel.Flow: Channel._flow,
    commands.Channel.FlowOk: Channel._flow_ok,
    commands.Channel.Close: Channel._close,
    commands.Basic.Qos: Channel._qos,
    commands.Basic.Consume: Channel._consume,
    commands.Basic.Cancel: Channel._cancel,
    commands.Basic.CancelOk: Channel._cancel_ok,
    commands.Basic.Get: Channel._get,
    commands.Basic.Reject: Channel._reject,
    commands.Basic.Nack: Channel._nack,
    commands.Basic.Recover: Channel._recover,
    commands.Basic.RecoverAsync: Channel._recover,
    commands.Confirm.Select: Channel._confirm_select,
    commands.Tx.Select: Channel._tx_select,
    commands.Tx.Commit: Channel._tx_commit,
    commands.Tx.Rollback: Channel._tx_rollback,
}
