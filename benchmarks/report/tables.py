"""Measurements and comparisons of one record as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.records import Comparison, Measurement, Record
from benchmarks.report.figures import between, ratio, seconds, size, table, three_digits
from benchmarks.report.goals import FIGURES

COLUMNS = ("work", "case", "by", "cores", "repetitions", "median", "min – max", "peak memory", "bytes", "note")
TEXTS = 3
"""Columns on the left that hold no numbers."""


def measurements_table(measurements: Sequence[Measurement], repetitions: int) -> list[str]:
    """One line for each measurement, without columns that nobody fills; what all have in common stands above the table, once.

    Args:
        measurements: of one record.
        repetitions: the record's; who has another number of them says so in its line.
    """
    shared = common_case([one.case for one in measurements])
    notes = {one.note for one in measurements}
    rows = [_line(one, shared, repetitions) for one in measurements]
    kept = [place for place in range(len(COLUMNS)) if any(row[place] not in ("", "–") for row in rows)]
    lines = [f"In every line: {case_text(shared)}.", ""] if shared else []
    if len(notes) == 1 and notes != {""}:
        kept.remove(COLUMNS.index("note"))
        lines += [f"Of every line: {notes.pop().rstrip('.')}.", ""]
    texts = sum(place < TEXTS for place in kept)
    return lines + table([COLUMNS[place] for place in kept], [[row[place] for place in kept] for row in rows], texts)


def _line(one: Measurement, shared: Mapping[str, Any], repetitions: int) -> list[str]:
    own = {name: value for name, value in one.case.items() if name not in shared}
    low, high = one.spread
    timed = [seconds(one.median), f"{seconds(low)} – {seconds(high)}"] if one.seconds else ["–", "–"]
    cores = str(one.extra.get("cores", ""))
    times = "" if len(one.seconds) == repetitions else str(len(one.seconds))
    return [one.work, case_text(own), one.contestant, cores, times, *timed, size(one.peak_bytes), _wire(one), one.note]


def _wire(one: Measurement) -> str:
    """Bytes, and how many that is for each value of the vector."""
    values = one.case.get("values")
    if one.bytes is None or not values:
        return size(one.bytes)
    return f"{size(one.bytes)}, {three_digits(one.bytes / values)} a value"


def common_case(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several cases have in common; nothing of a single one, whose line may as well say it."""
    if len(cases) < 2:
        return {}
    first, *others = cases
    return {name: value for name, value in first.items() if all(name in one and one[name] == value for one in others)}


def case_text(case: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in case.items())


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def comparisons_table(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [
        [one.row, f"{one.ours} / {one.against}", FIGURES[one.figure], ratio(one.ratio), between(*one.spread)]
        for one in comparisons
    ]
    return table(["compared", "ours / theirs", "figure", "ratio", "lowest – highest"], rows, numbers_from=3)


def missing_lines(record: Record) -> list[str]:
    """Who could not be measured, and why."""
    return [f"- *{one.contestant}* was not measured: {one.reason}" for one in record.missing] + [""] * bool(
        record.missing
    )
