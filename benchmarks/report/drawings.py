"""What is drawn, each from records alone; a drawing whose figures are not there is left out."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.records import Measurement, Record
from benchmarks.report.canvas import FAILED, MARKERS, OTHERS, OURS, REST_COLOUR, blank, colours, drawing, svg
from benchmarks.report.curves import Curve, curves
from benchmarks.report.figures import seconds, three_digits
from benchmarks.report.goals import FIGURES, Verdict, verdicts
from benchmarks.report.profile import REST, Path, paths_of

Records = Mapping[str, Record]
LABELLED_PERCENT = 9.0
LABELLED_CHARACTERS_PER_PERCENT = 0.75
"""What fits into a stage's part of a bar."""
VERDICT_COLOURS = {True: OURS, False: FAILED, None: REST_COLOUR}
LEAST_GAP = 0.08
"""Between two labels, as a part of the axis."""


def draw_all(records: Records) -> dict[str, str]:
    """Return SVG text by file name."""
    with drawing():
        drawn = {name: draw(records) for name, draw in DRAWINGS.items()}
    return {name: text for name, text in drawn.items() if text is not None}


def _goals(records: Records) -> str | None:
    """Every figure as a part of what is allowed: a bar that ends before 100 % held; a grey one is not judged."""
    found = [one for one in verdicts(records) if one.found is not None][::-1]
    if not found:
        return None
    figure, (axes,) = blank(8, 0.8 + 0.36 * len(found))
    for place, one in enumerate(found):
        axes.barh(place, _percent(one), height=0.6, color=VERDICT_COLOURS[one.found.held if one.found else None])
    axes.axvline(100, color="black", linewidth=1.5)
    axes.set_yticks(range(len(found)), [f"{one.goal.short}, {FIGURES[one.figure]}" for one in found])
    axes.set_xlabel("measured ratio in % of the most that is allowed (line)")
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.6, len(found) - 0.4)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(found)), [_numbers(one) for one in found])
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    return svg(figure)


def _percent(verdict: Verdict) -> float:
    return 100 * verdict.found.ratio / verdict.at_most if verdict.found else 0.0


def _numbers(verdict: Verdict) -> str:
    return f"{three_digits(verdict.found.ratio)} of {verdict.at_most:g}" if verdict.found else ""


class Quantity(NamedTuple):
    """What stands at the left of a plot."""

    label: str
    of: Callable[[Measurement], float | None]


SECONDS = Quantity("seconds, median", lambda one: one.median)
PEAK = Quantity("peak memory, MB", lambda one: one.peak_bytes and one.peak_bytes / 1e6)


def _along(question: str, panels: Mapping[str, str], left: Quantity = SECONDS) -> Callable[[Records], str | None]:
    """A quantity along some numbers of the case, one panel for each."""

    def draw(records: Records) -> str | None:
        measurements = records[question].measurements if question in records else ()
        found = {label: curves(measurements, number, left.of) for number, label in panels.items()}
        found = {label: some for label, some in found.items() if some}
        if not found:
            return None
        figure, axes = blank(4.4 * len(found), 3.4, len(found))
        for one, (label, some) in zip(axes, found.items(), strict=True):
            _lines(one, some, label, left)
        return svg(figure)

    return draw


def _lines(axes: Axes, found: Sequence[Curve], label: str, left: Quantity) -> None:
    palette = colours([curve.name for curve in found])
    for curve, marker in zip(found, MARKERS * (1 + len(found) // len(MARKERS)), strict=False):
        axes.plot(curve.x, curve.y, marker=marker, markersize=4, color=palette[curve.name], label=curve.name)
    if left is SECONDS:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=0)
    along = sorted({x for curve in found for x in curve.x})
    # A logarithmic axis has no place for 0 drop-outs.
    logarithmic = along[0] > 0
    axes.set(xlabel=label, ylabel=left.label, xscale="log" if logarithmic else "linear")
    ticks = apart(along, logarithmic=logarithmic)
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def apart(values: Sequence[float], *, logarithmic: bool) -> list[float]:
    """Those of ascending numbers whose labels do not run into one another, from the left."""
    places = [math.log(value) if logarithmic else value for value in values]
    least = (places[-1] - places[0]) * LEAST_GAP
    kept = [0]
    for number in range(1, len(values)):
        if places[number] - places[kept[-1]] >= least:
            kept.append(number)
    return [values[number] for number in kept]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _profile(records: Records) -> str | None:
    paths = paths_of(records["profile"])[::-1] if "profile" in records else []
    if not paths:
        return None
    figure, (axes,) = blank(9, 0.9 + 0.5 * len(paths))
    for place, path in enumerate(paths):
        _stacked(axes, place, path)
    axes.set_yticks(range(len(paths)), [f"{path.name}\n{seconds(path.whole)}" for path in paths])
    axes.set_xlabel("share of the path's time, % (black line: what its nearest limit alone takes; grey: in no stage)")
    axes.set_xlim(0, 101)
    axes.grid(visible=False)
    return svg(figure)


def _stacked(axes: Axes, place: int, path: Path) -> None:
    start = 0.0
    for number, (stage, share) in enumerate(path.shares.items()):
        colour = REST_COLOUR if stage == REST else (OURS, *OTHERS)[number % (1 + len(OTHERS))]
        axes.barh(place, share, left=start, height=0.6, color=colour, edgecolor="white")
        if share >= max(LABELLED_PERCENT, len(stage) * LABELLED_CHARACTERS_PER_PERCENT):
            axes.text(start + share / 2, place, stage, ha="center", va="center", color="white", fontsize=7)
        start += share
    if path.nearest is not None:
        limit = min(100.0, 100 * path.nearest.median / path.whole)
        axes.plot([limit, limit], [place - 0.4, place + 0.4], color="black", linewidth=2)


GROWTH = {"clients": "clients", "values": "values in the vector"}
DRAWINGS: Mapping[str, Callable[[Records], str | None]] = {
    "goals.svg": _goals,
    "encryption.svg": _along("encryption", {"values": "values in the vector"}),
    "unmasking.svg": _along("unmasking", {"dropped": "clients that drop out"}),
    "growth.svg": _along("growth", GROWTH),
    "growth-memory.svg": _along("growth", GROWTH, PEAK),
    "profile.svg": _profile,
}
