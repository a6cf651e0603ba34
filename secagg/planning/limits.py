"""Which limit a round meets first: what it uses of each, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from secagg.errors import PlanError
from secagg.plan import MAX_CLIENTS, MAX_VALUES, CkksJob, JobSpec
from secagg.planning.memory import SPOOL_BYTES
from secagg.policy import HolderPolicy

_GIBIBYTE: Final = 1024**3


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One bound: ``used`` of ``allowed``, in one unit, both in a sentence, and the number to change where they do not fit."""

    name: str
    used: float
    allowed: float
    sentence: str
    advice: str

    @property
    def headroom(self) -> float:
        """How many times as much would still fit; below 1 it does not."""
        return self.allowed / self.used if self.used else float("inf")

    @property
    def holds(self) -> bool:
        """Whether the round stays within it."""
        return self.used <= self.allowed


def first(limits: tuple[Limit, ...]) -> Limit:
    """Return the limit with the least headroom."""
    return min(limits, key=lambda limit: limit.headroom)


def uplink(spec: JobSpec, *, bytes_up: int, mbit: float, upload: float, computing: float) -> Limit:
    """Bytes against the phase in which they are sent; ``computing``: seconds of that phase before the first byte, 0 if unknown."""
    deadline, needed = spec.deadlines.uploading_seconds, upload + computing
    after = f" after {computing:,.1f} s of computing" if computing else ""
    under_way = f"{bytes_up / 1e6:,.2f} MB at {mbit:g} Mbit/s take {upload:,.1f} s{after}"
    return Limit(
        name="uplink",
        used=needed,
        allowed=deadline,
        sentence=f"uplink: {under_way}, of the uploading deadline of {deadline:g} s",
        advice=f"Lower values, or raise uploading_seconds or uplink: {needed:,.0f} s are needed",
    )


def precision(spec: JobSpec, *, error: float, rounding: float, asked: float) -> Limit:
    """The bound of every value's error against what was asked for; ``rounding``: what of it is the dtype's. In units of clip."""
    often = ", once in 2^20 rounds by more" if isinstance(spec.protocol, CkksJob) else ""
    sentence = f"precision: values of the mean err by up to {error:.1e} of clip{often}, and {asked:.1e} is asked for"
    finer = spec.ckks.finer if isinstance(spec.protocol, CkksJob) else "raise value_bits, "
    ways = "take a wider dtype, " if rounding >= asked else f"{finer}raise min_contributors, "
    advice = f"{ways}or ask for a coarser precision"
    return Limit(name="precision", used=error, allowed=asked, sentence=sentence, advice=advice[0].upper() + advice[1:])


def memory(used: int, there: int) -> Limit:
    """The coordinator's memory against what a machine has."""
    sentence = f"memory: the coordinator takes up to {used / _GIBIBYTE:,.2f} GiB of {there / _GIBIBYTE:,.1f} GiB"
    return Limit(
        name="memory",
        used=used,
        allowed=there,
        sentence=sentence,
        advice="Lower clients, or give the coordinator a larger machine (--memory)",
    )


def spool(used: int) -> Limit:
    """The uploads of a round against the coordinator's ``spool_bytes``."""
    sentence = (
        f"disk: the uploads take {used / 1e9:,.2f} GB of the coordinator's spool_bytes, {SPOOL_BYTES / 1e9:,.1f} GB"
    )
    return Limit(
        name="disk",
        used=used,
        allowed=SPOOL_BYTES,
        sentence=sentence,
        advice="Lower clients or values, or raise [limits] spool_bytes in coordinator.toml",
    )


def length(spec: JobSpec) -> Limit:
    """The length of an update against what a job, or a key holder's policy, takes."""
    ckks = isinstance(spec.protocol, CkksJob)
    most = HolderPolicy.max_values if ckks else MAX_VALUES
    whose = "a key holder takes unless its policy says otherwise" if ckks else "a job takes"
    sentence = f"values: {spec.values:,} of the {most:,} that {whose}"
    return Limit(
        name="values",
        used=spec.values,
        allowed=most,
        sentence=sentence,
        advice="Lower values, or split the update over several jobs",
    )


def clients(spec: JobSpec, plan: Callable[[int], object]) -> Limit:
    """The roster against the largest one for which a plan still holds; ``plan`` raises :class:`PlanError` where it does not."""
    most = largest(plan, spec.max_clients, MAX_CLIENTS)
    why = "a roster in one message" if most == MAX_CLIENTS else "the rest of this plan as it is"
    sentence = f"clients: {spec.max_clients:,} of {most:,} that fit, with {why}"
    return Limit(name="clients", used=spec.max_clients, allowed=most, sentence=sentence, advice="Lower clients")


def largest(plan: Callable[[int], object], known: int, most: int) -> int:
    """Return the largest number for which a plan holds, by bisection from one that does."""
    below, above = known, most + 1
    while above - below > 1:
        middle = (below + above) // 2
        try:
            plan(middle)
        except PlanError:
            above = middle
        else:
            below = middle
    return below


def approving(spec: JobSpec, *, computing: float | None, bytes_down: int, reading: float | None) -> Limit:
    """A key holder's sum of c1 against the deadline by which it approves.

    Args:
        spec: the job.
        computing: seconds, None if unknown.
        bytes_down: what the holder reads.
        reading: seconds for that, None if unknown. Then they are not in the limit, and the sentence says so.
    """
    known = [f"{computing:,.1f} s of computing"] if computing is not None else []
    known += [f"{reading:,.1f} s to read {bytes_down:,} bytes"] if reading is not None else []
    missing = [] if computing is not None else ["computing"]
    missing += [] if reading is not None else [f"the network that brings {bytes_down:,} bytes"]
    without = f", without {' and '.join(missing)}" if missing else ""
    needs = f"a key holder's sum of c1 takes {' and '.join(known)}{without}"
    return _phase("approving", needs, (computing or 0.0) + (reading or 0.0), spec.deadlines.approving_seconds)


def decrypting(spec: JobSpec, *, computing: float) -> Limit:
    """Seconds that a key holder computes its answer against the deadline by which enough of them must have answered."""
    needs = f"a key holder's answer takes {computing:,.1f} s of computing, without the network"
    return _phase("decrypting", needs, computing, spec.deadlines.decrypting_seconds)


def _phase(name: str, needs: str, used: float, deadline: float) -> Limit:
    return Limit(
        name=name,
        used=used,
        allowed=deadline,
        sentence=f"{name}: {needs}; the {name} deadline is {deadline:g} s",
        advice=f"Lower clients or values, or raise deadlines.{name}_seconds in the job",
    )
