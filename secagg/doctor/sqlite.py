"""An SQLite database, looked at without making, upgrading or changing it, while its service runs or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from secagg.doctor.findings import Finding, broken, ok, warning


@dataclass(frozen=True, kw_only=True)
class ExpectedDatabase:
    """What a database should be.

    Attributes:
        path: its file.
        migrations: the folder of Alembic's revisions.
        journal_mode: `wal` or `delete`.
        newest: a statement whose one value is the newest time, in seconds since the epoch, that it holds; NULL for none.
    """

    path: Path
    migrations: Path
    journal_mode: str
    newest: str


@dataclass(kw_only=True)
class SeenDatabase:
    """What the check learned: whether the schema is ours, and the newest time in it, seconds since the epoch."""

    current: bool = False
    newest_at: float | None = None


def examine_sqlite(expected: ExpectedDatabase, seen: SeenDatabase, timeout_seconds: float) -> Iterator[Finding]:
    """Look at schema, journal and whether it can be written; put what is known of time into `seen`."""
    path = expected.path
    if not path.is_file():
        says = "there is no database; the first start makes one"
        advice = "Nothing, before the first start; after it, data_dir is wrong or the file was lost: restore it"
        yield warning("store.missing", path, says, advice)
        return
    try:
        # rw and not rwc: it is never made. Read-only would not see a write-ahead log that nobody has open.
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout_seconds)
        ) as opened:
            opened.isolation_level = None
            yield from _schema(opened, expected, seen)
            yield _journal(opened, expected)
            yield _writable(opened, path)
    except sqlite3.Error as error:
        advice = "Check that this user may read and write it; a damaged file is restored from a backup"
        yield broken("store.unusable", path, f"it cannot be used: {error}", advice)


def _schema(opened: sqlite3.Connection, expected: ExpectedDatabase, seen: SeenDatabase) -> Iterator[Finding]:
    tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    stored = set()
    if "alembic_version" in tables:
        stored = {str(revision) for (revision,) in opened.execute("SELECT version_num FROM alembic_version")}
    finding = schema_finding(stored, expected.migrations, str(expected.path), foreign=bool(tables) and not stored)
    yield finding
    seen.current = finding.check == "store.schema-current"
    if seen.current:
        (seen.newest_at,) = opened.execute(expected.newest).fetchone()


def schema_finding(stored: set[str], migrations: Path, subject: str, *, foreign: bool) -> Finding:
    """Compare the revisions that a database holds with those that this version knows.

    Args:
        stored: what Alembic's table holds.
        migrations: the folder of Alembic's revisions.
        subject: what to call the database.
        foreign: whether it holds tables and none of Alembic's.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known, heads = {one.revision for one in scripts.walk_revisions()}, set(scripts.get_heads())
    if foreign:
        advice = "Name another database: this one belongs to something else"
        return broken("store.foreign", subject, "it holds tables that are not ours", advice)
    if not stored <= known:
        revisions = ", ".join(sorted(stored - known))
        advice = "Start the version that wrote it, or a newer one; or restore a backup from before the upgrade"
        return broken("store.schema-newer", subject, f"a newer version wrote it (schema {revisions})", advice)
    if stored != heads:
        says = f"its schema is {', '.join(sorted(stored)) or 'empty'}, and this version's is {', '.join(sorted(heads))}"
        return warning("store.schema-behind", subject, says, "The next start upgrades it: make a backup before that")
    return ok(
        "store.schema-current", subject, f"it opens, and its schema is {', '.join(sorted(heads))}, as it should be"
    )


def _journal(opened: sqlite3.Connection, expected: ExpectedDatabase) -> Finding:
    (mode,) = opened.execute("PRAGMA journal_mode").fetchone()
    if mode == expected.journal_mode:
        return ok("store.journal", expected.path, f"journal mode {mode}")
    says = f"journal mode {mode}, and not {expected.journal_mode}"
    advice = "Start the service once, which sets it; a network file system refuses WAL: use a local disk"
    return warning("store.journal", expected.path, says, advice)


def _writable(opened: sqlite3.Connection, path: Path) -> Finding:
    """Take the lock of a writer and give it back: nothing is written."""
    try:
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        advice = "Check the rights to the file and its directory, and that no other program holds it"
        return broken("store.not-writable", path, f"it cannot be written: {error}", advice)
    return ok("store.writable", path, "it can be written")
