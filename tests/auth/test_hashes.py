"""Password hashes of ours and of other brokers: who matches, and that nothing stored does harm."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import hashes
from gateway.auth.hashes import hash_password, known, needs_rehash, verify
from tests.peers import executable

OURS = hash_password("secret")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pbkdf2(password: bytes, iterations: int) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password, b"twelve bytes", iterations)
    return f"$7${iterations}${b64(b'twelve bytes')}${b64(digest)}"


SALT_AND_512 = b"1234" + hashlib.sha512(b"1234test12").digest()

#: (stored, password)
RIGHT = [
    (OURS, "secret"),
    (PasswordHasher(time_cost=1, memory_cost=64, parallelism=2).hash("other"), "other"),
    # Written by mosquitto_passwd 2.0.11.
    (
        "$7$101$b5N/Ep6LAMb5a4Gp$wH6Z1ZL9bkNmihJtF2zuFVR5aenw43V6sCY2pb80KySADNfL4IQztoTdBGgu33nye6fVfgj8Q"
        "E0Kf5rbnbeKww==",
        "secret",
    ),
    (
        "$7$101$OQvO2T9smIf8ew7V$UtZcQnHQuk/S3HGTgBNFvZh2fxyT5hKPZFX4zwfaW7uqOObqhxVd0h+c9poUCqr8ZT55gsgfD"
        "eBBum9flXEoNw==",
        "pä:ss",
    ),
    (
        "$6$jGVhl+D3abXpcX3K$YUxxDpYxbHDrwJGplKPfob1WaKjuGGjRn4ToCp+Q9PG4ud50dj4UmAEnDlUieReNf65AYnE0SWIAZ"
        "/s8tO11cQ==",
        "old",
    ),
    # Of the pwfile.example that mosquitto comes with.
    (
        "$6$clQ4Ocu312S0qWgl$Cv2wUxgEN73c6C6jlBkswqR4AkHsvDLWvtEXZZ8NpsBLgP1WAo/qA+WXcmEN/mjDNgdUwcxRAveqN"
        "Ms2xUVQYA==",
        "password",
    ),
    # The example of RabbitMQ's "Passwords" page: salt 908DC60A.
    ("$rabbit-sha256$kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "test12"),
    (f"$rabbit-sha512${b64(SALT_AND_512)}", "test12"),
]


@pytest.mark.parametrize(("stored", "password"), RIGHT, ids=lambda value: value[:16])
def test_the_right_password_matches_and_no_other(stored: str, password: str) -> None:
    assert known(stored)
    assert verify(stored, password.encode())
    for wrong in (password + "x", password[:-1], password.upper(), "", stored):
        assert not verify(stored, wrong.encode())


MALFORMED = {
    "empty": "",
    "plain": "secret",
    "only a dollar": "$",
    "another scheme": "$5$rounds=1000$salt$hash",
    "no dollar first": "6" + RIGHT[4][0][2:],
    "argon2 nonsense": "$argon2id$nonsense",
    "argon2 cut off": OURS[:-8],
    "argon2 not ASCII": OURS + "ä",
    "argon2 of 16 GiB": OURS.replace("m=19456", "m=16777216"),
    "argon2 of a million passes": OURS.replace("t=2", "t=1000000"),
    "argon2 of a hundred threads": OURS.replace("p=1", "p=100"),
    "argon2 without memory": OURS.replace("m=19456", "m=0"),
    "argon2 with a number that is none": OURS.replace("m=19456", "m=x"),
    "sha512 without a hash": "$6$c2FsdA==",
    "sha512 too short": "$6$c2FsdA==$c2hvcnQ=",
    "sha512 no base64": "$6$c2FsdA==$" + "!" * 88,
    "pbkdf2 without iterations": "$7$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 of no iterations": "$7$0$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 of minus one": "$7$-1$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 of too many": "$7$10000001$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 of far too many": f"$7${'9' * 500}$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 in other digits": "$7$١٠١$c2FsdA==$" + b64(bytes(64)),
    "pbkdf2 without a salt": "$7$101$$" + b64(bytes(64)),
    "rabbit too short": "$rabbit-sha256$" + b64(bytes(35)),
    "rabbit too long": "$rabbit-sha256$" + b64(bytes(68)),
    "rabbit with MD5": "$rabbit-md5$" + b64(bytes(20)),
    "very long": "$6$" + "A" * 100_000,
    "a lone surrogate": "$6$\ud800",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_hash_matches_nothing_and_raises_nothing(case: str) -> None:
    stored = MALFORMED[case]
    assert needs_rehash(stored)
    for password in (b"", b"secret", stored.encode("utf-8", "surrogatepass")):
        assert not verify(stored, password)


@pytest.mark.parametrize("case", [case for case in MALFORMED if case != "argon2 cut off"])
def test_what_is_no_hash_is_not_known(case: str) -> None:
    assert not known(MALFORMED[case])


def test_only_our_own_hash_stays_as_it_is() -> None:
    assert not needs_rehash(OURS)
    assert [needs_rehash(stored) for stored, _ in RIGHT[1:]] == [True] * (len(RIGHT) - 1)


def test_the_most_iterations_that_are_taken_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "PBKDF2_ITERATIONS_MAX", 3)
    assert verify(pbkdf2(b"p", 3), b"p")
    assert not verify(pbkdf2(b"p", 4), b"p")


def test_an_empty_password_matches_no_hash_of_rabbitmq() -> None:
    stored = "$rabbit-sha256$" + b64(b"1234" + hashlib.sha256(b"1234").digest())
    assert known(stored)
    assert not verify(stored, b"")


@given(
    st.text(max_size=60)
    | st.sampled_from([stored for stored, _ in RIGHT[2:]]).flatmap(
        lambda stored: st.integers(0, len(stored)).map(lambda at: stored[:at] + "$" + stored[at + 1 :])
    )
    | st.builds(
        "${}${}${}".format, st.sampled_from(["6", "7", "argon2id", "rabbit-sha256"]), st.text(), st.text()
    ),
    st.binary(max_size=20),
)
def test_nothing_stored_raises(stored: str, password: bytes) -> None:
    assert isinstance(needs_rehash(stored), bool)
    if verify(stored, password):
        assert known(stored)


@pytest.mark.parametrize("algorithm", ["sha512", "sha512-pbkdf2"])
def test_what_mosquitto_passwd_writes_is_verified(tmp_path: Path, algorithm: str) -> None:
    program = executable("mosquitto_passwd")
    file = tmp_path / "passwords"
    for name in ("-c", ""):
        arguments = [program, *([name] if name else []), "-H", algorithm, "-b", str(file), f"u{name}", "a b€"]
        subprocess.run(arguments, check=True, capture_output=True, timeout=20)
    for line in file.read_text().splitlines():
        stored = line.partition(":")[2]
        assert verify(stored, "a b€".encode())
        assert not verify(stored, b"a b")
