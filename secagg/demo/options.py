"""What a person may ask of the demo, checked before anything starts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from secagg.demo.model import TENSORS
from secagg.demo.protocols import CkksOptions, MaskingOptions, ProtocolOptions, require
from secagg.errors import PlanError, UsageError
from secagg.ids import JobId
from secagg.plan import CkksJob, Deadlines, JobSpec, MaskingJob

CLIP = 1.0
MAX_CLIENTS = 64
VANISHED_SECONDS = 4.0
"""How long a round waits for clients that vanished, where the demo makes some vanish."""
OPEN_SECONDS = 120.0
QUICK_SECONDS = 30.0
PROTOCOLS = (CkksOptions.NAME, MaskingOptions.NAME)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """``dropouts``: clients that vanish in each round after its roster is frozen."""

    protocol: ProtocolOptions = field(default_factory=CkksOptions)
    clients: int = 8
    rounds: int = 10
    dropouts: int = 0
    seed: int = 7

    def __post_init__(self) -> None:
        require(2 <= self.clients <= MAX_CLIENTS, f"--clients {self.clients}: choose 2 to {MAX_CLIENTS}")
        require(self.rounds >= 1, f"--rounds {self.rounds}: choose 1 or more")
        require(self.seed >= 0, f"--seed {self.seed}: choose 0 or more")
        require(self.dropouts >= 0, f"--dropouts {self.dropouts}: choose 0 or more")
        left = self.clients - self.dropouts
        require(left >= 2, f"--dropouts {self.dropouts} of {self.clients} clients: at least 2 must be left")
        self.job(max_weight=1.0)

    @property
    def client_names(self) -> tuple[str, ...]:
        """The clients' names."""
        return tuple(f"client-{i:02}" for i in range(1, self.clients + 1))

    @property
    def processes(self) -> int:
        """How many processes run beside the demo itself."""
        return self.clients + len(self.protocol.holder_names) + 1

    @cached_property
    def min_contributors(self) -> int:
        """Fewest contributors whose sum may be opened: half of the clients where the protocol can do it, and at least 2."""
        return self.job(max_weight=1.0).min_contributors

    def job(self, *, max_weight: float) -> JobSpec:
        """Return the demo's job; a client's weight is its number of examples. :class:`UsageError` when options do not fit."""
        try:
            return self._first_that_works(max_weight)
        except PlanError as error:
            raise UsageError(error.reason, next_step=self._way_out()) from error

    def _first_that_works(self, max_weight: float) -> JobSpec:
        left = self.clients - self.dropouts
        *better, last = self.protocol.arms(max(2, min(self.clients // 2, left)), left, self.clients)
        for contributors, arm in better:
            with suppress(PlanError):
                return self._job(max_weight, contributors, arm)
        return self._job(max_weight, *last)

    def _way_out(self) -> str:
        if isinstance(self.protocol, CkksOptions):
            return "Choose other --holders, --threshold or --clients"
        return "Choose more --clients or fewer --dropouts"

    def _job(self, max_weight: float, min_contributors: int, arm: CkksJob | MaskingJob) -> JobSpec:
        waiting = VANISHED_SECONDS if self.dropouts else OPEN_SECONDS
        return JobSpec(
            job=JobId("digits"),
            purpose="Demonstrate a secure aggregation on handwritten digits",
            tensors=TENSORS,
            clip=CLIP,
            max_weight=max_weight,
            min_total_weight=max_weight * self.clients / 16,
            min_contributors=min_contributors,
            max_clients=self.clients,
            rounds=self.rounds,
            deadlines=_deadlines(waiting),
            protocol=arm,
        )


def _deadlines(uploading_seconds: float) -> Deadlines:
    """Return deadlines: processes may take a while to start, and nobody is missing in the phases of messages alone."""
    quick = dict.fromkeys(("sharing_seconds", "confirming_seconds", "unmasking_seconds"), QUICK_SECONDS)
    return Deadlines(open_seconds=OPEN_SECONDS, uploading_seconds=uploading_seconds, **quick)


def protocol_options(
    name: str, *, holders: int | None, threshold: int | None, dead_holders: int | None
) -> ProtocolOptions:
    """Return the options of a protocol by its name; None stands for an option that was not given.

    Raises:
        UsageError: no such protocol, or an option that it does not have.
    """
    asked = {"holders": holders, "threshold": threshold, "dead_holders": dead_holders}
    given = {option: number for option, number in asked.items() if number is not None}
    require(name in PROTOCOLS, f"--protocol {name[:80]}: choose {' or '.join(PROTOCOLS)}")
    if name == CkksOptions.NAME:
        return CkksOptions(**given)
    if given:
        option = "--" + next(iter(given)).replace("_", "-")
        advice = f"Leave it out, or choose --protocol {CkksOptions.NAME}"
        raise UsageError(f"{option} cannot stand beside --protocol {name}: it has no key holders", next_step=advice)
    return MaskingOptions()
