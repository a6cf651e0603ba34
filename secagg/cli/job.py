"""``secagg job``: what is added up, by whom, and who opens the sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secagg.cli.errors import friendly_errors
from secagg.cli.operator_access import AsJson, Config, Coordinator, Identity, JobArgument, operator_client

if TYPE_CHECKING:
    from secagg.messages.job import JobStatus
    from secagg.plan import JobSpec

app = typer.Typer(
    no_args_is_help=True, help="Make jobs and show them. A job says what is added up, by whom, and who opens the sum."
)

_CKKS = ("threshold", "corrupt_holders", "min_holders", "preset", "precision")
_NEEDED = ("job", "purpose", "tensor", "holder", "min_contributors", "max_clients")


@app.command()
@friendly_errors
def create(  # noqa: PLR0913 - every option of a command is an argument
    *,
    file: Annotated[
        Path | None, typer.Option(help="TOML file as docs/samples/job.toml. With it, no option below counts.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="The job's name: a-z, 0-9 and -.")] = None,
    purpose: Annotated[str | None, typer.Option(help="What the data is used for.")] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:SHAPE:DTYPE", help="One array of an update, such as w:64x32:float32. Repeat it."),
    ] = None,
    holder: Annotated[list[str] | None, typer.Option(help="A key holder's name. Repeat it, 3 to 9 times.")] = None,
    min_contributors: Annotated[int | None, typer.Option(help="Fewest clients of a sum that is published.")] = None,
    max_clients: Annotated[int | None, typer.Option(help="Most clients of a round.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds to publish; 0 goes on without end.")] = None,
    clip: Annotated[float | None, typer.Option(help="Bound of each coordinate of an update.")] = None,
    max_weight: Annotated[float | None, typer.Option(help="Largest weight of one update.")] = None,
    min_total_weight: Annotated[float | None, typer.Option(help="Least total weight of a sum.")] = None,
    threshold: Annotated[int | None, typer.Option(help="Key holders that open a sum together.")] = None,
    corrupt_holders: Annotated[int | None, typer.Option(help="Key holders that may be corrupt without harm.")] = None,
    min_holders: Annotated[int | None, typer.Option(help="Fewest key holders of a round.")] = None,
    preset: Annotated[str | None, typer.Option(help="ckks-4096 or ckks-8192.")] = None,
    precision: Annotated[float | None, typer.Option(help="Largest error of the mean, in units of clip.")] = None,
    config: Config = None,
    coordinator: Coordinator = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Make a job from a file or from options; its rounds begin at once.

    The job is proven here before it is sent: what cannot work is refused with the number to change.
    """
    given = {name: value for name, value in locals().items() if name in _OPTIONS and value not in (None, [])}
    spec = _spec(file, given)
    with operator_client(config, coordinator, identity) as client:
        status = client.create_job(spec)
    if as_json:
        _print_json(_json_of(status))
    else:
        typer.echo(
            f"Job {status.spec.job} is {status.state.value}: {spec.values:,} values in {len(spec.tensors)} tensors."
        )
        typer.echo(f"Next: `secagg round watch {status.spec.job}`.")


_OPTIONS = frozenset({*_NEEDED, *_CKKS, "rounds", "clip", "max_weight", "min_total_weight"})


@app.command("list")
@friendly_errors
def list_jobs(
    config: Config = None, coordinator: Coordinator = None, identity: Identity = None, as_json: AsJson = False
) -> None:
    """List all jobs."""
    with operator_client(config, coordinator, identity) as client:
        jobs = list(client.jobs())
    if as_json:
        _print_json([_json_of(status) for status in jobs])
        return
    from rich.console import Console

    from secagg.cli.statuses import jobs_table

    Console().print(jobs_table(jobs) if jobs else "There is no job yet. Next: `secagg job create --file job.toml`.")


@app.command()
@friendly_errors
def show(
    job: JobArgument,
    config: Config = None,
    coordinator: Coordinator = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Show everything of one job."""
    from secagg.ids import JobId

    with operator_client(config, coordinator, identity) as client:
        status = client.get_job(JobId(job))
    if as_json:
        _print_json(_json_of(status))
        return
    from rich.console import Console

    from secagg.cli.statuses import job_table

    Console().print(job_table(status))


def _spec(file: Path | None, given: dict[str, Any]) -> JobSpec:
    from secagg.errors import UsageError
    from secagg.job_file import load_job

    if file is None:
        return _spec_of_options(given)
    if given:
        advice = "Write it into the file, or leave out --file"
        raise UsageError(
            f"--file says everything, so {_option(next(iter(given)))} cannot stand beside it", next_step=advice
        )
    return load_job(file)


def _spec_of_options(given: dict[str, Any]) -> JobSpec:
    from secagg.errors import UsageError
    from secagg.job_file import job_of_values, parse_tensor

    missing = [_option(name) for name in _NEEDED if name not in given]
    if missing:
        advice = "Give it, or describe the job in a file: --file job.toml (docs/samples/job.toml)"
        raise UsageError(f"{' and '.join(missing)} must be given", next_step=advice)
    tensors = [parse_tensor(text) for text in given.pop("tensor")]
    ckks = {name: given.pop(name) for name in _CKKS if name in given}
    ckks["holders"] = given.pop("holder")
    shapes = [{"name": one.name, "shape": one.shape, "dtype": one.dtype} for one in tensors]
    return job_of_values({**given, "tensors": shapes, "ckks": ckks})


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _json_of(status: JobStatus) -> dict[str, Any]:
    from secagg.cli.statuses import job_json

    return job_json(status)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
