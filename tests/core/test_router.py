"""The trie and its cache against a plain list of filters."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.message import Origin
from gateway.core.receiver import Receiver
from gateway.core.router import Binding, Router
from gateway.core.topic import matches

LEVELS = ["", "a", "b", "$x"]
TOPICS = ["a", "b", "a/b", "a/a", "a/b/a", "/", "/a", "a/", "$x", "$x/a", "$x/a/b", "b/a"]
levels = st.sampled_from([*LEVELS, "+"])
filters = (
    st.tuples(st.lists(levels, max_size=3), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)
topics = st.sampled_from(TOPICS)
#: (filter to add, or None to remove one of those there; which one; topic to ask for afterwards)
steps = st.lists(st.tuples(st.none() | filters, st.integers(0, 50), topics), max_size=40)


def _receiver(name: str = "r") -> Receiver:
    return Receiver(Origin("test", name, name, name), lambda batch: None)


@settings(max_examples=300)
@given(steps=steps)
def test_the_cache_always_says_what_a_plain_search_says(steps: list[tuple[str | None, int, str]]) -> None:
    router = Router(topics_max=8)  # so small that topics are evicted
    present: list[Binding] = []
    for topic_filter, index, topic in steps:
        if topic_filter is not None:
            present.append(Binding(topic_filter, None, _receiver(), 0))
            router.add(present[-1])
        elif present:
            router.remove(present.pop(index % len(present)))
        expected = {id(binding) for binding in present if matches(binding.filter, topic)}
        assert {id(binding) for binding in router.match(topic)} == expected
        assert {id(binding) for binding in router.route(topic).receivers_lossy} == expected
        assert len(router.routes) <= 8
        assert router.bindings == len(present)


@given(added=st.lists(filters, max_size=20))
def test_a_router_that_lost_all_bindings_is_empty(added: list[str]) -> None:
    router = Router()
    bindings = [Binding(topic_filter, None, _receiver()) for topic_filter in added]
    for binding in bindings:
        router.add(binding)
    for binding in reversed(bindings):
        router.remove(binding)
    assert router._root.children in (None, {})
    assert all(router.match(topic) == [] for topic in TOPICS)


@given(mine=st.lists(st.tuples(filters, st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=5))
def test_overlapping_subscriptions_are_one_with_the_highest_qos_and_all_identifiers(
    mine: list[tuple[str, int, int]],
) -> None:
    router = Router()
    receiver, other = _receiver("mine"), _receiver("other")
    for topic_filter, qos, identifier in mine:
        router.add(Binding(topic_filter, None, receiver, qos, ids=(identifier,)))
    router.add(Binding("#", None, other, 0))
    for topic in TOPICS:
        matching = [one for one in mine if matches(one[0], topic)]
        found = [b for b in router.route(topic).receivers_lossy if b.receiver is receiver]
        assert len(found) == bool(matching)  # [MQTT-3.3.4-2]
        if matching:
            assert found[0].qos == max(qos for _, qos, _ in matching)
            assert sorted(found[0].ids) == sorted(identifier for _, _, identifier in matching)


def test_a_binding_with_the_exact_topic_does_not_make_other_routes_stale() -> None:
    router = Router()
    route = router.route("a")
    version = router.version
    router.add(Binding("b", None, _receiver()))
    assert router.version == version, "a filter without wildcards concerns one topic only"
    assert router.route("a") is route
    assert len(router.route("b").receivers_lossy) == 1


def test_no_local_on_one_of_two_overlapping_is_not_no_local() -> None:
    router = Router()
    receiver = _receiver()
    router.add(Binding("a", None, receiver, 1, no_local=True))
    router.add(Binding("#", None, receiver, 1, no_local=False))
    (merged,) = router.route("a").receivers_lossy
    assert merged.no_local is False
