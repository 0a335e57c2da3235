"""One client's DTLS association (RFC 6347): its handshake, and then its records; sans-I/O.

OpenSSL does the cryptography, the replay window and the retransmission of flights; here it is told when
time has passed, and its failures are sorted into the client's and nobody's.
"""

from __future__ import annotations

from typing import Final, Protocol

import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from gateway.api import Certificate, Principal, Scheduler, SharedKey
from gateway.core.scheduler import Timer
from gateway.peer_certificate import read_certificate

from .dtls_context import DtlsContext, lib, words
from .dtls_records import APPLICATION_DATA, HANDSHAKE, RECORD_BYTES_MAX, Record, datagrams

log = structlog.get_logger("gateway")

PLAIN_BYTES_MAX: Final = 1 << 14  # RFC 5246, 6.2.1: of one record
Address = tuple[str | int, ...]  # as the loop gives it: host and port first


class Owner(Protocol):
    """What an association asks of its socket."""

    @property
    def scheduler(self) -> Scheduler: ...

    def find_key(self, identity: bytes) -> SharedKey | None:
        """Return the key of an identity."""

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram."""

    def established(self, association: Association) -> None:
        """The handshake is over, and well."""

    def received(self, association: Association, data: bytes) -> None:
        """What was in a record."""

    def ended(self, association: Association, reason: str) -> None:
        """It cannot be used any more, "" if that is as it should be. Called once, unless `abandon` was."""


class Association:
    """What is between one client's address and whoever reads its messages.

    `principal` is whose the pre-shared key is, `certificate` what the client has proved to be its own;
    both are None of a client that has shown nothing. Valid once the handshake is over.
    """

    __slots__ = (
        "_context",
        "_owner",
        "_timer",
        "_tls",
        "address",
        "certificate",
        "deadline",
        "heard_ms",
        "identity",
        "key",
        "open",
        "peer",
        "principal",
        "random",
        "tried",
    )

    def __init__(
        self, owner: Owner, context: DtlsContext, tls: SSL.Connection, address: Address, random: bytes
    ) -> None:
        """`tls` is a connection that has accepted the ClientHello which will be received next."""
        host, port = address[:2]
        self.address = address
        self.peer = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
        self.principal: Principal | None = None
        self.certificate: Certificate | None = None
        self.open = False  # the handshake is over, and nobody has said goodbye
        self.random = random  # the client's, of the ClientHello
        self.identity = b""  # what a client with a pre-shared key says who it is
        self.key = b""  # that of the identity
        self.tried = False  # it has sent its Finished: what is wrong, if it is not taken, is its key
        self.heard_ms = owner.scheduler.now_ms  # when the last good record came
        self.deadline: Timer | None = None  # of the handshake, later that of being idle: the owner's
        self._owner = owner
        self._context = context  # its callbacks must live as long as the connection
        self._tls: SSL.Connection | None = tls
        self._timer: Timer | None = None

    # -- what its user calls ------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Encrypt and send one datagram; False if it is not open, or `data` fits no record."""
        tls = self._tls
        if tls is None or not self.open or not 0 < len(data) <= PLAIN_BYTES_MAX:
            return False
        lib.ERR_clear_error()
        try:
            tls.send(data)
        except SSL.Error as error:
            self._end(words(error))
            return False
        self._flush(tls)
        return True

    def close(self) -> None:
        """Say goodbye (close_notify) and forget it. Idempotent."""
        self._end("")

    # -- what its socket calls ----------------------------------------------------------------------

    def receive(self, data: bytes, records: list[Record]) -> bool:
        """Take a datagram; False if there was nothing good in it. Never raises for what a client sends."""
        tls = self._tls
        if tls is None:
            return False
        lib.ERR_clear_error()
        tls.bio_write(data[: records[-1].end])
        if self.open:
            return self._read(tls, records)
        if records[-1].kind == HANDSHAKE and records[-1].epoch:
            self.tried = True
        self._shake_hands(tls)
        return self.open

    def abandon(self) -> None:
        """Forget it without a word: another one has taken its place, or nobody waits for it."""
        self.open = False
        self._release()

    # -- the handshake ------------------------------------------------------------------------------

    def _shake_hands(self, tls: SSL.Connection) -> None:
        self._context.key_of = self._find_key
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            self._flush(tls)
            self._set_timer(tls)
            return
        except SSL.Error as error:
            self._flush(tls)  # the alert that says why
            self._end(words(error))
            return
        self._flush(tls)
        self._set_timer(tls)
        if not self.identity:
            self.certificate = _certificate_of(tls)
        self.open = True
        self._owner.established(self)
        if self.open:
            self._read(tls, [])  # what came before the Finished that it was sent after

    def _find_key(self, identity: bytes) -> bytes | None:
        self.identity = identity
        found = self._owner.find_key(identity)
        if found is None:
            return None
        self.key, self.principal = found
        return found.key

    def _set_timer(self, tls: SSL.Connection) -> None:
        """Come back when OpenSSL wants to send its flight again (RFC 6347, 4.2.4)."""
        scheduler = self._owner.scheduler
        scheduler.cancel(self._timer)
        seconds = tls.DTLSv1_get_timeout()
        self._timer = None if seconds is None else scheduler.after(int(seconds * 1000) + 1, self._late)

    def _late(self) -> None:
        self._timer = None
        tls = self._tls
        if tls is None:
            return
        lib.ERR_clear_error()
        try:
            tls.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._end(words(error))
            return
        self._flush(tls)
        self._set_timer(tls)

    # -- records ------------------------------------------------------------------------------------

    def _read(self, tls: SSL.Connection, records: list[Record]) -> bool:
        """Pass on what can be decrypted. What cannot, or was there before, OpenSSL drops without a word."""
        good = False
        alone = len(records) == 1 and records[0].kind == APPLICATION_DATA
        while self.open:
            try:
                data = tls.recv(PLAIN_BYTES_MAX)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:  # close_notify: so do we (RFC 5246, 7.2.1)
                self._end("")
                return True
            except SSL.Error as error:
                self._flush(tls)
                self._end(words(error))
                return True
            good = True
            self.heard_ms = self._owner.scheduler.now_ms
            self._owner.received(self, data)
            if alone:
                return True  # there can be nothing more: asking would cost as much again
        if self._tls is not None:
            good = self._flush(tls) or good  # what OpenSSL says by itself: its last flight again, an alert
        return good

    def _flush(self, tls: SSL.Connection) -> bool:
        """Send what OpenSSL has written; False if that is nothing."""
        data = drain(tls)
        for datagram in datagrams(data):
            self._owner.send(datagram, self.address)
        return bool(data)

    def _end(self, reason: str) -> None:
        """Say goodbye if there is somebody to say it to, and tell the owner."""
        tls, was_open = self._tls, self.open
        if tls is None:
            return
        self.open = False
        if was_open:
            lib.ERR_clear_error()
            try:
                tls.shutdown()
            except SSL.Error:
                pass  # after a fatal alert nothing can be said any more
            self._flush(tls)
        self._release()
        self._owner.ended(self, reason)

    def _release(self) -> None:
        self._tls = None  # 70 KB: not when somebody's last reference goes, but now
        self._owner.scheduler.cancel(self._timer)
        self._owner.scheduler.cancel(self.deadline)
        self._timer = self.deadline = None


def drain(tls: SSL.Connection) -> bytes:
    """Return all that OpenSSL has written."""
    chunks: list[bytes] = []
    while True:
        try:
            chunk = tls.bio_read(RECORD_BYTES_MAX)
        except SSL.WantReadError:
            break
        chunks.append(chunk)
        if len(chunk) < RECORD_BYTES_MAX:
            break  # most often: asking again would cost as much
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _certificate_of(tls: SSL.Connection) -> Certificate | None:
    """Return the client's verified certificate; None if it showed none, or one that cannot be understood."""
    try:
        found = tls.get_peer_certificate(as_cryptography=True)
        return None if found is None else read_certificate(found.public_bytes(Encoding.DER))
    except ValueError as error:
        log.warning("a client's certificate cannot be read; it counts as none", reason=str(error))
        return None
