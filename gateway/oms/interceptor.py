"""Interceptors: looks at each message on its way out and in.

Override what you need, as plain or `async` methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field

from .key_value import KeyValue
from .message import Message


@dataclass(slots=True)
class InterceptorContext:
    """The same object before and after: what one notes in `attributes`, the other finds."""

    attributes: KeyValue = field(default_factory=KeyValue)


class ProducerInterceptor:
    """Around each send. What `pre_send` raises keeps the message from being sent."""

    def pre_send(self, message: Message, context: InterceptorContext) -> Awaitable[None] | None:
        """Look at a message, or change it, before it is checked and sent."""
        return None

    def post_send(
        self, message: Message, context: InterceptorContext, error: BaseException | None = None
    ) -> Awaitable[None] | None:
        """Look at it after; `error` is why it was not sent."""
        return None


class ConsumerInterceptor:
    """Around each delivery: a push consumer's listener, a pull consumer's return.

    What `pre_receive` raises is as if the listener had raised.
    """

    def pre_receive(self, message: Message, context: InterceptorContext) -> Awaitable[None] | None:
        """Look at a message, or change it, before the application gets it."""
        return None

    def post_receive(
        self, message: Message, context: InterceptorContext, error: BaseException | None = None
    ) -> Awaitable[None] | None:
        """Look at it after; `error` is what the listener raised."""
        return None


async def settled(result: Awaitable[None] | None) -> None:
    """Wait for what a plain or an `async` method returned."""
    if inspect.isawaitable(result):
        await result


async def before_send(
    interceptors: Iterable[ProducerInterceptor], message: Message, context: InterceptorContext
) -> None:
    """Have all look at it, in their order."""
    for interceptor in interceptors:
        await settled(interceptor.pre_send(message, context))


async def after_send(
    interceptors: Iterable[ProducerInterceptor],
    message: Message,
    context: InterceptorContext,
    error: BaseException | None,
) -> None:
    """Have all look at it, in their order."""
    for interceptor in interceptors:
        await settled(interceptor.post_send(message, context, error))


async def before_receive(
    interceptors: Iterable[ConsumerInterceptor], message: Message, context: InterceptorContext
) -> None:
    """Have all look at it, in their order."""
    for interceptor in interceptors:
        await settled(interceptor.pre_receive(message, context))


async def after_receive(
    interceptors: Iterable[ConsumerInterceptor],
    message: Message,
    context: InterceptorContext,
    error: BaseException | None,
) -> None:
    """Have all look at it, in their order."""
    for interceptor in interceptors:
        await settled(interceptor.post_receive(message, context, error))
