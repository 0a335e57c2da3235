"""What transactions have outside the core: their settings, an API, numbers, and questions by HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..api import Gateway, HttpPart, InvalidValue, Series
from ..core.half import State
from ..hookspecs import hookimpl


@hookimpl
def gateway_recovered(gateway: Gateway) -> None:
    """Apply `[transactions]`. Raise InvalidValue for URLs or a secret that cannot be used."""
    settings, halves = gateway.config.transactions, gateway.broker.halves
    check_back = halves.check_back
    check_back.first_ms = round(settings.check_first_seconds * 1000)
    check_back.interval_ms = round(settings.check_interval_seconds * 1000)
    check_back.checks_max = settings.checks_max
    for half in halves.all(State.OPEN):  # recovered before anybody could say so
        gateway.scheduler.cancel(half.timer)
        check_back.restored(half)
    halves.remember(round(settings.remember_seconds * 1000))
    halves.messages_max = settings.messages_max
    gateway.series.append(lambda: _series(gateway))
    if not settings.check_urls:
        return
    from .webhook import Webhook, faults  # what asks nobody needs no HTTP client

    found = faults(settings)
    if found:
        raise InvalidValue("; ".join(f"transactions.{fault}" for fault in found))
    webhook = Webhook(gateway, settings)
    halves.check_url = webhook.check
    check_back.checkers.append(webhook.ask)


@hookimpl
def gateway_http_parts(gateway: Gateway) -> Iterable[HttpPart]:
    """Offer the API for producers and operators."""
    from .api import api

    return [api(gateway)]


def _series(gateway: Gateway) -> Iterator[Series]:
    halves = gateway.broker.halves
    yield Series(
        "gateway_transactions_open", "Transactions whose producer has not decided", _one(halves.open)
    )
    counts = {
        "gateway_transactions_begun": ("Transactions begun", halves.begun),
        "gateway_transactions_unresolved": ("Transactions given up after the last check", halves.unresolved),
        "gateway_transaction_checks": (
            "Questions to producers what is to become of one",
            halves.check_back.asked,
        ),
    }
    for name, (text, value) in counts.items():
        yield Series(name, text, _one(value), counter=True)
    ended = {State.COMMITTED: halves.committed, State.ROLLED_BACK: halves.rolled_back_count}
    values = [((state.value,), count) for state, count in ended.items()]
    yield Series("gateway_transactions_ended", "Transactions ended, by state", values, ("state",), True)


def _one(value: float) -> list[tuple[tuple[str, ...], float]]:
    return [((), value)]
