"""AMQP consumers that are refused: no consume-ok before the refusal, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable

from pamqp import commands

from tests.access.guarded import Guarded


def test_a_refused_consumer_is_never_told_that_it_has_begun(guard: Callable[..., Guarded]) -> None:
    gateway = guard("ann", "few")
    for name in ("q", "r"):
        assert gateway.ask("PUT", f"/v1/queues/{name}", json={}).status_code == 201
    gateway.rule("few", "user:few", "consume", "queue:*")
    gateway.quota("subs", "user:few", subscriptions=1)
    denied = gateway.amqp("ann")
    close = denied.call(commands.Basic.Consume(queue="q"), commands.Channel.Close)
    assert (close.reply_code, denied.seen) == (403, [])
    full = gateway.amqp("few")
    full.call(commands.Basic.Consume(queue="q"), commands.Basic.ConsumeOk)
    ended = full.call(commands.Basic.Consume(queue="r"), commands.Connection.Close)
    assert (ended.reply_code, full.seen) == (506, [])
    assert gateway.get("/v1/queues/r")["consumers"] == 0
