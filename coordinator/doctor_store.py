"""What ``secagg doctor`` looks at of a coordinator's store: the database by its URL, and the blobs."""

from __future__ import annotations

import math
import secrets
import shutil
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, func, inspect, make_url, select, text, union_all
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from coordinator.contracts import BlobStore
from coordinator.store import migrations
from coordinator.store.database import database_time
from coordinator.store.engines import READS, make_engine
from coordinator.store.failures import cause_of
from coordinator.store.opening import open_blobs
from coordinator.store.tables import EVENTS, PHASES, ROUNDS
from secagg.doctor.clock import against, against_answer, not_before
from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, Level, broken, ok
from secagg.doctor.sqlite import ExpectedDatabase, SeenDatabase, examine_sqlite, schema_finding
from secagg.errors import SecAggError

_MIGRATIONS: Final = Path(next(iter(migrations.__path__)))
_TIMES: Final = union_all(
    select(func.max(EVENTS.c.at).label("at")), select(func.max(PHASES.c.started_at).label("at"))
).subquery()
_NEWEST: Final = select(func.max(_TIMES.c.at))
_STATE: Final = text("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'")
_MAY_WRITE: Final = text("SELECT has_table_privilege(:table, 'SELECT, INSERT, UPDATE, DELETE')")
_PROBE: Final = b"secagg doctor"
_PROBES: Final = "probe"
_WRITTEN: Final = f"{_PROBES}/written"
_GROWN: Final = f"{_PROBES}/grown"


def url_holds_secret(url: str | None) -> bool:
    """Say whether a database URL holds a password."""
    parsed = None if url is None else _parsed(url)
    return parsed is not None and (parsed.password is not None or "password" in parsed.query)


def database_check(url: str, examination: Examination) -> Check:
    """Return the check of the database of an SQLAlchemy URL; nothing that it finds holds the URL's password."""
    parsed = _parsed(url)
    subject = "database_url" if parsed is None else _shown(parsed)
    return Check(area="store", subject=subject, run=lambda: _database(url, subject, examination))


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    # A query may hold a password too.
    return url.set(query={}).render_as_string(hide_password=True)


def _database(url: str, subject: str, examination: Examination) -> Iterator[Finding]:
    parsed = _parsed(url)
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        yield from _sqlite(Path(str(parsed.database)), examination)
        return
    yield from _server(url, subject, examination)


def _sqlite(path: Path, examination: Examination) -> Iterator[Finding]:
    expected = ExpectedDatabase(path=path, migrations=_MIGRATIONS, journal_mode="wal", newest=str(_NEWEST))
    seen = SeenDatabase()
    yield from examine_sqlite(expected, seen, examination.timeout_seconds)
    if seen.newest_at is not None:
        yield not_before(datetime.fromtimestamp(seen.newest_at, UTC), examination.clock(), str(path))


def _server(url: str, subject: str, examination: Examination) -> Iterator[Finding]:
    engine = make_engine(_limited(url, examination.timeout_seconds))
    try:
        with engine.execution_options(**READS[engine.dialect.name]).connect() as connection:
            schema = _server_schema(connection, subject)
            yield schema
            yield _server_clock(connection, subject, examination)
            if schema.check == "store.schema-current":
                yield _server_writable(connection, subject)
                yield from _server_newest(connection, subject, examination)
    except SQLAlchemyError as error:
        says = f"the database cannot be used: {_without_password(cause_of(error), url)}"
        advice = "Check database_url, that the server runs and can be reached, and that it lets this user in"
        yield broken("store.unusable", subject, says, advice)
    finally:
        engine.dispose()


def _limited(url: str, timeout_seconds: float) -> str:
    parsed = _parsed(url)
    if parsed is None or parsed.get_backend_name() != "postgresql" or "connect_timeout" in parsed.query:
        return url
    limited = parsed.update_query_dict({"connect_timeout": str(max(1, math.ceil(timeout_seconds)))})
    return limited.render_as_string(hide_password=False)


def _without_password(said: str, url: str) -> str:
    parsed = _parsed(url)
    words = () if parsed is None else (parsed.password, parsed.query.get("password"))
    for word in words:
        said = said.replace(word, "***") if isinstance(word, str) and word else said
    return said


def _server_schema(connection: Connection, subject: str) -> Finding:
    stored = set(MigrationContext.configure(connection).get_current_heads())
    foreign = not stored and bool(inspect(connection).get_table_names())
    return schema_finding(stored, _MIGRATIONS, subject, foreign=foreign)


def _server_writable(connection: Connection, subject: str) -> Finding:
    in_recovery, read_only = connection.execute(_STATE).one()
    if in_recovery:
        return broken("store.not-writable", subject, "it is a standby, which only reads", "Name the primary server")
    if read_only or not connection.execute(_MAY_WRITE, {"table": ROUNDS.name}).scalar_one():
        advice = "Give this database user the rights of the owner of the tables"
        return broken("store.not-writable", subject, "this database user may not write", advice)
    return ok("store.writable", subject, "it can be written")


def _server_clock(connection: Connection, subject: str, examination: Examination) -> Finding:
    before = examination.clock()
    shown = datetime.fromtimestamp(database_time(connection), UTC)
    now = examination.clock()
    return against(shown, now, subject, resolution=max(now - before, timedelta()))


def _server_newest(connection: Connection, subject: str, examination: Examination) -> Iterator[Finding]:
    newest = connection.execute(_NEWEST).scalar_one()
    if newest is not None:
        yield not_before(datetime.fromtimestamp(newest, UTC), examination.clock(), subject)


def blob_check(where: str | Path, examination: Examination) -> Check:
    """Return the check that writes, adds to, reads and deletes blobs under a name of its own, in a directory or a bucket."""
    if isinstance(where, Path):
        return Check(area="blobs", subject=str(where), run=lambda: _directory(where))
    subject = where.partition("?")[0]
    return Check(area="blobs", subject=subject, run=lambda: _bucket(where, subject, examination))


# Each probe is a store of its own, beneath the other one: opening a store clears what a kill left half written in it, and a
# coordinator may be writing there just now.


def _directory(directory: Path) -> Iterator[Finding]:
    if not directory.exists():
        yield ok("blobs.not-made", directory, "it does not exist yet; the first start makes it")
        return
    probe = directory / _probe_name()
    try:
        yield _probed(probe, str(directory))
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _bucket(url: str, subject: str, examination: Examination) -> Iterator[Finding]:
    parts = urlsplit(url)
    probed = _probed(urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{_probe_name()}")), subject)
    yield probed
    endpoint = dict(parse_qsl(parts.query)).get("endpoint")
    if endpoint is not None and probed.level is Level.OK:
        yield against_answer(urlsplit(endpoint), ssl.create_default_context(), examination)


def _probe_name() -> str:
    return f"doctor-{secrets.token_hex(8)}"


def _probed(where: str | Path, subject: str) -> Finding:
    try:
        return probe_finding(open_blobs(where), subject)
    except SecAggError as error:
        return broken("blobs.unusable", subject, error.cause, error.next_step)


def probe_finding(store: BlobStore, subject: str) -> Finding:
    """Write one blob, add to another, read both and delete them.

    Raises:
        SecAggError: as the store's methods.
    """
    try:
        store.write(_WRITTEN, [_PROBE, _PROBE])
        store.append(_GROWN, store.append(_GROWN, 0, _PROBE), _PROBE)
        store.sync(_GROWN)
        read = [store.read(name, 0, 3 * len(_PROBE)) for name in (_WRITTEN, _GROWN)]
    finally:
        store.delete_prefix(_PROBES)
    if read != [2 * _PROBE] * 2:
        advice = "Replace that storage: it returns other bytes than it was given"
        return broken("blobs.altered", subject, "a blob that was written came back changed", advice)
    return ok("blobs.usable", subject, "blobs were written, added to, read and deleted")
