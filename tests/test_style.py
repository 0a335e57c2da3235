"""The rules of CONTRIBUTING.md that a test can check: docstrings, lengths, no leftovers.

The exceptions are a debt with a ceiling: a listed module or function may shrink, never grow, and
must leave the list when it fits.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import ROOT, files

MODULE_LINES_MAX = 450  # what one reads in a sitting
FUNCTION_LINES_MAX = 60  # a screen; aim at 40
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX)\b")

#: Module -> lines it has now.
LONG_MODULES: dict[str, int] = {}
#: module:function -> lines it has now.
LONG_FUNCTIONS: dict[str, int] = {
    # One loop over the bytes of a read: a call for each packet would cost more than the parsing.
    "gateway/protocols/mqtt/decoder.py:_parse": 64,
}

SOURCES = files("gateway", "plugins", "examples", "benchmarks")
PRODUCT = files("gateway")


def relative(path: Path) -> str:
    """Return a path as people write it."""
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from `def` to the end."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of all comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_module_begins_with_its_idea(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "a module says first what it is for"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_lengths(path: Path) -> None:
    source = path.read_text()
    name = relative(path)
    lines = source.count("\n")
    assert lines <= LONG_MODULES.get(name, MODULE_LINES_MAX), "split the module at a noun"
    assert name not in LONG_MODULES or lines > MODULE_LINES_MAX, "it fits now: take it off the list"
    for node in functions(ast.parse(source)):
        full = f"{name}:{node.name}"
        size = function_lines(node)
        assert size <= LONG_FUNCTIONS.get(full, FUNCTION_LINES_MAX), f"{full} has {size} lines: split it"
        assert full not in LONG_FUNCTIONS or size > FUNCTION_LINES_MAX, (
            f"{full} fits now: take it off the list"
        )


def test_exceptions_exist() -> None:
    for name in (*LONG_MODULES, *LONG_FUNCTIONS):
        assert (ROOT / name.partition(":")[0]).is_file(), f"{name} is gone: take it off the list"


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_nothing_left_over(path: Path) -> None:
    source = path.read_text()
    assert [(line, text) for line, text in comments(source) if LEFTOVER.search(text)] == []
    if path.is_relative_to(ROOT / "gateway" / "cli"):
        return
    prints = [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == [], "only the command line prints"
