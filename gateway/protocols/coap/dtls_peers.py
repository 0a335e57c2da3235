"""DTLS associations as the message layer's peers: one for each, whatever its address was before."""

from __future__ import annotations

from typing import cast

from gateway.api import Gateway

from .dtls import Dtls
from .dtls_association import Address, Association
from .messages import MessageLayer, Peer, Wire


class DtlsPeers:
    """One socket's. Implements `dtls.User`, `udp.Cipher`, and `messages.Wire` to associations."""

    __slots__ = ("_dtls", "_layer", "_peers", "_wire")

    def __init__(
        self, gateway: Gateway, layer: MessageLayer, wire: Wire, door: str, idle_seconds: float
    ) -> None:
        """`wire` is the socket. Raise OSError if what `[tls]` says cannot be used."""
        self._layer = layer
        self._wire = wire
        self._peers: dict[Association, Peer] = {}
        self._dtls = Dtls(gateway, door, self, idle_seconds)

    def __len__(self) -> int:
        return len(self._dtls)

    # -- what the socket calls ----------------------------------------------------------------

    def receive(self, data: bytes, address: object) -> None:
        self._dtls.receive(data, cast(Address, address))

    def close(self) -> None:
        self._dtls.close()

    # -- what the message layer calls ---------------------------------------------------------

    def send(self, data: bytes, address: object) -> None:
        """Send to an association, or to the address of one: what DTLS itself has to say."""
        if isinstance(address, Association):
            address.send(data)
        else:
            self._wire.send(data, address)

    # -- what DTLS calls ----------------------------------------------------------------------

    def opened(self, association: Association) -> None:
        peer = Peer(self, association, association.peer, self._layer, True)
        peer.principal = association.principal
        peer.certificate = association.certificate
        peer.bucket = self._layer.guard.bucket(str(association.address[0]))
        self._peers[association] = peer

    def received(self, association: Association, data: bytes) -> None:
        peer = self._peers[association]
        peer.last_ms = association.heard_ms
        bucket = peer.bucket
        bucket.left -= 1
        if bucket.left < 0 and not self._layer.guard.refill(bucket):
            self._layer.too_many(peer, data)
        else:
            self._layer.receive(peer, data)

    def closed(self, association: Association) -> None:
        self._layer.gone(self._peers.pop(association))
