"""How a webhook reads: in the name of its maker, who has to be allowed to for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..api import (
    Action,
    Broker,
    Consumer,
    Credentials,
    Delivery,
    Gateway,
    GatewayError,
    NotAuthorized,
    Principal,
    Session,
)
from ..core.feed import feed
from ..core.queue import Queue
from ..core.selector import Selector, check_same
from ..core.shares import is_share, selector_of
from .webhook import Maker, Webhook, policy_of

DOOR: Final = "webhook"  # what rules, the trace and the audit log call it


def maker_of(session: Session) -> Maker:
    """Return who makes a webhook by this session. Raise NotAuthorized for a login that cannot have one."""
    principal = session.principal
    if principal.claims is not None:
        raise NotAuthorized(
            "the rights of this login come with its token and end with it; make webhooks as one of the "
            "gateway's own users"
        )
    return Maker(principal.name, principal.admin, tuple(sorted(principal.groups)), session.origin.peer)


def check_rights(gateway: Gateway, webhook: Webhook) -> None:
    """Raise a GatewayError if the maker may not read what a webhook is to read."""
    session = _open(gateway, webhook)
    try:
        selector = _selector(gateway.broker, webhook)
        if webhook.queue:
            session.check_consume(webhook.queue, webhook.group)
            queue = gateway.broker.catalog.get(webhook.queue)
            if is_share(webhook.queue):
                known = selector_of(gateway.broker.catalog, queue.name)
                check_same(known, selector, f"the shared subscription {queue.name!r}", "ask for the same")
            else:
                gateway.broker.queues.check_selector(queue, webhook.group, selector)
        for topic_filter in webhook.filters:
            session.check(Action.SUBSCRIBE, topic_filter)
    finally:
        session.close()


class Reading:
    """A session in the maker's name that feeds the webhook's own queue, at work or paused.

    `ended` is called, later than the call in which it happens, if the maker may not any more, or the
    queue is gone.
    """

    def __init__(self, gateway: Gateway, webhook: Webhook, ended: Callable[[], None]) -> None:
        """Raise a GatewayError; then nothing is bound to the webhook's own queue any more."""
        self._gateway = gateway
        self._webhook = webhook
        self._ended = ended
        broker = gateway.broker
        try:
            self.session = _open(gateway, webhook)
            try:
                if webhook.queue:
                    self.session.check_consume(webhook.queue, webhook.group)
                else:
                    queue = _own_queue(self.session, webhook)
                    unbind(broker, webhook, webhook.filters)
                    feed(self.session, queue, webhook.filters, _selector(broker, webhook))
            except GatewayError:
                self.session.close(keep=True)
                raise
        except GatewayError:
            unbind(broker, webhook, ())
            raise
        self.session.owner = self

    def consume(self, deliver: Callable[[list[Delivery]], None]) -> Consumer:
        """Have messages delivered. Raise a GatewayError."""
        webhook, session = self._webhook, self.session
        if webhook.queue:
            selector = _selector(session.broker, webhook)
            window = webhook.concurrency
            consumer = session.consume(webhook.queue, deliver, window, webhook.group, selector=selector)
        else:
            consumer = session.consume_own(deliver, webhook.concurrency)
        consumer.gone = self._gone
        return consumer

    def close(self) -> None:
        """End. The queue stays, and gets what it is bound to."""
        self.session.owner = None
        self.session.close(keep=True)

    def end(self, error: GatewayError) -> None:
        """Implement `Owner`: rules, or the maker, have changed."""
        self._gone()

    def _gone(self) -> None:
        self._gateway.begin_turn()
        self._gateway.scheduler.after(0, self._ended)


def _open(gateway: Gateway, webhook: Webhook) -> Session:
    """Open a session in its maker's name. Raise NotAuthorized or QuotaExceeded.

    What the maker has lost since then is lost; what the maker's login did not have, such as groups that
    an API key leaves out, is not given.
    """
    maker = webhook.maker
    known = gateway.principal(maker.name)
    if known is None:
        who = maker.name or "anonymous"
        raise NotAuthorized(f"{who}, in whose name messages are read, is no user of the gateway (any more)")
    principal = Principal(
        known.name,
        known.admin and maker.admin,
        known.anonymous,
        known.groups & frozenset(maker.groups),
        known.method,
    )
    client_id = f"{DOOR}:{webhook.name}"
    return gateway.open_session(principal, Credentials(DOOR, maker.peer, client_id, maker.name))


def _selector(broker: Broker, webhook: Webhook) -> Selector | None:
    """Return the selector of a webhook, None if it wants everything. Raise InvalidValue."""
    if not webhook.selector:
        return None
    return broker.selectors.find(webhook.selector, webhook.selector_language)


def _own_queue(session: Session, webhook: Webhook) -> Queue:
    """Return the webhook's queue, with its policy. Raise a GatewayError."""
    catalog = session.broker.catalog
    policy = policy_of(webhook)
    queue = catalog.queues.get(webhook.queue_name)
    if queue is None:
        session.check_queues()
        queue, _ = catalog.declare(webhook.queue_name, "classic", policy, creator=session.origin)
    elif queue.policy.difference(policy):
        catalog.set_policy(queue, policy)
    return queue


def unbind(broker: Broker, webhook: Webhook, kept: tuple[str, ...]) -> None:
    """Take from a webhook's own queue all filters but some."""
    queue = broker.catalog.queues.get(webhook.queue_name)
    if queue is None or webhook.queue:
        return
    for topic_filter in list(broker.catalog.bindings.get(queue.name, ())):
        if topic_filter not in kept:
            broker.catalog.unbind(queue, topic_filter)
