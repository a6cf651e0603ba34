"""``secagg demo``: a real training with every update hidden, on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from secagg.cli.errors import friendly_errors


@friendly_errors
def demo(  # noqa: PLR0913 - every option of a command is an argument
    *,
    protocol: Annotated[str, typer.Option(help="How updates are hidden: ckks (encrypted) or masking.")] = "ckks",
    clients: Annotated[int, typer.Option(help="Training clients.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 10,
    dropouts: Annotated[int, typer.Option(help="Clients that vanish in each round, after its roster is frozen.")] = 0,
    holders: Annotated[int | None, typer.Option(help="Key holders, 3 to 9. For ckks.", show_default="5")] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Key holders that open a sum together. For ckks.", show_default="3")
    ] = None,
    dead_holders: Annotated[
        int | None, typer.Option(help="Key holders that are killed after the first round. For ckks.", show_default="0")
    ] = None,
    seed: Annotated[int, typer.Option(help="Splits the data and starts the model; keys are always random.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Train a model on handwritten digits with every update hidden, beside the same training in the clear.

    Makes a CA, starts one coordinator, the clients, and for ckks the key holders, as processes, and leaves nothing behind.
    """
    from rich.console import Console

    from secagg.demo import report, run
    from secagg.demo.options import DemoOptions, protocol_options
    from secagg.demo.words import words_for

    options = DemoOptions(
        protocol=protocol_options(protocol, holders=holders, threshold=threshold, dead_holders=dead_holders),
        clients=clients,
        rounds=rounds,
        dropouts=dropouts,
        seed=seed,
    )
    if json_file is not None:
        report.check_writable(json_file)
    console = Console()
    signal.signal(signal.SIGTERM, _interrupted)
    with run.running(options) as running:
        report.say_beginning(console, options, running.spec, [len(share) for share in running.examples])
        words, reports = words_for(options, running.spec), []
        for one in running.rounds():
            reports.append(one)
            report.say_round(console, words, one)
    report.say_end(console, words, reports)
    if json_file is not None:
        report.write_summary(json_file, report.summary(options, running.spec, reports))


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
