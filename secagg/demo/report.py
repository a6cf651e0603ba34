"""What the demo prints: a line for each round as it ends, then who could see what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from secagg.demo.options import CLIP, DemoOptions
from secagg.demo.run import RoundReport
from secagg.demo.words import Words, words_for
from secagg.errors import UsageError
from secagg.messages.round import HolderVerdict
from secagg.plan import JobSpec

LARGEST_DIFFERENCE = 1e-4 * CLIP
_TITLES = f"{'round':>5} {'secure':>7} {'plain':>7} {'difference':>10} {'bytes/value':>11} {'in sum':>6}  seconds"


def say_beginning(console: Console, options: DemoOptions, spec: JobSpec, examples: list[int]) -> None:
    """Say what runs, before the first round."""
    console.print(
        f"[bold]{options.clients} clients[/] train one network of {spec.values:,} values on handwritten digits, "
        f"each on its own share ({min(examples)} to {max(examples)} scans, different digits).\n"
        f"{words_for(options, spec).how}\n{_vanishing(options)}"
        f"All of it in {options.processes} processes on this machine, over gRPC with certificates on both sides.\n"
    )
    console.print(_TITLES, style="bold", highlight=False, soft_wrap=True)


def _vanishing(options: DemoOptions) -> str:
    if not options.dropouts:
        return ""
    return f"[bold]{options.dropouts} of them[/] vanish in each round when they should upload, and come back for the next.\n"


def say_round(console: Console, words: Words, report: RoundReport) -> None:
    """Print one line for a published round, and a word on key holders that were missing."""
    phases = " ".join(f"{name} {report.phase_seconds.get(phase, 0.0):.1f}" for phase, name in words.phases.items())
    console.print(
        f"{report.index + 1:>5} {report.accuracy_secure:>7.1%} {report.accuracy_plain:>7.1%} {report.difference:>10.1e} "
        f"{report.bytes_per_value:>11.1f} {len(report.contributors):>6}  {phases}",
        highlight=False,
        soft_wrap=True,
    )
    missing = [
        f"{one.holder} {one.verdict.value}" for one in report.status.holders if one.verdict is not HolderVerdict.OK
    ]
    if missing:
        console.print(f"      key holders: {', '.join(missing)}", style="yellow", highlight=False)


def say_end(console: Console, words: Words, reports: list[RoundReport]) -> None:
    """Say whether secure equals plain, then who could see what."""
    last = reports[-1]
    worst = max(report.difference for report in reports)
    console.print(
        f"\nAfter {len(reports)} rounds: {last.accuracy_secure:.1%} of unseen digits found with {words.adjective} updates, "
        f"{last.accuracy_plain:.1%} with plain ones. Largest difference of any averaged weight: {worst:.1e} "
        f"({worst / CLIP:.1e} of the clip bound).\n",
        highlight=False,
    )
    table = Table(title="Who could see what", title_justify="left")
    for column in ("party", "saw", "could not see"):
        table.add_column(column)
    for row in words.saw:
        table.add_row(*row)
    console.print(table)
    console.print(f"What this does not cover ({words.uncovered}) stands in docs/threat-model.md.", highlight=False)


def summary(options: DemoOptions, spec: JobSpec, reports: list[RoundReport]) -> dict[str, Any]:
    """Return what ``--json`` writes."""
    last = reports[-1]
    return {
        "protocol": options.protocol.NAME,
        "clients": options.clients,
        **options.protocol.figures(spec),
        "min_contributors": spec.min_contributors,
        "dropouts": options.dropouts,
        "seed": options.seed,
        "rounds": len(reports),
        "values": spec.values,
        "max_error": max(report.difference for report in reports),
        "bytes_per_value": last.bytes_per_value,
        "seconds_per_round": sum(report.seconds for report in reports) / len(reports),
        "accuracy_secure": last.accuracy_secure,
        "accuracy_plain": last.accuracy_plain,
        "by_round": [_by_round(options, report) for report in reports],
    }


def _by_round(options: DemoOptions, report: RoundReport) -> dict[str, Any]:
    return {
        "round": report.status.round,
        "accuracy_secure": report.accuracy_secure,
        "accuracy_plain": report.accuracy_plain,
        "difference": report.difference,
        "contributors": list(report.contributors),
        **options.protocol.round_figures(report.status),
        "seconds": {phase.value: seconds for phase, seconds in report.phase_seconds.items()},
    }


def check_writable(path: Path) -> None:
    """Raise :class:`UsageError` now rather than after two minutes."""
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written: {error.strerror}") from None


def write_summary(path: Path, content: dict[str, Any]) -> None:
    """Write the summary as JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")
