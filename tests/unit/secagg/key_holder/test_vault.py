"""Sealing shares for the disk."""

from pathlib import Path

import pytest

from secagg.errors import ConfigError, StorageError
from secagg.key_holder.vault import ShareVault, secret_from_file, secret_from_passphrase

SALT = bytes(16)


def test_what_was_sealed_opens_for_its_own_context_alone() -> None:
    vault = ShareVault(bytes(32))
    sealed = vault.seal(b"a share", b"key one")
    assert vault.open(sealed, b"key one") == b"a share"
    for other, context in ((vault, b"key two"), (ShareVault(b"\1" * 32), b"key one")):
        with pytest.raises(StorageError):
            other.open(sealed, context)


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_damaged_bytes_raise_one_error(damage: bytes | None) -> None:
    vault = ShareVault(bytes(32))
    sealed = bytearray(vault.seal(b"a share", b""))
    sealed[-1] ^= 1
    with pytest.raises(StorageError):
        vault.open(bytes(sealed) if damage is None else damage, b"")


def test_sealing_twice_gives_other_bytes() -> None:
    vault = ShareVault(bytes(32))
    assert vault.seal(b"a share", b"") != vault.seal(b"a share", b"")


def test_a_passphrase_needs_twelve_characters() -> None:
    with pytest.raises(ConfigError, match="too short"):
        secret_from_passphrase("eleven char")
    assert len(secret_from_passphrase("twelve chars").key(SALT)) == 32


def test_a_passphrase_and_a_salt_make_the_key() -> None:
    keys = {
        secret_from_passphrase(text).key(salt)
        for text in ("one passphrase", "a passphrase 2")
        for salt in (SALT, b"s" * 16)
    }
    assert len(keys) == 4


def test_no_secret_shows() -> None:
    secret = secret_from_passphrase("correct horse battery")
    assert "horse" not in repr(secret)
    assert repr(ShareVault(secret.key(SALT))) == "ShareVault()"


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    first = secret_from_file(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret_from_file(path, create=True) == first
    assert secret_from_file(path, create=False).key(SALT) != secret_from_file(path, create=False).key(b"s" * 16)


def test_a_key_file_that_is_missing_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="create_key_file"):
        secret_from_file(tmp_path / "none", create=False)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    secret_from_file(path, create=True)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may use"):
        secret_from_file(path, create=False)


def test_a_key_file_of_another_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="5 bytes"):
        secret_from_file(path, create=False)
