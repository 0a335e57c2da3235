"""Selectors in SQL92: the conditions of a WHERE clause, as JMS and RocketMQ have them.

    = <> != < <= > >=   BETWEEN .. AND ..   IN (..)   LIKE .. ESCAPE ..   IS [NOT] NULL
    CONTAINS  STARTSWITH  ENDSWITH (of RocketMQ)   AND OR NOT   + - * /   TRUE FALSE NULL   -- and /* */

A name is one of the message's own fields (`nodes.FIELDS`) or else an application header; in double
quotes, with any characters in it, it is always a header. Keywords have no case, names have one.

What a header is compared with decides how, so that the doors agree: MQTT has only texts where AMQP
and HTTP have numbers, and `price > 10` must be the same messages everywhere.

- A text that is written like a number (`12`, `-0.5`, `1e3`) is that number.
- Numbers compare as numbers, other texts as texts, by code point.
- TRUE and FALSE are also the texts `true` and `false`, in any case.
- Things of different kinds are not equal, and have no order: `<` and its like are unknown.
- What wants a text (LIKE, CONTAINS ...) takes numbers as they are written.
- A time is its Unix milliseconds. Bytes, lists and tables are there, and compare with nothing.

What is missing is NULL, and logic has three values: unknown is not true, nor is its opposite. Division
of whole numbers gives a whole number; what has no value (by zero, over 64 bits, of no number) is NULL.
"""

from __future__ import annotations

from gateway.core.selector import Predicate

from .code import generate
from .grammar import parse


def compile_condition(text: str) -> Predicate:
    """Compile a condition to a function. Raise InvalidSelector, which says in which column."""
    return generate(parse(text))
