"""Opening an SQLite database: how it is set up, and what is said when it cannot be.

The schema itself is shown in ``tests/contract/test_schema_of_databases.py``.
"""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.store.rounds import SqlRoundStore
from coordinator.store.schema import open_database
from secagg.errors import ConfigError, StorageError
from tests.job_material import JOB, a_job


def _url(directory: Path) -> str:
    return f"sqlite:///{directory / 'rounds.db'}"


def test_sqlite_is_set_up_to_survive_a_kill(tmp_path: Path) -> None:
    engine = open_database(_url(tmp_path))
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout", "secure_delete")
        }
    engine.dispose()
    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,
        "busy_timeout": 10_000,
        "secure_delete": 1,
    }


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "oracle://host/x", "mysql+none://h/x"]
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url"):
        open_database(url)


def test_a_database_that_cannot_be_opened_says_so_without_its_url(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        open_database(f"sqlite:///{tmp_path / 'hunter2' / 'rounds.db'}")
    assert "directory" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "rounds.db").write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(StorageError):
        open_database(_url(tmp_path))


def test_a_table_that_is_lost_is_a_storage_error(tmp_path: Path) -> None:
    store = SqlRoundStore(_url(tmp_path))
    store.create_job(a_job(), 1.0)
    with sqlite3.connect(tmp_path / "rounds.db") as connection:
        connection.execute("DROP TABLE events")
    with pytest.raises(StorageError) as caught:
        store.events(JOB)
    assert "SELECT" not in str(caught.value)
    store.close()
