"""What a benchmark program fills while it runs, and writes down at its end."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.arena import ROOT, Contestant, Race
from benchmarks.environments import contestant
from benchmarks.options import Options
from benchmarks.records import FEWEST_REPETITIONS, Comparison, Figure, Machine, Measurement, Missing, Record, Taken

MADE = ("benchmarks/results", "docs/performance.md", "docs/performance")
"""What programs and report write themselves: another state of it makes no other figures."""


class Tree(NamedTuple):
    """The state of the sources; `dirty`: not as committed, or with files that nobody committed."""

    commit: str
    dirty: bool


class Notebook:
    """Collects measurements and comparisons, and prints each as it comes.

    Args:
        question: names the file.
        title: what a reader asks.
        options: of the program.
    """

    def __init__(self, question: str, title: str, options: Options) -> None:
        self._question = question
        self._title = title
        self._options = options
        self._measurements: list[Measurement] = []
        self._comparisons: list[Comparison] = []
        self._missing: dict[str, Missing] = {}
        self._versions: dict[str, Mapping[str, str]] = {}
        self._tree = tree_of(ROOT)  # Now: who edits while it runs does not change what was measured.
        print(f"{title} ({options.repetitions} repetitions)")

    def entrants(self, *peers: str) -> list[Contestant]:
        """Ourselves and those peers that are asked for and can be had here; the others are noted as missing."""
        entered: list[Contestant] = []
        for name in ("sumveil", *(peers if self._options.peers else ())):
            one = contestant(name, self._question)
            if isinstance(one, Missing):
                self.miss(one)
            else:
                entered.append(one)
        return entered

    def add(self, found: Race | Measurement) -> None:
        """Raises `RuntimeError` when we ourselves failed: there is nothing to compare then."""
        race = Race(measurements=(found,), missing=(), versions={}) if isinstance(found, Measurement) else found
        for lost in race.missing:
            if lost.contestant.startswith("sumveil"):
                raise RuntimeError(lost.reason)
            self.miss(lost)
        self._versions |= race.versions
        for one in race.measurements:
            self._measurements.append(one)
            print(line(one), flush=True)

    def miss(self, missing: Missing) -> None:
        """One reason for each contestant is enough."""
        if missing.contestant not in self._missing:
            print(f"  {missing.contestant} is missing: {missing.reason}", flush=True)
            self._missing[missing.contestant] = missing

    def compare(
        self,
        row: str,
        ours: Measurement | None,
        against: Measurement | None,
        *,
        figure: Figure = "seconds",
        at_most: float | None = None,
    ) -> None:
        """Note a ratio; nothing when one of the two is missing."""
        if ours is None or against is None:
            return
        one = Comparison.of(row, ours, against, figure=figure, at_most=at_most)
        self._comparisons.append(one)
        low, high = one.spread
        verdict = {True: "held", False: "NOT HELD", None: f"not judged: fewer than {FEWEST_REPETITIONS} repetitions"}
        goal = "" if at_most is None else f", at most {at_most:g}: {verdict[one.held]}"
        print(f"  => {row}: {one.ratio:.3f} x {one.against}'s {figure} ({low:.3f} to {high:.3f}){goal}", flush=True)

    def write(self) -> Path:
        """Write the record."""
        path = Record(
            question=self._question,
            title=self._title,
            quick=self._options.quick,
            repetitions=self._options.repetitions,
            taken=taken(self._versions, self._tree),
            measurements=self._measurements,
            comparisons=self._comparisons,
            missing=tuple(self._missing.values()),
        ).write(self._options.output)
        print(f"  written to {path}", flush=True)
        return path


def line(one: Measurement) -> str:
    """One measurement for a reader of the terminal."""
    case = " ".join(f"{key}={value}" for key, value in one.case.items())
    low, high = one.spread
    peak = "" if one.peak_bytes is None else f"  peak {one.peak_bytes / 2**20:.0f} MiB"
    wire = "" if one.bytes is None else f"  {one.bytes:,} bytes"
    return f"  {one.work:24} {case:36} {one.contestant:18} {one.median:9.4f} s ({low:.4f} to {high:.4f}){peak}{wire}"


def tree_of(root: Path) -> Tree:
    """Of the repository there; nothing and clean where there is none."""
    others = [f":(exclude){path}" for path in MADE]
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *others)
    return Tree(commit=_git(root, "rev-parse", "HEAD"), dirty=bool(changes))


def taken(versions: Mapping[str, Mapping[str, str]], tree: Tree) -> Taken:
    """Now, here, from that tree."""
    return Taken(
        commit=tree.commit,
        dirty=tree.dirty,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        machine=machine(),
        versions=versions,
    )


def machine() -> Machine:
    """This one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=_cpu(), cores=len(os.sched_getaffinity(0)), memory_gib=round(memory / 2**30, 1), kernel=platform.release()
    )


def _cpu() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        found = [one.partition(":")[2].strip() for one in lines if one.startswith(("model name", "Model"))]
    return found[0] if found else platform.machine()


def _git(root: Path, *arguments: str) -> str:
    """Nothing where there is no repository."""
    said = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607
    return said.stdout.strip()
