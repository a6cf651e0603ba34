"""Where the time of each hot path goes: its stages, what is left over, and how far it is from what bounds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.records import Measurement, Record
from benchmarks.report.figures import ratio, seconds, size, table

REST = "rest"


@dataclass(frozen=True, kw_only=True)
class Path:
    """One hot path. `stages`: median seconds by name; `limits`: the measurements of what bounds it."""

    name: str
    measured: Measurement
    stages: Mapping[str, float]
    limits: Sequence[Measurement]

    @property
    def whole(self) -> float:
        """Median seconds."""
        return self.measured.median

    def times(self, limit: Measurement) -> float:
        """How many times the limit the path takes: they took turns, so each repetition is a pair."""
        return median(own / bare for own, bare in zip(self.measured.seconds, limit.seconds, strict=True))

    @property
    def rest(self) -> float:
        """Seconds in no stage; 0 where stages, timed alone, take longer than inside."""
        return max(0.0, self.whole - sum(self.stages.values()))

    @property
    def shares(self) -> dict[str, float]:
        """Per cent of the time of all stages and the rest, by stage, the rest last."""
        parts = {**self.stages, REST: self.rest}
        return {name: 100 * one / sum(parts.values()) for name, one in parts.items()}

    @property
    def nearest(self) -> Measurement | None:
        """The limit that leaves the least to gain; None where there is none that is not passed."""
        below = (one for one in self.limits if one.median <= self.whole)
        return max(below, key=lambda one: one.median, default=None)


def paths_of(record: Record) -> list[Path]:
    return [
        Path(name=one.work, measured=one, stages=phases_of(one), limits=_limits(record, one.work))
        for one in record.measurements
        if "phases" in one.extra
    ]


def _limits(record: Record, work: str) -> list[Measurement]:
    return [one for one in record.measurements if one.work == work and one.extra.get("limit")]


def phases_of(one: Measurement) -> dict[str, float]:
    """Median seconds of each phase that a measurement tells of."""
    told = {name: [each for each in found if each is not None] for name, found in one.extra.get("phases", {}).items()}
    return {name: median(found) for name, found in told.items() if found}


def profile_lines(record: Record, round: Record | None = None) -> list[str]:
    """Against the limits first, then in words, then stage by stage; of a whole round, what it moves."""
    paths = paths_of(record)
    limits = [
        [path.name, seconds(path.whole), one.contestant, seconds(one.median), ratio(path.times(one)), one.note]
        for path in paths
        for one in path.limits
    ]
    stages = [
        [path.name if place == 0 else "", stage, seconds({**path.stages, REST: path.rest}[stage]), f"{share:.0f} %"]
        for path in paths
        for place, (stage, share) in enumerate(path.shares.items())
    ]
    return [
        *table(["path", "takes", "limit", "limit takes", "path / limit", "what the limit is"], limits, numbers_from=6),
        *(f"- {_in_words(path)}" for path in paths),
        *(f"- {_throughput(one, round)}" for one in record.measurements if one.bytes),
        "",
        f"*{REST}* is what is in no stage: Python between blocks, allocation, reading, and the watching itself.",
        "",
        *table(["path", "stage", "time", "share"], stages, numbers_from=2),
    ]


def _in_words(path: Path) -> str:
    first, *others = sorted(path.shares.items(), key=lambda one: -one[1])
    then = f", then *{others[0][0]}* with {others[0][1]:.0f} %" if others else ""
    times = " and ".join(f"{ratio(path.times(one))} the time of {one.contestant}" for one in path.limits)
    far = f" It takes {times}." if times else ""
    return f"**{path.name}**: *{first[0]}* takes {first[1]:.0f} %{then}.{far}"


def _throughput(loopback: Measurement, round: Record | None) -> str:
    assert loopback.bytes is not None
    rate = loopback.bytes / loopback.median
    moved = f"{size(loopback.bytes)} in {seconds(loopback.median)}, {size(rate)} a second"
    rounds = [_moving(one, rate) for one in (round.measurements if round else ()) if one.contestant == "sumveil"]
    return " ".join([f"**{loopback.work}**: {moved}.", *filter(None, rounds)])


def _moving(round: Measurement, rate: float) -> str:
    """How much of a whole round its bytes would take at this rate, both directions of all clients."""
    clients = round.case.get("clients")
    if not clients or not round.bytes:
        return ""
    total = clients * (round.bytes + median(round.extra.get("bytes_down") or [0]))
    share = 100 * total / rate / round.median
    protocol = round.case.get("protocol", round.work)
    return f"At that rate the {size(total)} of a whole `{protocol}` round of {clients} clients take {share:.0f} % of its time."
