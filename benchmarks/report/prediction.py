"""What `secagg plan` predicted, beside what was measured."""

from statistics import median
from typing import Any

from benchmarks.records import Measurement, Record
from benchmarks.report.figures import ratio, seconds, table
from benchmarks.report.tables import case_text

PREDICTED = "predicted_seconds"


def prediction_lines(record: Record) -> list[str]:
    head = ["work", "case", "predicted", "measured", "min – max", "predicted / measured"]
    rows = [_line(one) for one in record.measurements if one.extra.get(PREDICTED)]
    return table(head, rows, numbers_from=2)


def _line(one: Measurement) -> list[str]:
    told = predicted_seconds(one.extra[PREDICTED])
    low, high = one.spread
    measured = [seconds(one.median), f"{seconds(low)} – {seconds(high)}"]
    return [one.work, case_text(one.case), seconds(told), *measured, ratio(told / one.median)]


def predicted_seconds(told: Any) -> float:
    """One number, or one for each repetition."""
    return float(median(told)) if isinstance(told, list) else float(told)
