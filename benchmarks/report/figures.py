"""Figures as a reader takes them in: three digits and a unit."""

import math
from collections.abc import Sequence


def three_digits(value: float) -> str:
    """Three significant digits, never fewer than the whole number has, and no exponent."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.2e}")))))
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    if value == 0:
        return "0 s"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{three_digits(value * factor)} {unit}"
    return f"{three_digits(value * 1e6)} µs"


def size(count: float | None) -> str:
    """Bytes, in powers of 1000; a dash for what was not counted."""
    if count is None:
        return "–"
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{three_digits(count / factor)} {unit}"
    return f"{count:,.0f} B"


def ratio(value: float) -> str:
    return f"{three_digits(value)} ×"


def between(low: float, high: float) -> str:
    return f"{three_digits(low)} – {three_digits(high)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> list[str]:
    """Markdown lines; columns from number `numbers_from` on are set to the right. Empty without rows."""
    if not rows:
        return []
    rule = [":--" if place < numbers_from else "--:" for place in range(len(head))]
    return [f"| {' | '.join(map(_cell, row))} |" for row in (head, rule, *rows)] + [""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
