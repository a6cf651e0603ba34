"""``secagg plan``: what a round will cost, before a job asks for it. Needs no service and no certificate."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from secagg.cli.errors import FAILED_EXIT_CODE, friendly_errors, show_error
from secagg.cli.operator_access import AsJson
from secagg.cli.plan_options import (
    CalibrationFile,
    Clients,
    Clip,
    Corrupt,
    Dropout,
    Dtype,
    HolderLink,
    Holders,
    Least,
    Memory,
    Packing,
    Precision,
    Preset,
    Threshold,
    Uplink,
    Uploading,
    ValueBits,
    Values,
)

if TYPE_CHECKING:
    from secagg.planning.calibration import Calibration
    from secagg.planning.forecast import Ckks, Forecast
    from secagg.planning.question import Question

app = typer.Typer(no_args_is_help=True, help="Work out what a round costs before a job asks for it.")

DEFAULT_DTYPE: Final = "float32"
BUSY: Final = 1.7
"""Seconds on the wall for each of this process's, from which on others had the cores."""
_GIBIBYTE: Final = 1024**3


@app.command()
@friendly_errors
def ckks(  # noqa: PLR0913, PLR0917 - one for each option
    clients: Clients,
    values: Values,
    corrupt: Corrupt = 0.05,
    dropout: Dropout = 0.1,
    min_contributors: Least = None,
    holders: Holders = 5,
    threshold: Threshold = 3,
    preset: Preset = "ckks-4096",
    packing: Packing = None,
    clip: Clip = 1.0,
    precision: Precision = None,
    uplink: Uplink = None,
    holder_link: HolderLink = None,
    uploading_seconds: Uploading = 600.0,
    dtype: Dtype = DEFAULT_DTYPE,
    memory: Memory = None,
    calibration: CalibrationFile = None,
    as_json: AsJson = False,
) -> None:
    """Show bytes, seconds, memory, error and smudging of a ckks round, and which limit comes first."""
    from secagg.cli.plan_tables import ckks_table
    from secagg.planning.figures import ckks_figures, with_calibration

    question = _question(
        clients=clients,
        values=values,
        corrupt=corrupt,
        dropout=dropout,
        min_contributors=min_contributors,
        clip=clip,
        precision=precision,
        uplink_mbit=uplink,
        holder_link_mbit=holder_link,
        uploading_seconds=uploading_seconds,
        dtype=dtype,
    )
    source = _Source(calibration, memory)
    forecast = source.ckks(question, _setup(holders, threshold, preset, packing))
    figures = with_calibration(ckks_figures(question, forecast), source.path, source.calibration)
    _show(figures, ckks_table, as_json=as_json)
    _refuse_what_does_not_fit(forecast)


@app.command()
@friendly_errors
def masking(  # noqa: PLR0913, PLR0917 - one for each option
    clients: Clients,
    values: Values,
    corrupt: Corrupt = 0.05,
    dropout: Dropout = 0.1,
    min_contributors: Least = None,
    value_bits: ValueBits = None,
    clip: Clip = 1.0,
    precision: Precision = None,
    uplink: Uplink = None,
    uploading_seconds: Uploading = 600.0,
    dtype: Dtype = DEFAULT_DTYPE,
    memory: Memory = None,
    calibration: CalibrationFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the neighbours, thresholds, bits, bytes, seconds and memory of a masking round, and that no sum overflows."""
    from secagg.cli.plan_tables import masking_table
    from secagg.planning.figures import masking_figures, with_calibration

    question = _question(
        clients=clients,
        values=values,
        corrupt=corrupt,
        dropout=dropout,
        min_contributors=min_contributors,
        clip=clip,
        precision=precision,
        uplink_mbit=uplink,
        uploading_seconds=uploading_seconds,
        dtype=dtype,
    )
    source = _Source(calibration, memory)
    forecast = source.masking(question, value_bits)
    figures = with_calibration(masking_figures(question, forecast), source.path, source.calibration)
    _show(figures, masking_table, as_json=as_json)
    _refuse_what_does_not_fit(forecast)


@app.command()
@friendly_errors
def compare(  # noqa: PLR0913, PLR0917 - one for each option
    clients: Clients,
    values: Values,
    corrupt: Corrupt = 0.05,
    dropout: Dropout = 0.1,
    min_contributors: Least = None,
    holders: Holders = 5,
    threshold: Threshold = 3,
    preset: Preset = "ckks-4096",
    packing: Packing = None,
    value_bits: ValueBits = None,
    clip: Clip = 1.0,
    precision: Precision = None,
    uplink: Uplink = None,
    holder_link: HolderLink = None,
    uploading_seconds: Uploading = 600.0,
    dtype: Dtype = DEFAULT_DTYPE,
    memory: Memory = None,
    clients_leave: Annotated[
        bool, typer.Option("--clients-leave", help="Clients cannot stay online until the round ends.")
    ] = False,
    calibration: CalibrationFile = None,
    as_json: AsJson = False,
) -> None:
    """Show both protocols side by side, and recommend one with the reason."""
    from secagg.cli.plan_tables import choice_table
    from secagg.errors import PlanError
    from secagg.planning.choice import attempt, choose
    from secagg.planning.figures import choice_figures, with_calibration

    question = _question(
        clients=clients,
        values=values,
        corrupt=corrupt,
        dropout=dropout,
        min_contributors=min_contributors,
        clip=clip,
        precision=precision,
        uplink_mbit=uplink,
        holder_link_mbit=holder_link,
        uploading_seconds=uploading_seconds,
        dtype=dtype,
    )
    source, setup = _Source(calibration, memory), _setup(holders, threshold, preset, packing)
    found = {
        "ckks": attempt(lambda: source.ckks(question, setup)),
        "masking": attempt(lambda: source.masking(question, value_bits)),
    }
    choice = choose(found, clients_leave=clients_leave)
    if not choice.forecasts:
        raise PlanError(choice.reason)
    figures = with_calibration(choice_figures(question, choice), source.path, source.calibration)
    _show(figures, choice_table, as_json=as_json)
    if choice.recommended is None:
        _fail(choice.reason)


@app.command()
@friendly_errors
def calibrate(calibration: CalibrationFile = None, as_json: AsJson = False) -> None:
    """Measure in some ten seconds what this machine takes for each piece of work, and keep it for the other commands."""
    from dataclasses import asdict

    # Before numpy is loaded. The product's own threads work side by side: more of BLAS in each of them only get in one another's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from secagg.planning.calibration import default_path, prepare_directory, save
    from secagg.planning.measuring import measure

    path = default_path() if calibration is None else calibration
    prepare_directory(path)
    begun, spent = time.perf_counter(), time.process_time()
    measured = measure(path.parent, lambda what: typer.echo(f"measuring {what}", err=True))
    if time.perf_counter() - begun > BUSY * (time.process_time() - spent):
        typer.echo("this machine was busy: seconds may be too long, so calibrate again when it is quiet", err=True)
    save(measured, path)
    if as_json:
        typer.echo(json.dumps({"calibration": str(path), **asdict(measured)}, indent=2, default=str))
    else:
        typer.echo(f"measured on {measured.machine.cpu}, {measured.machine.cores} cores; kept in {path}")


class _Source:
    """Where seconds and the coordinator's memory come from."""

    def __init__(self, calibration: Path | None, memory_gib: float | None) -> None:
        from secagg.plan_checks import require_positive
        from secagg.planning.calibration import default_path, load

        self.path = default_path() if calibration is None else calibration
        self.calibration: Calibration | None = load(self.path)
        if calibration is not None and self.calibration is None:
            _refuse_missing(self.path)
        if memory_gib is not None:
            require_positive(memory_gib, "memory")
        self._memory = _memory_here() if memory_gib is None else int(memory_gib * _GIBIBYTE)

    def ckks(self, question: Question, setup: Ckks) -> Forecast:
        from secagg.planning.forecast import forecast_ckks

        return forecast_ckks(question, setup, calibration=self.calibration, memory_there=self._memory)

    def masking(self, question: Question, value_bits: int | None) -> Forecast:
        from secagg.masking.parameters import DEFAULT_VALUE_BITS
        from secagg.planning.forecast import forecast_masking

        bits = DEFAULT_VALUE_BITS if value_bits is None else value_bits
        return forecast_masking(question, value_bits=bits, calibration=self.calibration, memory_there=self._memory)


def _question(**given: Any) -> Question:
    from secagg.planning.question import Question

    return Question(**given)


def _setup(holders: int, threshold: int, preset: str, packing: str | None) -> Ckks:
    from secagg.plan import CkksJob
    from secagg.planning.forecast import Ckks

    return Ckks(
        holders=holders, threshold=threshold, preset=preset, packing=CkksJob.packing if packing is None else packing
    )


def _memory_here() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _refuse_missing(path: Path) -> None:
    from secagg.errors import ConfigError

    raise ConfigError(
        f"there is no calibration {path}", next_step="Make it: `secagg plan calibrate --calibration FILE`"
    )


def _show(figures: dict[str, Any], table: Callable[[dict[str, Any]], Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    from rich.console import Console

    Console().print(table(figures))


def _refuse_what_does_not_fit(forecast: Forecast) -> None:
    if not forecast.first_limit.holds:
        _fail(forecast.first_limit.sentence, forecast.first_limit.advice)


def _fail(reason: str, advice: str | None = None) -> None:
    """Say why the plan that was shown does not hold, and end as a refused one does."""
    from secagg.errors import PlanError

    show_error(PlanError(reason, next_step=advice))
    raise typer.Exit(FAILED_EXIT_CODE)
