"""The ledger stands for ever, and a destroyed share is gone."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from secagg.errors import ConfigError, ConflictError, StorageError
from secagg.ids import Digest, KeyId
from secagg.key_holder import database as database_module
from secagg.key_holder.database import DATABASE_NAME
from secagg.key_holder.schema import METADATA
from secagg.key_holder.store import HolderStore, StoredShare
from secagg.key_holder.vault import ShareVault, secret_from_passphrase
from secagg.key_holder.witness import Witness

KEY, OTHER = KeyId(b"k" * 32), KeyId(b"o" * 32)
FIRST, SECOND = Digest(b"1" * 32), Digest(b"2" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HolderStore]:
    opened = HolderStore.open(tmp_path / "holder")
    yield opened
    opened.close()


def database(tmp_path: Path) -> Path:
    return tmp_path / "holder" / DATABASE_NAME


def share(key_id: KeyId = KEY, *, sealed: bytes = b"sealed" * 50, expires_at: float = 9.0) -> StoredShare:
    return StoredShare(
        key_id=key_id,
        ceremony_digest=Digest(bytes(key_id)),
        ceremony_plan=b"plan",
        sealed_share=sealed,
        begun_at=1.0,
        expires_at=expires_at,
    )


def test_one_request_for_a_key_for_ever(store: HolderStore, tmp_path: Path) -> None:
    assert store.approval(KEY) is None
    for _ in range(2):
        store.record_approval(KEY, FIRST, at=1.0)
    with pytest.raises(ConflictError):
        store.record_approval(KEY, SECOND, at=2.0)
    store.record_approval(OTHER, SECOND, at=2.0)
    again = HolderStore.open(tmp_path / "holder")
    assert (again.approval(KEY), again.approval(OTHER)) == (FIRST, SECOND)
    with pytest.raises(ConflictError):
        again.record_approval(KEY, SECOND, at=3.0)
    again.close()


def test_one_roster_for_a_key_for_ever(store: HolderStore, tmp_path: Path) -> None:
    assert store.roster(KEY) is None
    for _ in range(2):
        store.record_roster(KEY, FIRST, at=1.0)
    again = HolderStore.open(tmp_path / "holder")
    assert (again.roster(KEY), again.roster(OTHER)) == (FIRST, None)
    for opened in (store, again):
        with pytest.raises(ConflictError, match="another roster"):
            opened.record_roster(KEY, SECOND, at=2.0)
    again.close()


def test_a_ceremony_is_begun_once(store: HolderStore, tmp_path: Path) -> None:
    store.record_ceremony(FIRST, at=1.0)
    again = HolderStore.open(tmp_path / "holder")
    for opened in (store, again):
        with pytest.raises(ConflictError, match="begun before"):
            opened.record_ceremony(FIRST, at=2.0)
    again.close()


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid + 1"])
@pytest.mark.parametrize("table", ["ledger", "rosters", "ceremonies"])
def test_nobody_rewrites_what_stands_for_ever(store: HolderStore, tmp_path: Path, table: str, statement: str) -> None:
    store.record_approval(KEY, FIRST, at=1.0)
    store.record_roster(KEY, FIRST, at=1.0)
    store.record_ceremony(FIRST, at=1.0)
    store.save_share(share())
    connection = sqlite3.connect(database(tmp_path))
    with pytest.raises(sqlite3.IntegrityError, match="for ever"):
        connection.execute(statement.format(table))
    connection.close()


def test_what_the_ledger_says_of_a_key_goes_when_it_is_old_and_its_share_is_gone(store: HolderStore) -> None:
    for key in (KEY, OTHER):
        store.save_share(share(key))
        store.record_roster(key, FIRST, at=1.0)
        store.record_approval(key, SECOND, at=2.0)
    store.record_ceremony(FIRST, at=0.0)
    assert store.purge(before=9.0) == 0
    store.destroy_share(KEY)
    assert (store.purge(before=2.0), store.roster(KEY), store.approval(KEY)) == (1, None, SECOND)
    assert (store.purge(before=3.0), store.approval(KEY)) == (1, None)
    assert (store.roster(OTHER), store.approval(OTHER)) == (FIRST, SECOND)
    assert store.was_begun(FIRST)


def test_an_older_database_keeps_what_it_says(tmp_path: Path) -> None:
    directory = tmp_path / "older"
    directory.mkdir()
    engine = create_engine(f"sqlite:///{directory / DATABASE_NAME}")
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "first_tables")
        connection.execute(text("INSERT INTO ledger VALUES (:key, :digest, 1.0)"), {"key": KEY, "digest": FIRST})
        columns = "(key_id, ceremony_digest, ceremony_plan, sealed_share, begun_at, expires_at)"
        connection.execute(
            text(f"INSERT INTO key_shares {columns} VALUES (:key, :key, :key, :key, 1.0, 9.0)"),  # noqa: S608
            {"key": KEY},
        )
    engine.dispose()
    witness = Witness(tmp_path)
    for _ in range(2):
        opened = HolderStore.open(directory, witness)
        assert [one.key_id for one in opened.shares()] == [KEY]
        with pytest.raises(ConflictError):
            opened.record_approval(KEY, SECOND, at=2.0)
        opened.close()
    assert witness.read() is not None


def test_the_witness_follows_every_change_and_is_never_more_than_one_behind(
    store: HolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    witness = Witness(tmp_path)
    opened = HolderStore.open(tmp_path / "holder", witness)
    changes = [
        lambda: opened.record_ceremony(FIRST, at=1.0),
        lambda: opened.save_share(share()),
        lambda: opened.record_roster(KEY, FIRST, at=1.0),
        lambda: opened.record_approval(KEY, FIRST, at=1.0),
        lambda: opened.destroy_share(KEY),
        lambda: opened.purge(before=2.0),
    ]
    seen = []
    for change in changes:
        change()
        mark = witness.read()
        assert mark is not None
        seen.append(mark.generation)
    assert seen == sorted(set(seen))
    with monkeypatch.context() as patched:
        patched.setattr(witness, "path", tmp_path / "nowhere" / "witness")
        for digest in (SECOND, Digest(b"3" * 32)):
            with pytest.raises(StorageError, match="nowhere"):
                opened.record_ceremony(digest, at=1.0)
    # The first of the two was stored without its witness and not answered; the second was not even tried.
    assert (opened.was_begun(SECOND), opened.was_begun(Digest(b"3" * 32))) == (True, False)
    opened.close()
    HolderStore.open(tmp_path / "holder", witness).close()


def test_a_change_that_is_not_stored_is_not_witnessed(store: HolderStore, tmp_path: Path) -> None:
    store.close()
    witness = Witness(tmp_path)
    opened = HolderStore.open(tmp_path / "holder", witness)
    before = witness.read()
    with opened._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    reader = sqlite3.connect(database(tmp_path), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM ledger").fetchall()
    with pytest.raises(StorageError, match="locked"):
        opened.record_ceremony(FIRST, at=1.0)
    reader.close()
    assert witness.read() == before
    opened.close()
    again = HolderStore.open(tmp_path / "holder", witness)
    again.record_ceremony(FIRST, at=1.0)
    again.close()


def test_a_destroyed_share_leaves_no_byte(store: HolderStore, tmp_path: Path) -> None:
    sealed = ShareVault(bytes(32)).seal(b"a share" * 5000, b"")
    store.save_share(share(sealed=sealed))
    store.save_share(share(OTHER))
    assert sealed[100:200] in database(tmp_path).read_bytes()
    for _ in range(2):
        store.destroy_share(KEY)
    assert [one.key_id for one in store.shares()] == [OTHER]
    for file in database(tmp_path).parent.iterdir():
        content = file.read_bytes()
        assert not any(sealed[at : at + 32] in content for at in range(0, len(sealed) - 32, 512))


def test_shares_come_back_as_they_were_stored(store: HolderStore, tmp_path: Path) -> None:
    later, sooner = share(KEY, expires_at=9.0), share(OTHER, expires_at=5.0)
    store.save_share(later)
    store.save_share(sooner)
    again = HolderStore.open(tmp_path / "holder")
    assert again.shares() == (sooner, later)
    again.close()


def test_the_files_are_their_owners_alone(store: HolderStore, tmp_path: Path) -> None:
    assert database(tmp_path).stat().st_mode & 0o777 == 0o600
    assert database(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_another_passphrase_is_told_at_the_start(store: HolderStore) -> None:
    first = store.vault(secret_from_passphrase("correct horse battery"))
    again = store.vault(secret_from_passphrase("correct horse battery"))
    assert again.open(first.seal(b"a share", b""), b"") == b"a share"
    with pytest.raises(ConfigError, match="not this database's"):
        store.vault(secret_from_passphrase("another horse battery"))


def test_the_migrations_make_the_tables_of_the_schema(store: HolderStore) -> None:
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be opened"):
        HolderStore.open(tmp_path / "file" / "holder")


def test_a_failure_of_the_database_tells_no_content(store: HolderStore, tmp_path: Path) -> None:
    store.close()
    database(tmp_path).write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError) as raised:
        store.save_share(share())
    assert "sealed" not in str(raised.value)
