"""``secagg client``: take part in a round with an update from a file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.cli.errors import friendly_errors
from secagg.errors import BusyError, ElsewhereError, UnreachableError

if TYPE_CHECKING:
    from secagg.client import Client, Progress, RoundResult
    from secagg.client.config import ClientSettings

ENV_PREFIX: Final = "SECAGG_CLIENT_"
DEFAULT_CONFIG: Final = Path("client.toml")

Coordinator = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the coordinator listens, instead of the file's address. Repeat it for several of one database.",
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    help="Take part in a round. Programs use the Python classes secagg.client.Client and AsyncClient.",
)


@app.callback()
def _group() -> None:
    """Keep `submit` a sub-command, also while it is the only one."""


@app.command()
@friendly_errors
def submit(  # noqa: PLR0913 - every option of a command is an argument
    *,
    job: Annotated[str, typer.Option(help="The job's name.")],
    update: Annotated[
        Path, typer.Option(metavar="FILE.npz", help="The update: arrays with the job's names, shapes and dtypes.")
    ],
    weight: Annotated[
        float, typer.Option(help="How much it counts, such as its number of examples; at most the job's max_weight.")
    ],
    out: Annotated[Path, typer.Option(metavar="MEAN.npz", help="Where the weighted mean of all updates goes.")],
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=f"{ENV_PREFIX}CONFIG",
            help="TOML file as docs/samples/client.toml; client.toml of this directory, if there is one.",
        ),
    ] = None,
    coordinator: Coordinator = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="Directory that `secagg pki issue client NAME` made, instead of the file's."),
    ] = None,
    holder: Annotated[
        list[str] | None,
        typer.Option(help="A key holder that you trust, for a ckks job, instead of the file's. Repeat it."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Private directory in which a masking round outlives a crash of this command, instead of the file's."
        ),
    ] = None,
    after_round: Annotated[int, typer.Option(min=0, help="Take part in a round later than this one.")] = 0,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for a round that can be joined.")
    ] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")] = False,
) -> None:
    """Encrypt or mask an update, as the job says, have it added up with those of others, and write the mean.

    The update is submitted to one round only. If that round fails, nothing is written, and it is for you to decide whether
    to submit it again.
    """
    from secagg.client import npz

    arrays = npz.read_arrays(update)
    npz.check_writable(out)
    signal.signal(signal.SIGTERM, _interrupted)
    given = _given(coordinator, identity, holder, state_dir)
    settings = _settings(config, given)
    with _saying_how_to_go_on(job, settings.state_dir), _client(settings) as client, _progress_bars() as progress:
        result = client.participate(
            job, arrays, weight, after_round=after_round, progress=progress, join_timeout_seconds=wait_seconds
        )
    npz.write_arrays(out, result.mean)
    _say(job, out, result, as_json=as_json)


def _say(job: str, out: Path, result: RoundResult, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "job": job,
            "round": result.round,
            "contributors": list(result.contributors),
            "total_weight": result.total_weight,
            "clipped": result.clipped,
            "uploaded_bytes": result.uploaded_bytes,
            "resumed": result.resumed,
            "out": str(out),
        }
        typer.echo(json.dumps(fields))
        return
    typer.echo(
        f"Round {result.round} of job {job}: {len(result.contributors)} updates, total weight {result.total_weight:,.2f}."
    )
    if result.resumed:
        typer.echo("It went on with the update that was masked before the restart; the one given now was not used.")
    if result.clipped:
        typer.echo(f"{result.clipped:,} entries of your update were beyond the job's clip bound and were clipped.")
    typer.echo(f"The mean is in {out}.")


@contextmanager
def _saying_how_to_go_on(job: str, state_dir: Path | None) -> Iterator[None]:
    """Tell who stops this inside a masking round, or lost the coordinator there, that the round is not lost."""
    try:
        yield
    except (KeyboardInterrupt, UnreachableError, ElsewhereError, BusyError):
        if state_dir is not None and (state_dir / f"{job}.journal").is_file():
            typer.echo(f"Stopped inside a round of job {job}. Run the same command again to go on with it.", err=True)
        raise


def _settings(config: Path | None, environment: dict[str, str]) -> ClientSettings:
    """Return the settings that hold: options, then the environment, then a file; raises :class:`ConfigError`."""
    from secagg.client.config import ClientSettings
    from secagg.config import load_settings

    path = DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.is_file() else config
    return load_settings(ClientSettings, path, ENV_PREFIX, environment=environment)


def _client(settings: ClientSettings) -> Client:
    """Return a client with these settings; :class:`CertificateError` when its certificate does not count now, or is no client's."""
    from secagg.client import Client
    from secagg.identity import Role
    from secagg.identity_keeper import followed

    return Client(
        settings.coordinator.address,
        coordinator=settings.coordinator.name,
        identity=followed(settings.identity, at=datetime.now(UTC), expect_role=Role.CLIENT),
        policy=settings.policy.policy(),
        spool_dir=settings.spool_dir,
        state_dir=settings.state_dir,
    )


def _given(
    coordinator: list[str] | None, identity: Path | None, holders: list[str] | None, state_dir: Path | None
) -> dict[str, str]:
    given = dict(os.environ)
    if coordinator:
        given[f"{ENV_PREFIX}COORDINATOR__ADDRESS"] = json.dumps(coordinator)
    for key, path in (("IDENTITY", identity), ("STATE_DIR", state_dir)):
        if path is not None:
            # As a person means it: from here, not from the directory of a file.
            given[f"{ENV_PREFIX}{key}"] = str(path.absolute())
    if holders:
        given[f"{ENV_PREFIX}POLICY__HOLDERS"] = json.dumps(holders)
    return given


@contextmanager
def _progress_bars() -> Iterator[Callable[[Progress], None]]:
    """Show one bar on a terminal, and anywhere else only what is out of the ordinary."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _say_note
        return
    with Bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task("waiting for a round", total=None)

        def show(progress: Progress) -> None:
            total = progress.total or None
            bars.update(task, description=_description(progress), completed=progress.done, total=total)

        yield show


def _say_note(progress: Progress) -> None:
    if progress.note:
        typer.echo(f"Waiting for a later round: {progress.note}.", err=True)


def _description(progress: Progress) -> str:
    from secagg.messages.round import Phase

    if not progress.round:
        return f"waiting for a later round: {progress.note}" if progress.note else "waiting for a round"
    what = {
        Phase.OPEN: "encrypting" if progress.done < progress.total else "waiting for the roster",
        Phase.SHARING: "sharing secrets with neighbours",
        Phase.UPLOADING: "uploading" if progress.done < progress.total else "waiting for the others",
        Phase.CONFIRMING: "confirming who is in the sum",
        Phase.UNMASKING: "taking the masks off the sum",
        Phase.APPROVING: "key holders check",
        Phase.DECRYPTING: "key holders open the sum",
        Phase.PUBLISHED: "published",
    }.get(progress.phase, progress.phase.value)
    return f"round {progress.round}: {what}"


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
