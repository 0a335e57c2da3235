"""Pending commands: what waits for a device comes with the answer to what it publishes.

A sleepy device listens only for a moment after it has spoken. `?ttd=5` says for how long ("time til
disconnect", as Eclipse Hono calls it), `?commands=<queue>` where its commands are: by default in
`commands/<client id>`. What could go wrong is found out before anything is published; afterwards the
publish is answered as a success, with a command or without.
"""

from __future__ import annotations

from typing import Final

from gateway.api import Gateway, GatewayError, Session
from gateway.core.errors import InvalidValue
from gateway.core.queues import group_of
from gateway.core.shares import is_share

from ..clients import Client
from ..exchange import Request, Response
from ..numbers import CHANGED
from ..topics.targets import Target
from .pulls import Answers, Pulls, Want, check_kept

COMMANDS: Final = "commands/"  # begins the name of a device's queue, if it names no other


class Pending:
    """Finds commands for publishers."""

    __slots__ = ("_gateway", "_pulls")

    def __init__(self, gateway: Gateway, pulls: Pulls) -> None:
        self._gateway = gateway
        self._pulls = pulls

    def want(self, session: Session, request: Request, target: Target) -> Want | None:
        """Return what a publish asks for besides, None: nothing. Raise GatewayError if it must not."""
        if target.ttd_seconds < 0:
            return None
        name = target.wait_queue or _own(session)
        session.check_consume(name)
        if not is_share(name):  # which is made by its first member
            group_of(self._gateway.broker.catalog.get(name), "")
        check_kept(self._gateway, name)
        want = Want(name)
        want.wait_ms = int(target.ttd_seconds * 1000)
        want.lease_ms = 0 if target.wait_ack else target.wait_lease_ms
        want.accept = request.options.accept
        return want

    def answer(self, client: Client, request: Request, want: Want, plain: Response) -> None:
        """Answer what is stored with a command, or as `plain` says."""
        try:
            self._pulls.begin(client, request, want, Answers(CHANGED, plain, False))
        except GatewayError:  # the queue was deleted meanwhile, say: what was published stays so
            request.respond(plain)


def _own(session: Session) -> str:
    """Return the queue of a client's commands. Raise InvalidValue if it has no name."""
    client_id = session.origin.client_id
    if not client_id:
        raise InvalidValue("ttd: who has no client id says where its commands are: commands=<queue>")
    return COMMANDS + client_id
