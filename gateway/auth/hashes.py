"""Password hashes: ours, and those that other brokers have written.

| stored                          | who writes it                                            |
|---------------------------------|----------------------------------------------------------|
| `$argon2id$v=19$m=..,t=..,p=..` | we; also mosquitto_passwd of 2.1 (RFC 9106, PHC string)   |
| `$6$SALT$HASH`                  | mosquitto_passwd up to 1.6: SHA-512 of password and salt |
| `$7$ITERATIONS$SALT$HASH`       | mosquitto_passwd of 2.0: PBKDF2 with HMAC-SHA-512        |
| `$rabbit-sha256$BASE64`         | RabbitMQ's `password_hash`: a salt of 4 bytes, then      |
| `$rabbit-sha512$BASE64`         | the hash of salt and password                            |

All functions are pure: they may run in a thread, and `verify` should, as it takes long by design.
None raises for a stored hash, whatever it is: it may come from somebody's file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

STORED_CHARS_MAX: Final = 1024  # the longest that any of these programs writes has some 200
PBKDF2_ITERATIONS_MAX: Final = 10_000_000  # some 5 s; OWASP asks for 210,000
ARGON2_KIB_MAX: Final = 256 << 10  # RFC 9106 recommends 64 MiB where memory is short, as it is here
ARGON2_WORK_KIB_MAX: Final = 4 << 20  # memory times passes: some 5 s
ARGON2_LANES_MAX: Final = 64  # each is a thread

# OWASP's argon2id parameters: 19 MiB, 2 passes, 1 lane (22 ms here).
_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_ITERATIONS: Final = re.compile(r"[1-9][0-9]{0,7}")
_SHA512_BYTES: Final = 64
_RABBIT_SALT_BYTES: Final = 4

#: Tells whether a password is the right one.
_Check = Callable[[bytes], bool]


def hash_password(password: str) -> str:
    """Return an argon2id hash, salt and parameters included."""
    return _hasher.hash(password)


def verify(stored: str, password: bytes) -> bool:
    """Tell whether this is the password. What is no hash that we know matches none."""
    check = _read(stored)
    return check is not None and check(password)


def known(stored: str) -> bool:
    """Tell whether a stored hash has a form that `verify` can check."""
    return _read(stored) is not None


def needs_rehash(stored: str) -> bool:
    """Tell whether a login should replace the hash by one of `hash_password`."""
    if not _is_argon2(stored):
        return True
    return _hasher.check_needs_rehash(stored)


def _read(stored: str) -> _Check | None:
    """Return how to check a password against a stored hash; None if it has no form that we know."""
    if len(stored) > STORED_CHARS_MAX or not stored.isascii():
        return None
    if stored.startswith("$argon2"):
        return _argon2(stored)
    name, _, rest = stored[1:].partition("$")
    reader = _READERS.get(name)
    return reader(rest) if reader is not None and stored.startswith("$") else None


def _is_argon2(stored: str) -> bool:
    return stored.startswith("$argon2") and _read(stored) is not None


def _argon2(stored: str) -> _Check | None:
    try:
        parameters = extract_parameters(stored)
    except (InvalidHashError, ValueError):  # ValueError: of a number that is none
        return None
    memory, passes = parameters.memory_cost, parameters.time_cost
    if not 0 < memory <= ARGON2_KIB_MAX or not 0 < passes * memory <= ARGON2_WORK_KIB_MAX:
        return None
    if not 0 < parameters.parallelism <= ARGON2_LANES_MAX:
        return None

    def check(password: bytes) -> bool:
        try:
            return _hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    return check


def _sha512(rest: str) -> _Check | None:
    salt, digest = _salt_and_digest(rest)
    if len(digest) != _SHA512_BYTES:
        return None
    return lambda password: hmac.compare_digest(hashlib.sha512(password + salt).digest(), digest)


def _pbkdf2(rest: str) -> _Check | None:
    number, _, rest = rest.partition("$")
    salt, digest = _salt_and_digest(rest)
    if _ITERATIONS.fullmatch(number) is None or len(digest) != _SHA512_BYTES:
        return None
    iterations = int(number)
    if iterations > PBKDF2_ITERATIONS_MAX:
        return None
    return lambda password: hmac.compare_digest(
        hashlib.pbkdf2_hmac("sha512", password, salt, iterations), digest
    )


def _rabbit(algorithm: str) -> Callable[[str], _Check | None]:
    """Return the reader of RabbitMQ's hashes made with this algorithm of hashlib's."""
    size = _RABBIT_SALT_BYTES + hashlib.new(algorithm).digest_size

    def read(rest: str) -> _Check | None:
        blob = _decode(rest)
        if len(blob) != size:
            return None
        salt, digest = blob[:_RABBIT_SALT_BYTES], blob[_RABBIT_SALT_BYTES:]

        def check(password: bytes) -> bool:
            found = hashlib.new(algorithm, salt + password).digest()
            # An empty password lets nobody in at RabbitMQ, whatever the hash says.
            return hmac.compare_digest(found, digest) and password != b""

        return check

    return read


def _salt_and_digest(rest: str) -> tuple[bytes, bytes]:
    """Return both parts of `SALT$HASH`, empty where it is no base64."""
    salt, _, digest = rest.partition("$")
    return (_decode(salt), _decode(digest)) if _decode(salt) else (b"", b"")


def _decode(text: str) -> bytes:
    """Return what base64 (RFC 4648, section 4) stands for; nothing if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


_READERS: Final[dict[str, Callable[[str], _Check | None]]] = {
    "6": _sha512,
    "7": _pbkdf2,
    "rabbit-sha256": _rabbit("sha256"),
    "rabbit-sha512": _rabbit("sha512"),
}
