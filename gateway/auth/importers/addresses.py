"""RocketMQ's ranges of addresses as networks (CIDR).

| RocketMQ                    | here                                    |
|-----------------------------|-----------------------------------------|
| `192.168.0.1`               | `192.168.0.1/32`                        |
| `192.168.0.*`, `192.168.*.*` | `192.168.0.0/24`, `192.168.0.0/16`     |
| `10.10.103.1-10`            | `10.10.103.1/32`, ... `10.10.103.10/32` |
| `10.10.103.{1,2}`, `a,b`    | each of them                            |
| `2001:db8::{1,20}`, `..:*`  | the same with groups of IPv6            |
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ...api import InvalidValue

ADDRESSES_MAX: Final = 256  # in one list: an octet has no more
TEXT_CHARS_MAX: Final = 4096

#: Everywhere.
_ALL: Final = frozenset({"*", "*.*.*.*", "*:*:*:*:*:*:*:*"})
_LIST: Final = re.compile(r"([^{}]*)\{([^{}]*)\}")
_RANGE: Final = re.compile(r"([0-9A-Fa-f]{1,4})-([0-9A-Fa-f]{1,4})")


def networks(text: str, place: str) -> list[str]:
    """Return the networks that a white list's entry means; none if it means everywhere.

    Raise InvalidValue for what is none.
    """
    text = text.strip()
    if text in _ALL:
        return []
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidValue(f"{place}: an address of {len(text)} characters")
    try:
        found = [network for single in _singles(text) for network in _network(single)]
    except ValueError as error:
        raise InvalidValue(
            f"{place}: {text[:100]!r} is no address, range or list: {str(error)[:200]}"
        ) from error
    return list(dict.fromkeys(found))


def _singles(text: str) -> list[str]:
    """Return the entries of a list in braces, or between commas."""
    match = _LIST.fullmatch(text)
    singles = [match[1] + last.strip() for last in match[2].split(",")] if match else text.split(",")
    if len(singles) > ADDRESSES_MAX:
        raise ValueError(f"more than {ADDRESSES_MAX} addresses")
    return [single.strip() for single in singles]


def _network(text: str) -> list[str]:
    """Return the networks between the lowest and the highest address of a range."""
    mark, top = (":", "ffff") if ":" in text else (".", "255")
    low: list[str] = []
    high: list[str] = []
    open_ended = False
    for part in text.split(mark):
        match = _RANGE.fullmatch(part)
        # RocketMQ looks at nothing behind the first range: only what says so is taken.
        if open_ended and part != "*":
            raise ValueError("behind a range, only * can follow")
        open_ended = open_ended or part == "*" or match is not None
        first, last = ("0", top) if part == "*" else (match[1], match[2]) if match else (part, part)
        low.append(first)
        high.append(last)
    lowest, highest = ipaddress.ip_address(mark.join(low)), ipaddress.ip_address(mark.join(high))
    found = ipaddress.summarize_address_range(lowest, highest)
    return [str(network) for network in found]
