"""SCRAM-SHA-256 (RFC 5802, RFC 7677): a login that shows neither the password nor its hash.

The gateway keeps a verifier from which nobody can log in. Ours and not a library's: `scramp`, which
the tests use for the other side, needs an ASN.1 parser for channel bindings that are not offered
here, and refuses salts under 12 bytes that other servers' verifiers have.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NamedTuple

from ..api import AuthenticationFailed, Authenticator, Credentials, Exchange, Principal
from .names import checked_name, same_name
from .saslprep import saslprep
from .users import Lookup, User

METHOD = "SCRAM-SHA-256"

#: OWASP's number for PBKDF2-HMAC-SHA256 (RFC 7677, 4, asks for 4096 at least). The client computes them,
#: 0.2 s on a desktop, once a login; devices whose secret is random may do with the minimum.
ITERATIONS = 600_000
ITERATIONS_MIN = 4096
ITERATIONS_MAX = 10_000_000  # a minute on a small client: more is a misplaced digit
SALT_BYTES = 16
MESSAGE_BYTES_MAX = 4096  # names have 256 bytes, nonces about 24
NONCE_BYTES = 18  # 24 characters; the RFC's examples have as many
WRONG = "wrong user name or password"  # the same for all that would tell which users there are

_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([^$:]+)\$([^$:]+):([^$:]+)")
#: RFC 5802, 7: gs2-header, then n=, r= and extensions. A mandatory extension (m=) does not fit.
_FIRST = re.compile(
    r"(?P<gs2>(?P<binding>n|y|p=[A-Za-z0-9.-]+),(?:a=(?P<authzid>[^,\0]+))?,)"
    r"(?P<bare>n=(?P<name>[^,\0]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*)"
)
_FINAL = re.compile(
    r"(?P<without>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)"
    r"(?:,[A-Za-z]=[^,\0]+)*),p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_ESCAPE = re.compile("=(2C|3D)?")


class Verifier(NamedTuple):
    """What is known of a password (RFC 5803)."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:  # it is worth a dictionary attack
        return f"Verifier({self.iterations} iterations)"

    def __str__(self) -> str:
        salt, stored, server = (base64.b64encode(part).decode() for part in self[1:])
        return f"{METHOD}${self.iterations}:{salt}${stored}:{server}"


def make_verifier(password: str, iterations: int = ITERATIONS, salt: bytes | None = None) -> str:
    """Return a verifier as PostgreSQL writes it: `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.

    Takes 0.2 s: on an event loop, call it by `asyncio.to_thread`. Raise ValueError for a password that
    cannot be used, and for iterations out of range.
    """
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise ValueError(f"{iterations} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are possible")
    prepared = saslprep(password, stored=True)
    if not prepared:
        raise ValueError("the password is empty")
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", prepared.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return str(Verifier(iterations, salt, hashlib.sha256(client_key).digest(), server_key))


def parse_verifier(text: str) -> Verifier:
    """Read a verifier. Raise ValueError, never with the text."""
    found = _VERIFIER.fullmatch(text)
    if found is None:
        raise ValueError(f"it is no verifier; {METHOD}$ITERATIONS:SALT$STOREDKEY:SERVERKEY is expected")
    iterations = int(found.group(1))
    salt, stored, server = (_decode64(part) for part in found.groups()[1:])
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX or not salt or not len(stored) == len(server) == 32:
        raise ValueError("its iterations, or the lengths of its keys, are out of range")
    return Verifier(iterations, salt, stored, server)


class ScramLogins(Authenticator):
    """Users with verifiers. `secret` returns what makes up salts for unknown users.

    It should be the same after a restart (derived from the gateway's own key, say): a salt that
    changes is made up.
    """

    methods = (METHOD,)

    def __init__(
        self, users: Lookup, secret: Callable[[], bytes] | None = None, iterations: int = ITERATIONS
    ) -> None:
        """`iterations` are claimed for unknown users: what most verifiers have."""
        self._users = users
        self._secret = secret or partial(bytes, os.urandom(32))
        self._iterations = iterations

    def exchange(self, credentials: Credentials) -> Exchange | None:
        return ScramExchange(self, credentials.username) if credentials.method == METHOD else None

    def find(self, name: str) -> tuple[User | None, Verifier]:
        """Return a user and the verifier; somebody who cannot log in so has one that nothing fits."""
        user = self._users(name)
        if user is not None and user.scram:
            try:
                return None if user.disabled else user, parse_verifier(user.scram)
            except ValueError:
                pass  # damaged: nobody can log in with it, and nobody learns that
        secret = self._secret()
        salt, stored, server = (
            hmac.digest(secret, kind + name.encode(), "sha256") for kind in (b"salt:", b"stored:", b"server:")
        )
        return None, Verifier(self._iterations, salt[:SALT_BYTES], stored, server)


class _Stage(Enum):
    BEGIN = 0
    ASKED = 1  # the client has nothing to say before it is asked (RFC 4422, 3.3)
    FINAL = 2
    OVER = 3


class ScramExchange(Exchange):
    """One login: client-first, server-first, client-final, server-final."""

    def __init__(self, logins: ScramLogins, username: str | None, nonce: str = "") -> None:
        """`username` is what the client has given besides, `nonce` the gateway's part of it."""
        self._logins = logins
        self._username = username
        self._own_nonce = nonce or base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode()
        self._stage = _Stage.BEGIN
        self._user: User | None = None
        self._verifier: Verifier
        self._header = ""
        self._nonce = ""
        self._signed = ""  # both first messages

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        if self._stage is _Stage.BEGIN and not data:
            self._stage = _Stage.ASKED
            return b"", None
        begins = self._stage in (_Stage.BEGIN, _Stage.ASKED)
        ends = self._stage is _Stage.FINAL
        self._stage = _Stage.FINAL if begins else _Stage.OVER
        if begins:
            return self._first(_text(data)), None
        if ends:
            return self._final(_text(data))
        raise AuthenticationFailed("the exchange is over")

    def _first(self, message: str) -> bytes:
        found = _FIRST.fullmatch(message)
        if found is None:
            raise AuthenticationFailed("SCRAM: the first message is malformed (RFC 5802, 7)")
        if found["binding"].startswith("p"):  # [6]: asked for although SCRAM-SHA-256-PLUS is not offered
            raise AuthenticationFailed("SCRAM: channel binding is not offered")
        name = _name(found["name"])
        if found["authzid"] is not None and _name(found["authzid"]) != name:
            raise AuthenticationFailed("SCRAM: nobody may act for another here (authzid)")
        if not same_name(self._username, name):
            raise AuthenticationFailed("SCRAM: the user name beside the exchange is another")
        self.name = name
        self._user, self._verifier = self._logins.find(name)
        self._header = found["gs2"]
        self._nonce = found["nonce"] + self._own_nonce
        salt = base64.b64encode(self._verifier.salt).decode()
        answer = f"r={self._nonce},s={salt},i={self._verifier.iterations}"
        self._signed = f"{found['bare']},{answer}"
        return answer.encode()

    def _final(self, message: str) -> tuple[bytes, Principal | None]:
        found = _FINAL.fullmatch(message)
        if found is None:
            raise AuthenticationFailed("SCRAM: the final message is malformed (RFC 5802, 7)")
        header = base64.b64encode(self._header.encode()).decode()
        if not hmac.compare_digest(found["binding"], header):
            raise AuthenticationFailed("SCRAM: the channel binding has changed on the way")
        if not hmac.compare_digest(found["nonce"], self._nonce):
            raise AuthenticationFailed("SCRAM: the nonce is another")
        signed = f"{self._signed},{found['without']}".encode()
        known, user = self._verifier, self._user
        signature = hmac.digest(known.stored_key, signed, "sha256")
        client_key = _xor(_proof(found["proof"]), signature)
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), known.stored_key) or user is None:
            raise AuthenticationFailed(WRONG)
        answer = b"v=" + base64.b64encode(hmac.digest(known.server_key, signed, "sha256"))
        return answer, Principal(user.name, admin=user.admin, groups=frozenset(user.groups), method="scram")


def _text(data: bytes) -> str:
    if len(data) > MESSAGE_BYTES_MAX:
        raise AuthenticationFailed(f"SCRAM: a message has more than {MESSAGE_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise AuthenticationFailed("SCRAM: a message is no UTF-8") from error


def _name(escaped: str) -> str:
    """Return a saslname as it was before `,` and `=` were escaped [5.1], prepared."""
    if any(found.group(1) is None for found in _ESCAPE.finditer(escaped)):
        raise AuthenticationFailed("SCRAM: '=' in a name is written =3D, ',' =2C")
    try:
        name = saslprep(escaped.replace("=2C", ",").replace("=3D", "="))
    except ValueError as error:
        raise AuthenticationFailed(f"SCRAM: the user name cannot be used: {error}") from error
    return checked_name(name, "SCRAM: the user name")


def _proof(text: str) -> bytes:
    try:
        proof = _decode64(text)
    except ValueError as error:
        raise AuthenticationFailed("SCRAM: the proof is no base64") from error
    if len(proof) != hashlib.sha256().digest_size:
        raise AuthenticationFailed("SCRAM: the proof has not 32 bytes")
    return proof


def _decode64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("it is no base64") from error


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


async def make_verifier_in_thread(password: str, iterations: int = ITERATIONS) -> str:
    """As `make_verifier`, while the event loop goes on."""
    return await asyncio.to_thread(make_verifier, password, iterations)
