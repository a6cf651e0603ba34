"""The examination of a key holder: its port, its ledger, and what seals its shares."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import func, select, union_all

from secagg.doctor.clock import not_before
from secagg.doctor.disk import directory_check
from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, broken, broken_by, ok
from secagg.doctor.identity import ExaminedIdentity
from secagg.doctor.party import configuration_finding, examine_party
from secagg.doctor.ports import port_check
from secagg.doctor.sqlite import ExpectedDatabase, SeenDatabase, examine_sqlite
from secagg.errors import ConfigError
from secagg.key_holder import migrations
from secagg.key_holder.config import KeyHolderSettings, load_key_holder_settings
from secagg.key_holder.database import DATABASE_NAME
from secagg.key_holder.schema import CEREMONIES, KEY_SHARES, LEDGER, ROSTERS, STORE
from secagg.key_holder.vault import secret_from_file
from secagg.key_holder.witness import Mark, Witness
from secagg.party import Role

_TIMES: Final = union_all(
    select(func.max(CEREMONIES.c.begun_at).label("at")),
    select(func.max(ROSTERS.c.sealed_at).label("at")),
    select(func.max(LEDGER.c.approved_at).label("at")),
).subquery()
NEWEST: Final = str(select(func.max(_TIMES.c.at)))
WITNESS_ATTEMPTS: Final = 5
_MARK: Final = str(select(STORE.c.store_id, STORE.c.generation))
_SHARES: Final = str(select(func.count()).select_from(KEY_SHARES))


def examine(config: Path | None, examination: Examination) -> list[Finding]:
    """Examine a key holder's set-up; raises `ConfigError` when its configuration cannot be read."""
    settings = load_key_holder_settings(config)
    passphrase = settings.sealing.passphrase is not None
    first = configuration_finding(config, holds_secret=passphrase)

    def checks_of(own: ExaminedIdentity) -> list[Check]:
        return _checks(settings, own, examination)

    return [first, *examine_party(settings.identity, frozenset({Role.KEY_HOLDER}), examination, checks_of)]


def _checks(settings: KeyHolderSettings, own: ExaminedIdentity, examination: Examination) -> list[Check]:
    path = settings.data_dir / DATABASE_NAME
    return [
        port_check(settings.listen, own, examination),
        *(
            []
            if settings.metrics_listen is None
            else [port_check(settings.metrics_listen, own, examination, protocols=())]
        ),
        directory_check("data_dir", settings.data_dir),
        directory_check("witness_dir", settings.witness.path.parent, private=False),
        Check(area="store", subject=str(path), run=lambda: _store(path, settings.witness, own, examination)),
        Check(area="sealing", subject="sealing", run=lambda: _sealing(settings, path)),
    ]


def _store(path: Path, witness: Witness, own: ExaminedIdentity, examination: Examination) -> Iterator[Finding]:
    folder = Path(next(iter(migrations.__path__)))
    expected = ExpectedDatabase(path=path, migrations=folder, journal_mode="delete", newest=NEWEST)
    seen = SeenDatabase()
    yield from examine_sqlite(expected, seen, examination.timeout_seconds)
    if seen.newest_at is not None:
        yield not_before(datetime.fromtimestamp(seen.newest_at, UTC), own.at, str(path))
    if seen.current:
        yield _witnessed(path, witness)


def _witnessed(path: Path, witness: Witness) -> Finding:
    """Hold the database against its witness, as the next start will."""
    for attempt in range(1, WITNESS_ATTEMPTS + 1):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as opened:
                row = opened.execute(_MARK).fetchone()
                (shares,) = opened.execute(_SHARES).fetchone()
            if row is not None:
                witness.verify(Mark(store_id=row[0], generation=row[1]), holds_keys=bool(shares))
        except ConfigError as error:
            # A holder that runs may have moved on between the two readings.
            if attempt == WITNESS_ATTEMPTS:
                return broken_by(error, "store.old-copy", path)
        else:
            break
    return ok("store.newest-copy", path, f"it is as far as {witness.path} has seen")


def _sealing(settings: KeyHolderSettings, database: Path) -> Iterator[Finding]:
    """Look at the key file and never make it: one made after the database opens nothing."""
    key_file = settings.sealing.key_file
    if key_file is None:
        yield ok("sealing.passphrase", "sealing.passphrase", "shares are sealed by a passphrase")
    elif not key_file.exists() and not database.exists() and settings.sealing.create_key_file:
        yield ok("sealing.not-made", key_file, "it does not exist yet; the first start makes it")
    elif not key_file.exists() and database.exists():
        advice = "Restore it from where it is kept; without it the shares on disk are lost, and their rounds abort"
        yield broken("sealing.lost", key_file, "the key file is gone, and there is a database that needs it", advice)
    else:
        secret_from_file(key_file, create=False)
        yield ok("sealing.key-file", key_file, "there, and its owner's alone")
