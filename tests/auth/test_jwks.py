"""Key sets: which keys are used for what, and files that change under a running gateway."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from gateway.auth import jwks as module
from gateway.auth.jwks import Keys, parse_key_set, public_key, secret_key
from gateway.auth.tokens import TokenLogins
from gateway.settings import Tokens
from tests.auth.auth_support import Hands, refused, vouched
from tests.auth.test_tokens import CLAIMS, EC_KEY, ED_KEY, NOW, RSA_KEY, bearer, sign

WEAK_KEY = rsa.generate_private_key(65537, 1024)
SECRET = base64.urlsafe_b64encode(b"s" * 48).rstrip(b"=").decode()


def jwk(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    found.pop("key_ops", None)
    return {**found, **more}


RSA = jwk(RSA_KEY.public_key(), "RS256")
EC = jwk(EC_KEY.public_key(), "ES256")
ED = jwk(ED_KEY.public_key(), "EdDSA")
OCT = {"kty": "oct", "k": SECRET}
RSA_ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

#: key -> the algorithms it is used for, None if it is left out without a word, "" if with a remark
KEYS: list[tuple[Any, tuple[str, ...] | str | None]] = [
    (RSA, RSA_ALL),
    ({**RSA, "alg": "RS256"}, ("RS256",)),
    ({**RSA, "use": "sig"}, RSA_ALL),
    ({**RSA, "key_ops": ["verify"]}, RSA_ALL),
    (jwk(RSA_KEY, "RS256"), RSA_ALL),  # a private key by mistake: its public half
    (EC, ("ES256",)),
    (jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), "ES384"), ("ES384",)),
    (jwk(ec.generate_private_key(ec.SECP521R1()).public_key(), "ES512"), ("ES512",)),
    (jwk(ec.generate_private_key(ec.SECP256K1()).public_key(), "ES256K"), ("ES256K",)),
    (ED, ("EdDSA",)),
    (jwk(ed448.Ed448PrivateKey.generate().public_key(), "EdDSA"), ("EdDSA",)),
    (OCT, ("HS256", "HS384")),
    ({**OCT, "alg": "HS384"}, ("HS384",)),
    ({**RSA, "use": "enc"}, None),
    ({**RSA, "key_ops": ["encrypt"]}, None),
    ({**RSA, "alg": "HS256"}, None),
    ({**RSA, "alg": "RSA-OAEP"}, None),
    ({**RSA, "alg": ["RS256"]}, None),
    ({**EC, "alg": "ES384"}, None),
    ({**OCT, "alg": "HS512"}, None),
    ({"kty": "AKP", "pub": "AA"}, None),
    ({"kty": 7}, None),
    ({}, None),
    ({**EC, "crv": "P-257"}, None),
    (jwk(WEAK_KEY.public_key(), "RS256"), ""),
    ({"kty": "oct", "k": "AAAA"}, ""),
    ({"kty": "oct"}, ""),
    ({"kty": "RSA", "n": "AA", "e": "AQAB"}, ""),
    ({"kty": "RSA"}, ""),
    ({**RSA, "n": 7}, ""),
    ({**EC, "x": EC["y"], "y": EC["y"]}, ""),
    ({**EC, "crv": "P-384"}, ""),
    ({**ED, "x": "AA"}, ""),
    ({**RSA, "kid": 7}, ""),
    (7, ""),
]


@pytest.mark.parametrize(("key", "expected"), KEYS)
def test_a_key_is_used_for_its_kinds_algorithms(key: Any, expected: tuple[str, ...] | str | None) -> None:
    extra = {"kty": "oct", "k": SECRET, "kid": "extra"}  # a set without any usable key is refused
    keys, remarks = parse_key_set(json.dumps({"keys": [key, extra]}).encode())
    assert keys[-1].id == "extra"
    if isinstance(expected, tuple):
        assert [found.algorithms for found in keys[:-1]] == [expected]
    else:
        assert len(keys) == 1
    assert bool(remarks) is (expected == "")
    if isinstance(key, dict):
        material = [value for name, value in key.items() if name in ("k", "n", "d", "x") and value]
        assert not any(
            str(value) in remark for remark in remarks for value in material if len(str(value)) > 4
        )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[" * 5000, "not valid JSON"),
        (b"[]", "no list of keys"),
        (b'{"keys": {}}', "no list of keys"),
        (b'{"keys": []}', "no key that tokens"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "key 1: the secret has 3 bytes"),
        (json.dumps({"keys": [OCT] * 101}).encode(), "more than 100"),
    ],
)
def test_sets_that_cannot_be_used(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_key_set(data)


def test_keys_show_no_secrets() -> None:
    assert "ssss" not in repr(secret_key(b"s" * 32, "k"))


@pytest.mark.parametrize("bits", [1024, 2048])
def test_weak_rsa_keys_are_refused(bits: int) -> None:
    key = (WEAK_KEY if bits == 1024 else RSA_KEY).public_key()
    if bits == 1024:
        with pytest.raises(ValueError, match="1024 bits"):
            public_key(key)
    else:
        assert public_key(key).algorithms == RSA_ALL


def test_unknown_kinds_of_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="not supported"):
        public_key(ec.generate_private_key(ec.SECP224R1()).public_key())


# -- a file that changes ---------------------------------------------------------------------------------


class House:
    """A key set on file, an authenticator, and its clock."""

    def __init__(self, directory: Path, *keys: dict[str, Any]) -> None:
        self.file = directory / "jwks.json"
        self.monotonic = Hands(1000.0)
        self.write(*keys)
        self.logins = TokenLogins(Tokens(jwks="jwks.json"), None, directory, Hands(NOW), self.monotonic)

    def write(self, *keys: dict[str, Any], raw: bytes | None = None) -> None:
        """Replace the file, as an operator does: a new one under the old name."""
        data = json.dumps({"keys": keys}).encode() if raw is None else raw
        new = self.file.with_suffix(".new")
        new.write_bytes(data)
        os.replace(new, self.file)


def test_the_key_is_chosen_by_its_id(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    house = House(tmp_path, {**EC, "kid": "1"}, jwk(other.public_key(), "ES256", kid="2"), {**ED, "kid": "1"})
    assert vouched(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", kid="1")))
    assert vouched(house.logins, bearer(sign(CLAIMS, other, "ES256", kid="2")))
    assert vouched(house.logins, bearer(sign(CLAIMS, ED_KEY, "EdDSA", kid="1")))
    assert vouched(house.logins, bearer(sign(CLAIMS, other, "ES256")))  # names none: all are tried
    assert "signature" in refused(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", kid="2")))
    assert "not known here (kid '3'" in refused(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", kid="3")))


def test_a_key_without_an_id_may_be_any(tmp_path: Path) -> None:
    house = House(tmp_path, EC)
    for header in ({}, {"kid": "9"}):
        assert vouched(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", **header)))


def test_only_so_many_keys_are_tried(tmp_path: Path) -> None:
    others = [{**OCT, "k": base64.urlsafe_b64encode(bytes([n]) * 32).decode()} for n in range(8)]
    house = House(tmp_path, *others, {**OCT, "kid": "last"})
    assert "signature" in refused(house.logins, bearer(sign(CLAIMS, b"s" * 48)))
    assert vouched(house.logins, bearer(sign(CLAIMS, b"s" * 48, kid="last")))


def test_a_new_key_is_found_when_a_token_names_it_at_most_once_a_second(tmp_path: Path) -> None:
    house = House(tmp_path, {**EC, "kid": "1"})
    new = bearer(sign(CLAIMS, ED_KEY, "EdDSA", kid="2"))
    assert "not known" in refused(house.logins, new)
    house.write({**EC, "kid": "1"}, {**ED, "kid": "2"})
    assert "not known" in refused(house.logins, new)
    house.monotonic.at += 1.0
    assert vouched(house.logins, new)
    assert vouched(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", kid="1")))


def test_what_a_removed_key_has_signed_ends_with_the_next_look(tmp_path: Path) -> None:
    house = House(tmp_path, {**EC, "kid": "1"}, {**ED, "kid": "2"})
    old = bearer(sign(CLAIMS, EC_KEY, "ES256", kid="1"))
    assert vouched(house.logins, old)
    house.write({**ED, "kid": "2"})
    house.monotonic.at += module.CHECK_SECONDS - 1
    assert vouched(house.logins, old)
    house.monotonic.at += 1
    assert "not known" in refused(house.logins, old)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"keys": []}', None])
def test_a_broken_new_file_keeps_the_old_keys(
    tmp_path: Path, raw: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, {**EC, "kid": "1"})
    token = bearer(sign(CLAIMS, EC_KEY, "ES256", kid="1"))
    if raw is None:
        house.file.unlink()
    else:
        house.write(raw=raw)
    for _ in range(5):
        house.monotonic.at += module.CHECK_SECONDS
        assert vouched(house.logins, token)
    assert capsys.readouterr().out.count("the old keys stay") == 1
    house.write({**ED, "kid": "2"})
    house.monotonic.at += module.CHECK_SECONDS
    assert refused(house.logins, token)
    assert vouched(house.logins, bearer(sign(CLAIMS, ED_KEY, "EdDSA", kid="2")))


def test_a_weak_key_among_good_ones_is_left_out_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, {**jwk(WEAK_KEY.public_key(), "RS256"), "kid": "weak"}, {**EC, "kid": "1"})
    assert "1024 bits" in capsys.readouterr().out
    assert vouched(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256", kid="1")))


def test_a_file_is_not_looked_at_for_every_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, EC)
    looks: list[Path] = []
    state = module._state
    monkeypatch.setattr(module, "_state", lambda path: (looks.append(path), state(path))[1])  # type: ignore[func-returns-value]
    for number in range(100):
        house.monotonic.at += 0.1
        vouched(house.logins, bearer(sign({**CLAIMS, "n": number}, EC_KEY, "ES256")))
    assert len(looks) <= 3


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b" " * (module.FILE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="bytes"):
        Keys(file=tmp_path / "big")


def test_another_curve_than_the_algorithms_never_verifies(tmp_path: Path) -> None:
    """Libraries of the past have let ES256 be verified with a key of P-384."""
    other = ec.generate_private_key(ec.SECP384R1())
    house = House(tmp_path, jwk(other.public_key(), "ES384"))
    assert vouched(house.logins, bearer(sign(CLAIMS, other, "ES384")))
    assert "not known" in refused(house.logins, bearer(sign(CLAIMS, EC_KEY, "ES256")))
