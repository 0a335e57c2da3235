"""Certificates: settings to the SSL context that a door's new connections get, and how it is renewed.

A context is made whole, from files that were checked, or not at all: what is wrong with new
files never takes a door out of service. Established connections keep the context they began with.
A protocol with an encryption of its own (DTLS, gRPC) makes something else of the same files, once they were
found good: `TlsMaterial`.
"""

from __future__ import annotations

import os
import ssl
import stat
import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog

from .api import TlsMaterial
from .config import Config, ConfigError
from .core.scheduler import Scheduler

log = structlog.get_logger("gateway")

WATCH_MS = 2000  # how often files are looked at; a change is loaded when they have been left alone so long
PEM_BYTES_MAX = 1 << 20  # every public CA there is takes a fifth of that
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ASKED = {
    "": ssl.CERT_NONE,
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

Stamp = tuple[tuple[int, int, int], ...]


class _Fault(Exception):
    """What is wrong with the value of a key."""

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        super().__init__(text)


class TlsDoor:
    """One door's certificates; `context` and `material` are for connections that begin now.

    Where there is DTLS as well, clients may have keys instead: `bare` is a door without a certificate.
    """

    __slots__ = (
        "_alpn",
        "_dtls",
        "_label",
        "_library",
        "_loaded",
        "_own",
        "_seen",
        "_settings",
        "bare",
        "context",
        "material",
        "name",
        "remarks",
    )

    def __init__(self, name: str, config: Config, alpn: str, dtls: bool = False, library: str = "") -> None:
        """Load. Raise ConfigError with every fault. `library`: whose TLS it is, if not ours."""
        self.name = name
        self._dtls = dtls
        self._library = library
        self._settings = config.tls_of(name)
        self._own = frozenset(config.tls_tables.get(name, ()))
        self._label = f"{config.source}: " if config.source else ""
        self._alpn = alpn
        self.bare = dtls and not self._settings.certificate
        self.remarks: list[str] = []  # what is odd about the files in use, but no fault
        self._loaded = self._seen = self._stamp()
        self.context, self.material = self._build()

    def renew(self) -> None:
        """Take the files as they are now. Raise ConfigError; what was loaded then stays in use."""
        self._loaded = self._seen = self._stamp()  # before they are read: a later change is another one
        self.context, self.material = self._build()

    def changed(self) -> bool:
        """Tell whether files differ from what was loaded, and no longer change.

        Whoever replaces certificate and key does it one after the other.
        """
        stamp = self._stamp()
        settled, self._seen = stamp == self._seen, stamp
        return settled and stamp != self._loaded

    def _stamp(self) -> Stamp:
        found = []
        for path in (self._settings.certificate, self._settings.key, self._settings.client_ca):
            try:
                status = os.stat(path)
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except (OSError, ValueError):
                found.append((0, 0, 0))
        return tuple(found)

    # -- from files to a context ------------------------------------------------------------------

    def _build(self) -> tuple[ssl.SSLContext, TlsMaterial]:
        settings, faults = self._settings, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[settings.minimum_version]
        # Renegotiation lets a client make the server work for nothing, and TLS 1.3 has none.
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols([self._alpn])
        remarks: list[str] = []
        steps = (self._load_certificate, self._load_client_ca, self._set_ciphers, self._check_version)
        for step in (*steps, self._check_clients):
            try:
                remarks += step(context)
            except _Fault as fault:
                faults.append(f"{self._label}{self._key(fault.key)}: {fault}")
        material = TlsMaterial()
        if not faults and (self._dtls or self._library):  # the key stays in no memory without need
            try:
                material = self._material()
            except _Fault as fault:  # taken away since it was read
                faults.append(f"{self._label}{self._key(fault.key)}: {fault}")
        if faults:
            raise ConfigError(faults)
        self.remarks = remarks
        return context, material

    def _material(self) -> TlsMaterial:
        """Return what the files say, for who makes something else of it than `context`."""
        settings = self._settings
        asked = settings.client_certificates if settings.client_ca else ""
        return TlsMaterial(
            certificates=b"" if self.bare else _read("certificate", settings.certificate),
            key=b"" if self.bare else _read("key", settings.key or settings.certificate),
            client_ca=_read("client_ca", settings.client_ca) if asked not in ("", "none") else b"",
            client_certificates=asked or "none",
            ciphers=settings.ciphers,
        )

    def _key(self, key: str) -> str:
        """Return a key as it was, or is to be, written."""
        return f"tls.{self.name}.{key}" if key in self._own else f"tls.{key}"

    def _load_certificate(self, context: ssl.SSLContext) -> list[str]:
        settings = self._settings
        if self.bare:
            return [f"{self.name} has no certificate: it is open for DTLS with pre-shared keys, not for TLS"]
        if not settings.certificate:
            raise _Fault(
                "certificate",
                f"missing, and listeners.{self.name} needs one; `gateway init --tls` makes one for a start",
            )
        remarks = _validity(settings.certificate, _read("certificate", settings.certificate))
        key = settings.key or settings.certificate  # both may be in one file
        _read("key", key)

        def passphrase() -> str:  # without this, OpenSSL asks at the terminal
            text = "is encrypted, and nobody can type a passphrase at a restart; store it decrypted"
            raise _Fault("key", f"{key}: {text}")

        try:
            context.load_cert_chain(settings.certificate, key, passphrase)
        except ssl.SSLError as error:
            raise self._explain(error, key) from error
        except OSError as error:  # it has been replaced since it was read
            raise _Fault("certificate", f"{settings.certificate}, {key}: {error.strerror}") from error
        return remarks

    def _explain(self, error: ssl.SSLError, key: str) -> _Fault:
        certificate, reason = self._settings.certificate, error.reason or ""
        if reason == "KEY_VALUES_MISMATCH":
            return _Fault("key", f"{key} does not belong to the certificate in {certificate}")
        if reason.startswith(("EE_KEY", "CA_KEY", "CA_MD")):  # too small, too weak
            words = reason.lower().replace("_", " ")
            return _Fault("certificate", f"{certificate}: OpenSSL does not take it any more: {words}")
        return _Fault("key", f"{key}: no private key in PEM form")

    def _load_client_ca(self, context: ssl.SSLContext) -> list[str]:
        settings = self._settings
        asked = ASKED[settings.client_certificates]
        if not settings.client_ca:
            if asked is not ssl.CERT_NONE:
                raise _Fault(
                    "client_ca",
                    f"missing: listeners.{self.name} asks for client certificates, and this says whose count",
                )
            return []
        if not settings.client_certificates:
            raise _Fault(
                "client_certificates",
                f"missing: with client_ca, say whether listeners.{self.name} has client certificates "
                "required, optional or none",
            )
        if asked is ssl.CERT_NONE:
            return []
        text = _read("client_ca", settings.client_ca).decode("ascii", "ignore")  # comments may be anything
        try:
            context.load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            raise _Fault("client_ca", f"{settings.client_ca}: no certificates in PEM form") from error
        if not context.get_ca_certs():
            raise _Fault("client_ca", f"{settings.client_ca}: no certificate of a CA in it")
        context.verify_mode = asked
        # What resumes a session is not verified again: a certificate could outlive its end, or its CA.
        context.num_tickets = 0
        return []

    def _set_ciphers(self, context: ssl.SSLContext) -> list[str]:
        if self._settings.ciphers and self._library:
            raise _Fault(
                "ciphers",
                f"{self._library} has its own choice, the good ones of TLS 1.2 and 1.3; "
                f'say tls.{self.name}.ciphers = ""',
            )
        if self._settings.ciphers:
            try:
                context.set_ciphers(self._settings.ciphers)
            except (ssl.SSLError, ValueError) as error:
                text = f"{self._settings.ciphers!r} names no cipher that OpenSSL knows; see `openssl ciphers`"
                raise _Fault("ciphers", text) from error
        return []

    def _check_version(self, context: ssl.SSLContext) -> list[str]:
        if self._dtls and self._settings.minimum_version != "1.2":
            raise _Fault(
                "minimum_version",
                f"OpenSSL has no DTLS 1.3, and listeners.{self.name} speaks DTLS; "
                f'say tls.{self.name}.minimum_version = "1.2"',
            )
        if self._library and self._settings.minimum_version != "1.2":
            raise _Fault(
                "minimum_version",
                f"{self._library} offers TLS 1.2 and 1.3, and cannot be told otherwise; "
                f'say tls.{self.name}.minimum_version = "1.2"',
            )
        return []

    def _check_clients(self, context: ssl.SSLContext) -> list[str]:
        if self._library and context.verify_mode is ssl.CERT_OPTIONAL:
            raise _Fault(
                "client_certificates",
                f"{self._library} asks every client for a certificate or none; "
                f"say tls.{self.name}.client_certificates",
            )
        return []


class TlsDoors(dict[str, TlsDoor]):
    """All TLS doors that are configured, by name."""

    def __init__(
        self,
        config: Config,
        alpn: Mapping[str, str],
        dtls: Collection[str] = (),
        libraries: Mapping[str, str] | None = None,
    ) -> None:
        """Load what the doors in `alpn` (name -> protocol in TLS's terms) need. Raise ConfigError.

        `dtls` are those that speak DTLS as well; `libraries` says whose TLS it is where it is not ours.
        """
        super().__init__()
        faults: dict[str, None] = {}  # what is wrong with [tls] is said once, not once a door
        for name in alpn:
            try:
                self[name] = TlsDoor(name, config, alpn[name], name in dtls, (libraries or {}).get(name, ""))
            except ConfigError as error:
                faults.update(dict.fromkeys(error.faults))
        if faults:
            raise ConfigError(list(faults))

    def remarks(self) -> list[str]:
        """Return what is odd about the files in use."""
        return list(dict.fromkeys(remark for door in self.values() for remark in door.remarks))

    def watch(self, scheduler: Scheduler) -> None:
        """Look at the files from now on, and renew what has changed."""
        if not self:
            return

        def look() -> None:
            self.renew([door for door in self.values() if door.changed()])
            scheduler.after(WATCH_MS, look)

        scheduler.after(WATCH_MS, look)

    def reload(self) -> None:
        """Renew all doors, changed or not."""
        self.renew(list(self.values()))

    def renew(self, doors: list[TlsDoor]) -> None:
        """Renew some doors; what cannot be used is logged, once a change, and the door stays as it was."""
        renewed = []
        faults: dict[str, None] = {}
        for door in doors:
            try:
                door.renew()
                renewed.append(door.name)
            except ConfigError as error:
                faults.update(dict.fromkeys(error.faults))
        for fault in faults:
            log.error("certificates not reloaded; those loaded before stay in use", reason=fault)
        if renewed:
            log.info("certificates reloaded", doors=renewed)
            self.say_remarks()

    def say_remarks(self) -> None:
        """Log what is odd about the files in use."""
        for remark in self.remarks():
            log.warning("tls", remark=remark)


def _read(key: str, path: str) -> bytes:
    """Return a file's bytes. Raise _Fault."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe, or a directory
            raise _Fault(key, f"{path}: is not a file")
        if status.st_size > PEM_BYTES_MAX:
            raise _Fault(key, f"{path}: larger than {PEM_BYTES_MAX} bytes")
        return Path(path).read_bytes()
    except OSError as error:
        raise _Fault(key, f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in it
        raise _Fault(key, f"{path!r}: {error}") from error


def _validity(path: str, data: bytes) -> list[str]:
    """Return a remark if the first certificate is not valid today. Raise _Fault if there is none."""
    from cryptography import x509  # 10 MB and 50 ms, only for who wants TLS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is deprecated in a certificate is OpenSSL's to judge
            certificate = x509.load_pem_x509_certificates(data)[0]
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as error:
        raise _Fault("certificate", f"{path}: no certificate in PEM form") from error
    now = datetime.now(UTC)
    if now > ends:
        return [f"the certificate in {path} has expired on {ends:%Y-%m-%d %H:%M} UTC: clients will refuse it"]
    if now < begins:
        return [f"the certificate in {path} is not valid before {begins:%Y-%m-%d %H:%M} UTC"]
    return []
