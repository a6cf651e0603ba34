"""Sealing shares for the disk: AES-256-GCM under a key from a passphrase (scrypt) or from a key file."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy import Connection, insert, select

from secagg.atomic_files import PRIVATE_FILE_MODE, write_atomically
from secagg.errors import ConfigError, StorageError
from secagg.key_holder.schema import SEALING

SALT_BYTES: Final = 16
KEY_FILE_BYTES: Final = 32
MIN_PASSPHRASE_CHARACTERS: Final = 12
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_OTHERS_MAY_USE_BITS: Final = 0o077
_PROOF: Final = b"secagg/v1/share-sealing-proof"
_FILE_INFO: Final = b"secagg/v1/share-sealing-key"
# 64 MiB and about 0.2 s: once at start, and as often as somebody guesses.
_SCRYPT_COST: Final = 1 << 16
_SCRYPT_BLOCKS: Final = 8


@dataclass(frozen=True, kw_only=True)
class SealingSecret:
    """What the sealing key is made from: exactly one of a passphrase and the content of a key file."""

    passphrase: bytes | None = field(default=None, repr=False)
    key_file: bytes | None = field(default=None, repr=False)

    def key(self, salt: bytes) -> bytes:
        """Return the sealing key, 32 bytes; `salt` has 16 and is stored beside the shares."""
        if self.key_file is not None:
            return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_FILE_INFO).derive(self.key_file)
        kdf = Scrypt(salt=salt, length=_KEY_BYTES, n=_SCRYPT_COST, r=_SCRYPT_BLOCKS, p=1)
        return kdf.derive(self.passphrase or b"")


def secret_from_passphrase(passphrase: str) -> SealingSecret:
    """Take a passphrase of at least 12 characters; raise `ConfigError` otherwise."""
    if len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        advice = f"Choose at least {MIN_PASSPHRASE_CHARACTERS} characters, or use a key file"
        raise ConfigError("the passphrase that seals shares is too short", next_step=advice)
    return SealingSecret(passphrase=passphrase.encode())


def secret_from_file(path: Path, *, create: bool) -> SealingSecret:
    """Read a key file of 32 random bytes that only its owner may use; make it first if asked to.

    Raises:
        ConfigError: it is missing, has another length, or others may use it.
        StorageError: it cannot be written.
    """
    if create and not path.exists():
        write_atomically(path, secrets.token_bytes(KEY_FILE_BYTES), mode=PRIVATE_FILE_MODE)
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        advice = "Set create_key_file = true to have it made, or name the one that exists"
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}", next_step=advice) from None
    if mode & _OTHERS_MAY_USE_BITS:
        raise ConfigError(f"others may use the key file {path}", next_step=f"Run `chmod 600 {path}`")
    if len(content) != KEY_FILE_BYTES:
        raise ConfigError(f"the key file {path} has {len(content)} bytes, not {KEY_FILE_BYTES}")
    return SealingSecret(key_file=content)


class ShareVault:
    """Seals and opens; `context` says what for, and what was sealed for one opens for no other."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Return nonce and ciphertext. The nonce is random: one key seals far fewer than 2^32 shares."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return what was sealed for this context; raise `StorageError` otherwise."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise StorageError("a stored secret does not open under this key holder's passphrase or key file") from None

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "ShareVault()"


def vault_in(connection: Connection, secret: SealingSecret) -> ShareVault:
    """Return the vault of a database; it is made with the database's first secret.

    Raises:
        ConfigError: the secret is not the one that its shares were sealed with.
    """
    row = connection.execute(select(SEALING.c.salt, SEALING.c.proof)).first()
    if row is None:
        salt = secrets.token_bytes(SALT_BYTES)
        vault = ShareVault(secret.key(salt))
        connection.execute(insert(SEALING).values(salt=salt, proof=vault.seal(b"", _PROOF)))
        return vault
    vault = ShareVault(secret.key(row.salt))
    try:
        vault.open(row.proof, _PROOF)
    except StorageError:
        advice = "Give the passphrase or key file of the first start"
        raise ConfigError("the passphrase or key file is not this database's", next_step=advice) from None
    return vault
