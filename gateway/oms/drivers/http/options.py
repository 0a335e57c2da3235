"""What an access point's attributes mean here: servers, login, TLS."""

from __future__ import annotations

import ssl
from typing import Any, Final

from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.key_value import KeyValue
from gateway.oms.keys import BuiltinKeys
from gateway.oms.uri import AccessPointURI

PORT_DEFAULT: Final = 8080  # of the gateway's HTTP door
TLS_PORT_DEFAULT: Final = 8443


class Keys:
    """Attributes of this driver; the first four are the driver rocketmq's, too."""

    TLS: Final = "TLS"  # true: as the system trusts
    TLS_CA: Final = "TLS_CA"  # file of the authorities to trust instead
    TLS_CERTIFICATE: Final = "TLS_CERTIFICATE"  # file, with TLS_KEY: who this is
    TLS_KEY: Final = "TLS_KEY"
    TOKEN: Final = "TOKEN"  # an API key or a JSON Web Token, instead of an account


def servers(uri: AccessPointURI, attributes: KeyValue) -> list[str]:
    """Return the URLs of an access point's servers."""
    secure = attributes.get_boolean(Keys.TLS)
    scheme, port = ("https", TLS_PORT_DEFAULT) if secure else ("http", PORT_DEFAULT)
    return [f"{scheme}://{host.host}:{host.port if host.has_port else port}" for host in uri.hosts]


def login(attributes: KeyValue) -> dict[str, Any]:
    """Return how a client logs in, as arguments of httpx. Raise OMSError with BAD_PARAMETER."""
    account = attributes.get_string(BuiltinKeys.ACCOUNT_ID) or ""
    secret = attributes.get_string(BuiltinKeys.ACCOUNT_KEY)
    token = attributes.get_string(Keys.TOKEN)
    if token and (account or secret):
        raise _bad(f"{Keys.TOKEN} and an account exclude each other")
    if token:
        return {"headers": {"authorization": f"Bearer {token}"}}
    if secret and not account:
        raise _bad(f"{BuiltinKeys.ACCOUNT_KEY} is of an account: {BuiltinKeys.ACCOUNT_ID} names it")
    return {"auth": (account, secret)} if secret else {}


def tls(attributes: KeyValue) -> ssl.SSLContext | bool:
    """Return what TLS needs. Raise OMSError with BAD_PARAMETER."""
    ca = attributes.get_string(Keys.TLS_CA)
    certificate, key = attributes.get_string(Keys.TLS_CERTIFICATE), attributes.get_string(Keys.TLS_KEY)
    if not attributes.get_boolean(Keys.TLS):
        if ca or certificate or key:
            raise _bad(f"{Keys.TLS} is not set: the rest of it is")
        return True
    if bool(certificate) != bool(key):
        raise _bad(f"{Keys.TLS_CERTIFICATE} and {Keys.TLS_KEY} belong together")
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate and key:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise _bad(f"{Keys.TLS_CA}, {Keys.TLS_CERTIFICATE}, {Keys.TLS_KEY}: {error}") from error
    return context


def _bad(reason: str) -> OMSError:
    return OMSError(reason, ResponseStatus.BAD_PARAMETER)
