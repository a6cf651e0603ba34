"""``secagg round``: where rounds stand and how they ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli.errors import friendly_errors
from secagg.cli.operator_access import AsJson, Config, Coordinator, Identity, JobArgument, operator_client

if TYPE_CHECKING:
    from secagg.messages.round import RoundStatus

app = typer.Typer(no_args_is_help=True, help="Show the rounds of a job and watch them run.")

RoundArgument = Annotated[int, typer.Argument(metavar="[ROUND]", min=0, help="The round's number; 0 is the newest.")]


@app.command("list")
@friendly_errors
def list_rounds(
    job: JobArgument,
    after: Annotated[int, typer.Option(min=0, help="List only rounds above this number.")] = 0,
    config: Config = None,
    coordinator: Coordinator = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """List the rounds of a job."""
    from secagg.ids import JobId

    with operator_client(config, coordinator, identity) as client:
        rounds = list(client.rounds(JobId(job), after=after))
    from secagg.cli.statuses import round_json, rounds_table

    if as_json:
        typer.echo(json.dumps([round_json(status) for status in rounds], indent=2))
        return
    from rich.console import Console

    Console().print(
        rounds_table(rounds) if rounds else f"Job {job} has no round yet. Next: `secagg round watch {job}`."
    )


@app.command()
@friendly_errors
def show(
    job: JobArgument,
    number: RoundArgument = 0,
    config: Config = None,
    coordinator: Coordinator = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Show everything of one round: counts, times, and in ckks what is known of each key holder."""
    from secagg.ids import JobId, RoundNumber

    with operator_client(config, coordinator, identity) as client:
        status = client.get_round(JobId(job), RoundNumber(number))
    from secagg.cli.statuses import round_json, round_table

    if as_json:
        typer.echo(json.dumps(round_json(status), indent=2))
        return
    from rich.console import Console

    Console().print(round_table(status))


@app.command()
@friendly_errors
def watch(
    job: JobArgument,
    number: RoundArgument = 0,
    config: Config = None,
    coordinator: Coordinator = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Follow a round until it ends; without a number, every round until the job is complete.

    Fails when the round that was asked for is aborted. With --json, one object a line.
    """
    from secagg.errors import RoundAbortedError
    from secagg.ids import JobId, RoundNumber
    from secagg.messages.round import Phase

    with operator_client(config, coordinator, identity) as client:
        last = _follow(client.watch_rounds(JobId(job), RoundNumber(number)), as_json=as_json)
    if number and last is not None and last.phase is Phase.ABORTED:
        raise RoundAbortedError(last.reason)


def _follow(statuses: Iterator[RoundStatus], *, as_json: bool) -> RoundStatus | None:
    last = None
    for last in _printed(statuses) if as_json else _shown(statuses):  # noqa: B007 - the last one is the answer
        pass
    return last


def _printed(statuses: Iterator[RoundStatus]) -> Iterator[RoundStatus]:
    from secagg.cli.statuses import round_json

    for status in statuses:
        typer.echo(json.dumps(round_json(status)))
        yield status


def _shown(statuses: Iterator[RoundStatus]) -> Iterator[RoundStatus]:
    """Keep a line for how each phase began and one for how it ended; what changes on the way moves on the last line of a terminal."""
    from rich.console import Console
    from rich.text import Text

    from secagg.cli.statuses import round_line

    console, shown, line, before = Console(), "", "", None
    with console.status("waiting for a round") as moving:
        for status in statuses:
            changed = before != (status.round, status.phase)
            if changed and line != shown:
                console.print(Text(line), soft_wrap=True)
            line, before = round_line(status), (status.round, status.phase)
            moving.update(Text(line))
            if changed:
                console.print(Text(line), soft_wrap=True)
                shown = line
            yield status
