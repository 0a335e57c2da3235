"""Names that RocketMQ's servers expect: of messages (34 hexadecimal digits, version 1) and of clients."""

from __future__ import annotations

import itertools
import os
import socket
import time
import uuid
from typing import Final

_VERSION: Final = "01"
_EPOCH: Final = 1_609_459_200  # 2021-01-01, where the seconds of an id begin
_SEQUENCE_MASK: Final = 0xFFFFFFFF
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

_sequence = itertools.count()
_clients = itertools.count()


def message_id() -> str:
    """Return a new id: this machine's address, process, second, and a number."""
    seconds = int(time.time()) - _EPOCH & _SEQUENCE_MASK
    return f"{_VERSION}{_machine()}{seconds:08X}{next(_sequence) & _SEQUENCE_MASK:08X}"


def client_id() -> str:
    """Return a new id as official clients have them: `host@pid@number@time`."""
    return f"{socket.gethostname()}@{os.getpid()}@{next(_clients)}@{base36(time.time_ns())}"


def base36(number: int) -> str:
    """Return a number in digits and letters."""
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _BASE36[rest] + digits
    return digits or "0"


_prefixes: dict[int, str] = {}


def _machine() -> str:
    """Return address and process; a fork is another process."""
    pid = os.getpid()
    found = _prefixes.get(pid)
    if found is None:
        found = _prefixes[pid] = f"{uuid.getnode():012X}{pid & 0xFFFF:04X}"
    return found
