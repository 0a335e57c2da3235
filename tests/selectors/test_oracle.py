"""The same conditions over the same rows, by us and by SQLite.

Left out, because SQLite means something else by them: TRUE and FALSE (numbers there), comparisons of a
text with a number (by type there, by what is written here), texts that are written like numbers, and what
has no value (SQLite turns what overflows into a float, and a text in a sum into 0).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.message import Message, Properties
from gateway.selectors import compile_sql

NUMBERS = ("n1", "n2", "n3")
TEXTS = ("t1", "t2")
numbers = st.none() | st.integers(-20, 20) | st.integers(-80, 80).map(lambda quarter: quarter / 4)
texts = st.none() | st.text(alphabet="ab%_'B", max_size=4)
rows = st.tuples(numbers, numbers, numbers, texts, texts)


def literal(value: str | int | float) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


number_literals = (st.integers(-9, 9) | st.integers(-30, 30).map(lambda quarter: quarter / 4)).map(literal)
text_literals = st.text(alphabet="ab%_'B", max_size=4).map(literal)
number_names = st.sampled_from(NUMBERS)
text_names = st.sampled_from(TEXTS)
calculations = st.recursive(
    number_names | number_literals,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda value: f"(- {value})"),
    ),
    max_leaves=4,
)
signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
nots = st.sampled_from(["", "NOT "])


def compared(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(values, signs, values).map(" ".join)


def between(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(values, nots, values, values).map(lambda t: f"{t[0]} {t[1]}BETWEEN {t[2]} AND {t[3]}")


def listed(names: st.SearchStrategy[str], literals: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(literals, min_size=1, max_size=3).map(", ".join)
    return st.tuples(names, nots, lists).map(lambda t: f"{t[0]} {t[1]}IN ({t[2]})")


any_text = text_names | text_literals
terms = st.one_of(
    compared(calculations),
    compared(any_text),
    between(calculations),
    between(any_text),
    listed(number_names, number_literals),
    listed(text_names, text_literals),
    st.tuples(text_names, nots, text_literals).map(lambda t: f"{t[0]} {t[1]}LIKE {t[2]}"),
    st.tuples(text_names, nots, st.sampled_from(["a!%%", "%!_", "!!%", "_!%_"])).map(
        lambda t: f"{t[0]} {t[1]}LIKE '{t[2]}' ESCAPE '!'"
    ),
    st.tuples(calculations | any_text, nots).map(lambda t: f"{t[0]} IS {t[1]}NULL"),
)
conditions = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda condition: f"NOT ({condition})"),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.execute("CREATE TABLE messages (n1, n2, n3, t1, t2)")
    yield connection
    connection.close()


@settings(max_examples=600, deadline=None)
@given(row=rows, condition=conditions)
def test_we_and_sqlite_agree(
    database: sqlite3.Connection, row: tuple[str | int | float | None, ...], condition: str
) -> None:
    database.execute("DELETE FROM messages")
    database.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", row)
    expected = database.execute(f"SELECT count(*) FROM messages WHERE {condition}").fetchone()[0] == 1
    headers = tuple(zip((*NUMBERS, *TEXTS), row, strict=True))
    message = Message("t", b"", properties=Properties(headers=headers))
    assert bool(compile_sql(condition)(message)) is expected
