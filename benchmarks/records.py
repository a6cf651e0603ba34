"""What was measured, where and with what: the content of ``benchmarks/results/*.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, Self

Case = Mapping[str, Any]
"""The sizes of a measurement, by name: numbers, texts and booleans."""
Figure = Literal["seconds", "bytes", "peak_bytes"]
FEWEST_REPETITIONS = 5
"""A verdict on fewer would be one on noise."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contestant at one work.

    `seconds` has one entry for each repetition; all contestants of a race have as many, in the same order. `peak_bytes` is the
    most that its process had in memory since its preparation ended, `bytes` what goes over the wire. `extra`: whatever else it told,
    one entry for each repetition; "base_bytes", the memory before the work; "phases", {name: seconds of each repetition}; "cores", how
    many it could use, or "all"; "error", the largest one of the opened values, where it told one at its end.
    """

    work: str
    case: Case
    contestant: str
    seconds: tuple[float, ...]
    peak_bytes: int | None = None
    bytes: int | None = None
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Fewest and most seconds."""
        return min(self.seconds), max(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """As in the file, which has medians and spreads for its readers."""
        return asdict(self) | {"median": self.median, "spread": list(self.spread)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError` on other fields."""
        fields = {name: one for name, one in found.items() if name not in ("median", "spread")}
        return cls(**fields | {"seconds": tuple(found["seconds"])})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ours divided by theirs.

    `row` is the work in the words of the goal; `at_most` the goal, None where there is none; `held` whether it was reached, None also where
    there were too few repetitions to say so. `case` is ours. `spread`: smallest and largest ratio of paired repetitions.
    """

    row: str
    work: str
    case: Case
    ours: str
    against: str
    figure: Figure
    ratio: float
    spread: tuple[float, float]
    at_most: float | None = None
    held: bool | None = None

    @classmethod
    def of(
        cls,
        row: str,
        ours: Measurement,
        against: Measurement,
        *,
        figure: Figure = "seconds",
        at_most: float | None = None,
    ) -> Self:
        """Compare two measurements of one race; seconds by the median of the paired ratios, since noise hits both of a pair.

        Raises:
            ValueError: another number of repetitions, or a figure that one of the two does not have.
        """
        ratios = _ratios(ours, against, figure)
        ratio = median(ratios)
        return cls(
            row=row,
            work=ours.work,
            case=ours.case,
            ours=ours.contestant,
            against=against.contestant,
            figure=figure,
            ratio=ratio,
            spread=(min(ratios), max(ratios)),
            at_most=at_most,
            held=None if at_most is None or len(ours.seconds) < FEWEST_REPETITIONS else ratio <= at_most,
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError` on other fields."""
        low, high = found["spread"]
        return cls(**dict(found) | {"spread": (low, high)})


def _ratios(ours: Measurement, against: Measurement, figure: Figure) -> list[float]:
    if figure == "seconds":
        return [mine / theirs for mine, theirs in zip(ours.seconds, against.seconds, strict=True)]
    mine, theirs = getattr(ours, figure), getattr(against, figure)
    if not mine or not theirs:
        raise ValueError(f"no {figure} of {ours.contestant if not mine else against.contestant} at {ours.work}")
    return [mine / theirs]


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A contestant that could not be measured, and why, for a reader of the report."""

    contestant: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """When, where and from what; `dirty`: the tree was not as committed; `versions`: {contestant: {package: version}}."""

    commit: str
    dirty: bool
    date: str
    machine: Machine
    versions: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError` on other fields."""
        return cls(**dict(found) | {"machine": Machine(**found["machine"])})


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that one program found out about its question."""

    question: str
    title: str
    quick: bool
    repetitions: int
    taken: Taken
    measurements: Sequence[Measurement]
    comparisons: Sequence[Comparison] = ()
    missing: Sequence[Missing] = ()

    def to_json(self) -> dict[str, Any]:
        """As in the file."""
        return asdict(self) | {"measurements": [one.to_json() for one in self.measurements]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError` on anything but what `to_json` made."""
        return cls(
            **dict(found)
            | {
                "taken": Taken.from_json(found["taken"]),
                "measurements": tuple(map(Measurement.from_json, found["measurements"])),
                "comparisons": tuple(map(Comparison.from_json, found["comparisons"])),
                "missing": tuple(Missing(**one) for one in found["missing"]),
            }
        )

    def write(self, directory: Path) -> Path:
        """Write ``<question>.json`` and return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.question}.json"
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError` on a file that is no record."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
