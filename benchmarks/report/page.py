"""The report: one page of Markdown and its plots, from nothing but records."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.records import Record
from benchmarks.report.drawings import draw_all
from benchmarks.report.figures import seconds, table
from benchmarks.report.goals import OF_NEIGHBOURS, goals_table, round_words
from benchmarks.report.origin import origin_lines
from benchmarks.report.prediction import PREDICTED, prediction_lines
from benchmarks.report.profile import phases_of, profile_lines
from benchmarks.report.tables import case_text, comparisons_table, measurements_table, missing_lines

PAGE, FOLDER = "performance.md", "performance"
ORDER = (
    "encryption",
    "addition",
    "opening",
    "masking",
    "unmasking",
    "round",
    "growth",
    "startup",
    "memory",
    "planner",
    "lattice",
    "profile",
)
PLOTS = {
    "encryption": [("encryption.svg", "Seconds to encrypt and serialise against the length of the vector")],
    "unmasking": [("unmasking.svg", "Seconds from masked vectors to the sum, by drop-outs")],
    "growth": [
        ("growth.svg", "Seconds of a whole round against the number of clients, and against the length of the vector"),
        ("growth-memory.svg", "Peak memory of the coordinator, or of the peer's server, against the same"),
    ],
    "profile": [("profile.svg", "Shares of the stages in the time of each path")],
}
OPENING = """# Performance

Made by `make bench-report` from what `make bench` wrote to `benchmarks/results/`; do not edit. We and the peers run in the same run,
in turns, each in a process of its own, on one core; whole rounds, their growth, the services' memory and what the planner predicts
use all cores, and so do our client's way into its spool, where the line says it, and gRPC over the loopback. Times are medians over
the repetitions; a ratio is the median of the ratios of paired repetitions, ours divided by theirs, with the lowest and the highest
beside it: below 1 we are faster or smaller. A bound is judged on 5 repetitions or more. Peak memory is `VmHWM` of the process, its
imports and what it was prepared with included, but counted only since the preparation ended; that of a service, and of a process of
clients, since it started. Quote ratios, not seconds: seconds are this machine's.
"""


def read_records(directory: Path) -> dict[str, Record]:
    """Return the records by question, in the order of the page. Raises as `Record.read` does on a file that is none."""
    found = {record.question: record for record in map(Record.read, sorted(directory.glob("*.json")))}
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(question: str) -> tuple[int, str]:
    return (ORDER.index(question) if question in ORDER else len(ORDER)), question


def write_report(results: Path, docs: Path) -> list[Path]:
    """Write the page and its plots below `docs`; return what was written. A plot that is drawn no more is deleted."""
    records = read_records(results)
    drawn = draw_all(records)
    plots = docs / FOLDER
    plots.mkdir(parents=True, exist_ok=True)
    for old in sorted(plots.glob("*.svg")):
        if old.name not in drawn:
            old.unlink()
    texts = {docs / PAGE: page(records, drawn)} | {plots / name: text for name, text in drawn.items()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts]


def page(records: Mapping[str, Record], drawn: Mapping[str, str]) -> str:
    lines = [
        OPENING,
        *_quick_warning(records),
        "## What we hold ourselves to",
        "",
        *goals_table(records),
        OF_NEIGHBOURS,
        "",
        *round_words(records),
    ]
    lines += _picture("goals.svg", "Every ratio as a part of the most that is allowed", drawn)
    for record in records.values():
        lines += [f"## {record.title}", "", *_section(record, records, drawn)]
    lines += ["## Where the figures come from", "", *origin_lines([*records.values()])]
    return "\n".join(lines).rstrip() + "\n"


def _quick_warning(records: Mapping[str, Record]) -> list[str]:
    quick = [name for name, record in records.items() if record.quick]
    return [f"**Quick runs, whose figures mean nothing: {', '.join(quick)}.**", ""] if quick else []


def _section(record: Record, records: Mapping[str, Record], drawn: Mapping[str, str]) -> list[str]:
    lines = [line for picture in PLOTS.get(record.question, ()) for line in _picture(*picture, drawn)]
    if record.question == "profile":
        return lines + profile_lines(record, records.get("round")) + missing_lines(record)
    lines += missing_lines(record) + comparisons_table(record.comparisons)
    lines += prediction_lines(record)
    others = [one for one in record.measurements if not one.extra.get(PREDICTED)]
    return lines + measurements_table(others, record.repetitions) + _phases(record)


def _phases(record: Record) -> list[str]:
    rows = [
        [
            one.work,
            case_text(one.case),
            one.contestant,
            "; ".join(f"{phase}: {seconds(took)}" for phase, took in told.items()),
        ]
        for one in record.measurements
        if (told := phases_of(one))
    ]
    return table(["work", "case", "by", "of that, medians of its phases"], rows, numbers_from=4)


def _picture(name: str, text: str, drawn: Mapping[str, str]) -> list[str]:
    return [f"![{text}]({FOLDER}/{name})", ""] if name in drawn else []
