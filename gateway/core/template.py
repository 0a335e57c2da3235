"""Templates of topics: `{topic}/{name}` and the like, with a few placeholders that their user knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from .access import check_open
from .errors import GatewayError, InvalidValue

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def check_template(template: str, names: Sequence[str]) -> None:
    """Raise InvalidValue unless a template makes topics that clients may publish to.

    That is: whatever its placeholders are for, each being one of `names` and there for levels, not wildcards.
    """
    for name in _PLACEHOLDER.findall(template):
        if name not in names:
            known = " and ".join(f"{{{known}}}" for known in names)
            raise InvalidValue(f"{template!r}: {{{name}}} is unknown; {known} are possible")
    plain = _PLACEHOLDER.sub("a", template)
    if "{" in plain or "}" in plain:
        raise InvalidValue(f"{template!r}: a brace that is part of no placeholder")
    try:
        check_open(plain)
    except GatewayError as error:
        raise InvalidValue(f"{template!r} makes no topic: {error.detail}") from None


def fill(template: str, texts: Mapping[str, str]) -> str:
    """Return a template with texts in its placeholders, which are not looked at for others."""
    return _PLACEHOLDER.sub(lambda match: texts[match[1]], template)
