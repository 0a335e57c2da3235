"""The keys that tokens are verified with: a shared secret, a public key, a JSON Web Key Set (RFC 7517).

A key knows its algorithms by its kind alone, never by what a token says: a public key is no HMAC
secret, whatever a forged header asks for (RFC 8725, 2.1). The set's file is read again when it
changes; a broken new one keeps the old keys.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

log = structlog.get_logger("gateway")

CHECK_SECONDS = 5.0  # how late a changed file may be noticed
UNKNOWN_KEY_SECONDS = 1.0  # a token with a new key asks at once, but forged ones no more often than this
FILE_BYTES_MAX = 1 << 20
KEYS_MAX = 100  # of one set; identity providers publish two to five
CANDIDATES_MAX = 8  # keys tried for a token that does not name its key: each costs up to 110 microseconds
SECRET_BYTES_MIN = 32  # RFC 7518, 3.2, for HS256
RSA_BITS_MIN = 2048  # RFC 7518, 3.3

#: HMAC algorithm -> least length of the key in bytes: that of the hash (RFC 7518, 3.2).
HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: Curve -> algorithm (RFC 7518, 3.4; RFC 8037; RFC 8812).
CURVES = {
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "secp256k1": "ES256K",
    "Ed25519": "EdDSA",
    "Ed448": "EdDSA",
}
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}  # the library's -> ours
ALGORITHMS = (*HMAC_BYTES, *RSA_ALGORITHMS, *dict.fromkeys(CURVES.values()))


class Key(NamedTuple):
    """One key: what to verify with, and the only algorithms it may be used for."""

    id: str  # "" if it has none
    algorithms: tuple[str, ...]
    material: Any  # bytes for HMAC, else the library's public key

    def __repr__(self) -> str:  # never the secret
        return f"Key({self.id!r}, {self.algorithms})"


def read_secret(path: Path) -> Key:
    """Return the HMAC key in a file. Raise ValueError or OSError.

    One line end after a text is not part of it: editors add it, `openssl rand -base64 48` too.
    """
    secret = _read(path)
    if secret.isascii() and secret.rstrip(b"\r\n").decode("ascii").isprintable():
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    key = secret_key(secret)
    import jwt

    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError as error:  # what is public must not verify what somebody has signed with it
        raise ValueError("it holds a key of another kind (PEM, SSH, JWK), not a secret") from error
    return key


def secret_key(secret: bytes, name: str = "") -> Key:
    """Return a key for HMAC, for the algorithms it is long enough for. Raise ValueError if for none."""
    algorithms = tuple(one for one, least in HMAC_BYTES.items() if len(secret) >= least)
    if not algorithms:
        raise ValueError(f"the secret has {len(secret)} bytes; at least {SECRET_BYTES_MIN} are needed")
    return Key(name, algorithms, secret)


def read_public_key(path: Path) -> Key:
    """Return the key in a PEM file: a public key, or a certificate's. Raise ValueError or OSError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    data = _read(path)
    if b"PRIVATE KEY-----" in data:
        raise ValueError("it holds a private key; the gateway needs the public one, and should not have this")
    try:
        if b"BEGIN CERTIFICATE" in data:
            material: object = load_pem_x509_certificate(data).public_key()
        else:
            material = load_pem_public_key(data)
    except (UnsupportedAlgorithm, ValueError) as error:
        raise ValueError("it is no public key or certificate in PEM, or of an unknown kind") from error
    return public_key(material)


def public_key(material: Any, name: str = "") -> Key:
    """Return a key with the algorithms of its kind. Raise ValueError if it has none, or is too weak."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size < RSA_BITS_MIN:
            raise ValueError(f"an RSA key of {material.key_size} bits; at least {RSA_BITS_MIN} are needed")
        return Key(name, RSA_ALGORITHMS, material)
    curve = ""
    if isinstance(material, ec.EllipticCurvePublicKey):
        curve = _CURVE_NAMES.get(material.curve.name, material.curve.name)
    elif isinstance(material, ed25519.Ed25519PublicKey):
        curve = "Ed25519"
    elif isinstance(material, ed448.Ed448PublicKey):
        curve = "Ed448"
    if curve not in CURVES:
        raise ValueError("it is of a kind that is not supported; RSA, EC and Ed25519 are")
    return Key(name, (CURVES[curve],), material)


def parse_key_set(data: bytes) -> tuple[list[Key], list[str]]:
    """Return the usable keys of a set, and a remark on each that should be one. Raise ValueError.

    Keys for encryption and of unknown kinds are no fault: a reader ignores them (RFC 7517, 5).
    """
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not valid JSON") from error
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ValueError("it has no list of keys (RFC 7517, 5)")
    if len(found) > KEYS_MAX:
        raise ValueError(f"it has more than {KEYS_MAX} keys")
    keys: list[Key] = []
    remarks: list[str] = []
    for number, one in enumerate(found, 1):
        try:
            key = _parse_key(one)
        except ValueError as error:
            remarks.append(f"key {number}: {error}")
            continue
        if key is not None:
            keys.append(key)
    if not keys:
        raise ValueError("; ".join(["it has no key that tokens can be verified with", *remarks]))
    return keys, remarks


def _parse_key(data: object) -> Key | None:
    """Return a key, None if it is meant for something else. Raise ValueError; never with the key in it."""
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    operations = data.get("key_ops")
    if data.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    name = data.get("kid", "")
    if not isinstance(name, str):
        raise ValueError("its kid is no text")
    known = _family(data)
    if not known:
        return None
    material = _material(data, known[0])
    key = secret_key(material, name) if isinstance(material, bytes) else public_key(material, name)
    only = data.get("alg")
    if only is None:
        return key
    return key._replace(algorithms=(only,)) if only in key.algorithms else None


def _family(data: dict[str, Any]) -> tuple[str, ...]:
    kind, curve = data.get("kty"), data.get("crv")
    if kind in ("EC", "OKP"):
        return (CURVES[curve],) if isinstance(curve, str) and curve in CURVES else ()
    return {"oct": tuple(HMAC_BYTES), "RSA": RSA_ALGORITHMS}.get(kind, ()) if isinstance(kind, str) else ()


def _material(data: dict[str, Any], algorithm: str) -> Any:
    import jwt

    try:
        material = jwt.PyJWK(data, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # The library's text may have the key in it.
        raise ValueError("it is incomplete or malformed") from error
    return material.public_key() if hasattr(material, "public_key") else material


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
    return data


class Keys:
    """All keys there are: fixed ones, and those of a file that may change."""

    def __init__(
        self,
        fixed: Sequence[Key] = (),
        file: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file. Raise ValueError or OSError if it cannot be used."""
        self._fixed = tuple(fixed)
        self._file = file
        self._monotonic = monotonic
        self._from_file: tuple[Key, ...] = ()
        self._seen: object = None  # what tells one state of the file from another
        self._trouble = ""  # with the file, as it was logged
        self._checked = self._read_for_unknown = monotonic()
        self.generation = 0  # grows whenever keys change: what was verified before may be so no longer
        if file is not None:
            self._seen = _state(file)
            self._take(_read(file))

    def candidates(self, algorithm: str, name: str) -> list[Key]:
        """Return the keys that may have signed a token with that algorithm and kid ("" for none)."""
        self.refresh()
        found = self._matching(algorithm, name)
        if not found and self._file is not None:
            now = self._monotonic()
            if now - self._read_for_unknown >= UNKNOWN_KEY_SECONDS:
                self._read_for_unknown = now
                self._reload()
                found = self._matching(algorithm, name)
        return found[:CANDIDATES_MAX]

    def refresh(self) -> None:
        """Look whether the file has changed, if that is due."""
        if self._file is None or self._monotonic() - self._checked < CHECK_SECONDS:
            return
        self._reload()

    def _matching(self, algorithm: str, name: str) -> list[Key]:
        keys = [key for key in (*self._from_file, *self._fixed) if algorithm in key.algorithms]
        if not name:
            return keys
        # A key without an id may be the one that is named, one with another id is not.
        return [key for key in keys if key.id == name] or [key for key in keys if not key.id]

    def _reload(self) -> None:
        assert self._file is not None
        self._checked = self._monotonic()
        try:
            state = _state(self._file)
            if state == self._seen:
                return  # as it was, also if that was broken
            self._seen = state
            self._take(_read(self._file))
        except (OSError, ValueError) as error:
            reason = str(error.strerror if isinstance(error, OSError) else error)
            if reason != self._trouble:  # not at every look at a file that is missing
                log.error(
                    "the key set cannot be used, the old keys stay", file=str(self._file), reason=reason
                )
            self._trouble = reason
        else:
            self._trouble = ""
            log.info("key set read again", file=str(self._file), keys=len(self._from_file))

    def _take(self, data: bytes) -> None:
        keys, remarks = parse_key_set(data)
        for remark in remarks:
            log.warning("a key of the key set is not used", file=str(self._file), reason=remark)
        self._from_file = tuple(keys)
        self.generation += 1


def _state(path: Path) -> object:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino
