"""DTLS associations as the message layer's peers: one for each, whatever its address was before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from gateway.api import Gateway, Series

from .dtls import Dtls
from .dtls_association import Address, Association
from .messages import MessageLayer, Peer, Wire


class DtlsPeer(Peer):
    """An association; its `address` for the wire is itself."""

    __slots__ = ("_association", "_dtls")

    def __init__(self, wire: Wire, association: Association, layer: MessageLayer, dtls: Dtls) -> None:
        super().__init__(wire, association, association.peer, layer, True)
        self._association = association
        self._dtls = dtls
        self.principal = association.principal
        self.certificate = association.certificate
        self.bucket = layer.guard.bucket(str(association.address[0]))

    def confirm(self) -> None:
        self._dtls.confirm(self._association)
        self.principal = self._association.principal

    @property
    def open(self) -> bool:
        return self._association.open


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
        gateway.series.append(self._series)

    def __len__(self) -> int:
        return len(self._dtls)

    def _series(self) -> Iterable[Series]:
        values = [((what,), float(count)) for what, count in sorted(self._dtls.counts.items())]
        yield Series(
            "gateway_coap_dtls",
            "DTLS datagrams and handshakes, by what became of them",
            values,
            ("what",),
            True,
        )
        handshakes = [((), float(self._dtls.handshakes))]
        yield Series("gateway_coap_dtls_handshakes", "DTLS handshakes under way", handshakes)

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
        self._peers[association] = DtlsPeer(self, association, self._layer, self._dtls)

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
