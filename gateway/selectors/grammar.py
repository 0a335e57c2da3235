"""From text to nodes: the grammar, and what it cannot say.

One kind of expression in the grammar, because an opening parenthesis does not tell whether a
condition or a calculation follows; whether a node fits where it stands is asked when it is made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from gateway.core.selector import InvalidSelector

from . import like
from .nodes import FIELDS, Node
from .values import INT_MAX, number

GRAMMAR: Final = r"""
start: either
?either: both (OR both)*
?both: negation (AND negation)*
?negation: NOT negation -> negated
    | predicate
?predicate: sum
    | sum COMPARISON sum -> compare
    | sum IS NOT? NULL -> null
    | sum NOT? BETWEEN sum AND sum -> between
    | sum NOT? IN "(" listed ("," listed)* ")" -> within
    | sum NOT? LIKE STRING (ESCAPE STRING)? -> like
    | sum NOT? (CONTAINS | STARTSWITH | ENDSWITH) STRING -> text
?sum: product (SIGN product)*
?product: signed (TIMES signed)*
?signed: SIGN signed -> sign
    | atom
listed: SIGN? NUMBER | STRING
?atom: NUMBER -> number | STRING -> string | (TRUE | FALSE | NULL) -> constant
    | NAME -> name | QUOTED -> quoted | "(" either ")"

COMPARISON: /<>|!=|<=|>=|=|<|>/
SIGN: /[+-]/
TIMES: /[*\/]/
NUMBER.2: /\d+[lL](?![\w$])|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/
NAME: /(?:[^\W\d]|\$)[\w$.]*/
QUOTED: /"(?:[^"]|"")+"/
STRING: /'(?:[^']|'')*'/
COMMENT.3: /--[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\//
%declare OR AND NOT IS NULL BETWEEN IN LIKE ESCAPE CONTAINS STARTSWITH ENDSWITH TRUE FALSE
%ignore COMMENT
%ignore /\s+/
"""

KEYWORDS: Final = frozenset(GRAMMAR.partition("%declare ")[2].partition("\n")[0].split())
CONSTANTS: Final = {"TRUE": True, "FALSE": False, "NULL": None}
SHOWN_CHARS_MAX: Final = 20  # of what was found, in an error
_NAMES: Final = {
    "STRING": "a text in single quotes",
    "NUMBER": "a number",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
}
_UNFINISHED: Final = {
    "'": "this text has no end; it ends with ', and '' is one ' within it",
    '"': 'this name has no end; it ends with "',
    "/": "this comment has no end",
}


def parse(text: str) -> Node:
    """Return the condition that a text is. Raise InvalidSelector."""
    try:
        tree: Any = _parser().parse(text)
    except UnexpectedToken as error:
        raise _unexpected(error, text) from None
    except UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        detail = _UNFINISHED.get(text[at], f"{text[at]!r} means nothing here")
        raise InvalidSelector(detail, at + 1) from None
    except UnexpectedInput as error:
        raise InvalidSelector("this is no condition", (error.pos_in_stream or 0) + 1) from None
    node: Node = tree
    return node


def _unexpected(error: UnexpectedToken, text: str) -> InvalidSelector:
    token = error.token
    begins = text.rfind("/*", 0, _column(token) + 1)
    if begins >= 0 and begins >= _column(token) - 2:
        return InvalidSelector(_UNFINISHED["/"], begins + 1)
    if token.type == "$END":
        return InvalidSelector(f"it ends where {_expected(error)} is expected", len(text.rstrip()) + 1)
    found = str(token)
    if len(found) > SHOWN_CHARS_MAX:
        found = found[:SHOWN_CHARS_MAX] + "..."
    return InvalidSelector(f"{found!r} where {_expected(error)} is expected", _column(token))


def _expected(error: UnexpectedToken) -> str:
    """Say in a few words what could have come."""
    accepted = error.accepts or error.expected
    if "NAME" in accepted:
        return "a name or value"
    if accepted & {"COMPARISON", "AND", "OR"}:
        return "an operator, AND or OR"
    return " or ".join(_NAMES.get(name, name) for name in sorted(accepted - {"SIGN"})[:3])


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _word(token: Token) -> Token:
    """Tell keywords from names: they have no case."""
    word = str(token).upper()
    return token.update(type=word) if word in KEYWORDS else token


@lru_cache(1)
def _parser() -> Lark:
    return Lark(
        GRAMMAR,
        parser="lalr",
        lexer="basic",
        transformer=_Nodes(),
        lexer_callbacks={"NAME": _word},
        maybe_placeholders=False,
    )


def _value(node: Node) -> Node:
    if not node.is_value:
        raise InvalidSelector("a value is expected here, not a condition", node.at)
    return node


def _condition(node: Node) -> Node:
    if not node.is_boolean:
        raise InvalidSelector("a condition is expected here, not a value", node.at)
    return node


def _unquoted(token: Token) -> str:
    quote = token[0]
    return str(token[1:-1]).replace(quote * 2, quote)


def _negated(node: Node, words: list[Token]) -> Node:
    """Return a node, or its opposite if there is a NOT among the words."""
    return Node("not", node.at, (node,)) if any(word.type == "NOT" for word in words) else node


def _tokens(items: tuple[Any, ...]) -> list[Token]:
    return [item for item in items if isinstance(item, Token)]


@v_args(inline=True)
class _Nodes(Transformer[Token, Node]):
    """What becomes of each rule."""

    def start(self, node: Node) -> Node:
        return _condition(node)

    def either(self, *items: Any) -> Node:
        return self._joined("or", items)

    def both(self, *items: Any) -> Node:
        return self._joined("and", items)

    def _joined(self, kind: str, items: tuple[Any, ...]) -> Node:
        parts = tuple(_condition(item) for item in items if isinstance(item, Node))
        return Node(kind, parts[0].at, parts)

    def negated(self, word: Token, node: Node) -> Node:
        return Node("not", _column(word), (_condition(node),))

    def compare(self, left: Node, sign: Token, right: Node) -> Node:
        kind = "<>" if sign == "!=" else str(sign)
        return Node("compare", left.at, (_value(left), _value(right)), kind)

    def null(self, value: Node, *words: Token) -> Node:
        return _negated(Node("null", value.at, (_value(value),)), list(words))

    def between(self, value: Node, *items: Any) -> Node:
        low, high = (item for item in items if isinstance(item, Node))
        above = self.compare(value, Token("COMPARISON", ">="), low)
        below = self.compare(value, Token("COMPARISON", "<="), high)
        return _negated(Node("and", value.at, (above, below)), _tokens(items))

    def within(self, value: Node, *items: Any) -> Node:
        listed = [item.value for item in items if isinstance(item, Node)]
        numbers = frozenset(found for one in listed if (found := number(one)) is not None)
        texts = frozenset(one for one in listed if isinstance(one, str) and number(one) is None)
        return _negated(Node("in", value.at, (_value(value),), (texts, numbers)), _tokens(items))

    def like(self, value: Node, *items: Token) -> Node:
        strings = [token for token in items if token.type == "STRING"]
        escape = ""
        if len(strings) == 2:
            escape = _unquoted(strings[1])
            if len(escape) != 1:
                raise InvalidSelector("one character is expected to escape with", _column(strings[1]))
        found = like.shape(_unquoted(strings[0]), escape, _column(strings[0]))
        return _negated(Node("text", value.at, (_value(value),), found), list(items))

    def text(self, value: Node, *items: Token) -> Node:
        found = (items[-2].type.lower(), _unquoted(items[-1]))
        return _negated(Node("text", value.at, (_value(value),), found), list(items))

    def sum(self, *items: Any) -> Node:
        return self._calculated(items)

    def product(self, *items: Any) -> Node:
        return self._calculated(items)

    def _calculated(self, items: tuple[Any, ...]) -> Node:
        found: Node = _value(items[0])
        for index in range(1, len(items), 2):
            found = Node("calculate", found.at, (found, _value(items[index + 1])), str(items[index]))
        return found

    def sign(self, sign: Token, value: Node) -> Node:
        at = _column(sign)
        if value.kind == "literal" and type(value.value) in (int, float):
            return Node("literal", at, (), -value.value if sign == "-" else value.value)
        zero = Node("literal", at, (), 0)
        return Node("calculate", at, (zero, _value(value)), str(sign))

    def listed(self, *tokens: Token) -> Node:
        if tokens[-1].type == "STRING":
            return self.string(tokens[-1])
        return self.number(tokens[-1]) if len(tokens) == 1 else self.sign(tokens[0], self.number(tokens[1]))

    def number(self, token: Token) -> Node:
        found = number(str(token).rstrip("lL"))  # a long integer, as JMS and RocketMQ may write it
        if found is None or (isinstance(found, int) and found > INT_MAX + 1):
            raise InvalidSelector("this number is too large", _column(token))
        return Node("literal", _column(token), (), found)

    def string(self, token: Token) -> Node:
        return Node("literal", _column(token), (), _unquoted(token))

    def constant(self, token: Token) -> Node:
        return Node("literal", _column(token), (), CONSTANTS[token.type])

    def name(self, token: Token) -> Node:
        return Node("field" if str(token) in FIELDS else "header", _column(token), (), str(token))

    def quoted(self, token: Token) -> Node:
        return Node("header", _column(token), (), _unquoted(token))
