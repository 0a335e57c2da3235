"""What may be somebody's name, wherever it comes from: a token, a certificate, an exchange.

Names stand in rules, logs, journeys and message properties, so what cannot be seen or would break a
line is refused where it comes in.
"""

from __future__ import annotations

import unicodedata

from ..api import AuthenticationFailed

NAME_BYTES_MAX = 256  # an X.509 common name has 64 characters at most, OpenID Connect's `sub` 255
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's categories


def checked_name(name: object, what: str) -> str:
    """Return the name. Raise AuthenticationFailed, which says `what` was no name, if it is none."""
    if not isinstance(name, str):
        raise AuthenticationFailed(f"{what} is no text")
    if not name.strip():
        raise AuthenticationFailed(f"{what} is empty")
    if len(name) > NAME_BYTES_MAX or len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise AuthenticationFailed(f"{what} has more than {NAME_BYTES_MAX} bytes")
    if any(unicodedata.category(character) in _INVISIBLE for character in name):
        raise AuthenticationFailed(f"{what} has characters that cannot be seen")
    return name


def same_name(given: str | None, name: str) -> bool:
    """Tell whether a user name that came beside a proof of identity is none, or the right one."""
    return not given or given == name
