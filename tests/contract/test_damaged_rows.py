"""A database that was damaged gives ``StorageError`` or ``MessageError``, or values of the right type: nothing else."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import JSON, LargeBinary, Table

from coordinator.contracts import PurgeReceipt, RoundStore
from coordinator.store.rounds import SqlRoundStore
from coordinator.store.tables import METADATA
from secagg.errors import ConflictError, MessageError, NotFoundError, StorageError
from secagg.ids import RoundNumber
from tests.contract.conftest import new_url
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, an_answer, an_audit, an_event, an_opening

WRONG = (b"\xff\x00", "wrong", -1, 1.5)
WRONG_JSON = ("5", '"text"', "[1]", '{"a": 1}', "[[]]", "null", "{")
ALLOWED = (StorageError, MessageError, NotFoundError, ConflictError)
TABLES = METADATA.sorted_tables


def _filled(url: str) -> None:
    """Put something into every column."""
    store = SqlRoundStore(url)
    store.create_job(a_job(), 1.0)
    for number in (1, 2, 3):
        round = RoundNumber(number)
        store.open_round(an_opening(round=number))
        store.advance_round(a_move(an_event(1), round=round, audits=(an_audit(round=round),), request=an_answer()))
    for number in (2, 3):
        store.advance_round(a_move(round=RoundNumber(number), record=a_record(round=RoundNumber(number))))
    store.close_round(JOB, RoundNumber(3))
    store.purge_round(PurgeReceipt(job=JOB, round=RoundNumber(3), at=1.0, content=b"receipt"))
    store.take_lease(JOB, "me", 600.0, address="me:1")
    store.close()


def _readers(store: RoundStore) -> list[Callable[[], object]]:
    two = RoundNumber(2)
    return [
        lambda: store.job(JOB),
        lambda: store.jobs("", 10),
        store.running_jobs,
        lambda: store.next_round(JOB),
        lambda: store.round(JOB, two),
        lambda: store.rounds(JOB, 0, 10),
        lambda: store.last_round(JOB),
        lambda: store.unclosed_rounds(JOB),
        lambda: store.kept_events(JOB, FIRST),
        lambda: store.events(JOB),
        lambda: store.answer_to(an_answer().request),
        lambda: store.lease_of(JOB),
        lambda: store.take_lease(JOB, "other", 1.0),
        lambda: store.ended_before(1e9, 10),
        store.receipts,
    ]


def _use(store: RoundStore) -> None:
    for reader in _readers(store):
        try:
            _check(reader())
        except ALLOWED:
            continue


def _check(found: object) -> None:
    """Look at a value as its reader would: ids that are text, bytes that are bytes, times that are numbers."""
    if isinstance(found, list | tuple):
        for one in found:
            _check(one)
    elif is_dataclass(found):
        for field in fields(found):
            value = getattr(found, field.name)
            _check(value)
            kinds = {"at": int | float, "content": bytes, "round": int, "reason": str, "key": bytes | None}
            assert isinstance(value, kinds.get(field.name, object)), (field.name, value)


@pytest.fixture(scope="module")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("filled")
    _filled(new_url("sqlite", directory))
    return (directory / "rounds.db").read_bytes()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_any_value_in_any_column_of_sqlite(tmp_path: Path, filled_file: bytes, table: Table) -> None:
    path = tmp_path / "rounds.db"
    path.write_bytes(filled_file)
    columns = [column.name for column in table.columns if column.name != "id"]
    with closing(SqlRoundStore(f"sqlite:///{path}")) as store, closing(sqlite3.connect(path)) as database:
        rows = database.execute(f"SELECT max(rowid) FROM {table.name}").fetchone()  # noqa: S608
        names = ", ".join(f'"{name}"' for name in columns)
        where = f"WHERE rowid = {rows[0]}"
        saved = database.execute(f"SELECT {names} FROM {table.name} {where}").fetchone()  # noqa: S608
        for column in table.columns:
            for value in (*WRONG, *(WRONG_JSON if isinstance(column.type, JSON) else ())):
                if column.name not in columns:
                    continue
                with database:
                    database.execute(f'UPDATE OR IGNORE {table.name} SET "{column.name}" = ? {where}', (value,))  # noqa: S608
                _use(store)
                with database:
                    # A lease was taken anew where its job's was not found.
                    database.execute("DELETE FROM leases WHERE owner = 'other' AND rowid > 1")
                    database.execute(
                        f"UPDATE {table.name} SET ({names}) = ({', '.join('?' * len(columns))}) {where}",  # noqa: S608
                        saved,
                    )
        assert store.round(JOB, RoundNumber(2)) == a_record(round=RoundNumber(2))


def _changes() -> Iterator[tuple[str, str, object]]:
    for table in METADATA.sorted_tables:
        for column in table.columns:
            if column.foreign_keys or column.primary_key:
                continue
            kind = column.type
            values: tuple[object, ...] = (
                WRONG_JSON[:-1]
                if isinstance(kind, JSON)
                else (b"\xff\x00", b"")
                if isinstance(kind, LargeBinary)
                else ()
            )
            if kind.python_type is str:
                values = ("", "wrong")
            for value in values:
                yield table.name, column.name, value


def test_any_value_in_a_column_of_postgresql(tmp_path: Path) -> None:
    url = new_url("postgresql", tmp_path)
    _filled(url)
    with closing(SqlRoundStore(url)) as store, psycopg.connect(url, autocommit=True) as connection:
        for table, column, value in _changes():
            connection.execute(f'CREATE TABLE saved AS SELECT * FROM "{table}"')  # noqa: S608
            connection.execute(f'UPDATE "{table}" SET "{column}" = %s', (value,))  # noqa: S608
            _use(store)
            key = METADATA.tables[table].primary_key
            same = " AND ".join(f'old."{one.name}" = "{table}"."{one.name}"' for one in key)
            connection.execute(f'UPDATE "{table}" SET "{column}" = old."{column}" FROM saved old WHERE {same}')  # noqa: S608
            connection.execute("DROP TABLE saved")
        assert store.round(JOB, RoundNumber(2)) == a_record(round=RoundNumber(2))


def test_an_event_that_is_missing_is_noticed(with_job: RoundStore, database_url: str) -> None:
    with_job.open_round(an_opening())
    for sequence in (1, 2, 3):
        with_job.advance_round(a_move(an_event(sequence)))
    statement = "DELETE FROM kept_events WHERE sequence = 2"
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as database, database:
            database.execute(statement)
    else:
        with psycopg.connect(database_url) as connection:
            connection.execute(statement)
    with pytest.raises(MessageError, match="missing"):
        with_job.kept_events(JOB, FIRST)
