"""What an access point's attributes mean here: servers, login, TLS."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.key_value import KeyValue
from gateway.oms.keys import BuiltinKeys
from gateway.oms.uri import AccessPointURI
from gateway.rocketmq.signature import DATE_FORMAT, SIGNED_HEADER, authorization

from .endpoints import Endpoint, from_hosts
from .wire import Tls

_ACCESS_KEY: Final = re.compile(r"[!-+.0-~-]+")  # ASCII, but for the comma and the slash
PORT_DEFAULT: Final = 8081  # RocketMQ's proxy, without TLS and with it


class Keys:
    """Attributes of this driver."""

    TLS: Final = "TLS"  # true: as the system trusts
    TLS_CA: Final = "TLS_CA"  # file of the authorities to trust instead
    TLS_CERTIFICATE: Final = "TLS_CERTIFICATE"  # file, with TLS_KEY: who this is
    TLS_KEY: Final = "TLS_KEY"
    TLS_SERVER_NAME: Final = "TLS_SERVER_NAME"  # that the server's certificate must have, if not the host's


def servers(uri: AccessPointURI) -> list[Endpoint]:
    """Return the servers of a URL."""
    return from_hosts((host.host, host.port if host.has_port else PORT_DEFAULT) for host in uri.hosts)


def tls_of(attributes: KeyValue) -> Tls | None:
    """Return what TLS needs, or None without it. Raise OMSError with BAD_PARAMETER."""
    files = {
        name: _file(name, attributes.get_string(name))
        for name in (Keys.TLS_CA, Keys.TLS_CERTIFICATE, Keys.TLS_KEY)
    }
    server_name = attributes.get_string(Keys.TLS_SERVER_NAME) or ""
    if not attributes.get_boolean(Keys.TLS):
        if server_name or any(files.values()):
            raise OMSError(f"{Keys.TLS} is not set: the rest of it is", ResponseStatus.BAD_PARAMETER)
        return None
    if (files[Keys.TLS_CERTIFICATE] is None) != (files[Keys.TLS_KEY] is None):
        raise OMSError(
            f"{Keys.TLS_CERTIFICATE} and {Keys.TLS_KEY} belong together", ResponseStatus.BAD_PARAMETER
        )
    return Tls(files[Keys.TLS_CA], files[Keys.TLS_CERTIFICATE], files[Keys.TLS_KEY], server_name)


def _file(name: str, path: str | None) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OMSError(f"{name}: {error}", ResponseStatus.BAD_PARAMETER) from None


class Account:
    """Who signs requests. The signature is of the second: it is made once in each."""

    def __init__(self, access_key: str, secret: str) -> None:
        self._access_key = access_key
        self._secret = secret
        self._second = -1
        self._headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, attributes: KeyValue) -> Account:
        """Return the account of an access point. Raise OMSError with BAD_PARAMETER."""
        access_key = attributes.get_string(BuiltinKeys.ACCOUNT_ID) or ""
        secret = attributes.get_string(BuiltinKeys.ACCOUNT_KEY) or ""
        if bool(access_key) != bool(secret):
            raise OMSError(
                f"{BuiltinKeys.ACCOUNT_ID} and {BuiltinKeys.ACCOUNT_KEY} belong together",
                ResponseStatus.BAD_PARAMETER,
            )
        if access_key and not _ACCESS_KEY.fullmatch(access_key):
            raise OMSError(
                f"{BuiltinKeys.ACCOUNT_ID} is {access_key!r}: a header cannot say that",
                ResponseStatus.BAD_PARAMETER,
            )
        return cls(access_key, secret)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the date, in UTC, and the signature of it; without an account, the date alone."""
        now = datetime.now(UTC)
        second = int(now.timestamp())
        if second != self._second:
            self._second = second
            if self._access_key:
                date, signature = authorization(self._access_key, self._secret, now)
                self._headers = ((SIGNED_HEADER, date), ("authorization", signature))
            else:
                self._headers = ((SIGNED_HEADER, now.strftime(DATE_FORMAT)),)
        return self._headers
