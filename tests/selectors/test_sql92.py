"""Selectors in SQL92: what they mean, what they refuse and in which column."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.message import Message, Origin, Properties
from gateway.core.selector import TEXT_CHARS_MAX, InvalidSelector, Selectors
from gateway.selectors import compile_sql
from gateway.selectors.nodes import DEPTH_MAX, FIELDS, TERMS_MAX

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
HEADERS: dict[str, Any] = {
    "color": "red",
    "text10": "10",
    "int10": 10,
    "float10": 10.0,
    "decimal": Decimal("10.0"),
    "half": 0.5,
    "minus": -3,
    "yes": True,
    "no": False,
    "text_yes": "true",
    "text_no": "False",
    "nothing": None,
    "bytes": b"red",
    "list": [1],
    "map": {"a": 1},
    "when": WHEN,
    "nan": float("nan"),
    "huge": 1 << 62,
    "empty": "",
    "odd": "50%_!'",
    "dead-letter-cause": "rejected",
    'with "quote': 1,
    "topic": "a header, not the field",
    "ünï": "ö",
    "lines": "one\ntwo",
}

PROPERTIES = Properties(
    content_type="text/plain",
    content_encoding="gzip",
    correlation=b"c-1",
    reply_to="answers",
    message_id="m-1",
    timestamp_ms=1_700_000_000_000,
    priority=7,
    key="k",
    tag="TagA",
    headers=tuple(HEADERS.items()),
)
MESSAGE = Message("a/b", b"12345", 1, True, PROPERTIES, Origin("mqtt", "alice", "device7"), 1_600_000_000_000)
BARE = Message("t", b"")

TRUE = """
color = 'red'                 color <> 'blue'              color != 'blue'              color > 'blue'
color BETWEEN 'a' AND 'z'     NOT color = 'blue'           color IN ('blue', 'red')     color NOT IN ('blue')
int10 = 10                    int10 = 10.0                 10 = int10                   int10 > 9.5
int10 = 10L                   int10 IN (9l, 10L)           9L < int10                   -10l = -int10
9 < int10                     int10 <= 10                  int10 >= 10                  int10 <> 11
int10 BETWEEN 10 AND 10       int10 NOT BETWEEN 11 AND 20  int10 IN (1, 10)             int10 NOT IN (1, 2)
float10 = 10                  decimal = 10                 decimal >= 9.5               half = 0.5
half = .5                     half = 5e-1                  minus = -3                   minus < 0
-minus = 3                    minus IN (-3)                +int10 = 10                  int10 - -1 = 11
text10 = 10                   text10 = '10'                text10 > 9                   text10 < 11
int10 = '10'                  int10 = '10.0'               text10 = '10.0'              int10 > '9'
text10 > '9'                  text10 = int10               text10 IN (10)               int10 IN ('10', 'x')
int10 <> 'red'                text10 <> 'red'              color <> 10                  color NOT IN (10)
yes                           NOT no                       yes = TRUE                   no = FALSE
yes <> FALSE                  text_yes                     text_yes = TRUE              NOT text_no
yes = 'true'                  yes = 'TRUE'                 text_no = FALSE              yes <> 'red'
yes <> 1                      yes IN ('true')              no IN ('x', 'FALSE')         yes NOT IN ('false')
TRUE                          NOT FALSE                    nothing IS NULL              absent IS NULL
color IS NOT NULL             list IS NOT NULL             bytes IS NOT NULL            NOT (color IS NULL)
int10 + 5 = 15                int10 - 5 = 5                int10 * 2 = 20               int10 / 4 = 2
int10 / 4.0 = 2.5             minus / 2 = -1               text10 * 2 = 20              2 + 3 * 4 = 14
(2 + 3) * 4 = 20              10 - 2 - 3 = 5               16 / 4 / 2 = 2               -(2 + 3) = -5
when = 1769860800000          when > 1000                  half * 2 = 1                 (((int10))) = 10
color LIKE 'red'              color LIKE 'r%'              color LIKE '%d'              color LIKE '%e%'
color LIKE 'r_d'              color LIKE '___'             color LIKE '%'               empty LIKE '%'
empty LIKE ''                 color NOT LIKE 'b%'          color LIKE 'r%d'             color LIKE '%r%e%d%'
color LIKE '_%_'              int10 LIKE '1_'              yes LIKE 't%'                lines LIKE 'one%two'
lines LIKE 'one_two'          odd LIKE '50!%!_!!%' ESCAPE '!'   odd LIKE '%\\%%' ESCAPE '\\'   odd LIKE '%'''
color CONTAINS 'e'            color STARTSWITH 're'        color ENDSWITH 'ed'          color NOT CONTAINS 'x'
color NOT STARTSWITH 'e'      color NOT ENDSWITH 'r'       text10 STARTSWITH '1'        int10 STARTSWITH '1'
topic = 'a/b'                 "topic" LIKE '%header%'      priority = 7                 key = 'k'
tag = 'TagA'                  TAGS = 'TagA'                message_id = 'm-1'           correlation = 'c-1'
content_type = 'text/plain'   content_encoding = 'gzip'    timestamp = 1700000000000    protocol = 'mqtt'
client_id = 'device7'         principal = 'alice'          size = 5                     reply_to = 'answers'
qos = 1                       retain                       retain = TRUE
"dead-letter-cause" = 'rejected'
"with ""quote" = 1            ünï = 'ö'                    color = 'red' -- a comment   color /* 1 */ = 'red'
color = 'red' AND yes         color = 'x' OR yes           NOT (color = 'x' AND yes)    no OR yes AND NOT no
color = 'red' and YES = 1 or yes   color IN ('x') OR yes   yes OR absent = 1            absent = 1 OR yes
NOT (absent = 1 AND no)       huge + huge IS NULL          int10 / 0 IS NULL            color + 1 IS NULL
huge * 2 IS NULL              -color IS NULL               nothing + 1 IS NULL          nan <> 5 OR TRUE
"""

FALSE = """
color = 'blue'                color <> 'red'               color = 'RED'                color > 'red'
int10 = 11                    int10 <> 10                  int10 < 10                   NOT int10 = 10
NOT int10 >= 10               NOT text10 > 9               NOT color = 'red'            color NOT IN ('red')
int10 NOT BETWEEN 1 AND 10    color NOT LIKE 'r%'          yes = FALSE                  NOT yes
no                            FALSE                        color IS NULL                NOT color IS NOT NULL
color NOT CONTAINS 'e'        text10 <> '10.0'             int10 <> '10'                text10 <> 10
color LIKE 'R%'               color LIKE 'red_'            color LIKE '_'               color LIKE 'r'
color LIKE '%dr%'             color LIKE 'red%d'           color LIKE '%e%e%'
odd LIKE '50!%!!%' ESCAPE '!'
int10 IN (1, 'x')             int10 NOT IN (10)            yes NOT IN ('TRUE')          no OR color = 'x'
"""

UNKNOWN = """
absent = 1                    absent <> 1                  absent > 1                   absent LIKE '%'
absent IN ('a')               absent NOT IN ('a')          absent NOT LIKE 'a'          absent BETWEEN 1 AND 2
absent                        nothing = 'x'                nothing <> 'x'               nothing = nothing
color > 5                     color <= 5                   int10 < 'red'                int10 >= 'red'
yes > 0                       yes < 'z'                    bytes = 'red'                bytes <> 'red'
bytes > 'a'                   bytes LIKE '%'               bytes IN ('red')             list = 1
map <> 'x'                    list LIKE '%'                when LIKE '%'                nan = nan
nan > 1                       color / 2 = 1                int10 / 0 = 1                huge + huge > 0
NULL                          color = NULL                 NULL = NULL                  color <> NULL
absent = 1 AND yes            absent = 1 OR no             color                        int10
absent = TRUE                 yes AND NULL         absent CONTAINS 'x'          absent NOT CONTAINS 'x'
absent + 1 = 1                -absent = 1                  absent BETWEEN 1 AND absent  1 = absent
"""


def cases(text: str) -> list[str]:
    """Return the conditions of a table: those in a line are two spaces apart."""
    return [part for line in text.strip().splitlines() for part in re.split(" {2,}", line.strip())]


def opposite(condition: str) -> str:
    return f"NOT ({condition}\n)"  # the comment of one ends with its line


@pytest.mark.parametrize("condition", cases(TRUE))
def test_what_is_true_matches_and_its_opposite_does_not(condition: str) -> None:
    assert compile_sql(condition)(MESSAGE) is True
    assert not compile_sql(opposite(condition))(MESSAGE)


@pytest.mark.parametrize("condition", cases(FALSE))
def test_what_is_false_does_not_match_but_its_opposite_does(condition: str) -> None:
    assert not compile_sql(condition)(MESSAGE)
    assert compile_sql(opposite(condition))(MESSAGE)


@pytest.mark.parametrize("condition", cases(UNKNOWN))
def test_what_is_unknown_matches_neither_way(condition: str) -> None:
    assert not compile_sql(condition)(MESSAGE)
    assert not compile_sql(opposite(condition))(MESSAGE)


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_of_the_message_can_be_asked_for(field: str) -> None:
    assert compile_sql(f"{field} IS NOT NULL")(MESSAGE)
    there = field in ("topic", "size", "qos", "retain", "timestamp", "protocol")
    assert bool(compile_sql(f"{field} IS NOT NULL")(BARE)) is there


def test_of_headers_of_one_name_the_first_counts() -> None:
    message = Message("t", b"", properties=Properties(headers=(("a", 1), ("a", 2))))
    assert compile_sql("a = 1")(message)
    message.properties.headers = (("a", 2),)
    assert compile_sql("a = 2")(message), "what was read of the headers goes with them"


#: condition, column, words of the error
WRONG = [
    ("", 1, "it ends where a name or value"),
    ("   ", 1, "it ends where"),
    ("-- only a comment", 18, "it ends where"),
    ("a =", 4, "it ends where"),
    ("a == 1", 4, "'='"),
    ("a = 1 b", 7, "an operator, AND or OR"),
    ("a = 1 AND", 10, "it ends where"),
    ("AND a = 1", 1, "'AND'"),
    ("a = 'abc", 5, "has no end"),
    ('"abc = 1', 1, "has no end"),
    ('"" = 1', 1, "has no end"),
    ("a = 1 /* x", 7, "comment has no end"),
    ("/* x", 1, "comment has no end"),
    ("a = #", 5, "'#' means nothing here"),
    ("a ~ 1", 3, "means nothing"),
    ("(a = 1", 7, "it ends where"),
    ("a = 1)", 6, "')'"),
    ("a = (b = 1)", 6, "a value is expected here, not a condition"),
    ("(a = 1) + 2 = 3", 2, "a value is expected"),
    ("(a = 1) = TRUE", 2, "a value is expected"),
    ("a = 1 AND 5", 11, "a condition is expected here, not a value"),
    ("NOT 'x'", 5, "a condition is expected"),
    ("a + 1", 1, "a condition is expected"),
    ("5", 1, "a condition is expected"),
    ("a IN ()", 7, "')'"),
    ("a IN (b)", 7, "'b'"),
    ("a IN (1, NULL)", 10, "'NULL'"),
    ("a IN ('x',)", 11, "')'"),
    ("a IN 'x'", 6, "("),
    ("a LIKE b", 8, "a text in single quotes"),
    ("a LIKE 5", 8, "a text in single quotes"),
    ("a LIKE 'x' ESCAPE ''", 19, "one character"),
    ("a LIKE 'x' ESCAPE 'ab'", 19, "one character"),
    ("a LIKE 'x!y' ESCAPE '!'", 8, "may escape"),
    ("a LIKE 'x!' ESCAPE '!'", 8, "escapes nothing"),
    ("a CONTAINS 5", 12, "a text in single quotes"),
    ("a BETWEEN 1", 12, "it ends where"),
    ("a BETWEEN 1 OR 2", 13, "'OR'"),
    ("a IS 5", 6, "NOT or NULL"),
    ("a IS NOT 5", 10, "NULL"),
    ("a NOT = 1", 7, "'='"),
    ("12abc = 1", 3, "'abc'"),
    ("1e999 = a", 1, "too large"),
    ("a = 99999999999999999999", 5, "too large"),
    ("like = 1", 1, "'like'"),
    ("a = 1\nAND b = ", 14, "it ends where"),
    ("a = 1; DROP TABLE x", 6, "means nothing"),
    ("(" * 50 + "a = 1" + ")" * 49, 105, "it ends where"),
    ("NOT " * (DEPTH_MAX + 1) + "a = 1", 1, "nested"),
    (" + ".join(["1"] * (DEPTH_MAX + 2)) + " = 1", 1, "nested"),
    (" OR ".join(["a = 1"] * (TERMS_MAX + 1)), 1, "over 256 comparisons"),
]


@pytest.mark.parametrize(("condition", "column", "words"), WRONG, ids=[wrong[0][:30] for wrong in WRONG])
def test_what_is_wrong_is_said_with_its_column(condition: str, column: int, words: str) -> None:
    with pytest.raises(InvalidSelector) as caught:
        compile_sql(condition)
    assert words in caught.value.detail
    if "nested" not in words and "over" not in words:  # these are found where they end
        assert caught.value.column == column
    assert caught.value.detail.startswith(f"selector, column {caught.value.column}: ")


def test_a_selector_may_be_as_deep_and_as_long_as_its_limits() -> None:
    assert compile_sql("NOT " * (DEPTH_MAX - 2) + "int10 = 10")(MESSAGE)
    assert compile_sql(" AND ".join(["int10 = 10"] * TERMS_MAX))(MESSAGE)
    nested = "int10 = 10"
    for level in range((DEPTH_MAX - 2) // 3):
        nested = f"(color = 'x' OR (int10 = {level + 10} OR {nested}) AND yes)"
    assert compile_sql(nested)(MESSAGE)
    sums = "int10" + " + 0" * (DEPTH_MAX - 3)
    assert compile_sql(f"{sums} = 10")(MESSAGE)
    selectors = Selectors()
    selectors.add("sql", compile_sql)
    with pytest.raises(InvalidSelector, match="4096 characters"):
        selectors.find("a = 1 " + " " * TEXT_CHARS_MAX)


def test_nobody_s_text_becomes_source() -> None:
    hostile = "');import os;('"
    message = Message("t", b"", properties=Properties(headers=((hostile, hostile),)))
    quoted = hostile.replace("'", "''")
    assert compile_sql(f"\"{hostile}\" = '{quoted}'")(message)
    assert compile_sql("h = 1 OR m = 1 OR p = 1 OR c0 = 1 OR __class__ = 1 OR equal = 1 OR TRUE")(message)


@given(text=st.text(alphabet=" ab1'\"()=<>!+-*/.,%_\\ANDORNTILKEUS", max_size=30))
@example("'" * 30)
@example("(" * 30)
@example("NOT " * 7)
def test_any_text_is_a_selector_or_an_error_with_a_column(text: str) -> None:
    try:
        selector = compile_sql(text)
    except InvalidSelector as error:
        column = error.column
    else:
        assert selector(MESSAGE) in (True, False)
        assert selector(BARE) in (True, False)
        return
    assert 1 <= column <= len(text) + 1


def test_a_pattern_of_many_wildcards_takes_no_longer_than_the_text() -> None:
    message = Message("t", b"", properties=Properties(headers=(("a", "a" * 50_000),)))
    assert not compile_sql(f"a LIKE '{'%a' * 50}%b'")(message)  # a regular expression would take years
    assert compile_sql(f"a LIKE '{'%a_' * 50}%'")(message)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.just(10**5000),
    st.floats(),
    st.decimals(),
    st.datetimes(timezones=st.just(UTC)),
    st.binary(max_size=4),
    st.text(max_size=4),
    st.sampled_from(["1", "1e400", "-0", "9" * 50, "true", "FALSE", "nan", "inf", "1_0", "٣", " 1"]),
)
EVERYTHING = [compile_sql(condition) for condition in (*cases(TRUE), *cases(FALSE), *cases(UNKNOWN))]


@given(values=st.lists(scalars | st.lists(scalars, max_size=2), min_size=len(HEADERS), max_size=len(HEADERS)))
def test_no_value_makes_a_selector_fail(values: list[Any]) -> None:
    headers = tuple(zip(HEADERS, values, strict=True))
    made = Properties(correlation=b"\xff", priority=0, tag="", headers=headers)
    message = Message("t", b"", properties=made)
    for selector in EVERYTHING:
        assert selector(message) in (True, False)


def test_the_parser_is_imported_with_the_first_selector_in_sql() -> None:
    program = (
        "import sys, gateway.server, gateway.plugins as p; m = p.plugin_manager();"
        "found = p.mapped(m, 'gateway_selectors', 'x');"
        "found['tags']('a'); assert 'lark' not in sys.modules;"
        "found['sql']('a = 1'); assert 'lark' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
