"""How webhooks are kept: a key of the metadata store each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ..api import StorageEngine, StorageError
from .webhook import Webhook

PREFIX: Final = "webhook/"
_decode = msgspec.json.Decoder(Webhook).decode


def load(engine: StorageEngine) -> Iterator[Webhook]:
    """Yield all. Raise StorageError for one that cannot be read."""
    for key, value in list(engine.scan(PREFIX)):
        try:
            yield _decode(value)
        except msgspec.DecodeError as error:
            raise StorageError(f"webhook {key[len(PREFIX) :]!r} in the metadata store: {error}") from error


def put(engine: StorageEngine, webhook: Webhook) -> None:
    """Keep one."""
    engine.put(PREFIX + webhook.name, msgspec.json.encode(webhook))


def delete(engine: StorageEngine, name: str) -> None:
    """Forget one."""
    engine.delete(PREFIX + name)
