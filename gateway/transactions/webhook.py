"""Asking a producer by HTTP: a signed POST to a URL that the operator allows, answered with a state.

What a producer names is asked by a machine that may reach what the producer cannot. So nothing is asked
unless the configuration has a prefix for it; no redirect is followed, no proxy or `.netrc` of the environment
used, and an answer has a time and a size. Signed as Standard Webhooks has it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec
import structlog

from ..api import Gateway, GatewayError, InvalidValue
from ..core.half import Half, State

log = structlog.get_logger("gateway")

ASKED_AT_ONCE_MAX: Final = 20  # a producer that hangs holds up so many; the others are asked next time
ANSWER_BYTES_MAX: Final = 4096  # a state, and what a framework puts around it
SECRET_BYTES_MIN: Final = 24  # as Standard Webhooks demands
SECRET_BYTES_MAX: Final = 4096  # a file that is longer is another one
_PREFIX: Final = "whsec_"

#: What an answer's `state` means: whether to commit. Any other, such as `unknown`, is to be asked again.
_DECISIONS: Final = {"commit": True, "rollback": False}


def faults(settings: Any) -> list[str]:
    """Return what is wrong with the settings."""
    found = []
    for text in settings.check_urls:
        try:
            prefix = split(text)
            if prefix.query:
                raise InvalidValue("a prefix has no query")
        except InvalidValue as error:
            found.append(f"check_urls: {text[:200]!r}: {error.detail}")
    try:
        read_secret(settings.check_secret_file)
    except InvalidValue as error:
        found.append(f"check_secret_file: {error.detail}")
    return found


def split(url: str) -> SplitResult:
    """Return a URL's parts. Raise InvalidValue for one that could mean something else than it seems to."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidValue("printable ASCII without spaces and backslashes is expected")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue(f"this is no URL ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidValue("https://host/path is expected")
    if "@" in parts.netloc or "#" in url:
        raise InvalidValue("a login and a fragment do not belong into it")
    path = parts.path.lower()
    if any(segment in (".", "..") for segment in path.replace("%2e", ".").replace("%2f", "/").split("/")):
        raise InvalidValue("a path with '.' and '..' leads elsewhere than it seems")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def below(url: SplitResult, prefix: SplitResult) -> bool:
    """Tell whether a URL is one of a prefix: the same origin, and its path or one below it."""
    folder = prefix.path.removesuffix("/")
    return _origin(url) == _origin(prefix) and (url.path == folder or url.path.startswith(folder + "/"))


def read_secret(path: str) -> bytes:
    """Return the key in a file: `whsec_` and base64, or any bytes. Raise InvalidValue."""
    if not path:
        raise InvalidValue("a file with a secret is needed: producers know by it that the gateway asks")
    try:
        with Path(path).open("rb") as file:
            found = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise InvalidValue(f"{path!r} cannot be read: {error.strerror}") from error
    if found.startswith(_PREFIX.encode()):
        try:
            found = base64.b64decode(found[len(_PREFIX) :], validate=True)
        except binascii.Error as error:
            raise InvalidValue(f"{path!r}: what follows {_PREFIX} is no base64") from error
    if not SECRET_BYTES_MIN <= len(found) <= SECRET_BYTES_MAX:
        raise InvalidValue(f"{path!r}: {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes are expected")
    return found


def signature(key: bytes, name: str, seconds: int, body: bytes) -> str:
    """Return the value of `webhook-signature` (Standard Webhooks, symmetric)."""
    signed = f"{name}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Webhook:
    """One for a gateway that asks by HTTP."""

    def __init__(self, gateway: Gateway, settings: Any) -> None:
        self._gateway = gateway
        self._prefixes = [split(text) for text in settings.check_urls]
        self._key = read_secret(settings.check_secret_file)
        self._seconds_max: float = settings.check_timeout_seconds
        self._asking: set[int] = set()  # numbers of transactions
        self._client: httpx.AsyncClient | None = None

    def check(self, url: str) -> None:
        """Raise InvalidValue for a URL that may not be asked."""
        parts = split(url)
        if not any(below(parts, prefix) for prefix in self._prefixes):
            raise InvalidValue(
                f"check_url: {url[:200]!r} is below none of the gateway's transactions.check_urls"
            )

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
            async with asyncio.timeout(self._seconds_max):
                commit = await self._answer(half)
        except (GatewayError, OSError, TimeoutError, ValueError) as error:
            why = getattr(error, "detail", "") or str(error) or "it took too long"
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
        """Return whether to commit, None if that is not known yet. Raise what HTTP and JSON have for us."""
        self.check(half.options.check_url)  # the configuration may have changed since
        if self._client is None:
            limits = httpx.Limits(max_connections=ASKED_AT_ONCE_MAX)
            self._client = httpx.AsyncClient(
                limits=limits, follow_redirects=False, trust_env=False, timeout=None
            )
        body = msgspec.json.encode(self._gateway.broker.halves.check_back.question(half))
        try:
            async with self._client.stream(
                "POST", half.options.check_url, content=body, headers=self._headers(half, body)
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise InvalidValue(f"status {response.status_code}; 200 and a state are expected")
                return _decision(await _read(response))
        except httpx.HTTPError as error:
            raise InvalidValue(f"{type(error).__name__}: {error}") from error

    def _headers(self, half: Half, body: bytes) -> dict[str, str]:
        name, seconds = f"transaction-{half.number}-{half.checks}", self._gateway.clock.wall_ms // 1000
        return {
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "gateway",
            "webhook-id": name,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signature(self._key, name, seconds, body),
        }


async def _read(response: httpx.Response) -> bytes:
    found = b""
    async for piece in response.aiter_raw():  # as it came: what is small packed may be large
        found += piece
        if len(found) > ANSWER_BYTES_MAX:
            raise InvalidValue(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    return found


def _decision(body: bytes) -> bool | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidValue(f"the answer is not JSON: {error}") from error
    state = found.get("state") if isinstance(found, dict) else None
    if state != "unknown" and state not in _DECISIONS:
        raise InvalidValue('the answer: {"state": "commit"}, "rollback" or "unknown" is expected')
    return _DECISIONS.get(state)
