"""Patterns by level, so that a decision looks at the few rules that can fit, not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .pattern import ANY, LITERAL, PREFIX, Pattern, fill
from .rule import Rule


class _Node:
    __slots__ = ("any", "ends", "literals", "prefixes", "rests", "templates")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.prefixes: dict[str, _Node] = {}
        self.templates: dict[str, _Node] = {}
        self.ends: list[tuple[Rule, Pattern]] = []  # patterns that end here
        self.rests: list[tuple[Rule, Pattern]] = []  # that go on with whatever follows


class Index:
    """The rules of one subject."""

    __slots__ = ("_root", "_spreading")

    def __init__(self) -> None:
        self._root = _Node()
        self._spreading: list[tuple[Rule, Pattern]] = []  # may have more levels once they are filled in

    def add(self, rule: Rule, pattern: Pattern) -> None:
        """Take a pattern of a rule."""
        if pattern.templated and not rule.allows:
            self._spreading.append((rule, pattern))
            return
        node = self._root
        for level in pattern.levels:
            if level.kind == LITERAL:
                node = node.literals.setdefault(level.text, _Node())
            elif level.kind == ANY:
                node.any = node = node.any or _Node()
            elif level.kind == PREFIX:
                node = node.prefixes.setdefault(level.text, _Node())
            else:
                node = node.templates.setdefault(level.text, _Node())
        (node.rests if pattern.rest else node.ends).append((rule, pattern))

    def candidates(
        self, wanted: Sequence[str], values: Mapping[str, str], filters: bool
    ) -> list[tuple[Rule, Pattern]]:
        """Return every rule whose pattern can match something that `wanted`, some levels, does.

        With `filters` they are a filter's; otherwise a name's, in which nothing is a wildcard: a queue
        may be called `#`. Too many at times, never too few: whoever asks looks closer.
        """
        found = list(self._spreading)
        _collect(self._root, wanted, 0, values, filters, found)
        return found


def _collect(
    node: _Node,
    wanted: Sequence[str],
    depth: int,
    values: Mapping[str, str],
    filters: bool,
    found: list[tuple[Rule, Pattern]],
) -> None:
    found += node.rests
    if depth == len(wanted):
        found += node.ends
        return
    name = wanted[depth]
    if filters and name == "#":
        found += node.ends
        for child in _children(node):
            _collect(child, wanted, depth, values, filters, found)
        return
    if filters and name == "+":
        for child in _children(node):
            _collect(child, wanted, depth + 1, values, filters, found)
        return
    literal = node.literals.get(name)
    if literal is not None:
        _collect(literal, wanted, depth + 1, values, filters, found)
    if node.any is not None:
        _collect(node.any, wanted, depth + 1, values, filters, found)
    for prefix, child in node.prefixes.items():
        if name.startswith(prefix):
            _collect(child, wanted, depth + 1, values, filters, found)
    for template, child in node.templates.items():
        if fill(template, values) == name:
            _collect(child, wanted, depth + 1, values, filters, found)


def _children(node: _Node) -> list[_Node]:
    children = [*node.literals.values(), *node.prefixes.values(), *node.templates.values()]
    return [*children, node.any] if node.any is not None else children
