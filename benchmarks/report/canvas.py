"""Plots of one style as SVG, the same bytes for the same figures: no date, no name of the program, no hashes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sumveil",
    "svg.fonttype": "none",  # Text stays text: small files, and readers can search it.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
OURS = "#0072b2"
OTHERS = (
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#b8860b",
    "#3f9bd1",
    "#5e5e5e",
)  # Near Okabe and Ito: told apart by everybody.
FAILED, REST_COLOUR = "#d55e00", "#a8a8a8"
MARKERS = ("o", "s", "^", "D", "v", "P")
_TAG = re.compile(r"<[^>]*>")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_HASHED_ID = re.compile(r'id="([a-z][0-9a-f]{10})"')


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the house style, whatever style the reader's machine has."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def blank(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its axes, side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def svg(figure: Figure) -> str:
    """Return the plot's text; coordinates to a hundredth of a point, so that no machine's last digit shows."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    # Of tags alone: what is between them is for readers.
    rounded = _TAG.sub(lambda tag: _LONG_NUMBER.sub(_hundredths, tag[0]), _with_short_ids(target.getvalue()))
    # matplotlib leaves blanks at the ends of lines.
    return "\n".join(line.rstrip() for line in rounded.splitlines()) + "\n"


def _hundredths(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}"


def _with_short_ids(text: str) -> str:
    """Count clips and markers instead of hashing their coordinates."""
    numbered = {found: f"{found[0]}{place}" for place, found in enumerate(_HASHED_ID.findall(text))}
    return re.sub("|".join(numbered) or "$^", lambda found: numbered[found[0]], text)


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour for each name; the first of ours is always the same."""
    palette, others, mine = dict[str, str](), cycle(OTHERS), iter([OURS])
    for name in names:
        first_of_ours = next(mine, None) if name.startswith("sumveil") else None
        palette[name] = first_of_ours or next(others)
    return palette
