"""What a client's certificate says of the client: subject, common name, other names, fingerprint.

Read from the DER that TLS has verified. Where it is ambiguous it says nothing: who is let in by a
name must not be able to choose between two.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from hashlib import sha256

from cryptography import x509
from cryptography.x509.oid import NameOID

from .api import Certificate


def read_certificate(der: bytes) -> Certificate:
    """Return what a certificate says. Raise ValueError if it cannot be understood."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names longer than the standard has them, and the like
        try:
            found = x509.load_der_x509_certificate(der)
            names = tuple(_names(found))
        except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ValueError(str(error)) from error
        subject = found.subject.rfc4514_string()
        common_name = _common_name(found.subject)
    return Certificate(subject, common_name, names, sha256(der).hexdigest())


def _common_name(subject: x509.Name) -> str:
    """Return the only common name; "" if there are more, or if it has what no name should have (NUL, say)."""
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1:
        return ""
    value = found[0].value
    return value if isinstance(value, str) and value.isprintable() else ""


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    for name in extension.value:
        if isinstance(name, x509.DNSName):
            yield f"DNS:{name.value}"
        elif isinstance(name, x509.UniformResourceIdentifier):
            yield f"URI:{name.value}"
        elif isinstance(name, x509.RFC822Name):
            yield f"email:{name.value}"
        elif isinstance(name, x509.IPAddress):
            yield f"IP:{name.value}"
