"""Too many wrong passwords: each door says when to come back, and a right password has to wait, too."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from pamqp import commands

from gateway.protocols.mqtt.packets import V5, V311
from gateway.protocols.mqtt.reasons import Reason
from gateway.throttle import FAILURES_MAX
from tests.access.guarded import Amqp, Guarded, password_of


@pytest.fixture
def gateway(guard: Callable[..., Guarded]) -> Guarded:
    """`root` has logged in; then somebody has guessed at `ann`."""
    made = guard("ann", "bob")
    made.rule("all", "authenticated", "all", "topic:#")
    for number in range(FAILURES_MAX):
        assert guess(made, "ann", f"wrong{number}").status_code == 401
    return made


def guess(gateway: Guarded, user: str, password: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/topics/t", auth=(user, password), content=b"x", timeout=10)


def test_every_door_says_so(gateway: Guarded) -> None:
    for user in ("ann", "bob"):  # bob is at the same address
        answer = gateway.publish("t", "x", user)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 7
        assert answer.json()["type"].endswith("too-many-logins")
        assert answer.json()["detail"].startswith("too many failed logins; try again in ")
        five = gateway.mqtt("c", user, V5).connack
        assert five.reason == Reason.CONNECTION_RATE_EXCEEDED
        assert str(five.properties["reason_string"]).startswith("too many failed logins")
        assert gateway.mqtt("c", user, V311).connack.reason == Reason.SERVER_UNAVAILABLE
        close = gateway.amqp(user, open=False).expect(commands.Connection.Close)
        assert close.reply_code == 403
        assert "too many failed logins; try again in" in close.reply_text


def test_whoever_was_there_before_is_not_kept_out_and_who_says_nothing_is(gateway: Guarded) -> None:
    assert gateway.publish("t", "x").status_code == 200
    root = gateway.mqtt("root")
    assert not root.connack.reason
    root.close()
    assert gateway.mqtt("nobody", None).connack.reason == Reason.CONNECTION_RATE_EXCEEDED


def test_a_client_that_cannot_be_told_is_closed(gateway: Guarded) -> None:
    amqp = Amqp(gateway.amqp_port, "ann", password_of("ann"), capabilities={}, open=False)
    assert amqp.receive() is None


def test_refused_logins_are_counted_and_in_the_audit_log(gateway: Guarded) -> None:
    assert gateway.metric('gateway_logins_refused_total{door="http"}') == FAILURES_MAX
    found = gateway.audit("login.refused")
    assert len(found) == FAILURES_MAX
    assert {entry["user"] for entry in found} == {"ann"}
    assert {entry["detail"] for entry in found} == {"wrong user name or password"}


def test_clients_without_a_login_do_not_use_up_an_addresss_tries(guard: Callable[..., Guarded]) -> None:
    gateway = guard("ann")
    gateway.rule("all", "authenticated", "all", "topic:#")
    for number in range(FAILURES_MAX + 5):
        assert gateway.mqtt(f"n{number}", None).connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD
        assert gateway.publish("t", "x", "").status_code == 401
    assert gateway.publish("t", "x", "ann").status_code == 200
