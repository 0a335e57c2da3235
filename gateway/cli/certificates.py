"""`gateway init --tls` and `gateway certificates`: files of a CA of one's own.

Keys are readable by their owner only, and no file is ever overwritten but the server's
certificate when it is renewed, which is replaced in one step.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path

from .faults import EXIT_FAULT

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # also the name of its files

CA, CA_KEY = "ca.pem", "ca-key.pem"
SERVER, SERVER_KEY = "server.pem", "server-key.pem"


#: What `gateway init --tls` adds to the configuration.
DOORS = """mqtts = "127.0.0.1:8883"
amqps = "127.0.0.1:5671"
https = "127.0.0.1:8443"
"""
SECTION = """[tls]                              # files are read again when they change
certificate = {0}
key = {1}
# client_ca = {2}          # whose certificates count; `gateway certificates client NAME` makes one
# client_certificates = "optional"   # or "required"

"""


class CertificateError(Exception):
    """A certificate cannot be made; the message is for people."""


def make_all(directory: Path) -> None:
    """Make a CA and a server's certificate for this machine. Raise CertificateError."""
    from .authority import Authority, certificate_pem, key_pem, new_key

    host = socket.gethostname()
    names = dict.fromkeys([*LOOPBACK_NAMES, *([host] if HOST_NAME.fullmatch(host) else [])])
    authority = Authority.create(f"gateway development CA on {host}"[:64])
    key = new_key()
    _write_new(
        directory,
        {
            CA: certificate_pem(authority.certificate),
            CA_KEY: key_pem(authority.key),
            SERVER: certificate_pem(authority.sign_server(key, names)),
            SERVER_KEY: key_pem(key),
        },
    )


def section(directory: Path) -> str:
    """Return `[tls]` as the configuration has it, with the files of `make_all`."""
    files = [json.dumps((directory / name).as_posix()) for name in (SERVER, SERVER_KEY, CA)]
    return SECTION.format(*files)


def client(name: str, directory: Path) -> int:
    """`gateway certificates client NAME`: a client's certificate and key."""
    from .authority import Authority, certificate_pem, key_pem, new_key

    try:
        if not CLIENT_NAME.fullmatch(name):
            raise CertificateError(f"{name!r}: 1 to 64 of letters, digits, . _ @ - are possible")
        authority = Authority.load(directory / CA, directory / CA_KEY)
        key = new_key()
        certificate = authority.sign_client(key, name)
        files = {f"{name}.pem": certificate_pem(certificate), f"{name}-key.pem": key_pem(key)}
        _write_new(directory, files)
    except (CertificateError, OSError, ValueError) as error:
        return _fail("client", error)
    print(f"wrote {' and '.join(str(directory / file) for file in files)}")
    print(f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    return 0


def renew(directory: Path, more_names: list[str]) -> int:
    """`gateway certificates renew`: a new certificate for the server, for the key it has."""
    from cryptography import x509

    from .authority import Authority, certificate_pem, host_names, load_key

    try:
        for name in more_names:
            if not (HOST_NAME.fullmatch(name) or ":" in name):
                raise CertificateError(f"{name!r} is neither a host name nor an IP address")
        authority = Authority.load(directory / CA, directory / CA_KEY)
        old = x509.load_pem_x509_certificate((directory / SERVER).read_bytes())
        names = list(dict.fromkeys([*host_names(old), *more_names]))
        if not names:
            raise CertificateError(f"{directory / SERVER} names no host; add --name")
        certificate = authority.sign_server(load_key(directory / SERVER_KEY), names)
        _replace(directory / SERVER, certificate_pem(certificate))
    except (CertificateError, OSError, ValueError) as error:
        return _fail("renew", error)
    print(f"wrote {directory / SERVER} for {', '.join(names)}")
    print(
        f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}; a running gateway takes it within seconds"
    )
    return 0


def _fail(command: str, error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}"
        if isinstance(error, FileNotFoundError):
            text += "; `gateway init --tls` makes a CA, --tls-dir names its directory"
    print(f"gateway certificates {command}: {text}", file=sys.stderr)
    return EXIT_FAULT


def _write_new(directory: Path, files: dict[str, bytes]) -> None:
    """Write files, all or none. Raise CertificateError if one exists, OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in files:
        if os.path.lexists(directory / name):
            raise CertificateError(f"{directory / name} exists; remove it, or name another directory")
    for name, data in files.items():
        mode = 0o600 if name.endswith("-key.pem") else 0o644
        # Made anew: nobody can have opened it before it had its mode.
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


def _replace(path: Path, data: bytes) -> None:
    """Replace a file in one step: whoever reads it gets the old one or the new one."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    os.replace(new, path)
