"""From nodes to one Python function.

A condition is written twice: as what is true where it is true, and as what is true where it is false.
NOT exchanges the two, so three-valued logic costs nothing: where both are false it is unknown. Names
and literals of the selector are variables of the function; no text of a client's is ever source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.core.selector import Predicate

from . import values
from .nodes import FIELDS, Node
from .values import OPERATIONS, ORDERS

#: What generated code finds under which name.
HELPERS: Final[dict[str, Any]] = {
    "NUMBERS": frozenset((int, float)),
    "equal": values.equal,
    "order": values.order,
    "number": values.number,
    "within": values.within,
    "truth": values.truth,
    "text": values.text,
    "utf8": values.utf8,
    "calculate": values.calculate,
}
#: How a text is looked at: {v} is the text, {c} what the shape takes.
SHAPES: Final = {
    "is": "{v} == {c}",
    "startswith": "{v}.startswith({c})",
    "endswith": "{v}.endswith({c})",
    "contains": "{c} in {v}",
    "match": "{c}({v})",
}
OPPOSITES: Final = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
MIRRORED: Final = {"=": "=", "<>": "<>", "<": ">", ">": "<", ">=": "<=", "<=": ">="}
PYTHON: Final = {"=": "==", "<>": "!="}


def generate(node: Node) -> Predicate:
    """Return the function that tells whether a condition is true of a message."""
    writer = Writer()
    condition = writer.true(node)
    names = {**HELPERS, **writer.constants}
    source = f"def bound({', '.join(names)}):\n def selector(m):\n"
    if "p." in condition or "h.get(" in condition:
        source += "  p = m.properties\n"
    if "h.get(" in condition:
        source += "  h = p.by_name\n  if h is None: h = p.index()\n"
    source += f"  return {condition}\n return selector\n"
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    selector: Predicate = namespace["bound"](*names.values())
    return selector


class Writer:
    """Writes expressions, and collects the constants that they need."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self._variables = 0

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    # -- conditions ---------------------------------------------------------------------------

    def true(self, node: Node) -> str:
        """Return what is true where a condition is true."""
        return _WRITERS[node.kind](self, node, True)

    def false(self, node: Node) -> str:
        """Return what is true where a condition is false."""
        return _WRITERS[node.kind](self, node, False)

    def _write(self, node: Node, wanted: bool) -> str:
        return self.true(node) if wanted else self.false(node)

    def conjunction(self, node: Node, wanted: bool) -> str:
        word = " and " if (node.kind == "and") == wanted else " or "
        return f"({word.join(self._write(part, wanted) for part in node.parts)})"

    def negation(self, node: Node, wanted: bool) -> str:
        return self._write(node.parts[0], not wanted)

    def null(self, node: Node, wanted: bool) -> str:
        return f"({self.value(node.parts[0])} {'is' if wanted else 'is not'} None)"

    def boolean(self, node: Node, wanted: bool) -> str:
        """A name, TRUE, FALSE or NULL where a condition is wanted."""
        if node.kind == "literal":
            return str(node.value is wanted)
        return f"(truth({self.value(node)}) is {wanted})"

    def text(self, node: Node, wanted: bool) -> str:
        shape, operand = node.value
        v = self._variable()
        look = SHAPES[shape].format(v=v, c=self._constant(operand))
        known = f"({v} := {self.value(node.parts[0])}).__class__ is str or ({v} := text({v})) is not None"
        return f"(({known}) and {'' if wanted else 'not '}({look}))"

    def within(self, node: Node, wanted: bool) -> str:
        texts, numbers = node.value
        v, t, n = self._variable(), self._constant(texts), self._constant(numbers)
        slow = f"within({v}, {t}, {n}) is {wanted}"
        value = f"({v} := {self.value(node.parts[0])})"
        quick = f"{v} {'in' if wanted else 'not in'} {n if numbers else t}"
        if texts and numbers:
            return f"({value} is not None and {slow})"
        fits = f"{value}.__class__ in NUMBERS" if numbers else f"{value}.__class__ is str"
        return f"({quick} if {fits} else {slow})"

    # -- comparisons --------------------------------------------------------------------------

    def compare(self, node: Node, wanted: bool) -> str:
        (left, right), sign = node.parts, node.value
        if not wanted:
            sign = OPPOSITES[sign]
        if left.kind == "literal" and right.kind != "literal":
            left, right, sign = right, left, MIRRORED[sign]
        literal = right.value if right.kind == "literal" else None
        if type(literal) in (int, float):
            v, c = self._variable(), self._constant(literal)
            quick, slow = f"{v} {PYTHON.get(sign, sign)} {c}", self._slowly(sign, v, c)
            if sign == "=":
                slow = f"number({v}) == {c}"
            elif sign not in PYTHON:  # what is no number has no order with one
                slow = f"({v} := number({v})) is not None and {quick}"
            return f"({quick} if ({v} := {self.value(left)}).__class__ in NUMBERS else {slow})"
        if isinstance(literal, str) and sign in PYTHON and values.number(literal) is None:
            return self._compare_text(left, literal, sign)
        return f"({self._slowly(sign, self.value(left), self.value(right))})"

    def _compare_text(self, left: Node, literal: str, sign: str) -> str:
        """Nothing that is no text, a truth perhaps excepted, equals a text that is no number."""
        v, c = self._variable(), self._constant(literal)
        if sign == "=" and values.truth(literal) is None:
            return f"({self.value(left)} == {c})"
        quick, slow = f"{v} {PYTHON[sign]} {c}", self._slowly(sign, v, c)
        return f"({quick} if ({v} := {self.value(left)}).__class__ is str else {slow})"

    def _slowly(self, sign: str, left: str, right: str) -> str:
        if sign in PYTHON:
            return f"equal({left}, {right}) is {sign == '='}"
        return f"order({left}, {right}) in {self._constant(ORDERS[sign])}"

    # -- values -------------------------------------------------------------------------------

    def value(self, node: Node) -> str:
        """Return what has a value's value, None for NULL."""
        if node.kind == "field":
            return FIELDS[node.value]
        if node.kind == "header":
            return f"h.get({self._constant(node.value)})"
        if node.kind == "literal":
            return self._constant(node.value)
        left, right = (self.value(part) for part in node.parts)
        return f"calculate({self._constant(OPERATIONS[node.value])}, {left}, {right})"


_WRITERS: Final[dict[str, Callable[[Writer, Node, bool], str]]] = {
    "and": Writer.conjunction,
    "or": Writer.conjunction,
    "not": Writer.negation,
    "compare": Writer.compare,
    "in": Writer.within,
    "text": Writer.text,
    "null": Writer.null,
    "header": Writer.boolean,
    "field": Writer.boolean,
    "literal": Writer.boolean,
}
