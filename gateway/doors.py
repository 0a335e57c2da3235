"""Which doors there are: one for each protocol, and one with TLS around it for most of them.

The TLS door of a protocol is called `<name>s`. A `ConnectionProtocol` has one without doing
anything, as the gateway owns its sockets; a `ServerProtocol` has one if it says so (`alpn`).
"""

from __future__ import annotations

from collections.abc import Mapping

from .api import (
    ConnectionProtocol,
    DatagramProtocol,
    OptionalProtocol,
    OwnTlsProtocol,
    Protocol,
    ServerProtocol,
    TlsServerProtocol,
)
from .config import Address, Config, ConfigError, unknown_doors
from .tls import TlsDoors


def tls_doors(protocols: Mapping[str, Protocol]) -> dict[str, str]:
    """Return TLS door -> protocol."""
    return {
        f"{name}s": name
        for name, protocol in protocols.items()
        if isinstance(protocol, TlsServerProtocol)
        or (isinstance(protocol, ConnectionProtocol) and not isinstance(protocol, ServerProtocol))
    }


def address_of(config: Config, name: str, protocol: Protocol) -> Address | None:
    """Return where the plain door of a protocol opens, None if it stays closed.

    One that lacks something stays closed unless it was asked for.
    """
    if name not in config.explicit_doors and isinstance(protocol, OptionalProtocol) and protocol.missing():
        return None
    return config.address(name, protocol.address)


def check_doors(config: Config, protocols: Mapping[str, Protocol]) -> TlsDoors:
    """Return the TLS doors that are to open. Raise ConfigError with what is wrong with any door."""
    secured = tls_doors(protocols)
    faults = unknown_doors(config, [*protocols, *secured])
    faults += [
        f"listeners.{name}: claimed by the protocol {name!r}, and by {secured[name]!r} for TLS; disable one"
        for name in secured
        if name in protocols
    ]
    label = f"{config.source}: " if config.source else ""
    for name in config.network.proxy_protocol:
        reason = ""
        if name in secured:
            reason = (
                f"TLS begins before a PROXY header could; have the proxy end TLS, and name {secured[name]!r}"
            )
        elif isinstance(protocols.get(name), ServerProtocol):
            reason = f"the {name!r} door owns its sockets and cannot read PROXY headers"
        if reason:
            faults.append(f"{label}network.proxy_protocol: {name!r}: {reason}")
    faults += _missing(config, protocols, secured)
    alpn = {name: _alpn(protocols[secured[name]]) for name in secured if config.address(name, "") is not None}
    try:
        doors = TlsDoors(
            config,
            alpn,
            [name for name in alpn if _has_dtls(config, name, protocols[secured[name]])],
            {name: _library(protocols[secured[name]]) for name in alpn},
        )
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults)
    return doors


def _missing(config: Config, protocols: Mapping[str, Protocol], secured: Mapping[str, str]) -> list[str]:
    """Return a fault for each door that is to open and cannot, for want of something."""
    doors = {**{name: name for name in protocols}, **secured}
    return [
        f"listeners.{door}: {text}"
        for door, name in doors.items()
        if config.address(door, "") is not None
        and door in config.explicit_doors
        and isinstance(protocol := protocols[name], OptionalProtocol)
        and (text := protocol.missing())
    ]


def _library(protocol: Protocol) -> str:
    """Return whose TLS a protocol has, if it is not ours."""
    return protocol.tls_library if isinstance(protocol, OwnTlsProtocol) else ""


def _has_dtls(config: Config, name: str, protocol: Protocol) -> bool:
    """Tell whether a TLS door has a UDP socket, too."""
    address = config.address(name, "")
    return isinstance(protocol, DatagramProtocol) and address is not None and not address.path


def _alpn(protocol: Protocol) -> str:
    """Return what a protocol is called in TLS (RFC 7301): `mqtt` and `amqp` are registered as such."""
    return protocol.alpn if isinstance(protocol, TlsServerProtocol) else protocol.name
