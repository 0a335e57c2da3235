"""JSON Web Tokens: what verifies, and all the ways in which one must not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import AuthenticationFailed, Credentials, InvalidValue, Principal
from gateway.auth import tokens as module
from gateway.auth.tokens import TokenLogins, check, looks_like_token
from gateway.auth.users import User
from gateway.settings import Tokens
from tests.auth.auth_support import Hands, ask, refused, users, vouched

NOW = 1_800_000_000.0
SECRET = b"0123456789abcdef" * 4
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
CLAIMS: dict[str, Any] = {"sub": "ann", "exp": NOW + 60}


def sign(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, key, algorithm, headers=header)


def part(value: Any) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def bearer(text: str) -> Credentials:
    return Credentials("http", token=text)


def login(text: str, name: str | None = None, client_id: str = "") -> Credentials:
    return Credentials("mqtt", client_id=client_id, username=name, password=text.encode())


def write_keys(directory: Path) -> None:
    (directory / "secret").write_bytes(SECRET)
    for name, key in (("rsa.pem", RSA_KEY), ("ec.pem", EC_KEY), ("ed.pem", ED_KEY)):
        (directory / name).write_bytes(public_pem(key))


Make = Callable[..., TokenLogins]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make an authenticator; without a key named, with the secret."""

    def made(lookup: Any = None, now: Any = None, monotonic: Any = None, **wanted: Any) -> TokenLogins:
        write_keys(tmp_path)
        if not {"secret_file", "public_key", "jwks"} & wanted.keys():
            wanted["secret_file"] = "secret"
        clock = now or Hands(NOW)
        return TokenLogins(Tokens(**wanted), lookup, tmp_path, clock, monotonic or Hands(100.0))

    return made


# -- who it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "key", "algorithm"),
    [
        ({"secret_file": "secret"}, SECRET, "HS256"),
        ({"secret_file": "secret"}, SECRET, "HS384"),
        ({"secret_file": "secret"}, SECRET, "HS512"),
        ({"public_key": "rsa.pem"}, RSA_KEY, "RS256"),
        ({"public_key": "rsa.pem"}, RSA_KEY, "RS512"),
        ({"public_key": "rsa.pem"}, RSA_KEY, "PS384"),
        ({"public_key": "ec.pem"}, EC_KEY, "ES256"),
        ({"public_key": "ed.pem"}, ED_KEY, "EdDSA"),
    ],
)
def test_every_kind_of_key_verifies_its_tokens(
    make: Make, setting: dict[str, str], key: Any, algorithm: str
) -> None:
    known = make(**setting)
    text = sign(CLAIMS, key, algorithm, kid="any")  # a key without an id may be the one that is named
    principal = vouched(known, bearer(text))
    assert (principal.name, principal.method, principal.admin) == ("ann", "token", False)
    assert principal.expires_at_ms == (NOW + 60) * 1000
    assert principal.claims == {"rules": []}
    assert vouched(known, login(text)).name == vouched(known, login(text, "ann")).name == "ann"
    assert refused(known, login(sign(CLAIMS, key, algorithm)[:-6] + "AAAAAA"))


@pytest.mark.parametrize(
    "password", [b"correct.horse.battery", b"a.b", b"eyJ9", b"e30.e30.e30", b"WzFd.e30.x", b"", b"\xff.a.b"]
)
def test_what_is_no_token_is_left_to_others(make: Make, password: bytes) -> None:
    assert not looks_like_token(password)
    assert ask(make(), Credentials("mqtt", username="ann", password=password)) is None
    assert ask(make(), Credentials("mqtt")) is None


#: (settings, claims beside sub and exp) -> attributes of the principal
SAYS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {"groups": ["a", "b"]}, {"groups": frozenset({"a", "b"})}),
    ({}, {"groups": " a  b "}, {"groups": frozenset({"a", "b"})}),
    ({"groups_claim": "roles"}, {"groups": ["a"], "roles": ["b"]}, {"groups": frozenset({"b"})}),
    ({"groups_claim": ""}, {"groups": ["a"]}, {"groups": frozenset()}),
    ({"name_claim": "email"}, {"email": "ann@example"}, {"name": "ann@example"}),
    ({}, {"admin": True, "groups": ["admin"]}, {"admin": False}),
    ({"admin_claim": "admin"}, {"admin": True}, {"admin": True}),
    ({"admin_claim": "admin"}, {"admin": "true"}, {"admin": False}),
    ({"admin_claim": "admin"}, {"admin": 1}, {"admin": False}),
    ({"admin_group": "ops"}, {"groups": ["ops"]}, {"admin": True}),
    ({"admin_group": "ops"}, {"groups": ["opsy"]}, {"admin": False}),
    ({"issuer": "me"}, {"iss": "me"}, {"name": "ann"}),
    ({"audience": "gw"}, {"aud": "gw"}, {"name": "ann"}),
    ({"audience": "gw"}, {"aud": ["x", "gw"]}, {"name": "ann"}),
    ({"leeway_seconds": 10.0}, {"exp": NOW - 9}, {"expires_at_ms": (NOW + 1) * 1000}),
    ({"require_expiry": False}, {"exp": None}, {"expires_at_ms": 0}),
    ({}, {"nbf": 0, "iat": NOW}, {"name": "ann"}),
    (
        {},
        {"acl": {"pub": ["a/#"]}},
        {
            "claims": {
                "rules": [
                    {
                        "id": "token.pub",
                        "decision": "allow",
                        "actions": ["publish"],
                        "resources": ["topic:a/#"],
                    }
                ]
            }
        },
    ),
    ({"rules_claim": ""}, {"acl": "nonsense"}, {"claims": {"rules": []}}),
]


@pytest.mark.parametrize(("wanted", "more", "expected"), SAYS)
def test_what_a_token_says(
    make: Make, wanted: dict[str, Any], more: dict[str, Any], expected: dict[str, Any]
) -> None:
    principal = vouched(make(**wanted), bearer(sign({**CLAIMS, **more})))
    assert {name: getattr(principal, name) for name in expected} == expected


#: (settings, claims, part of the reason)
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"exp": NOW}, "expired"),
    ({}, {"exp": NOW - 1}, "expired"),
    ({"leeway_seconds": 10.0}, {"exp": NOW - 10}, "expired"),
    ({}, {"exp": None}, "no expiry"),
    ({}, {"exp": "soon"}, "exp is no time"),
    ({}, {"exp": True}, "exp is no time"),
    ({}, {"exp": [1]}, "exp is no time"),
    ({}, {"exp": (NOW + 60) * 1000}, "exp is no time"),
    ({}, {"exp": -1}, "exp is no time"),
    ({}, {"nbf": NOW + 1}, "not valid yet (nbf)"),
    ({}, {"iat": NOW + 1}, "not valid yet (iat)"),
    ({}, {"nbf": {}}, "nbf is no time"),
    ({"issuer": "me"}, {}, "issuer"),
    ({"issuer": "me"}, {"iss": "you"}, "issuer"),
    ({"issuer": "me"}, {"iss": ["me"]}, "issuer"),
    ({"audience": "gw"}, {}, "audience"),
    ({"audience": "gw"}, {"aud": "other"}, "audience"),
    ({"audience": "gw"}, {"aud": ["other"]}, "audience"),
    ({"audience": "gw"}, {"aud": "gwx"}, "audience"),
    ({}, {"aud": "gw"}, "none is configured"),
    ({}, {"sub": ""}, "sub is empty"),
    ({}, {"sub": 7}, "sub is no text"),
    ({}, {"sub": "a\nb"}, "cannot be seen"),
    ({}, {"sub": "x" * 300}, "bytes"),
    ({"name_claim": "email"}, {}, "email is empty"),
    ({}, {"groups": 7}, "groups"),
    ({}, {"groups": [1]}, "groups"),
    ({}, {"groups": ["g"] * 300}, "more than"),
    ({}, {"acl": "all"}, "rules"),
]


@pytest.mark.parametrize(("wanted", "more", "reason"), REFUSED)
def test_why_a_token_is_refused(
    make: Make, wanted: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    text = forged({"alg": "HS256"}, SECRET, {**CLAIMS, **more})
    detail = refused(make(**wanted), bearer(text))
    assert reason in detail
    assert not any(piece in detail for piece in text.split(".")), "a token in a reason ends in a log"


def test_the_user_name_must_be_the_tokens(make: Make) -> None:
    text = sign(CLAIMS)
    for name in (None, "", "ann"):
        assert vouched(make(), login(text, name)).name == "ann"
    assert "user name" in refused(make(), login(text, "bob"))
    assert vouched(make(user_name="ignore"), login(text, "bob")).name == "ann"


def test_a_token_may_be_bound_to_a_client_id(make: Make) -> None:
    known = make(client_id_claim="cid")
    assert vouched(known, login(sign({**CLAIMS, "cid": "c1"}), client_id="c1"))
    assert vouched(known, login(sign(CLAIMS), client_id="c2"))
    for client_id in ("c2", ""):
        assert "client id" in refused(known, login(sign({**CLAIMS, "cid": "c1"}), client_id=client_id))


def test_a_disabled_user_is_refused_with_a_valid_token_too(make: Make) -> None:
    known = make(users(User("ann", disabled=True), User("bob", admin=True)))
    assert "disabled" in refused(known, bearer(sign(CLAIMS)))
    assert not vouched(known, bearer(sign({**CLAIMS, "sub": "bob"}))).admin, "a token makes nobody admin"


def test_the_authorizer_has_its_own_look_at_the_rules(tmp_path: Path) -> None:
    def look(rules: list[dict[str, Any]]) -> None:
        if any(rule["resources"] == ["topic:bad"] for rule in rules):
            raise InvalidValue("no such thing")

    write_keys(tmp_path)
    known = TokenLogins(Tokens(secret_file="secret"), None, tmp_path, Hands(NOW), check_rules=look)
    assert vouched(known, bearer(sign({**CLAIMS, "acl": {"pub": ["good"]}})))
    for _ in range(2):
        reason = refused(known, bearer(sign({**CLAIMS, "acl": {"pub": ["bad"]}})))
        assert reason == "the token's rules: no such thing"


# -- forgeries -----------------------------------------------------------------------------------------


def forged(header: dict[str, Any], key: bytes | None, claims: Any = CLAIMS) -> str:
    """Return a token with any header, with an HMAC-SHA256 signature or an empty one."""
    signed = part(header) + b"." + part(claims)
    signature = jwt.get_algorithm_by_name("HS256").sign(signed, key) if key is not None else b"x"
    return (signed + b"." + part(signature)).decode()


@pytest.mark.parametrize("pem", ["rsa.pem", "ec.pem", "ed.pem"])
def test_a_public_key_is_no_secret(make: Make, pem: str, tmp_path: Path) -> None:
    """The confusion of RFC 8725, 2.1: HMAC with the bytes of the public key that everybody has."""
    known = make(public_key=pem)
    content = (tmp_path / pem).read_bytes()
    for key in (content, content.rstrip(), content.replace(b"\n", b"\r\n")):
        assert "not known" in refused(known, bearer(forged({"alg": "HS256"}, key)))
    both = make(public_key=pem, secret_file="secret")
    assert "signature" in refused(both, bearer(forged({"alg": "HS256"}, content)))
    with pytest.raises(ValueError, match="another kind"):
        make(secret_file=pem)


def test_a_secret_verifies_no_other_algorithm(make: Make) -> None:
    for algorithm in ("RS256", "ES256", "EdDSA", "PS256"):
        assert "not known" in refused(make(), bearer(forged({"alg": algorithm}, SECRET)))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS1", None, 7, ["HS256"], {}])
def test_an_unsigned_token_is_never_taken(make: Make, algorithm: Any) -> None:
    assert "not allowed" in refused(make(), bearer(forged({"alg": algorithm}, SECRET)))
    assert "not allowed" in refused(make(), bearer(forged({"alg": algorithm}, None)))


def test_only_the_algorithms_of_the_list_are_taken(make: Make) -> None:
    known = make(algorithms=["HS512"])
    assert vouched(known, bearer(sign(CLAIMS, algorithm="HS512")))
    assert "not allowed" in refused(known, bearer(sign(CLAIMS)))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"alg": "HS256", "crit": ["b64"], "b64": False}, "crit"),
        ({"alg": "HS256", "crit": ["exp"]}, "crit"),
        ({"alg": "HS256", "b64": False}, "signature"),
        ({"alg": "HS256", "kid": 7}, "kid"),
        ({"alg": "HS256", "kid": "../../etc/passwd"}, ""),
        ({"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}}, ""),
        ({"alg": "HS256", "jku": "https://evil.example/keys"}, ""),
        ({"alg": "HS256", "x5u": "https://evil.example/cert"}, ""),
    ],
)
def test_a_header_brings_no_key_and_no_extension(make: Make, header: dict[str, Any], reason: str) -> None:
    text = forged(header, b"an attacker's own secret of 32 b" * 2)
    assert (reason or "signature") in refused(make(), bearer(text))


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"exp":1e999}'])
def test_what_is_signed_must_be_claims(make: Make, payload: bytes) -> None:
    text = forged({"alg": "HS256"}, SECRET, payload or b" ")
    assert refused(make(), bearer(text))


def test_a_huge_token_is_refused_before_it_is_verified(make: Make) -> None:
    text = sign({**CLAIMS, "x": "y" * module.TOKEN_BYTES_MAX})
    assert "bytes" in refused(make(), bearer(text))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> TokenLogins:
    directory = tmp_path_factory.mktemp("keys")
    write_keys(directory)
    return TokenLogins(Tokens(secret_file="secret", public_key="ec.pem"), None, directory, Hands(NOW))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
SEEDS = [sign(CLAIMS), sign(CLAIMS, EC_KEY, "ES256"), sign({**CLAIMS, "acl": {"pub": ["a"]}}, kid="k")]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_token_never_verifies(fuzzed: TokenLogins, data: st.DataObject) -> None:
    """And raises nothing but a refusal."""
    text = data.draw(st.sampled_from(SEEDS))
    kind = data.draw(st.sampled_from(["byte", "cut", "insert", "swap", "header", "claims"]))
    place = data.draw(st.integers(0, len(text) - 1))
    parts = text.split(".")
    if kind == "byte":
        changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]
    elif kind == "cut":
        changed = text[:place] + text[place + data.draw(st.integers(1, 9)) :]
    elif kind == "insert":
        changed = text[:place] + data.draw(st.text("AZaz09-_.=", min_size=1, max_size=5)) + text[place:]
    elif kind == "swap":
        changed = ".".join(data.draw(st.permutations(parts)))
    else:
        value = json.loads(base64.urlsafe_b64decode(parts[kind == "claims"] + "=="))
        value.update(data.draw(st.dictionaries(st.sampled_from(["alg", "kid", "sub", "exp", "x"]), JSON)))
        parts[kind == "claims"] = part(value).decode()
        changed = ".".join(parts)
    for credentials in (bearer(changed), login(changed)):
        try:
            principal = ask(fuzzed, credentials)
        except AuthenticationFailed:
            continue
        assert principal is None or changed == text, changed


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "groups", "acl", "jti"]), JSON)
)
def test_any_claims_that_are_signed_raise_nothing_but_refusals(
    fuzzed: TokenLogins, claims: dict[str, Any]
) -> None:
    text = forged({"alg": "HS256"}, SECRET, {**CLAIMS, **claims})
    try:
        principal = ask(fuzzed, bearer(text))
    except AuthenticationFailed:
        return
    assert isinstance(principal, Principal)


# -- what is remembered ----------------------------------------------------------------------------------


def test_a_token_is_verified_once_a_minute_and_its_times_at_every_login(make: Make) -> None:
    now, monotonic = Hands(NOW), Hands(0.0)
    known = make(now=now, monotonic=monotonic)
    verified: list[bytes] = []
    verify = known._verify
    known._verify = lambda text, header: (verified.append(text), verify(text, header))[1]  # type: ignore[method-assign,func-returns-value]
    text = sign(CLAIMS)
    for at in (0.0, 59.0, 61.0):
        now.at, monotonic.at = NOW + at * 0.9, at
        assert vouched(known, bearer(text))
    assert len(verified) == 2
    now.at = NOW + 60
    assert "expired" in refused(known, bearer(text))
    assert len(verified) == 2


def test_what_is_remembered_has_a_limit_and_no_token_in_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERIFIED_MAX", 3)
    known = make()
    for number in range(10):
        text = sign({**CLAIMS, "sub": f"u{number}"})
        vouched(known, bearer(text))
        assert len(known._verified) <= 3
    assert text not in repr(known._verified)


def test_remembered_or_not_the_login_around_the_token_is_checked(make: Make) -> None:
    known = make(client_id_claim="cid")
    text = sign({**CLAIMS, "cid": "c1"})
    assert vouched(known, login(text, "ann", "c1"))
    assert refused(known, login(text, "bob", "c1"))
    assert refused(known, login(text, "ann", "c2"))


# -- the settings ------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, "set secret_file, public_key or jwks"),
    ({"secret_file": "missing"}, "secret_file: missing: cannot be read: No such file"),
    ({"secret_file": "short"}, "secret_file: short: the secret has 31 bytes; at least 32"),
    ({"secret_file": "rsa.pem"}, "another kind"),
    ({"secret_file": "jwk"}, "another kind"),
    ({"public_key": "secret"}, "public_key: secret: it is no public key"),
    ({"public_key": "private.pem"}, "private key"),
    ({"public_key": "weak.pem"}, "1024 bits"),
    ({"jwks": "secret"}, "jwks: secret: it is not valid JSON"),
    ({"secret_file": "secret", "algorithms": ["none"]}, "unsigned tokens are never taken"),
    ({"secret_file": "secret", "algorithms": ["HS257"]}, "algorithms: 'HS257': unknown"),
    ({"secret_file": "secret", "algorithms": ["RS256"]}, "no key that is configured"),
    ({"secret_file": "secret32", "algorithms": ["HS512"]}, "no key that is configured"),
    ({"public_key": "rsa.pem", "algorithms": ["HS256"]}, "no key that is configured"),
    ({"secret_file": "secret", "user_name": "maybe"}, "user_name: 'maybe'; match or ignore is expected"),
    ({"secret_file": "secret", "name_claim": ""}, "name_claim"),
    ({"secret_file": "secret", "leeway_seconds": -1.0}, "leeway_seconds"),
    ({"secret_file": "secret", "leeway_seconds": float("nan")}, "leeway_seconds"),
]


@pytest.mark.parametrize(("wanted", "fault"), FAULTS)
def test_faults_of_the_settings(tmp_path: Path, wanted: dict[str, Any], fault: str) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret32").write_bytes(b"s" * 32 + b"\n")
    (tmp_path / "short").write_bytes(b"s" * 31 + b"\n")
    (tmp_path / "rsa.pem").write_bytes(public_pem(RSA_KEY))
    (tmp_path / "weak.pem").write_bytes(public_pem(weak))
    (tmp_path / "jwk").write_text(json.dumps({"kty": "oct", "k": "A" * 80}))
    private = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(private)
    faults = check(Tokens(**wanted), tmp_path)
    assert any(fault in line for line in faults), faults
    assert not any(SECRET.decode() in line or "\n" in line for line in faults)
    with pytest.raises(ValueError):
        TokenLogins(Tokens(**wanted), None, tmp_path)


def test_a_secret_is_a_line_of_text_or_bytes(tmp_path: Path) -> None:
    for content, secret in (
        (SECRET + b"\n", SECRET),
        (SECRET + b"\r\n", SECRET),
        (SECRET + b"\xff\n", SECRET + b"\xff\n"),
    ):
        (tmp_path / "secret").write_bytes(content)
        known = TokenLogins(Tokens(secret_file=str(tmp_path / "secret")), now=Hands(NOW))
        assert vouched(known, bearer(sign(CLAIMS, secret)))


def test_a_gateway_without_tokens_does_not_load_the_library() -> None:
    code = "import gateway.auth.tokens, gateway.auth.builtin, sys; assert 'jwt' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
