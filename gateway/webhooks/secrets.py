"""The secrets of webhooks: sealed at rest, opened when a webhook begins its work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..api import InvalidValue
from ..outgoing.signing import key_of
from ..sealing import KEY_BYTES, Sealer, load_key
from .webhook import Sealed, Webhook


class Opened(NamedTuple):
    """What a webhook signs with, and what it logs in with."""

    keys: tuple[tuple[bytes, int], ...]  # each with the Unix time in ms until which it is used; 0: no end
    authorization: str

    def __repr__(self) -> str:
        return "Opened()"

    def active(self, now_ms: int) -> list[bytes]:
        """Return the keys to sign with now."""
        return [key for key, until_ms in self.keys if not until_ms or until_ms > now_ms]


class Vault:
    """Seals and opens with the gateway's own key, which is made when it is first needed."""

    def __init__(self, directory: Path | None) -> None:
        """`directory`: where the key is; None if nothing is kept, so that any key will do."""
        self._directory = directory
        self._sealer: Sealer | None = None

    def _own(self) -> Sealer:
        if self._sealer is None:
            key = os.urandom(KEY_BYTES) if self._directory is None else load_key(self._directory)
            self._sealer = Sealer(key)
        return self._sealer

    def seal_secret(self, name: str, secret: str) -> Sealed:
        """Return a signing secret as it is kept. Raise InvalidValue if it is none, or StorageError."""
        key_of(secret)
        return Sealed(self._own().seal(secret.encode(), _context(name, "secret")))

    def seal_authorization(self, name: str, value: str) -> str:
        """Return a header's value as it is kept; nothing stays nothing. Raise StorageError."""
        return self._own().seal(value.encode("ascii"), _context(name, "authorization")) if value else ""

    def open(self, webhook: Webhook) -> Opened:
        """Return what is sealed. Raise InvalidValue if it cannot be opened, or StorageError."""
        name = webhook.name
        try:
            opened = [
                (self._own().open(sealed.text, _context(name, "secret")), sealed.until_ms)
                for sealed in webhook.secrets
            ]
            kept = webhook.authorization
            value = self._own().open(kept, _context(name, "authorization")).decode() if kept else ""
        except ValueError as error:
            raise InvalidValue(
                f"the secrets of webhook {name!r} cannot be opened ({error}); add it again with new ones"
            ) from error
        return Opened(tuple((key_of(secret.decode()), until_ms) for secret, until_ms in opened), value)


def _context(name: str, what: str) -> bytes:
    return f"webhook:{what}:{name}".encode()
