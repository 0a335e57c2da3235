"""What a client's certificate says of it: exactly, or not at all."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.peer_certificate import read_certificate

KEY = ec.generate_private_key(ec.SECP256R1())
Rdns = list[list[tuple[x509.ObjectIdentifier, str]]]


def der(subject: Rdns, names: list[x509.GeneralName] | None = None) -> bytes:
    """Return a certificate; which attributes share a set is as in `subject`."""
    now = datetime.now(UTC)
    rdns = [
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(oid, value, _validate=False) for oid, value in rdn]
        )
        for rdn in subject
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(rdns))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


CN, O, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME  # noqa: E741

SUBJECTS: list[tuple[Rdns, str, str]] = [
    ([], "", ""),
    ([[(CN, "device7")]], "CN=device7", "device7"),
    ([[(O, "Example")], [(CN, "device7")]], "CN=device7,O=Example", "device7"),  # the last comes first
    ([[(O, 'a,b+c"d\\e<f>;g')]], 'O=a\\,b\\+c\\"d\\\\e\\<f\\>\\;g', ""),
    ([[(CN, " #x ")]], "CN=\\ #x\\ ", " #x "),
    ([[(CN, "Müller ☃")]], "CN=Müller ☃", "Müller ☃"),
    ([[(CN, "one"), (OU, "floor")]], "CN=one+OU=floor", "one"),
    ([[(CN, "one")], [(CN, "two")]], "CN=two,CN=one", ""),  # which one is it?
    ([[(CN, "admin\0.evil")]], "CN=admin\\00.evil", ""),
    ([[(CN, "line\nbreak")]], "CN=line\nbreak", ""),
]


@pytest.mark.parametrize(("subject", "text", "common_name"), SUBJECTS)
def test_the_subject(subject: Rdns, text: str, common_name: str) -> None:
    found = read_certificate(der(subject))
    assert (found.subject, found.common_name, found.names) == (text, common_name, ())


def test_other_names() -> None:
    data = der(
        [],
        [
            x509.DNSName("a.example"),
            x509.UniformResourceIdentifier("urn:device:7"),
            x509.RFC822Name("a@example.org"),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.DirectoryName(x509.Name([x509.NameAttribute(CN, "elsewhere")])),
        ],
    )
    found = read_certificate(data)
    assert found.names == ("DNS:a.example", "URI:urn:device:7", "email:a@example.org", "IP:2001:db8::1")
    assert found.fingerprint == sha256(data).hexdigest()


@given(st.data())
def test_what_cannot_be_understood_is_a_value_error(data: st.DataObject) -> None:
    good = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        found = read_certificate(damaged)
    except ValueError:
        return
    assert found.fingerprint == sha256(damaged).hexdigest()


GOOD = der([[(O, "Example")], [(CN, "device7")]], [x509.DNSName("a.example"), x509.DNSName("b.example")])
