"""JSON Web Tokens (RFC 7519) vouch for clients: HTTP's Bearer, or a password at any door.

A token is verified against the keys of `jwks`, then its claims are checked by `claims`, and the
rules it brings by `token_rules`. PyJWT is imported with the first authenticator, not before: a
gateway without tokens does not pay for it. A verification takes 60 to 110 microseconds and is done
on the event loop; what was verified is remembered for a minute at most, so that a key taken from the
set ends soon what it signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..api import AuthenticationFailed, Authenticator, Credentials, InvalidValue, Principal
from .claims import (
    Claims,
    check_parties,
    check_times,
    groups_of,
    is_admin,
    leeway_fault,
    name_of,
)
from .jwks import ALGORITHMS, FILE_BYTES_MAX, Key, Keys, parse_key_set, read_public_key, read_secret
from .names import same_name
from .token_rules import Rule, rules_of
from .users import Lookup

TOKEN_BYTES_MAX = 16 << 10  # HTTP servers take headers of 8 to 16 KiB; larger ones carry documents
VERIFIED_SECONDS = 60.0  # how long a token signed with a key that was taken away works at most
VERIFIED_MAX = 10_000  # tokens remembered: about 20 MB of claims
USER_NAMES = ("match", "ignore")

_TOKEN = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def looks_like_token(text: bytes) -> bool:
    """Tell whether a password is a token: three parts, of which the first is a header.

    Three parts alone would take a user's password `correct.horse.battery` for one.
    """
    return _header(text) is not None


def _header(text: bytes) -> dict[str, Any] | None:
    """Return the header of what looks like a token (RFC 7515, 4), None if it does not."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    part = found.group(1)
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and "alg" in header else None


class TokenLogins(Authenticator):
    """Vouches for bearers of tokens. `settings` are `[tokens]` (`gateway.settings.Tokens`).

    With `users`, a bearer whose name is that of a disabled user is refused. `check_rules` is the
    authorizer's own look at rules: an InvalidValue refuses the token.
    """

    def __init__(
        self,
        settings: Any,
        users: Lookup | None = None,
        directory: Path | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        check_rules: Callable[[list[Rule]], None] | None = None,
    ) -> None:
        """Read the keys; file names are relative to `directory`. Raise ValueError with all faults."""
        from jwt import PyJWS

        faults = check(settings, directory)
        if faults:
            raise ValueError("; ".join(faults))
        self._settings = settings
        self._users = users
        self._check_rules = check_rules
        self._now = now
        self._monotonic = monotonic
        jwks = _path(settings.jwks, directory) if settings.jwks else None
        self._keys = Keys(_fixed_keys(settings, directory, faults), jwks, monotonic)
        self._allowed = frozenset(settings.algorithms or ALGORITHMS)
        self._signatures = PyJWS()
        self._verified: dict[bytes, tuple[Claims, float]] = {}  # digest -> claims, until when
        self._generation = self._keys.generation
        self._secret = os.urandom(32)  # so that the memory of a process gives no token's digest away

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for a token's bearer; None if there is no token. Raise AuthenticationFailed for a bad one."""
        text = _presented(credentials)
        if text is None or (header := _header(text)) is None:
            return None
        if len(text) > TOKEN_BYTES_MAX:
            raise AuthenticationFailed(f"the token has more than {TOKEN_BYTES_MAX} bytes")
        claims = self._remembered(text)
        if claims is None:
            claims = self._verify(text, header)
            self._remember(text, claims)
        return self._principal(claims, credentials)

    # -- the signature ---------------------------------------------------------------------------

    def _verify(self, text: bytes, header: dict[str, Any]) -> Claims:
        from cryptography.exceptions import UnsupportedAlgorithm
        from jwt import PyJWTError

        algorithm, name = header["alg"], header.get("kid", "")
        if algorithm not in ALGORITHMS or algorithm not in self._allowed:
            raise AuthenticationFailed("the token's algorithm (alg) is not allowed here")
        if not isinstance(name, str):
            raise AuthenticationFailed("the token's key id (kid) is no text")
        if "crit" in header:  # RFC 7515, 4.1.11: whoever does not understand all of it must refuse
            raise AuthenticationFailed("the token needs extensions (crit) that are not known here")
        candidates = self._keys.candidates(algorithm, name)
        if not candidates:
            raise AuthenticationFailed(f"the token's key is not known here (kid {name[:64]!r}, {algorithm})")
        for key in candidates:
            try:
                # The key says which algorithms are possible; the header only chooses among them.
                payload = self._signatures.decode(text, key.material, algorithms=[algorithm])
                return _claims(payload)
            except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
                continue
        raise AuthenticationFailed("the token's signature is wrong")

    # -- what was verified -----------------------------------------------------------------------

    def _remembered(self, text: bytes) -> Claims | None:
        self._keys.refresh()
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._verified.clear()
        found = self._verified.get(self._digest(text))
        return found[0] if found is not None and found[1] > self._monotonic() else None

    def _remember(self, text: bytes, claims: Claims) -> None:
        if self._generation != self._keys.generation:
            return  # verified with keys that came meanwhile: the next login empties what is remembered
        key = self._digest(text)
        self._verified.pop(key, None)
        while len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]  # the oldest
        self._verified[key] = claims, self._monotonic() + VERIFIED_SECONDS

    def _digest(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, digest_size=32, key=self._secret).digest()

    # -- the claims -------------------------------------------------------------------------------

    def _principal(self, claims: Claims, credentials: Credentials) -> Principal:
        """Return who the bearer is; times are checked at every login, remembered or not."""
        wanted = self._settings
        expiry = check_times(claims, self._now(), wanted.leeway_seconds, wanted.require_expiry)
        check_parties(claims, wanted.issuer, wanted.audience)
        name = name_of(claims, wanted.name_claim)
        if wanted.user_name == "match" and not same_name(credentials.username, name):
            raise AuthenticationFailed("the user name is not the token's")
        bound = claims.get(wanted.client_id_claim) if wanted.client_id_claim else None
        if bound is not None and bound != credentials.client_id:
            raise AuthenticationFailed("the token is for another client id")
        user = self._users(name) if self._users is not None else None
        if user is not None and user.disabled:
            raise AuthenticationFailed("the token's user is disabled")
        groups = groups_of(claims, wanted.groups_claim)
        return Principal(
            name,
            admin=is_admin(claims, groups, wanted.admin_claim, wanted.admin_group),
            groups=groups,
            method="token",
            expires_at_ms=int((expiry + wanted.leeway_seconds) * 1000) if expiry else 0,
            claims={"rules": self._rules(claims)},
        )

    def _rules(self, claims: Claims) -> list[Rule]:
        rules = rules_of(claims.get(self._settings.rules_claim))
        if self._check_rules is not None:
            try:
                self._check_rules(rules)
            except InvalidValue as error:
                raise AuthenticationFailed(f"the token's rules: {error.detail}") from error
        return rules


def _presented(credentials: Credentials) -> bytes | None:
    if credentials.token is not None:
        return credentials.token.encode("utf-8", "replace")
    return credentials.password


def _claims(payload: bytes) -> Claims:
    try:
        claims = msgspec.json.decode(payload)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(claims, dict):
        raise ValueError("no object")
    return claims


# -- the settings ------------------------------------------------------------------------------------


def check(settings: Any, directory: Path | None = None) -> list[str]:
    """Return a line for each fault of `[tokens]`: the setting, what is wrong, what to do."""
    faults: list[str] = []
    keys: list[Key] = []
    try:
        keys += _fixed_keys(settings, directory, faults)
        keys += _file_keys(settings, directory)
    except ValueError as error:
        faults.append(str(error))
    if not (settings.secret_file or settings.public_key or settings.jwks):
        faults.append("tokens need a key to be verified with: set secret_file, public_key or jwks")
    faults += _algorithm_faults(settings, keys, complete=not faults)
    if settings.user_name not in USER_NAMES:
        faults.append(f"user_name: {settings.user_name!r}; {' or '.join(USER_NAMES)} is expected")
    if not settings.name_claim:
        faults.append('name_claim: a claim is needed, such as "sub"')
    return faults + [fault for fault in (leeway_fault(settings.leeway_seconds),) if fault]


def _fixed_keys(settings: Any, directory: Path | None, faults: list[str]) -> list[Key]:
    """Return the keys that do not change; what cannot be read becomes a fault."""
    keys: list[Key] = []
    readers: tuple[tuple[str, Callable[[Path], Key]], ...] = (
        ("secret_file", read_secret),
        ("public_key", read_public_key),
    )
    for name, read in readers:
        text = getattr(settings, name)
        if not text:
            continue
        try:
            keys.append(read(_path(text, directory)))
        except (OSError, ValueError) as error:
            faults.append(_file_fault(name, text, error))
    return keys


def _file_keys(settings: Any, directory: Path | None) -> list[Key]:
    if not settings.jwks:
        return []
    try:
        with _path(settings.jwks, directory).open("rb") as file:
            return parse_key_set(file.read(FILE_BYTES_MAX))[0]
    except (OSError, ValueError) as error:
        raise ValueError(_file_fault("jwks", settings.jwks, error)) from error


def _file_fault(name: str, text: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{name}: {text}: cannot be read: {error.strerror}"
    return f"{name}: {text}: {error}"


def _path(text: str, directory: Path | None) -> Path:
    return Path(text) if directory is None else directory / text


def _algorithm_faults(settings: Any, keys: list[Key], complete: bool) -> list[str]:
    """Return what is wrong with the list of algorithms; with all keys known, also what they cannot do."""
    faults = []
    possible = {algorithm for key in keys for algorithm in key.algorithms}
    for algorithm in settings.algorithms:
        if algorithm not in ALGORITHMS:
            why = "unsigned tokens are never taken" if algorithm.lower() == "none" else "unknown"
            faults.append(f"algorithms: {algorithm!r}: {why}; there are {', '.join(ALGORITHMS)}")
        elif complete and not settings.jwks and algorithm not in possible:
            faults.append(f"algorithms: {algorithm!r}: no key that is configured can be used for it")
    return faults
