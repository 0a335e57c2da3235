"""A queue as AMQP sees it, beside the gateway's own."""

from __future__ import annotations

from gateway.core.queue import Queue
from gateway.core.selector import Selector
from gateway.core.session import Session
from gateway.core.shares import join

from .exchanges import Bound
from .policies import Policy
from .tables import Table


class Declared:
    """A queue as AMQP sees it. `arguments` None: another door has made it."""

    __slots__ = (
        "arguments",
        "auto_delete",
        "bound",
        "durable",
        "name",
        "owner",
        "policy",
        "queue",
        "sole",
    )

    def __init__(
        self,
        name: str,
        queue: Queue,
        arguments: Table | None = None,
        durable: bool = True,
        owner: object | None = None,
    ) -> None:
        self.name = name
        self.queue = queue
        self.arguments = arguments
        self.durable = durable  # as declared: an exclusive queue is never kept, whatever this says
        self.auto_delete = queue.auto_delete
        self.owner = owner  # the connection that may use it
        self.sole: object | None = None  # the consumer that has it alone
        self.bound: list[Bound] = []  # to it
        self.policy: Policy | None = None  # that counts for it

    @property
    def exclusive(self) -> bool:
        """Whether one connection has it alone."""
        return self.owner is not None


def shared(session: Session, name: str, selector: Selector | None = None) -> Declared:
    """Return the queue of a shared subscription, made if need be: it is declared by being joined.

    Raise NotAuthorized, InvalidTopic, or Conflict if its members want something else.
    """
    return Declared(name, join(session, name, True, selector))
