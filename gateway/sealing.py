"""Small secrets at rest: sealed with a key that lies beside the data and in no backup of it.

Some secrets are needed themselves, not as a hash: for signatures, for PSK. They are kept encrypted,
AES-256-GCM (NIST SP 800-38D), and bound to their place: what is sealed for one user opens for no other.
That helps against a stolen backup or export, not against whoever reads the data directory as the
gateway does.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from .core.errors import StorageError

KEY_FILE = "secret.key"
KEY_BYTES = 32
NONCE_BYTES = 12  # random: 2^32 secrets may be sealed with one key (SP 800-38D, 8.3)
TAG_BYTES = 16
SECRET_BYTES_MAX = 1024  # PSKs have 16 to 64 bytes, RocketMQ's secret keys about 20
PREFIX = "v1."


def load_key(directory: Path) -> bytes:
    """Return the key in a data directory, made if there is none. Raise StorageError.

    The file appears whole or not at all: a crash leaves no half of a key that would be found later.
    """
    path = directory / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be used: {error.strerror}") from error


def _make(path: Path) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(new, path)  # fails if there is one meanwhile: that one counts
    except FileExistsError:
        return
    finally:
        new.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        key = file.read(KEY_BYTES + 1)
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path}: it is no file")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StorageError(f"{path}: others may read it; chmod 600 it, and replace what it has sealed")
    if len(key) != KEY_BYTES:
        raise StorageError(f"{path}: it is damaged: {KEY_BYTES} bytes are expected")
    return key


class Sealer:
    """Seals and opens with one key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {KEY_BYTES} bytes is needed")
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, context: bytes) -> str:
        """Return the secret sealed, as text. Raise ValueError if it is too long to be one."""
        if len(secret) > SECRET_BYTES_MAX:
            raise ValueError(f"a secret has at most {SECRET_BYTES_MAX} bytes")
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret, PREFIX.encode() + context)
        return PREFIX + base64.urlsafe_b64encode(sealed).decode()

    def open(self, text: str, context: bytes) -> bytes:
        """Return what was sealed for this context. Raise ValueError, never with the secret."""
        from cryptography.exceptions import InvalidTag

        if not text.startswith(PREFIX):
            raise ValueError("it is not sealed")
        try:
            sealed = base64.b64decode(text[len(PREFIX) :], b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("it is damaged") from error
        if not NONCE_BYTES + TAG_BYTES <= len(sealed) <= NONCE_BYTES + SECRET_BYTES_MAX + TAG_BYTES:
            raise ValueError("it is damaged")
        try:
            nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, PREFIX.encode() + context)
        except InvalidTag as error:
            raise ValueError("it was sealed with another key, for something else, or is damaged") from error
