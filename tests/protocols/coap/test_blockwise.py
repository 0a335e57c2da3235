"""Bodies and answers in blocks: what the resource sees, what the client gets, and what is kept meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.blockwise import BYTES_MAX, LIFETIME_SECONDS, block
from gateway.protocols.coap.exchange import Link, Response
from gateway.protocols.coap.numbers import (
    BAD_REQUEST,
    BLOCK1,
    BLOCK2,
    CHANGED,
    CONTENT,
    CONTENT_FORMAT,
    CONTINUE,
    ETAG,
    FETCH,
    GET,
    NOT_FOUND,
    OBSERVE,
    POST,
    PUT,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    REQUEST_TAG,
    SIZE1,
    SIZE2,
    URI_QUERY,
)
from gateway.protocols.coap.transfers import LINK_ENTRIES_MAX, OVERHEAD_BYTES
from tests.protocols.coap.worlds import World, option, read_block

A, B, C = b"a" * 64, b"b" * 64, b"c" * 64


@pytest.fixture
def world() -> World:
    return World()


# -- without blocks ---------------------------------------------------------------------------


def test_what_fits_passes_as_it_is(world: World) -> None:
    made = Response(CONTENT, b"x" * 1024, ((CONTENT_FORMAT, b"\x32"),))
    world.resource.answer = lambda request: made
    assert world.ask(GET) is made
    assert len(world.blockwise.downloads) == 0


def test_a_body_that_is_too_large_in_one_message_is_refused(world: World) -> None:
    answer = world.ask(PUT, b"x" * 10_001)
    assert answer.code == REQUEST_ENTITY_TOO_LARGE
    assert option(answer, SIZE1) == (10_000).to_bytes(2, "big")
    assert world.resource.requests == []


def test_a_link_that_is_gone_leaves_nothing(world: World) -> None:
    world.put(0, True, A)
    world.gives(b"x" * 5000)
    world.ask(GET)
    assert len(world.blockwise.uploads) == len(world.blockwise.downloads) == 1
    world.blockwise.gone(world.link)
    assert len(world.blockwise.uploads) == len(world.blockwise.downloads) == 0
    assert world.blockwise.uploads.bytes == world.blockwise.downloads.bytes == 0
    assert world.resource.left == [world.link]


def test_a_refused_notification_is_the_resource_s_business(world: World) -> None:
    world.blockwise.reset(world.link, b"t")
    assert world.resource.resets == [(world.link, b"t")]


# -- Block1 -----------------------------------------------------------------------------------


def test_blocks_become_one_body(world: World) -> None:
    for number, piece in enumerate((A, B)):
        answer = world.put(number, True, piece)
        assert (answer.code, answer.payload) == (CONTINUE, b"")
        assert read_block(answer, BLOCK1) == (number, True, 2)
    answer = world.put(2, False, b"end")
    assert answer.code == CHANGED
    assert read_block(answer, BLOCK1) == (2, False, 2)
    assert [request.payload for request in world.resource.requests] == [A + B + b"end"]
    assert len(world.blockwise.uploads) == 0
    assert world.blockwise.uploads.bytes == 0


def test_a_single_block_is_a_body(world: World) -> None:
    assert read_block(world.put(0, False, b"all"), BLOCK1) == (0, False, 2)
    assert world.resource.requests[0].payload == b"all"


def test_the_last_block_may_be_empty_or_full(world: World) -> None:
    world.put(0, True, A)
    world.put(1, False, b"")
    world.put(0, True, A)
    world.put(1, False, B)
    assert [request.payload for request in world.resource.requests] == [A, A + B]


#: What is sent -> the code of the last answer.
DISORDER: dict[str, tuple[list[tuple[int, bool, bytes]], int]] = {
    "no first": ([(1, True, B)], REQUEST_ENTITY_INCOMPLETE),
    "no first, and the last": ([(1, False, B)], REQUEST_ENTITY_INCOMPLETE),
    "a gap": ([(0, True, A), (2, True, C)], REQUEST_ENTITY_INCOMPLETE),
    "a gap before the last": ([(0, True, A), (2, False, C)], REQUEST_ENTITY_INCOMPLETE),
    "the last before what is there": ([(0, True, A), (1, True, B), (1, False, b"")], 0x88),
    "a block again": ([(0, True, A), (1, True, B), (1, True, B)], CONTINUE),
    "after the end": ([(0, True, A), (1, False, B), (2, False, C)], REQUEST_ENTITY_INCOMPLETE),
}


@pytest.mark.parametrize("case", DISORDER)
def test_blocks_out_of_order(world: World, case: str) -> None:
    blocks, code = DISORDER[case]
    answers = [world.put(*sent) for sent in blocks]
    assert answers[-1].code == code
    if code != CONTINUE:
        assert answers[-1].payload.startswith(b"Block1: ")


def test_after_a_gap_the_transfer_goes_on_with_what_was_missing(world: World) -> None:
    world.put(0, True, A)
    assert world.put(2, True, C).code == REQUEST_ENTITY_INCOMPLETE
    assert world.put(1, True, B).code == CONTINUE
    world.put(2, False, C)
    assert world.resource.requests[0].payload == A + B + C


def test_a_repeated_block_is_taken_once(world: World) -> None:
    world.put(0, True, A)
    for _ in range(3):
        assert read_block(world.put(1, True, B), BLOCK1) == (1, True, 2)
    world.put(2, False, b".")
    assert world.resource.requests[0].payload == A + B + b"."


def test_a_first_block_begins_anew(world: World) -> None:
    world.put(0, True, A)
    world.put(1, True, A)
    world.put(0, True, B)
    world.put(1, False, b".")
    assert world.resource.requests[0].payload == B + b"."


#: What tells transfers apart.
APART: dict[str, dict[str, Any]] = {
    "path": {"path": "b"},
    "query": {"options": [(URI_QUERY, b"q")]},
    "method": {"code": POST},
    "Request-Tag": {"options": [(REQUEST_TAG, b"1")]},
    "an empty Request-Tag": {"options": [(REQUEST_TAG, b"")]},
    "link": {"link": Link("127.0.0.1:2")},
}


@pytest.mark.parametrize("case", APART)
def test_transfers_do_not_mix(world: World, case: str) -> None:
    other = APART[case]
    world.put(0, True, A)
    world.put(0, True, B, **other)
    world.put(1, False, b"1")
    world.put(1, False, b"2", **other)
    assert [request.payload for request in world.resource.requests] == [A + b"1", B + b"2"]


def test_another_content_format_is_another_body(world: World) -> None:
    world.put(0, True, A, options=[(CONTENT_FORMAT, b"\x32")])
    assert world.put(1, False, B, options=[(CONTENT_FORMAT, b"\x3c")]).code == REQUEST_ENTITY_INCOMPLETE
    assert world.put(1, False, B, options=[(CONTENT_FORMAT, b"\x32")]).code == REQUEST_ENTITY_INCOMPLETE
    assert world.resource.requests == []


WRONG_BLOCKS: dict[str, tuple[int, bool, bytes, int]] = {
    "less than a block": (0, True, b"x" * 63, 2),
    "nothing": (0, True, b"", 2),
    "more than a block": (0, True, b"x" * 65, 2),
    "a last one with more than a block": (0, False, b"x" * 65, 2),
    "exponent 7": (0, True, b"x" * 1024, 7),
    "exponent 7, the last": (0, False, b"x", 7),
}


@pytest.mark.parametrize("case", WRONG_BLOCKS)
def test_a_block_that_is_none(world: World, case: str) -> None:
    number, more, payload, szx = WRONG_BLOCKS[case]
    answer = world.put(number, more, payload, szx)
    assert answer.code == BAD_REQUEST
    assert answer.payload
    assert world.resource.requests == []
    assert len(world.blockwise.uploads) == 0


def test_a_body_too_large_ends_with_the_block_that_makes_it_so(world: World) -> None:
    for number in range(10_000 // 64):
        assert world.put(number, True, A).code == CONTINUE
    answer = world.put(10_000 // 64, True, A)
    assert answer.code == REQUEST_ENTITY_TOO_LARGE
    assert option(answer, SIZE1) == (10_000).to_bytes(2, "big")
    assert read_block(answer, BLOCK1) == (156, True, 2)
    assert len(world.blockwise.uploads) == 0


def test_a_body_that_is_announced_as_too_large_is_not_begun(world: World) -> None:
    answer = world.put(0, True, A, options=[(SIZE1, b"\x27\x11")])
    assert answer.code == REQUEST_ENTITY_TOO_LARGE
    assert len(world.blockwise.uploads) == 0
    assert world.put(0, True, A, options=[(SIZE1, b"\x27\x10")]).code == CONTINUE


def test_we_ask_for_smaller_blocks(world: World) -> None:
    """RFC 7959, figure 9: the first block is taken, the next one has the number that its size makes it."""
    world.link.size_max = 32
    assert read_block(world.put(0, True, b"x" * 128, szx=3), BLOCK1) == (0, True, 1)
    assert read_block(world.put(4, True, b"y" * 32, szx=1), BLOCK1) == (4, True, 1)
    assert read_block(world.put(5, False, b"z", szx=1), BLOCK1) == (5, False, 1)
    assert world.resource.requests[0].payload == b"x" * 128 + b"y" * 32 + b"z"


def test_bert_blocks_over_reliable_links(world: World) -> None:
    world.link.bert = world.link.reliable = True
    world.link.size_max = 5000
    assert world.put(0, True, b"x" * 2000, szx=7).code == BAD_REQUEST
    assert read_block(world.put(0, True, b"x" * 3072, szx=7), BLOCK1) == (0, True, 7)
    assert read_block(world.put(3, True, b"y" * 1024, szx=7), BLOCK1) == (3, True, 7)
    assert world.put(4, False, b"z" * 1100, szx=7).code == CHANGED
    assert world.resource.requests[0].payload == b"x" * 3072 + b"y" * 1024 + b"z" * 1100


def test_what_is_never_finished_is_forgotten(world: World) -> None:
    world.put(0, True, A)
    world.pass_seconds(LIFETIME_SECONDS / 2)
    assert world.put(1, True, B).code == CONTINUE
    world.pass_seconds(LIFETIME_SECONDS - 1)
    assert world.put(2, True, C).code == CONTINUE
    world.pass_seconds(LIFETIME_SECONDS)
    assert world.put(3, True, C).code == REQUEST_ENTITY_INCOMPLETE
    world.put(0, True, A)
    world.pass_seconds(LIFETIME_SECONDS)
    world.pass_seconds(LIFETIME_SECONDS)
    assert len(world.blockwise.uploads) == world.blockwise.uploads.bytes == 0
    assert world.scheduler.next_due_ms() is None  # nothing kept, nothing to wait for


def test_one_link_has_so_many_transfers() -> None:
    world = World()
    for number in range(LINK_ENTRIES_MAX + 3):
        world.clock.monotonic_ms += 1
        world.put(0, True, A, path=f"p{number}")
    assert len(world.blockwise.uploads) == LINK_ENTRIES_MAX
    assert world.put(1, False, B, path="p2").code == REQUEST_ENTITY_INCOMPLETE
    assert world.put(1, False, B, path="p3").code == CHANGED


def test_one_link_may_not_hold_more_than_a_body_may_have() -> None:
    world = World(body_bytes_max=100_000)
    for path in ("a", "b", "c"):
        for number in range(60):
            world.clock.monotonic_ms += 1
            world.put(number, True, b"x" * 1024, szx=6, path=path)
    assert len(world.blockwise.uploads) == 1
    assert world.blockwise.uploads.bytes == 60 * 1024 + OVERHEAD_BYTES
    assert world.put(60, False, b".", szx=6, path="c").code == CHANGED


def test_all_links_have_so_much_together_and_who_goes_on_keeps_it() -> None:
    world = World(body_bytes_max=1 << 14, bytes_max=1 << 16)
    active = Link("127.0.0.1:9")
    assert world.put(0, True, b"x" * 1024, szx=6, link=active).code == CONTINUE
    for number in range(1, 15):
        for other in range(20):
            world.put(0, True, b"x" * 1024, szx=6, link=Link(f"127.0.0.2:{number}{other}"))
        assert world.put(number, True, b"x" * 1024, szx=6, link=active).code == CONTINUE
        assert world.blockwise.uploads.bytes <= world.blockwise.uploads.bytes_max < 80_000
    assert world.put(15, False, b".", szx=6, link=active).code == CHANGED
    assert len(world.resource.requests[0].payload) == 15 * 1024 + 1


def test_a_body_that_is_allowed_fits_whatever_the_limit_of_all() -> None:
    world = World(body_bytes_max=2 * BYTES_MAX)
    assert world.blockwise.uploads.bytes_max >= 2 * BYTES_MAX + OVERHEAD_BYTES


# -- Block2 -----------------------------------------------------------------------------------

BODY = bytes(range(256)) * 10


def fetch(world: World, szx: int = 6, path: str = "a") -> tuple[bytes, list[Response]]:
    """Get a representation as clients do; return it and the answers."""
    answers = [world.ask(GET, path=path)]
    while True:
        found = read_block(answers[-1], BLOCK2)
        assert found is not None
        if not found[1]:
            return b"".join(answer.payload for answer in answers), answers
        answers.append(world.get(found[0] + 1, found[2], path=path))


def test_what_does_not_fit_goes_in_blocks_of_one_representation(world: World) -> None:
    world.gives(BODY, (CONTENT_FORMAT, b"\x3c"))
    first = world.ask(GET)
    assert first.payload == BODY[:1024]
    assert read_block(first, BLOCK2) == (0, True, 6)
    world.gives(b"another by now" * 500)
    second, third = world.get(1), world.get(2)
    assert first.payload + second.payload + third.payload == BODY
    assert read_block(third, BLOCK2) == (2, False, 6)
    for answer in (second, third):
        assert option(answer, ETAG) == option(first, ETAG) != None  # noqa: E711
        assert option(answer, CONTENT_FORMAT) == b"\x3c"
    assert len(world.resource.requests) == 1


def test_a_resource_s_own_etag_is_kept(world: World) -> None:
    world.gives(BODY, (ETAG, b"mine"))
    assert [option(answer, ETAG) for answer in fetch(world)[1]] == [b"mine"] * 3


def test_the_etag_tells_contents_apart(world: World) -> None:
    world.gives(BODY)
    first = option(world.ask(GET), ETAG)
    assert option(world.ask(GET), ETAG) == first
    assert first is not None
    assert first.isascii()
    assert len(first) == 8
    world.gives(BODY[::-1])
    assert option(world.ask(GET), ETAG) != first


def test_the_client_asks_for_a_size_at_once(world: World) -> None:
    world.gives(BODY)
    answer = world.get(0, 2)
    assert answer.payload == BODY[:64]
    assert read_block(answer, BLOCK2) == (0, True, 2)
    assert world.get(39, 2).payload == BODY[39 * 64 :]


def test_the_client_changes_to_a_smaller_size(world: World) -> None:
    world.gives(BODY)
    assert world.get(0, 6).payload == BODY[:1024]
    answer = world.get(16, 2)
    assert answer.payload == BODY[1024:1088]
    assert read_block(answer, BLOCK2) == (16, True, 2)
    assert len(world.resource.requests) == 1


def test_what_fits_is_still_a_block_for_who_asks_for_blocks(world: World) -> None:
    world.gives(b"small")
    answer = world.get(0, 6)
    assert answer.payload == b"small"
    assert read_block(answer, BLOCK2) == (0, False, 6)
    assert len(world.blockwise.downloads) == 0


def test_a_representation_that_is_gone_is_asked_for_again(world: World) -> None:
    world.gives(BODY)
    first = world.ask(GET)
    world.pass_seconds(LIFETIME_SECONDS)
    world.pass_seconds(LIFETIME_SECONDS)
    assert len(world.blockwise.downloads) == 0
    same = world.get(1)
    assert (same.payload, option(same, ETAG)) == (BODY[1024:2048], option(first, ETAG))
    world.blockwise.gone(world.link)
    world.gives(BODY[::-1])
    assert option(world.get(2), ETAG) != option(first, ETAG)
    assert len(world.resource.requests) == 3


def test_what_became_an_error_meanwhile_is_told(world: World) -> None:
    world.gives(b"no such topic", code=NOT_FOUND)
    answer = world.get(1)
    assert (answer.code, answer.payload, answer.options) == (NOT_FOUND, b"no such topic", ())


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 2048, 2049])
def test_beyond_the_end_is_a_bad_request(world: World, size: int) -> None:
    world.gives(BODY[:size])
    blocks = -(-size // 1024)
    for number in range(1, blocks):
        assert world.get(number).payload == BODY[number * 1024 : min((number + 1) * 1024, size)]
    if size:
        assert world.get(max(blocks, 1)).code == BAD_REQUEST
        assert world.get(0xFFFFF).code == BAD_REQUEST
    else:
        assert world.get(1).code == CONTENT


def test_the_answer_to_a_post_is_not_made_again(world: World) -> None:
    world.gives(BODY, code=CHANGED)
    assert read_block(world.ask(POST, b"take"), BLOCK2) == (0, True, 6)
    assert world.get(1, code=POST).payload == BODY[1024:2048]
    world.blockwise.gone(world.link)
    assert world.get(2, code=POST).code == REQUEST_ENTITY_INCOMPLETE
    assert len(world.resource.requests) == 1


def test_a_fetch_is_made_again_only_with_its_payload(world: World) -> None:
    world.gives(BODY)
    assert world.get(1, code=FETCH).code == REQUEST_ENTITY_INCOMPLETE
    assert world.ask(FETCH, b"what", [(BLOCK2, block(1, False, 6))]).payload == BODY[1024:2048]
    assert world.get(2, code=FETCH).payload == BODY[2048:]


def test_size2_is_told_to_who_asks(world: World) -> None:
    world.gives(BODY)
    size = len(BODY).to_bytes(2, "big")
    assert option(world.ask(GET), SIZE2) is None
    assert option(world.ask(GET, options=[(SIZE2, b"")]), SIZE2) == size
    assert option(world.get(1, options=[(SIZE2, b"")]), SIZE2) == size
    world.gives(b"small")
    assert option(world.get(0, options=[(SIZE2, b"")]), SIZE2) == b"\x05"


def test_exponent_7_is_for_reliable_links(world: World) -> None:
    world.gives(BODY)
    for number in (0, 1):
        assert world.get(number, 7).code == BAD_REQUEST
    assert world.put(0, False, b"x", options=[(BLOCK2, block(0, False, 7))]).code == BAD_REQUEST
    assert world.resource.requests == []


def test_bert_answers(world: World) -> None:
    world.link.bert = world.link.reliable = True
    world.link.size_max = 2100
    world.gives(BODY)
    first = world.ask(GET)
    assert (first.payload, read_block(first, BLOCK2)) == (BODY[:2048], (0, True, 7))
    second = world.get(2, 7)
    assert (second.payload, read_block(second, BLOCK2)) == (BODY[2048:], (2, False, 7))


def test_a_small_link_gets_small_blocks(world: World) -> None:
    world.link.size_max = 100
    world.gives(BODY[:300])
    assert fetch(world)[0] == BODY[:300]
    assert read_block(world.ask(GET), BLOCK2) == (0, True, 2)
    assert world.get(1, 6).code == BAD_REQUEST  # 1024 is beyond the end


def test_an_error_s_text_is_cut_where_it_must_be(world: World) -> None:
    world.link.size_max = 64
    world.gives("ä".encode() * 100, code=NOT_FOUND)
    answer = world.ask(GET)
    assert (answer.code, answer.payload.decode(), answer.options) == (NOT_FOUND, "ä" * 32, ())


def test_a_body_in_blocks_with_an_answer_in_blocks(world: World) -> None:
    """RFC 7959, 3.3."""
    world.gives(BODY[:200], code=CHANGED)
    wanted = [(BLOCK2, block(0, False, 2))]
    assert world.put(0, True, A, options=wanted, code=POST).code == CONTINUE
    answer = world.put(1, False, B, options=wanted, code=POST)
    assert read_block(answer, BLOCK1) == (1, False, 2)
    assert read_block(answer, BLOCK2) == (0, True, 2)
    assert answer.payload == BODY[:64]
    later = world.get(1, 2, code=POST)
    assert (later.payload, read_block(later, BLOCK1)) == (BODY[64:128], None)
    assert len(world.resource.requests) == 1


def test_a_later_block_is_not_asked_for_with_a_body(world: World) -> None:
    answer = world.put(0, False, b"x", options=[(BLOCK2, block(1, False, 2))], code=POST)
    assert answer.code == BAD_REQUEST
    assert world.resource.requests == []


# -- Observe ----------------------------------------------------------------------------------


def test_an_observation_begins_with_a_first_block(world: World) -> None:
    world.gives(BODY, (OBSERVE, b"\x05"))
    first = world.ask(GET, options=[(OBSERVE, b"")])
    assert (option(first, OBSERVE), read_block(first, BLOCK2)) == (b"\x05", (0, True, 6))
    later = world.get(1)
    assert (option(later, OBSERVE), later.payload) == (None, BODY[1024:2048])


def test_a_later_block_begins_no_observation(world: World) -> None:
    world.gives(BODY)
    world.get(1, options=[(OBSERVE, b"")])
    assert world.resource.requests[0].options.observe == -1
    assert world.resource.requests[0].options.path == ("a",)


def test_a_notification_is_cut_and_its_rest_fetched(world: World) -> None:
    world.gives(BODY, (OBSERVE, b"\x05"))
    world.ask(GET, options=[(OBSERVE, b"")])
    asked = world.resource.requests[0].options
    newer = Response(CONTENT, BODY[::-1], ((OBSERVE, b"\x06"), (ETAG, b"new")))
    first = world.blockwise.cut(world.link, GET, asked, newer)
    assert (option(first, OBSERVE), read_block(first, BLOCK2)) == (b"\x06", (0, True, 6))
    later = world.get(1)
    assert (later.payload, option(later, ETAG)) == (BODY[::-1][1024:2048], b"new")
    small = Response(CONTENT, b"small", ((OBSERVE, b"\x07"),))
    assert world.blockwise.cut(world.link, GET, asked, small) is small


# -- any sizes --------------------------------------------------------------------------------


@given(st.binary(max_size=3000), st.integers(0, 6), st.integers(16, 1100))
def test_any_body_goes_and_comes_back(payload: bytes, szx: int, size_max: int) -> None:
    world = World()
    world.link.size_max = size_max
    at = 0
    while True:
        size = 16 << szx
        more = at + size < len(payload)
        answer = world.put(at // size, more, payload[at : at + size], szx)
        if not more:
            break
        found = read_block(answer, BLOCK1)
        assert answer.code == CONTINUE
        assert found is not None
        at, szx = at + size, found[2]
    assert answer.code == CHANGED
    assert world.resource.requests[0].payload == payload
    world.gives(payload)
    if len(payload) > size_max:
        assert fetch(world)[0] == payload
    assert world.blockwise.uploads.bytes == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([b"", A, b"x"]))))
def test_whatever_comes_is_answered_and_what_is_kept_is_counted(
    blocks: list[tuple[int, bool, bytes]],
) -> None:
    world = World(body_bytes_max=256)
    for number, more, payload in blocks:
        world.put(number, more, payload)
        uploads = world.blockwise.uploads
        kept = uploads.find(world.link, (PUT, ("a",), (), None, ()), world.scheduler.now_ms)
        assert len(uploads) == (kept is not None)
        assert uploads.bytes == (len(kept.body) + OVERHEAD_BYTES if kept is not None else 0)
        assert kept is None or len(kept.body) <= 256
