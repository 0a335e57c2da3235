"""The list of what waits: in order of time over all buckets, filtered, in pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import agenda
from gateway.core.agenda import Agenda
from gateway.core.broker import Broker
from gateway.core.bucket import SPANS
from gateway.core.clock import Clock
from gateway.core.due import NEVER_MS
from gateway.core.message import Message, Origin, Properties
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000
DISTANCES = st.one_of(
    st.integers(1, 10_000),
    st.sampled_from([reach + n for _, reach in SPANS[:-1] for n in (-1, 0, 1)]),
    st.integers(1, 400 * 86_400_000),
)


def _broker() -> Broker:
    broker = Broker(MemoryEngine(), Clock(NOW_MS, 0))
    broker.restore(lambda: None)
    return broker


def _schedule(broker: Broker, due_ms: int, topic: str = "t") -> int:
    properties = Properties(deliver_at_ms=due_ms)
    return broker.schedules.hold(Message(topic, b"", 1, properties=properties, origin=Origin("test", "me")))


def _pages(broker: Broker, limit: int, odd: bool, until_ms: int = NEVER_MS) -> list[tuple[int, int]]:
    """Return everything that is listed, page by page."""
    found: list[tuple[int, int]] = []
    after: tuple[int, int] | None = (0, 0)
    while after is not None:
        page = Agenda(
            broker.schedules, after, until_ms, limit, (lambda s: s.message.topic == "odd") if odd else None
        )
        for _ in page.parts():
            pass
        shown, after = page.page()
        assert len(shown) <= limit
        found += [(one.due_ms, one.position) for one in shown]
    return found


@given(
    st.lists(st.tuples(DISTANCES, st.booleans()), max_size=40),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 60_000),
)
def test_pages_are_a_sorted_list(
    scheduled: list[tuple[int, bool]], limit: int, odd: bool, later_ms: int
) -> None:
    broker = _broker()
    expected = []
    for distance_ms, is_odd in scheduled:
        due_ms = NOW_MS + distance_ms
        position = _schedule(broker, due_ms, "odd" if is_odd else "even")
        if is_odd or not odd:
            expected.append((due_ms, position))
    assert _pages(broker, limit, odd) == sorted(expected)
    until_ms = NOW_MS + later_ms
    assert _pages(broker, limit, odd, until_ms) == sorted(p for p in expected if p[0] < until_ms)


def test_what_is_published_or_cancelled_between_two_parts_is_not_shown() -> None:
    broker = _broker()
    positions = [_schedule(broker, NOW_MS + 1000 + number) for number in range(5)]
    page = Agenda(broker.schedules, (0, 0), NEVER_MS, 10)
    for _ in page.parts():
        if positions:
            broker.schedules.cancel(positions.pop(0))
    shown, following = page.page()
    assert [one.position for one in shown] == positions
    assert following is None


def test_a_large_bucket_is_read_in_parts() -> None:
    broker = _broker()
    for number in range(2 * agenda.LISTED_PER_PART + 1):
        _schedule(broker, NOW_MS + 1_000_000 - number % 777)
    page = Agenda(broker.schedules, (0, 0), NEVER_MS, 5)
    assert len(list(page.parts())) == 3
    shown, following = page.page()
    assert [one.due_ms for one in shown] == [NOW_MS + 1_000_000 - n for n in (776, 776, 775, 775, 774)]
    assert following == (shown[-1].due_ms, shown[-1].position)
