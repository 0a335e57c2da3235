"""What answers mean."""

from __future__ import annotations

import pytest

from gateway.core.message import Outcome
from gateway.outgoing.exchange import Answer
from gateway.webhooks.verdict import RETRY_AFTER_MS_MAX, judge, no_answer, retry_after_ms

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("status", "outcome", "down", "gone"),
    [
        (200, Outcome.ACK, False, False),
        (204, Outcome.ACK, False, False),
        (299, Outcome.ACK, False, False),
        (300, Outcome.REQUEUE, False, False),
        (301, Outcome.REQUEUE, False, False),
        (304, Outcome.REQUEUE, False, False),
        (308, Outcome.REQUEUE, False, False),
        (400, Outcome.REQUEUE, False, False),
        (404, Outcome.REQUEUE, False, False),
        (408, Outcome.REQUEUE, True, False),
        (410, Outcome.RETRY, False, True),
        (429, Outcome.REQUEUE, True, False),
        (500, Outcome.REQUEUE, True, False),
        (503, Outcome.REQUEUE, True, False),
        (599, Outcome.REQUEUE, True, False),
        (600, Outcome.REQUEUE, True, False),
        (999, Outcome.REQUEUE, True, False),
    ],
)
def test_statuses(status: int, outcome: Outcome, down: bool, gone: bool) -> None:
    verdict = judge(Answer(status), NOW_MS)
    assert (verdict.outcome, verdict.down, verdict.gone, verdict.status) == (outcome, down, gone, status)
    assert verdict.delay_ms is None
    assert (verdict.reason == "") is (outcome is Outcome.ACK)


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_may_say_when(status: int) -> None:
    verdict = judge(Answer(status, "7"), NOW_MS)
    assert (verdict.outcome, verdict.delay_ms) == (Outcome.RETRY, 7000)
    assert judge(Answer(500, "7"), NOW_MS).outcome is Outcome.REQUEUE, "only where it has a meaning"


@pytest.mark.parametrize(
    ("text", "delay_ms"),
    [
        ("0", 0),
        (" 120 ", 120_000),
        ("9999999999", RETRY_AFTER_MS_MAX),
        ("99999999999", None),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10_000),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MS_MAX),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("\xff", None),
    ],
)
def test_retry_after(text: str, delay_ms: int | None) -> None:
    assert retry_after_ms(text, NOW_MS) == delay_ms


def test_the_reason_has_the_status_and_the_beginning_on_one_line() -> None:
    assert (
        judge(Answer(500, "", b" no\r\n\x1b[31mdisk \xff"), NOW_MS).reason == "status 500: no [31mdisk \ufffd"
    )
    assert judge(Answer(302), NOW_MS).reason == "status 302; redirects are not followed"
    assert no_answer("refused") == (Outcome.REQUEUE, "refused", None, True, False, 0)
