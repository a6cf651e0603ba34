"""One schema on every database: made by migrations alone, both ways; and what a database's URL may say and never shows."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, inspect, select, text

from coordinator.config import CoordinatorSettings
from coordinator.contracts import RoundStore
from coordinator.store.engines import make_engine
from coordinator.store.rounds import SqlRoundStore
from coordinator.store.schema import UPGRADE_LOCK, alembic_config, open_database
from coordinator.store.tables import EVENTS, METADATA
from secagg.demo.processes import free_port
from secagg.errors import ConfigError, StorageError
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, an_audit, an_event, an_opening
from tests.services.shared import postgres_server

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunter2"


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'rounds.db'}" if request.param == "sqlite" else postgres_server().new_database()


on_every_database = pytest.mark.parametrize("empty_url", ["sqlite", "postgresql"], indirect=True)


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, METADATA))


def _go(engine: Engine, way: Callable[..., None], revision: str) -> None:
    with engine.begin() as connection:
        way(alembic_config(connection), revision)


@on_every_database
def test_migrations_make_exactly_the_tables_on_every_way(empty_url: str) -> None:
    with _opened(empty_url) as engine:
        assert _differences(engine) == []
        for revision in ("0002", "0001", "base"):
            _go(engine, command.downgrade, revision)
            _go(engine, command.upgrade, "head")
            assert _differences(engine) == []
        _go(engine, command.downgrade, "base")
        assert set(inspect(engine).get_table_names()) == {"alembic_version"}


@on_every_database
def test_rounds_and_audit_trail_survive_the_way_down_and_up(empty_url: str) -> None:
    with closing(SqlRoundStore(empty_url)) as store:
        store.create_job(a_job(), 1.0)
        store.open_round(an_opening())
        store.advance_round(a_move(record=a_record(), audits=(an_audit(client="alice"),)))
        events = store.events(JOB)
    with _opened(empty_url) as engine:
        _go(engine, command.downgrade, "0001")
    with closing(SqlRoundStore(empty_url)) as store:
        assert store.round(JOB, FIRST) == a_record()
        # When it ended follows from its phases; whether it was cleaned up does not, so it is looked at again.
        assert [record.status.round for record in store.unclosed_rounds(JOB)] == [1]
        store.close_round(JOB, FIRST)
        assert store.ended_before(9.0, 10) == []
        assert store.ended_before(9.1, 10) == [(JOB, FIRST)]
        store.audit(JOB, FIRST, "another", {}, 1.0)
        assert store.events(JOB)[:-1] == events


def test_the_audit_trail_counts_beyond_32_bits() -> None:
    with _opened(postgres_server().new_database()) as engine, engine.begin() as connection:
        connection.execute(text("INSERT INTO jobs VALUES ('mnist', '', 'running', 1.0, NULL)"))
        connection.execute(text("SELECT setval(pg_get_serial_sequence('events', 'id'), 4000000000)"))
        connection.execute(insert(EVENTS).values(job="mnist", round=0, event="x", details={}, at=1.0))
        assert connection.execute(select(EVENTS.c.id)).scalars().all() == [4_000_000_001]


def test_a_coordinator_waits_while_another_upgrades() -> None:
    url = postgres_server().new_database()
    script = "import sys; from coordinator.store.rounds import SqlRoundStore; SqlRoundStore(sys.argv[1]).close()"
    with psycopg.connect(url, autocommit=True) as first:
        first.execute("SELECT pg_advisory_lock(%s)", (UPGRADE_LOCK,))
        second = subprocess.Popen([sys.executable, "-c", script, url], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            limit = time.monotonic() + 60
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while first.execute(waiting).fetchone() == (0,):
                assert second.poll() is None, second.communicate()[1]
                assert time.monotonic() < limit
                time.sleep(0.02)
            assert first.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
            first.execute("SELECT pg_advisory_unlock(%s)", (UPGRADE_LOCK,))
            assert second.wait(60) == 0
        finally:
            second.kill()
            second.communicate()
    with _opened(url) as engine:
        assert _differences(engine) == []


@on_every_database
def test_a_newer_schema_is_refused_and_left_alone(empty_url: str) -> None:
    with _opened(empty_url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer schema"):
        SqlRoundStore(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def _urls_that_fail() -> list[str]:
    server = postgres_server()
    return [
        f"postgresql://secagg:{PASSWORD}@127.0.0.1:{server.port}/postgres",
        f"postgresql://secagg:{PASSWORD}@127.0.0.1:{free_port()}/postgres",
        f"postgresql+psycopg://nobody:{PASSWORD}@127.0.0.1:{server.port}/none",
        f"postgresql://secagg:{PASSWORD}@127.0.0.1:{server.port}/postgres?nonsense=1",
        f"postgresql://secagg:{PASSWORD}@127.0.0.1:port/postgres",
        f"oracle://secagg:{PASSWORD}@host/x",
        f"{PASSWORD}",
    ]


def test_a_password_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for url in _urls_that_fail():
        with pytest.raises((ConfigError, StorageError)) as caught:
            SqlRoundStore(url)
        assert PASSWORD not in f"{caught.value}{caught.value!r}{caught.value.__cause__}"
        assert caught.value.next_step
        settings = CoordinatorSettings(identity=Path("i"), data_dir=Path("d"), database_url=url)
        assert PASSWORD not in f"{settings}{settings!r}"
    assert PASSWORD not in caplog.text


def test_an_error_of_postgresql_tells_no_values(with_lost_table: tuple[RoundStore, str]) -> None:
    store, secret = with_lost_table
    with pytest.raises(StorageError) as caught:
        store.advance_round(a_move(an_event(1, secret.encode())))
    shown = f"{caught.value}{caught.value!r}"
    assert secret not in shown
    assert secret.encode().hex() not in shown
    assert "INSERT" not in shown


@pytest.fixture
def with_lost_table() -> Iterator[tuple[RoundStore, str]]:
    """A store whose kept events cannot be stored, because a row must not be what every row is."""
    url = postgres_server().new_database()
    with closing(SqlRoundStore(url)) as store:
        store.create_job(a_job(), 1.0)
        store.open_round(an_opening())
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE kept_events ADD CONSTRAINT never CHECK (length(content) = 0)")
        yield store, "a revealed share"


def test_every_wait_for_postgresql_has_a_limit() -> None:
    with _opened(postgres_server().new_database()) as engine, engine.connect() as connection:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name")
        found = [connection.execute(text(f"SHOW {name}")).scalar() for name in names]
        assert found == ["30s", "10s", "10s", "secagg-coordinator"]


def test_a_url_may_set_other_limits() -> None:
    url = f"{postgres_server().new_database()}?options=-c%20lock_timeout%3D123&application_name=other"
    with _opened(url) as engine, engine.connect() as connection:
        names = ("statement_timeout", "lock_timeout", "application_name")
        found = [connection.execute(text(f"SHOW {name}")).scalar() for name in names]
        assert found == ["30s", "123ms", "other"]


def test_a_lock_that_a_stopped_process_holds_is_an_error_within_the_limit() -> None:
    url = postgres_server().new_database()
    with closing(SqlRoundStore(f"{url}?options=-c%20lock_timeout%3D300")) as store:
        store.create_job(a_job(), 1.0)
        lease = store.take_lease(JOB, "me", 60.0)
        with psycopg.connect(url) as other:
            other.execute("SELECT * FROM leases FOR UPDATE")
            began = time.monotonic()
            with pytest.raises(StorageError, match="lock timeout"):
                store.open_round(an_opening(), lease)
            assert time.monotonic() - began < 10
        store.open_round(an_opening(), lease)


def test_a_connection_that_the_server_ended_is_replaced() -> None:
    server, url = postgres_server(), postgres_server().new_database()
    with closing(SqlRoundStore(url)) as store:
        store.create_job(a_job(), 1.0)
        with server.connect() as connection:
            name = url.rpartition("/")[2]
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        assert store.job(JOB).created_at == 1.0
