"""Asking a producer by HTTP: a signed POST to a URL that the operator allows, answered with a state.

What a producer names is asked by a machine that may reach what the producer cannot. So nothing is asked
unless the configuration has a prefix for it; no redirect is followed, no proxy or `.netrc` of the environment
used, and an answer has a time and a size. Signed as Standard Webhooks has it.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from ..api import Gateway, GatewayError, InvalidValue, NotAuthorized
from ..core.half import Half, State
from ..outgoing.client import Client
from ..outgoing.destinations import Destinations
from ..outgoing.exchange import PushFailed
from ..outgoing.signing import PREFIX, signatures
from ..outgoing.target import Target

log = structlog.get_logger("gateway")

ASKED_AT_ONCE_MAX: Final = 20  # a producer that hangs holds up so many; the others are asked next time
OK: Final = 200
SECRET_BYTES_MIN: Final = 24  # as Standard Webhooks demands
SECRET_BYTES_MAX: Final = 4096  # a file that is longer is another one
_SETTING: Final = "transactions.check_urls"

#: What an answer's `state` means: whether to commit. Any other, such as `unknown`, is to be asked again.
_DECISIONS: Final = {"commit": True, "rollback": False}


def faults(settings: Any) -> list[str]:
    """Return what is wrong with the settings."""
    found = []
    for text in settings.check_urls:
        try:
            Destinations(_SETTING, [text])
        except InvalidValue as error:
            found.append(f"check_urls: {error.detail}")
    try:
        read_secret(settings.check_secret_file)
    except InvalidValue as error:
        found.append(f"check_secret_file: {error.detail}")
    return found


def read_secret(path: str) -> bytes:
    """Return the key in a file: `whsec_` and base64, or any bytes. Raise InvalidValue."""
    if not path:
        raise InvalidValue("a file with a secret is needed: producers know by it that the gateway asks")
    try:
        with Path(path).open("rb") as file:
            found = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise InvalidValue(f"{path!r} cannot be read: {error.strerror}") from error
    if found.startswith(PREFIX.encode()):
        try:
            found = base64.b64decode(found[len(PREFIX) :], validate=True)
        except binascii.Error as error:
            raise InvalidValue(f"{path!r}: what follows {PREFIX} is no base64") from error
    if not SECRET_BYTES_MIN <= len(found) <= SECRET_BYTES_MAX:
        raise InvalidValue(f"{path!r}: {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes are expected")
    return found


class Webhook:
    """One for a gateway that asks by HTTP."""

    def __init__(self, gateway: Gateway, settings: Any) -> None:
        self._gateway = gateway
        # What an operator names may be a machine of the same network.
        self._destinations = Destinations(_SETTING, settings.check_urls, allow_private=True)
        self._client = Client(self._destinations)
        self._key = read_secret(settings.check_secret_file)
        self._seconds_max: float = settings.check_timeout_seconds
        self._asking: set[int] = set()  # numbers of transactions

    def check(self, url: str) -> None:
        """Raise InvalidValue for a URL that may not be asked."""
        self._target(url)

    def _target(self, url: str) -> Target:
        try:
            return self._destinations.check(url)
        except NotAuthorized as error:
            raise InvalidValue(f"check_url: {error.detail}") from error

    def ask(self, half: Half) -> None:
        """Ask about a transaction, if its producer has named a URL."""
        if not half.options.check_url or half.number in self._asking:
            return
        if len(self._asking) >= ASKED_AT_ONCE_MAX:
            log.warning("a producer is not asked, as others do not answer", transaction=half.id)
            return
        self._asking.add(half.number)
        self._gateway.task(self._ask(half))

    async def _ask(self, half: Half) -> None:
        try:
            commit = await self._answer(half)
        except (GatewayError, PushFailed) as error:
            why = str(error)
            log.warning(
                "a producer did not answer", transaction=half.id, url=half.options.check_url, reason=why
            )
            return
        finally:
            self._asking.discard(half.number)
        if commit is None or half.state is not State.OPEN:
            return
        self._gateway.begin_turn()
        try:
            self._gateway.broker.halves.end(half, commit, "check")
        except GatewayError as error:  # it will be asked again
            log.warning("an answer could not be carried out", transaction=half.id, reason=error.detail)

    async def _answer(self, half: Half) -> bool | None:
        """Return whether to commit, None if that is not known yet. Raise InvalidValue or PushFailed."""
        target = self._target(half.options.check_url)  # the configuration may have changed since
        body = msgspec.json.encode(self._gateway.broker.halves.check_back.question(half))
        head = self._head(target, half, body)
        answer = await self._client.post(target, head, body, self._seconds_max)
        if answer.status != OK:
            raise InvalidValue(f"status {answer.status}; {OK} and a state are expected")
        if not answer.complete:
            raise InvalidValue("the answer is cut off, or too long")
        return _decision(answer.excerpt)

    def _head(self, target: Target, half: Half, body: bytes) -> bytes:
        name, seconds = f"transaction-{half.number}-{half.checks}", self._gateway.clock.wall_ms // 1000
        lines = (
            f"POST {target.path} HTTP/1.1",
            f"host: {target.authority}",
            "accept-encoding: identity",
            "content-type: application/json",
            "user-agent: gateway",
            f"webhook-id: {name}",
            f"webhook-timestamp: {seconds}",
            f"webhook-signature: {signatures([self._key], name, seconds, body)}",
            f"content-length: {len(body)}",
        )
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"


def _decision(body: bytes) -> bool | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidValue(f"the answer is not JSON: {error}") from error
    state = found.get("state") if isinstance(found, dict) else None
    if state != "unknown" and state not in _DECISIONS:
        raise InvalidValue('the answer: {"state": "commit"}, "rollback" or "unknown" is expected')
    return _DECISIONS.get(state)
