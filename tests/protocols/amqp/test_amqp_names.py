"""Keys, exchanges, queues and virtual hosts as topics and back: nothing is lost either way."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTopic
from gateway.core.topic import QUEUE_PREFIX, check_topic, matches
from gateway.protocols.amqp import names

ROOT = names.DEFAULT_VHOST
TOPIC = names.TOPIC_EXCHANGE

# What means something to either side, the escapes and what could be mistaken for one.
CHARS = [*"./*#+%$-0235BFab", "\0", "é", "☃", "\U0001f600"]
ESCAPES = ["%23", "%2B", "%00", "%2F", "%24", "%25", "%2523", "%252F", "%--", "%25--", "$topic/", "$queue/"]
texts = st.lists(st.sampled_from([*CHARS, *ESCAPES]), max_size=20).map("".join)
filled = texts.filter(bool)
vhosts = st.sampled_from([ROOT, "v", "a/b", "$v", "a%2Fb", "%24", "#+\0", "☃", ""]) | texts
exchanges = filled.filter(lambda name: name != TOPIC)


def is_topic(text: str) -> bool:
    try:
        check_topic(text)
    except InvalidTopic:
        return False
    return True


levels = texts.filter(is_topic)

EXAMPLES = [
    (ROOT, TOPIC, "a.b/c", "a/b.c"),
    (ROOT, "x", "k.l", "x/k/l"),
    (ROOT, "", "q", "$queue/q"),
    ("v", TOPIC, "a.b/c", "$vhost/v/a/b.c"),
    ("v", "x", "k.l", "$vhost/v/x/k/l"),
    ("v", "", "q", "$queue/$vhost/v/q"),
    # what a topic must not have
    (ROOT, TOPIC, "a#b+c\0d", "a%23b%2Bc%00d"),
    (ROOT, TOPIC, "%23%2B%00", "%2523%252B%2500"),
    (ROOT, TOPIC, "%2523", "%252523"),
    (ROOT, TOPIC, "100%", "100%"),
    (ROOT, TOPIC, "%25", "%25"),
    (ROOT, TOPIC, "%2#", "%2%23"),
    (ROOT, TOPIC, "a.*", "a/*"),
    # a topic is never empty
    (ROOT, TOPIC, "", "%--"),
    ("v", TOPIC, "", "$vhost/v/"),
    (ROOT, TOPIC, "%--", "%25--"),
    (ROOT, TOPIC, "%25--", "%2525--"),
    (ROOT, "x", "", "x/"),
    (ROOT, "x", ".", "x//"),
    # names are one level; `$` at the beginning is the gateway's own
    (ROOT, "a/b", "k", "a%2Fb/k"),
    (ROOT, "$sys", "k", "%24sys/k"),
    (ROOT, "%24sys", "k", "%2524sys/k"),
    ("a/b", "x", "k", "$vhost/a%2Fb/x/k"),
    ("$v", "x", "k", "$vhost/%24v/x/k"),
    # a queue's name keeps its slashes
    (ROOT, "", "a/b", "$queue/a/b"),
    (ROOT, "", "a.b", "$queue/a.b"),
    (ROOT, "", "$sys", "$queue/%24sys"),
    (ROOT, "", "a#%2F", "$queue/a%23%2F"),
    ("v", "", "$q", "$queue/$vhost/v/$q"),
    (ROOT, "", "$topic/", "$queue/%24topic/"),  # no topic follows
]


@pytest.mark.parametrize(("vhost", "exchange", "key", "topic"), EXAMPLES)
def test_an_address_has_one_topic(vhost: str, exchange: str, key: str, topic: str) -> None:
    assert names.to_topic(vhost, exchange, key) == topic
    check_topic(topic)
    assert address_of(vhost, exchange, topic) == (exchange, key)


def address_of(vhost: str, exchange: str, topic: str) -> tuple[str, str | None]:
    """Return (exchange, key) of a topic, knowing only what kind of exchange it was."""
    if not exchange:
        assert topic.startswith(QUEUE_PREFIX)
        found, queue = names.core_to_queue(topic[len(QUEUE_PREFIX) :])
        return "", queue if found == vhost else None
    if exchange == TOPIC:
        return TOPIC, names.from_topic(vhost, topic)
    prefix = names.vhost_prefix(vhost)
    assert topic.startswith(prefix)
    level, _, rest = topic[len(prefix) :].partition("/")
    return names.level_to_name(level), names.levels_to_key(rest)


# -- there and back -----------------------------------------------------------------------------


@given(vhost=vhosts, key=texts)
@example(vhost=ROOT, key="")
@example(vhost="v", key="$queue/q")
def test_keys_of_amq_topic_come_back(vhost: str, key: str) -> None:
    assume(vhost != ROOT or not key.startswith("$"))
    topic = names.to_topic(vhost, TOPIC, key)
    check_topic(topic)
    assert names.from_topic(vhost, topic) == key


@given(topic=levels)
@example(topic="%--")
@example(topic="%25--")
@example(topic="a//b/")
def test_topics_come_back_from_amq_topic(topic: str) -> None:
    key = names.from_topic(ROOT, topic)
    assert (key is None) == topic.startswith("$")
    if key is not None:
        assert names.to_topic(ROOT, TOPIC, key) == topic


@given(vhost=vhosts.filter(lambda vhost: vhost != ROOT), rest=levels)
def test_topics_of_a_virtual_host_come_back(vhost: str, rest: str) -> None:
    topic = names.vhost_prefix(vhost) + rest
    key = names.from_topic(vhost, topic)
    assert key is not None
    assert names.to_topic(vhost, TOPIC, key) == topic
    assert names.from_topic(ROOT, topic) is None


@given(vhost=vhosts, exchange=exchanges, key=texts)
@example(vhost=ROOT, exchange="$sys", key="broker")
def test_exchanges_and_their_keys_come_back(vhost: str, exchange: str, key: str) -> None:
    topic = names.to_topic(vhost, exchange, key)
    check_topic(topic)
    assert address_of(vhost, exchange, topic) == (exchange, key)
    assert topic.startswith("$") == (vhost != ROOT), "only a virtual host's topics begin with $"


@given(key=texts)
def test_levels_come_back_from_keys(key: str) -> None:
    assert names.levels_to_key(names.key_to_levels(key)) == key


@given(topic=levels)
def test_keys_come_back_from_levels(topic: str) -> None:
    assert names.key_to_levels(names.levels_to_key(topic)) == topic


@given(name=texts)
def test_names_are_one_level_and_come_back(name: str) -> None:
    level = names.name_to_level(name)
    assert not set(level) & {"/", "#", "+", "\0"}
    assert not level.startswith("$")
    assert names.level_to_name(level) == name


@given(vhost=vhosts, queue=texts)
@example(vhost=ROOT, queue="$vhost/v/q")
@example(vhost="v", queue="$vhost/v/q")
def test_queues_come_back(vhost: str, queue: str) -> None:
    core = names.queue_to_core(vhost, queue)
    check_topic(QUEUE_PREFIX + core)
    assert names.core_to_queue(core) == (vhost, queue)
    assert core.startswith("$") == (vhost != ROOT), "only a virtual host's queues begin with $"


@given(vhost=vhosts, queue=filled)
def test_a_key_of_the_default_exchange_is_a_queue(vhost: str, queue: str) -> None:
    assume(not queue.startswith(names.TOPIC_REPLY))
    topic = names.to_topic(vhost, "", queue)
    check_topic(topic)
    assert address_of(vhost, "", topic) == ("", queue)


@given(vhost=vhosts, topic=levels)
@example(vhost="v", topic="a/b")
@example(vhost=ROOT, topic="$queue/q")
def test_a_key_of_the_default_exchange_may_be_a_topic(vhost: str, topic: str) -> None:
    assert names.to_topic(vhost, "", names.TOPIC_REPLY + topic) == topic


@given(one=st.tuples(vhosts, texts), other=st.tuples(vhosts, texts))
def test_two_queues_are_never_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (names.queue_to_core(*one) == names.queue_to_core(*other)) == (one == other)


# What other doors name queues: anything but what only AMQP's own names are escaped for.
plain = levels.filter(lambda name: not name.startswith("$") and "%2F" not in name and "%24" not in name)


@given(core=plain)
@example(core="a/b.c")
@example(core="a%23b")
@example(core="a%2523b")
def test_queues_of_other_doors_come_back(core: str) -> None:
    assert names.queue_to_core(*names.core_to_queue(core)) == core


# -- where it is lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["$a", "$", "$queue.q", "$vhost.v.k"])
def test_keys_that_begin_with_a_dollar_come_back(key: str) -> None:
    assert names.from_topic(ROOT, names.to_topic(ROOT, TOPIC, key)) == key


@pytest.mark.parametrize("core", ["a%2Fb", "%2F", "a%24b", "$vhost/v/$q"])
def test_queues_of_other_doors_with_an_escape_in_their_names_come_back(core: str) -> None:
    assert names.queue_to_core(*names.core_to_queue(core)) == core


def test_the_empty_level_of_a_virtual_host_comes_back() -> None:
    key = names.from_topic("v", "$vhost/v/")
    assert key is not None
    assert names.to_topic("v", TOPIC, key) == "$vhost/v/"


# -- patterns -------------------------------------------------------------------------------------

PATTERNS = [
    ("a.b", "a/b", True),
    ("a", "a", True),
    ("*", "+", True),
    ("#", "#", True),
    ("a.*.b", "a/+/b", True),
    ("*.*", "+/+", True),
    ("a.#", "a/#", True),
    ("*.#", "+/#", True),
    ("#.b", "#", False),
    ("a.#.b", "a/#", False),
    ("#.#", "#", False),
    ("a.#.*", "a/#", False),
    ("a/b.c", "a.b/c", True),
    ("a#.b+", "a%23/b%2B", True),
    ("a*.*b", "a*/*b", True),
    ("%23", "%2523", True),
    ("a..b", "a//b", True),
    ("a.", "a/", True),
]


@pytest.mark.parametrize(("pattern", "topic_filter", "exact"), PATTERNS)
def test_a_pattern_is_a_filter(pattern: str, topic_filter: str, exact: bool) -> None:
    assert names.pattern_to_filter(pattern) == (topic_filter, exact)


def is_match(pattern: list[str], words: list[str]) -> bool:
    """Tell whether a binding key matches a routing key, word by word."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return is_match(pattern[1:], words) or bool(words and is_match(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and is_match(pattern[1:], words[1:])


words = st.sampled_from(["a", "b", "a/b", "+", "%23", "a#"])
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=5)


@given(pattern=patterns, key=st.lists(words, min_size=1, max_size=5))
def test_a_filter_matches_what_its_pattern_matches(pattern: list[str], key: list[str]) -> None:
    topic_filter, exact = names.pattern_to_filter(".".join(pattern))
    topic = names.to_topic(ROOT, "x", ".".join(key))
    wanted, found = is_match(pattern, key), matches(f"x/{topic_filter}", topic)
    assert found >= wanted, "a filter may match more, never less"
    assert found == wanted or not exact
