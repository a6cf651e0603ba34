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

_NEEDED = ("job", "purpose", "tensor", "min_contributors", "max_clients")
_ARMS = {
    "ckks": ("holder", "threshold", "corrupt_holders", "min_holders", "preset", "packing", "precision"),
    "masking": ("value_bits", "corrupt_fraction", "dropout_fraction", "precision"),
}
"""The options of each protocol. Only ckks has one that must be given: the key holders."""
_OPTIONS = frozenset(
    {*_NEEDED, *_ARMS["ckks"], *_ARMS["masking"], "protocol", "rounds", "clip", "max_weight", "min_total_weight"}
)


@app.command()
@friendly_errors
def create(  # noqa: PLR0913 - every option of a command is an argument
    *,
    file: Annotated[
        Path | None,
        typer.Option(help="TOML file as docs/samples/job.toml or job-masking.toml. With it, no option below counts."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="The job's name: a-z, 0-9 and -.")] = None,
    purpose: Annotated[str | None, typer.Option(help="What the data is used for.")] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:SHAPE:DTYPE", help="One array of an update, such as w:64x32:float32. Repeat it."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="ckks (key holders open the sum) or masking.", show_default="ckks")
    ] = None,
    min_contributors: Annotated[int | None, typer.Option(help="Fewest clients of a sum that is published.")] = None,
    max_clients: Annotated[int | None, typer.Option(help="Most clients of a round.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds to publish; 0 goes on without end.")] = None,
    clip: Annotated[float | None, typer.Option(help="Bound of each coordinate of an update.")] = None,
    max_weight: Annotated[float | None, typer.Option(help="Largest weight of one update.")] = None,
    min_total_weight: Annotated[float | None, typer.Option(help="Least total weight of a sum.")] = None,
    precision: Annotated[float | None, typer.Option(help="Largest error of the mean, in units of clip.")] = None,
    holder: Annotated[
        list[str] | None, typer.Option(help="ckks: a key holder's name. Repeat it, 3 to 9 times.")
    ] = None,
    threshold: Annotated[int | None, typer.Option(help="ckks: key holders that open a sum together.")] = None,
    corrupt_holders: Annotated[
        int | None, typer.Option(help="ckks: key holders that may be corrupt without harm.")
    ] = None,
    min_holders: Annotated[int | None, typer.Option(help="ckks: fewest key holders of a round.")] = None,
    preset: Annotated[str | None, typer.Option(help="ckks: ckks-4096 or ckks-8192.")] = None,
    packing: Annotated[str | None, typer.Option(help="ckks: coefficients; complex and real hide less.")] = None,
    value_bits: Annotated[int | None, typer.Option(help="masking: bits of a quantised value, 1 to 31.")] = None,
    corrupt_fraction: Annotated[
        float | None, typer.Option(help="masking: share of the clients that may be in league with the coordinator.")
    ] = None,
    dropout_fraction: Annotated[
        float | None, typer.Option(help="masking: share of the clients that may vanish without harm to a round.")
    ] = None,
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
    from secagg.job_file import job_of_values, parse_tensor

    protocol = _protocol_of(given)
    _check_given(given, protocol)
    tensors = [parse_tensor(text) for text in given.pop("tensor")]
    arm = {name: given.pop(name) for name in _ARMS[protocol] if name in given}
    if protocol == "ckks":
        arm["holders"] = arm.pop("holder")
    shapes = [{"name": one.name, "shape": one.shape, "dtype": one.dtype} for one in tensors]
    return job_of_values({**given, "tensors": shapes, protocol: arm})


def _protocol_of(given: dict[str, Any]) -> str:
    from secagg.errors import UsageError

    protocol = str(given.get("protocol", "ckks"))
    if protocol not in _ARMS:
        raise UsageError(f"--protocol {protocol[:80]!r} is none", next_step=f"Choose {' or '.join(_ARMS)}")
    return protocol


def _check_given(given: dict[str, Any], protocol: str) -> None:
    from secagg.errors import UsageError

    needed = (*_NEEDED, "holder") if protocol == "ckks" else _NEEDED
    missing = [_option(name) for name in needed if name not in given]
    if missing:
        advice = "Give it, or describe the job in a file: --file job.toml (docs/samples/job.toml)"
        raise UsageError(f"{' and '.join(missing)} must be given", next_step=advice)
    (other,) = set(_ARMS) - {protocol}
    foreign = [name for name in _ARMS[other] if name in given and name not in _ARMS[protocol]]
    if foreign:
        raise UsageError(
            f"{_option(foreign[0])} belongs to {other}, and the job's protocol is {protocol}",
            next_step=f"Leave it out, or give --protocol {other}",
        )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _json_of(status: JobStatus) -> dict[str, Any]:
    from secagg.cli.statuses import job_json

    return job_json(status)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
