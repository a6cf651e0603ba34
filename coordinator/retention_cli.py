"""``secagg retention``: reached by the entry point ``secagg.commands``, as ``secagg coordinator`` is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.cli.errors import friendly_errors, show_error

if TYPE_CHECKING:
    from coordinator.config import CoordinatorSettings
    from coordinator.receipts import ReadReceipt
    from coordinator.retention import Purger
    from coordinator.store.rounds import SqlRoundStore
    from secagg.messages.retention import PurgedRound

MOST_SHOWN: Final = 1000
"""Rounds that a dry run lists."""

app = typer.Typer(no_args_is_help=True, help="Delete records of rounds that ended long ago, and show the receipts.")

Config = Annotated[
    Path | None,
    typer.Option(
        envvar="SECAGG_COORDINATOR_CONFIG",
        help="The coordinator's TOML file. Without one, SECAGG_COORDINATOR_... counts.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]


@app.command()
@friendly_errors
def run(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    older_than: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=0, max=36_500, help="Instead of the configuration's retention.record_days."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete what the configured rule would still keep.")] = False,
    as_json: AsJson = False,
) -> None:
    """Purge now, as a running coordinator does every hour; harmless beside one."""
    from coordinator.config import load_coordinator_settings

    settings = load_coordinator_settings(config)
    days = _days(settings, older_than, force=force)
    with _purger(settings) as purger:
        if dry_run:
            _show(_would_be_purged(purger, days), as_json=as_json, word="would be purged")
            return
        failures: list[str] = []
        purged = _purge(purger, days, failures)
        _show(purged, as_json=as_json, word="purged")
        purger.purge_requests(settings.retention.request_days)
        if not failures:
            purger.purge_trail(days)
    if failures:
        from secagg.errors import StorageError

        raise StorageError(f"{len(failures)} rounds could not be purged: {failures[0]}")


@app.command()
@friendly_errors
def show(
    config: Config = None,
    job: Annotated[str | None, typer.Option(help="Only the rounds of this job.")] = None,
    number: Annotated[int | None, typer.Option("--round", min=1, help="Everything of this round's receipt.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the receipts of purged rounds, each signature verified; fails when one does not hold."""
    from coordinator.config import load_coordinator_settings
    from coordinator.receipts import read_receipt
    from secagg.ids import JobId
    from secagg.tls_identity import TlsPaths, read_trust

    settings = load_coordinator_settings(config)
    trust = read_trust(TlsPaths.of(settings.identity))[2]
    with _opened_store(settings) as store:
        if job is not None:
            store.job(JobId(job))
        stored = store.receipts(None if job is None else JobId(job))
    chosen = [one for one in stored if number in (None, one.round)]
    receipts = [read_receipt(one.content, trust=trust, stored=one) for one in chosen]
    _show_receipts(receipts, as_json=as_json, whole=number is not None)


@app.command()
@friendly_errors
def verify(
    receipts: Annotated[Path, typer.Argument(metavar="FILE", help="What `secagg retention show --json` printed.")],
    identity: Annotated[
        Path, typer.Option(help="A directory with ca.pem and crl.pem, such as one that `secagg pki issue` made.")
    ],
    as_json: AsJson = False,
) -> None:
    """Verify receipts without the coordinator: an auditor needs the CA's certificate and nothing else."""
    from coordinator.receipts import read_receipt, receipts_from_json
    from secagg.tls_identity import TlsPaths, read_trust

    trust = read_trust(TlsPaths.of(identity))[2]
    read = [read_receipt(content, trust=trust) for content in receipts_from_json(receipts)]
    _show_receipts(read, as_json=as_json, whole=False)


def _days(settings: CoordinatorSettings, older_than: int | None, *, force: bool) -> int:
    """Return the rule that counts for this purge."""
    from secagg.errors import UsageError

    rule = settings.retention.record_days
    if older_than is None:
        if not rule:
            advice = "Set retention.record_days, or name --older-than DAYS and --force"
            raise UsageError("retention.record_days is 0: records are kept for ever", next_step=advice)
        return rule
    if not force and (not rule or older_than < rule):
        kept = f"{rule} days" if rule else "for ever"
        advice = "Add --force if you mean it: what is deleted cannot be brought back"
        raise UsageError(f"the configuration keeps records {kept}, longer than {older_than} days", next_step=advice)
    return older_than


@contextmanager
def _opened_store(settings: CoordinatorSettings) -> Iterator[SqlRoundStore]:
    """Open the database that is there; a wrong path must not make an empty one."""
    from coordinator.store.rounds import SqlRoundStore
    from secagg.errors import ConfigError

    url = settings.resolved_database_url
    kind, _, path = url.partition(":///")
    if kind.startswith("sqlite") and not Path(path.partition("?")[0]).is_file():
        advice = "Use the configuration of the coordinator whose records they are, on its machine"
        raise ConfigError(f"there is no database {path}", next_step=advice)
    store = SqlRoundStore(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _purger(settings: CoordinatorSettings) -> Iterator[Purger]:
    import time
    from datetime import UTC, datetime

    from coordinator.retention import Purger
    from coordinator.store.opening import open_blobs
    from secagg.party import Role
    from secagg.tls_identity import TlsIdentity

    own = TlsIdentity.load(settings.identity, at=datetime.now(UTC), expect_role=Role.COORDINATOR)
    with _opened_store(settings) as store:
        blobs = open_blobs(settings.resolved_blobs)
        yield Purger(store=store, blobs=blobs, signer=own.signer, clock=time.time)


def _purge(purger: Purger, days: int, failures: list[str]) -> list[PurgedRound]:
    from secagg.errors import SecAggError

    def note(job: str, round: int, error: SecAggError) -> None:
        show_error(error)
        failures.append(f"round {round} of job {job}: {error.cause}")

    return list(purger.purged_rounds(days, note))


def _would_be_purged(purger: Purger, days: int) -> list[PurgedRound]:
    stated = (purger.statement(job, round, days) for job, round in purger.due(days, MOST_SHOWN))
    return [one for one in stated if one is not None]


def _show(rounds: list[PurgedRound], *, as_json: bool, word: str) -> None:
    from rich.console import Console

    from coordinator.receipts import purged_json, purged_table

    if as_json:
        typer.echo(json.dumps([purged_json(one) for one in rounds], indent=2))
        return
    if rounds:
        Console().print(purged_table(rounds))
    more = " or more" if len(rounds) == MOST_SHOWN else ""
    typer.echo(f"{len(rounds)}{more} rounds {word}.")


def _show_receipts(receipts: list[ReadReceipt], *, as_json: bool, whole: bool) -> None:
    from rich.console import Console

    from coordinator.receipts import receipt_table, receipts_json, receipts_table
    from secagg.errors import MessageError

    if as_json:
        typer.echo(json.dumps(receipts_json(receipts), indent=2))
    elif not receipts:
        typer.echo("There is no such receipt: what you asked for was not purged.")
    elif whole:
        for one in receipts:
            Console().print(receipt_table(one))
    else:
        Console().print(receipts_table(receipts))
    bad = sum(one.purged is None for one in receipts)
    if bad:
        advice = "Compare with a backup, and find out who changed the database"
        raise MessageError(f"{bad} of {len(receipts)} receipts do not hold", next_step=advice)
