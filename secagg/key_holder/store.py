"""A key holder's database: the ledger, the rosters it sealed, the ceremonies it began, and its sealed shares (SQLite).

All methods block; drivers call them off the event loop. What returned is on disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE
from secagg.errors import ConfigError, ConflictError, StorageError
from secagg.ids import Digest, KeyId
from secagg.key_holder.schema import CEREMONIES, KEY_SHARES, LEDGER, ROSTERS, SEALING
from secagg.key_holder.vault import SALT_BYTES, SealingSecret, ShareVault

DATABASE_NAME: Final = "key-holder.sqlite3"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PROOF: Final = b"secagg/v1/share-sealing-proof"
# A deleted share is overwritten, and every commit is on disk before it returns. The rollback journal holds an old page
# for as long as one transaction; a share in it is sealed.
_PRAGMAS: Final = ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON", "busy_timeout=5000")


@dataclass(frozen=True, kw_only=True)
class StoredShare:
    """A certified key as it lies on disk. `begun_at`, `expires_at`: seconds since the epoch."""

    key_id: KeyId
    ceremony_digest: Digest
    ceremony_plan: bytes
    sealed_share: bytes = field(repr=False)
    begun_at: float
    expires_at: float


class HolderStore:
    """Open with `HolderStore.open`; safe for use by several threads.

    Raises, from every method:
        StorageError: the database cannot be read or written.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, directory: Path) -> HolderStore:
        """Open or make the database in a directory that is this process's own, and bring it up to date."""
        path = directory / DATABASE_NAME
        try:
            directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE))
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
        engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
        event.listen(engine, "connect", _configure)
        store = cls(engine)
        with store._writing() as connection:
            _migrate(connection)
        return store

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def vault(self, secret: SealingSecret) -> ShareVault:
        """Return the vault of this database's shares.

        Raises:
            ConfigError: the secret is not the one that they were sealed with.
        """
        with self._writing() as connection:
            row = connection.execute(select(SEALING.c.salt, SEALING.c.proof)).first()
            if row is None:
                return _new_vault(connection, secret)
        vault = ShareVault(secret.key(row.salt))
        try:
            vault.open(row.proof, _PROOF)
        except StorageError:
            advice = "Give the passphrase or key file of the first start"
            raise ConfigError("the passphrase or key file is not this database's", next_step=advice) from None
        return vault

    def record_ceremony(self, ceremony_digest: Digest, *, at: float) -> None:
        """Record that this ceremony was begun; raise `ConflictError` if it was before, in this process or another."""
        try:
            with self._writing() as connection:
                connection.execute(insert(CEREMONIES).values(ceremony_digest=ceremony_digest, begun_at=at))
        except IntegrityError:
            advice = "Begin another attempt: this one was lost with the process that began it"
            raise ConflictError("this ceremony was begun before", next_step=advice) from None

    def save_share(self, share: StoredShare) -> None:
        """Store a sealed share."""
        with self._writing() as connection:
            connection.execute(insert(KEY_SHARES).values(**vars(share)))

    def shares(self) -> tuple[StoredShare, ...]:
        """Return every share that was not destroyed, the oldest deadline first."""
        with self._writing() as connection:
            rows = connection.execute(select(KEY_SHARES).order_by(KEY_SHARES.c.expires_at)).mappings().all()
        return tuple(StoredShare(**row) for row in rows)

    def destroy_share(self, key_id: KeyId) -> None:
        """Overwrite and delete a share; nothing happens if there is none."""
        of_key = KEY_SHARES.c.key_id == key_id
        with self._writing() as connection:
            length = connection.scalar(select(KEY_SHARES.c.sealed_share).where(of_key))
            if length is not None:
                connection.execute(update(KEY_SHARES).where(of_key).values(sealed_share=bytes(len(length))))
        with self._writing() as connection:
            connection.execute(delete(KEY_SHARES).where(of_key))

    def record_roster(self, key_id: KeyId, roster_digest: Digest, *, at: float) -> None:
        """Write the one roster of a key, for ever; again the same is fine, another raises `ConflictError`."""
        row = {"key_id": key_id, "roster_digest": roster_digest, "sealed_at": at}
        try:
            with self._writing() as connection:
                connection.execute(insert(ROSTERS).values(row))
        except IntegrityError:
            if self.roster(key_id) != roster_digest:
                raise ConflictError("this key holder sealed another roster for this key") from None

    def roster(self, key_id: KeyId) -> Digest | None:
        """Return the digest of the roster that was sealed."""
        with self._writing() as connection:
            found = connection.scalar(select(ROSTERS.c.roster_digest).where(ROSTERS.c.key_id == key_id))
        return None if found is None else Digest(found)

    def record_approval(self, key_id: KeyId, request_digest: Digest, *, at: float) -> None:
        """Write the one request of a key, for ever; again the same is fine, another raises `ConflictError`."""
        row = {"key_id": key_id, "request_digest": request_digest, "approved_at": at}
        try:
            with self._writing() as connection:
                connection.execute(insert(LEDGER).values(row))
        except IntegrityError:
            if self.approval(key_id) != request_digest:
                raise ConflictError("this key holder approved of another set of contributions for this key") from None

    def approval(self, key_id: KeyId) -> Digest | None:
        """Return the request digest that stands in the ledger."""
        with self._writing() as connection:
            found = connection.scalar(select(LEDGER.c.request_digest).where(LEDGER.c.key_id == key_id))
        return None if found is None else Digest(found)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            # The statement's parameters may be a share; only the kind of failure is told.
            raise StorageError(f"the key holder's database failed: {type(error).__name__}") from None


def _new_vault(connection: Connection, secret: SealingSecret) -> ShareVault:
    salt = secrets.token_bytes(SALT_BYTES)
    vault = ShareVault(secret.key(salt))
    connection.execute(insert(SEALING).values(salt=salt, proof=vault.seal(b"", _PROOF)))
    return vault


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
