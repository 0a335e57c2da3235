"""What a client has to be allowed besides what it does itself: what brokers do later in its name.

A queue publishes its dead letters, an exchange what it cannot route, and a message with CC and BCC
goes to more keys than one: whoever sets that up must be allowed to publish there, as in RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.access import Action
from gateway.core.errors import GatewayError
from gateway.core.session import Session

from . import names
from .errors import fault_of
from .exchanges import Exchange
from .tables import Table


def check_dead_letters(session: Session, vhost: str, arguments: Table) -> None:
    """Raise NotAuthorized unless a client may publish where a queue's dead letters are to go."""
    exchange, key = arguments.get("x-dead-letter-exchange"), arguments.get("x-dead-letter-routing-key")
    if not isinstance(exchange, str):
        return
    if isinstance(key, str):
        session.check(Action.PUBLISH, names.to_topic(vhost, exchange, key))
    elif exchange:
        session.check(Action.PUBLISH, names.exchange_filter(vhost, exchange))
    # Otherwise each goes to the queue it was published to by name: whoever did that was allowed to.


def check_alternate(session: Session, vhost: str, arguments: Table) -> None:
    """Raise NotAuthorized unless a client may publish to the exchange that gets what nobody takes."""
    exchange = arguments.get("alternate-exchange")
    if isinstance(exchange, str) and exchange:
        session.check(Action.PUBLISH, names.exchange_filter(vhost, exchange))


def check_copies(session: Session, exchange: Exchange, keys: Sequence[str]) -> None:
    """Raise AmqpFault unless a client may publish to every one of these keys."""
    try:
        for key in keys:
            session.check_publish(exchange.topic_of(key))
    except GatewayError as error:
        raise fault_of(error) from error
