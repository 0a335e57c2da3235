"""Sealed secrets: the key's file, and what opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sealing
from gateway.api import StorageError
from gateway.auth.users import User, seal_for_user, secret_of
from gateway.sealing import Sealer, load_key

SEALER = Sealer(b"k" * 32)
SEALED = SEALER.seal(b"hunter2", b"user:ann")


def test_a_key_is_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    key = load_key(tmp_path)
    assert len(key) == 32
    assert load_key(tmp_path) == key
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret.key"]
    assert load_key(_directory(tmp_path / "other")) != key


def _directory(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_key(tmp_path)
    (tmp_path / "secret.key").chmod(mode)
    with pytest.raises(StorageError, match="others may read it"):
        load_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"k" * 31, b"k" * 33])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    (tmp_path / "secret.key").chmod(0o600)
    with pytest.raises(StorageError, match="damaged"):
        load_key(tmp_path)
    assert (tmp_path / "secret.key").read_bytes() == content


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        load_key(tmp_path / "missing")


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir(0o700)
    with pytest.raises(StorageError):
        load_key(tmp_path)


def test_two_that_make_a_key_at_once_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = sealing._make

    def both(path: Path) -> None:
        make(path)
        make(path)  # the other one was faster between our look and our link

    monkeypatch.setattr(sealing, "_make", both)
    assert load_key(tmp_path) == load_key(tmp_path)
    assert os.listdir(tmp_path) == ["secret.key"]


def test_a_crash_while_it_is_made_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sealing.os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            load_key(tmp_path)
    assert os.listdir(tmp_path) == []
    assert load_key(tmp_path)


def test_what_is_sealed_opens_in_its_place_only() -> None:
    assert SEALER.open(SEALED, b"user:ann") == b"hunter2"
    for sealer, context in ((SEALER, b"user:bob"), (SEALER, b""), (Sealer(b"K" * 32), b"user:ann")):
        with pytest.raises(ValueError, match="another key"):
            sealer.open(SEALED, context)


def test_the_same_secret_is_never_sealed_alike() -> None:
    assert SEALER.seal(b"hunter2", b"user:ann") != SEALED
    assert "hunter2" not in SEALED
    assert "kkk" not in repr(SEALER)


@pytest.mark.parametrize(
    "text",
    ["", "v1.", "v1.AAAA", "v2." + SEALED[3:], "hunter2", SEALED[3:], SEALED + "é"],
    ids=range(7),  # what is sealed is another at each run
)
def test_what_is_not_sealed(text: str) -> None:
    with pytest.raises(ValueError):
        SEALER.open(text, b"user:ann")


@given(st.integers(3, len(SEALED) - 1), st.sampled_from("ABCxyz019-_=+/ \n"))
def test_a_changed_seal_opens_to_nothing_else(place: int, piece: str) -> None:
    """Base64 has more than one spelling of some bytes; of other bytes, none opens."""
    changed = SEALED[:place] + piece + SEALED[place + 1 :]
    try:
        opened = SEALER.open(changed, b"user:ann")
    except ValueError:
        return
    assert opened == b"hunter2"


def test_limits() -> None:
    longest = b"x" * sealing.SECRET_BYTES_MAX
    assert SEALER.open(SEALER.seal(longest, b""), b"") == longest
    with pytest.raises(ValueError):
        SEALER.seal(longest + b"x", b"")
    with pytest.raises(ValueError):
        Sealer(b"short")


def test_a_users_secret(capsys: pytest.CaptureFixture[str]) -> None:
    sealed = seal_for_user(SEALER, "ann", b"sk")
    assert secret_of(SEALER, User("ann", secret=sealed)) == b"sk"
    assert secret_of(SEALER, User("ann")) is None
    assert capsys.readouterr().out == ""
    assert secret_of(SEALER, User("bob", secret=sealed)) is None, "taken from another user's record"
    assert "cannot be opened" in capsys.readouterr().out
    with pytest.raises(ValueError):
        seal_for_user(SEALER, "ann", b"")
