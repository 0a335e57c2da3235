"""The languages of selectors: `sql`, which is SQL92 as JMS and RocketMQ have it, and `tags`.

The parser is imported with the first selector in SQL: a gateway without one is not to wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.selector import Compiler, Predicate
from gateway.hookspecs import hookimpl

from .tags import compile_tags


def compile_sql(text: str) -> Predicate:
    """Compile a condition in SQL92. Raise InvalidSelector."""
    from .sql92 import compile_condition

    return compile_condition(text)


LANGUAGES: Mapping[str, Compiler] = {"sql": compile_sql, "tags": compile_tags}


@hookimpl
def gateway_selectors() -> Mapping[str, Compiler]:
    """Offer both."""
    return LANGUAGES
