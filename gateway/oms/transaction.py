"""Transactions that were left open: the provider asks, the application's checker answers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

from .driver import Check, TransactionStatus
from .message import Message

log = logging.getLogger("gateway.oms")


class TransactionCheck:
    """What a checker says its answer to. Without one it is `unknown`: the provider asks again."""

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = TransactionStatus.UNKNOWN

    def commit(self) -> None:
        """Publish the message."""
        self.status = TransactionStatus.COMMIT

    def rollback(self) -> None:
        """Drop it."""
        self.status = TransactionStatus.ROLLBACK

    def unknown(self) -> None:
        """Say nothing: ask again."""
        self.status = TransactionStatus.UNKNOWN


#: Plain or `async`. What it raises is logged and counts as `unknown`.
TransactionChecker = Callable[[Message, TransactionCheck], Awaitable[None] | None]


def checking(checker: TransactionChecker) -> Check:
    """Return what a driver calls: a checker that always answers."""

    async def check(message: Message) -> TransactionStatus:
        context = TransactionCheck()
        try:
            result = checker(message, context)
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("the checker failed for transaction %s", message.extension_header.transaction_id)
            return TransactionStatus.UNKNOWN
        return context.status

    return check
