"""The schema: made by migrations alone, the same as the tables say, and never opened when it is newer than we are."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from coordinator.store import schema
from coordinator.store.rounds import SqlRoundStore
from coordinator.store.schema import open_database
from coordinator.store.tables import METADATA
from secagg.errors import ConfigError, StorageError
from tests.job_material import FIRST, JOB, a_job, a_record


def _url(directory: Path) -> str:
    return f"sqlite:///{directory / 'rounds.db'}"


def test_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    engine = open_database(_url(tmp_path))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_sqlite_is_set_up_to_survive_a_kill(tmp_path: Path) -> None:
    engine = open_database(_url(tmp_path))
    with engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqlRoundStore(_url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "rounds.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer schema"):
        SqlRoundStore(_url(tmp_path))
    with sqlite3.connect(tmp_path / "rounds.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


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


def _downgrade(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_rounds_from_before_masking_survive_the_way_down_and_up(tmp_path: Path) -> None:
    store = SqlRoundStore(_url(tmp_path))
    store.create_job(a_job(), 1.0)
    store.open_round(JOB, FIRST, 1.0)
    store.save_round(a_record())
    store.close()
    engine = open_database(_url(tmp_path))
    _downgrade(engine, "0001")
    with engine.connect() as connection:
        names = {
            table: {column["name"] for column in inspect(connection).get_columns(table)}
            for table in ("rounds", "contributions")
        }
    engine.dispose()
    assert "shared" not in names["rounds"]
    assert "confirmation" not in names["contributions"]
    store = SqlRoundStore(_url(tmp_path))
    assert store.round(JOB, FIRST) == a_record()
    store.close()


def test_a_downgrade_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = open_database(_url(tmp_path))
    _downgrade(engine, "base")
    with engine.connect() as connection:
        tables = {row[0] for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    engine.dispose()
    assert tables == {"alembic_version"}
