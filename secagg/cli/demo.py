"""``secagg demo``: a real training with every update encrypted, on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from secagg.cli.errors import friendly_errors


@friendly_errors
def demo(
    clients: Annotated[int, typer.Option(help="Training clients.")] = 8,
    holders: Annotated[int, typer.Option(help="Key holders, 3 to 9.")] = 5,
    threshold: Annotated[int, typer.Option(help="Key holders that open a sum together.")] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 10,
    dropouts: Annotated[int, typer.Option(help="Clients that vanish in each round, after its roster is frozen.")] = 0,
    dead_holders: Annotated[int, typer.Option(help="Key holders that are killed after the first round.")] = 0,
    seed: Annotated[int, typer.Option(help="Splits the data and starts the model; keys are always random.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Train a model on handwritten digits with every update encrypted, beside the same training in the clear.

    Makes a CA, starts one coordinator, the key holders and the clients as processes on this machine, and leaves nothing behind.
    """
    from rich.console import Console

    from secagg.demo import report, run
    from secagg.demo.options import DemoOptions

    options = DemoOptions(
        clients=clients,
        holders=holders,
        threshold=threshold,
        rounds=rounds,
        dropouts=dropouts,
        dead_holders=dead_holders,
        seed=seed,
    )
    if json_file is not None:
        report.check_writable(json_file)
    console = Console()
    signal.signal(signal.SIGTERM, _interrupted)
    with run.running(options) as running:
        report.say_beginning(console, options, running.spec, [len(share) for share in running.examples])
        reports = []
        for one in running.rounds():
            reports.append(one)
            report.say_round(console, one)
    report.say_end(console, options, reports)
    if json_file is not None:
        report.write_summary(json_file, report.summary(options, running.spec, reports))


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
