"""A key holder's database: the ledger, the rosters it sealed, the ceremonies it began, and its sealed shares (SQLite).

All methods block; drivers call them off the event loop. What returned is on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from secagg.errors import ConflictError
from secagg.faults import reach
from secagg.ids import Digest, KeyId
from secagg.key_holder.database import failure_of, open_database
from secagg.key_holder.schema import CEREMONIES, KEY_SHARES, LEDGER, ROSTERS, STORE, SUMS
from secagg.key_holder.sums import SumFiles
from secagg.key_holder.vault import SealingSecret, ShareVault, vault_in
from secagg.key_holder.witness import Mark, Witness

SUMS_NAME: Final = "sums"
BEGUN_BEFORE: Final = (
    "this ceremony was begun before and is over: it was ended, or this key holder was restarted inside it"
)
NEXT_ATTEMPT: Final = "Begin another attempt; what a ceremony draws is never written down"
_KEPT_SINCE: Final = {LEDGER: LEDGER.c.approved_at, ROSTERS: ROSTERS.c.sealed_at}


@dataclass(frozen=True, kw_only=True)
class StoredShare:
    """A certified key as it lies on disk. `begun_at`, `expires_at`: seconds since the epoch."""

    key_id: KeyId
    ceremony_digest: Digest
    ceremony_plan: bytes
    sealed_share: bytes = field(repr=False)
    begun_at: float
    expires_at: float

    @property
    def wiped(self) -> bool:
        """Whether the process ended while it destroyed this share."""
        return not any(self.sealed_share)


class HolderStore:
    """Open with `HolderStore.open`; safe for use by several threads.

    Args:
        engine: the database, with its tables.
        sums: where sums of c1 lie.
        witness: counts along; none for who only looks.

    Raises, from every method:
        StorageError: the database cannot be read or written.
    """

    def __init__(self, engine: Engine, sums: SumFiles, witness: Witness | None = None) -> None:
        self._engine = engine
        self._witness = witness
        self._witnessed: Mark | None = None
        self._changing_now = Lock()
        self.sums = sums

    @classmethod
    def open(cls, directory: Path, witness: Witness | None = None) -> HolderStore:
        """Open or make the database in a directory that is this process's own, and bring it up to date.

        Raises:
            ConfigError: it is an old copy, by what the witness says.
        """
        store = cls(open_database(directory), SumFiles(directory / SUMS_NAME), witness)
        try:
            store.verify_newest()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def verify_newest(self) -> None:
        """Check the database against its witness, and let that follow; raise `ConfigError` if it is an old copy."""
        if self._witness is not None:
            mark = self._mark()
            self._witness.verify(mark, holds_keys=bool(self.shares()))
            self._follow(mark)

    def vault(self, secret: SealingSecret) -> ShareVault:
        """Return the vault of this database's shares.

        Raises:
            ConfigError: the secret is not the one that they were sealed with.
        """
        with self._writing() as connection:
            return vault_in(connection, secret)

    def record_ceremony(self, ceremony_digest: Digest, *, at: float) -> None:
        """Record that this ceremony was begun; raise `ConflictError` if it was before, in this process or another."""
        with self._changing() as connection:
            if _found(connection, CEREMONIES, CEREMONIES.c.ceremony_digest == ceremony_digest):
                raise ConflictError(BEGUN_BEFORE, next_step=NEXT_ATTEMPT)
            connection.execute(insert(CEREMONIES).values(ceremony_digest=ceremony_digest, begun_at=at))
        reach("begin.stored")

    def was_begun(self, ceremony_digest: Digest) -> bool:
        """Say whether this ceremony was ever begun here."""
        with self._writing() as connection:
            return _found(connection, CEREMONIES, CEREMONIES.c.ceremony_digest == ceremony_digest)

    def save_share(self, share: StoredShare) -> None:
        """Store a sealed share; again after a failure, it takes the place of what may have been stored then."""
        with self._changing() as connection:
            connection.execute(delete(KEY_SHARES).where(KEY_SHARES.c.key_id == share.key_id))
            connection.execute(insert(KEY_SHARES).values(**vars(share)))
        reach("certify.stored")

    def shares(self) -> tuple[StoredShare, ...]:
        """Return every share that was not destroyed, the oldest deadline first."""
        with self._writing() as connection:
            rows = connection.execute(select(KEY_SHARES).order_by(KEY_SHARES.c.expires_at)).mappings().all()
        return tuple(StoredShare(**row) for row in rows)

    def destroy_share(self, key_id: KeyId) -> None:
        """Overwrite and delete a share, and delete its sum; nothing happens if there is none."""
        of_key = KEY_SHARES.c.key_id == key_id
        with self._changing() as connection:
            sealed = connection.scalar(select(KEY_SHARES.c.sealed_share).where(of_key))
            if sealed is not None:
                connection.execute(update(KEY_SHARES).where(of_key).values(sealed_share=bytes(len(sealed))))
        reach("end.wiped")
        with self._changing() as connection:
            connection.execute(delete(KEY_SHARES).where(of_key))
            connection.execute(delete(SUMS).where(SUMS.c.key_id == key_id))
        reach("end.stored")
        self.sums.remove(key_id)

    def record_roster(self, key_id: KeyId, roster_digest: Digest, *, at: float) -> None:
        """Write the one roster of a key, for ever; again the same is fine, another raises `ConflictError`."""
        row = {"key_id": key_id, "roster_digest": roster_digest, "sealed_at": at}
        with self._changing() as connection:
            known = connection.scalar(select(ROSTERS.c.roster_digest).where(ROSTERS.c.key_id == key_id))
            if known not in (None, roster_digest):
                raise ConflictError("this key holder sealed another roster for this key")
            if known is None:
                connection.execute(insert(ROSTERS).values(row))
        reach("seal.stored")

    def roster(self, key_id: KeyId) -> Digest | None:
        """Return the digest of the roster that was sealed."""
        return self._digest(ROSTERS.c.roster_digest, ROSTERS.c.key_id == key_id)

    def record_approval(
        self, key_id: KeyId, request_digest: Digest, *, at: float, sum_digest: Digest | None = None
    ) -> None:
        """Write the one request of a key, for ever, and which sum on disk is its; another request raises `ConflictError`."""
        with self._changing() as connection:
            known = connection.scalar(select(LEDGER.c.request_digest).where(LEDGER.c.key_id == key_id))
            if known not in (None, request_digest):
                raise ConflictError("this key holder approved of another set of contributions for this key")
            if known is None:
                row = {"key_id": key_id, "request_digest": request_digest, "approved_at": at}
                connection.execute(insert(LEDGER).values(row))
            connection.execute(delete(SUMS).where(SUMS.c.key_id == key_id))
            if sum_digest is not None:
                connection.execute(insert(SUMS).values(key_id=key_id, sum_digest=sum_digest))
        reach("approve.stored")

    def approval(self, key_id: KeyId) -> Digest | None:
        """Return the request digest that stands in the ledger."""
        return self._digest(LEDGER.c.request_digest, LEDGER.c.key_id == key_id)

    def sum_digest(self, key_id: KeyId) -> Digest | None:
        """Return the digest of the sum on disk that was approved of."""
        return self._digest(SUMS.c.sum_digest, SUMS.c.key_id == key_id)

    def purge(self, *, before: float) -> int:
        """Delete what the ledger says of keys that are destroyed and were approved before a time; return how many.

        Such a key is refused as one that was never made. What was begun stands for ever: a digest, and nobody's name.
        """
        in_use = select(KEY_SHARES.c.key_id)
        old = {table: (at < before) & table.c.key_id.not_in(in_use) for table, at in _KEPT_SINCE.items()}
        with self._writing() as connection:
            if not any(_found(connection, table, condition) for table, condition in old.items()):
                return 0
        with self._changing() as connection:
            return max(connection.execute(delete(table).where(condition)).rowcount for table, condition in old.items())

    def _digest(self, column: ColumnElement[bytes], condition: ColumnElement[bool]) -> Digest | None:
        with self._writing() as connection:
            found = connection.scalar(select(column).where(condition))
        return None if found is None else Digest(found)

    def _mark(self) -> Mark:
        with self._writing() as connection:
            return _mark_in(connection)

    def _follow(self, mark: Mark) -> None:
        if self._witness is not None and mark != self._witnessed:
            self._witness.write(mark)
            self._witnessed = mark

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """Change something, and let the witness follow; it is never left behind by more than one change."""
        with self._changing_now:
            if self._witness is not None:
                self._follow(self._mark())
            with self._writing() as connection:
                yield connection
                connection.execute(update(STORE).values(generation=STORE.c.generation + 1))
                mark = _mark_in(connection) if self._witness is not None else None
            if mark is not None:
                reach("witness.behind")
                self._follow(mark)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise failure_of(error) from None


def _found(connection: Connection, table: Table, condition: ColumnElement[bool]) -> bool:
    return connection.execute(select(table).where(condition)).first() is not None


def _mark_in(connection: Connection) -> Mark:
    row = connection.execute(select(STORE)).one()
    return Mark(store_id=bytes(row.store_id), generation=row.generation)
