"""Plans: what a job asks for, what a key ceremony is for, and what one round does (``docs/protocol.md``, section 3).

A plan proves itself when it is made: what does not fit raises :class:`PlanError` naming the number to change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from he.errors import HEError
from he.packing import Layout
from he.parameters import Parameters, preset
from secagg import labels
from secagg.ckks_plan import CkksJob, CkksRound, HolderGroup, quorum_for
from secagg.deadlines import Deadlines
from secagg.digests import Canonical
from secagg.errors import PlanError
from secagg.ids import Digest, JobId, RoundNumber
from secagg.masking.parameters import MaskingParameters
from secagg.masking.planner import verify_feasible
from secagg.masking_plan import MaskingJob, MaskingRound
from secagg.plan_checks import check_name, require, require_positive

__all__ = [
    "CeremonyPlan",
    "CkksJob",
    "CkksRound",
    "Deadlines",
    "HolderGroup",
    "JobSpec",
    "MaskingJob",
    "MaskingRound",
    "RoundPlan",
    "TensorSpec",
    "check_name",
    "quorum_for",
]

TENSOR_DTYPES = ("float16", "float32", "float64")
MAX_TENSORS = 10_000
MAX_VALUES = 100_000_000
MAX_CLIENTS = 1_500
"""A roster with two signed messages of each client, 1 KiB apiece, must fit into one gRPC message of 4 MiB."""
MAX_TEXT = 500


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One array of an update: its name, shape and dtype (one of ``TENSOR_DTYPES``)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        require(0 < len(self.name) <= MAX_TEXT, "a tensor's name must have 1 to 500 characters")
        require(
            self.dtype in TENSOR_DTYPES, f"tensor {self.name!r}: dtype {self.dtype!r} is not one of {TENSOR_DTYPES}"
        )
        require(
            all(size > 0 for size in self.shape),
            f"tensor {self.name!r}: every size in shape {self.shape} must be above 0",
        )

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What stays the same from round to round. ``clip`` bounds each coordinate of an update, ``max_weight`` its weight."""

    job: JobId
    tensors: tuple[TensorSpec, ...]
    protocol: CkksJob | MaskingJob
    min_contributors: int
    max_clients: int
    purpose: str
    clip: float = 1.0
    max_weight: float = 1.0
    min_total_weight: float = 1.0
    rounds: int = 1
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        check_name(self.job, "job")
        require(0 < len(self.purpose) <= MAX_TEXT, "purpose: say in 1 to 500 characters what the data is used for")
        self._check_tensors()
        for name in ("clip", "max_weight", "min_total_weight"):
            require_positive(getattr(self, name), name)
        require(self.rounds >= 0, f"rounds is {self.rounds}: 0 or more")
        least, most = self.min_contributors, self.max_clients
        require(least >= 2, f"min_contributors {least}: the sum of one update is that update, so at least 2")
        require(least <= most <= MAX_CLIENTS, f"max_clients {most}: choose {least} (min_contributors) to {MAX_CLIENTS}")
        bound = most * self.max_weight
        require(
            self.min_total_weight <= bound,
            f"min_total_weight {self.min_total_weight} is above what {most} clients reach ({bound})",
        )
        if isinstance(self.protocol, CkksJob):
            self._check_ckks(self.protocol)
        else:
            self._check_masking(self.protocol)

    def _check_tensors(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        require(0 < len(names) <= MAX_TENSORS, f"{len(names)} tensors: name 1 to {MAX_TENSORS}")
        require(len(set(names)) == len(names), "a tensor's name stands twice")
        require(
            self.values <= MAX_VALUES, f"{self.values} values: at most {MAX_VALUES}; split the update over several jobs"
        )

    @property
    def _least_total(self) -> float:
        """The least total weight of a sum, in units of max_weight."""
        least = self.min_total_weight / self.max_weight
        require(least > 0, f"min_total_weight {self.min_total_weight} vanishes beside max_weight {self.max_weight}")
        return least

    def _check_ckks(self, ckks: CkksJob) -> None:
        for count in ckks.group_sizes:
            error = self.parameters(count).mean_error(self.min_contributors, self._least_total) / self.clip
            message = (
                f"the mean of {self.min_contributors} contributors of total weight {self.min_total_weight} errs by {error:.1e} of clip, "
                f"and precision asks for {ckks.precision:.1e}: {ckks.finer}raise min_total_weight, or lower max_clients or security_bits"
            )
            require(error <= ckks.precision, message)

    def verify_new(self) -> None:
        """Raise :class:`PlanError` for what no job is made with any more, though one that was kept is still read.

        That is a packing whose opening shows how the values of single clients were rounded.
        """
        if isinstance(self.protocol, CkksJob):
            for count in self.protocol.group_sizes:
                try:
                    self.parameters(count).verify_encoding()
                except HEError as error:
                    raise PlanError(str(error)) from error

    def _check_masking(self, masking: MaskingJob) -> None:
        verify_feasible(
            max_clients=self.max_clients,
            min_contributors=self.min_contributors,
            corrupt_fraction=masking.corrupt_fraction,
            dropout_fraction=masking.dropout_fraction,
        )
        error = self.masking_parameters.mean_error(self._least_total) / self.clip
        message = (
            f"a mean of total weight {self.min_total_weight} errs by up to {error:.1e} of clip, and precision asks for "
            f"{masking.precision:.1e}: raise value_bits or min_total_weight, or lower max_clients"
        )
        require(error <= masking.precision, message)

    @property
    def ckks(self) -> CkksJob:
        """The arm that runs ``ckks``; :class:`PlanError` for a job of another protocol."""
        if not isinstance(self.protocol, CkksJob):
            raise PlanError(f"job {self.job} runs {self.protocol.NAME}, not ckks")
        return self.protocol

    @property
    def masking(self) -> MaskingJob:
        """The arm that runs ``masking``; :class:`PlanError` for a job of another protocol."""
        if not isinstance(self.protocol, MaskingJob):
            raise PlanError(f"job {self.job} runs {self.protocol.NAME}, not masking")
        return self.protocol

    @property
    def longest_seconds(self) -> float:
        """Longest life of a round."""
        return self.protocol.seconds(self.deadlines)

    @cached_property
    def values(self) -> int:
        """Number of coordinates of an update, without the weight."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def layout(self) -> Layout:
        """How an update is packed into one vector: tensors in the order of their names."""
        ordered = sorted(self.tensors, key=lambda tensor: tensor.name)
        return Layout(
            names=tuple(tensor.name for tensor in ordered),
            shapes=tuple(tensor.shape for tensor in ordered),
            dtypes=tuple(tensor.dtype for tensor in ordered),
        )

    def parameters(self, holders: int) -> Parameters:
        """Return the CKKS parameters for a key of ``holders`` holders; :class:`PlanError` when nothing fits."""
        return _parameters(self, holders)

    @cached_property
    def masking_parameters(self) -> MaskingParameters:
        """How a vector is quantised and masked; :class:`PlanError` for a job of another protocol, or when nothing fits."""
        return MaskingParameters(
            values=self.layout.values,
            max_clients=self.max_clients,
            clip=self.clip,
            value_bits=self.masking.value_bits,
        )

    def extend(self, canonical: Canonical) -> None:
        """Add this job to a digest."""
        canonical.text(self.job).text(self.purpose).integer(len(self.tensors))
        for tensor in self.tensors:
            canonical.text(tensor.name).text(tensor.dtype).integer(len(tensor.shape))
            for size in tensor.shape:
                canonical.integer(size)
        canonical.real(self.clip).real(self.max_weight).real(self.min_total_weight)
        canonical.integer(self.min_contributors).integer(self.max_clients).integer(self.rounds)
        for name in self.deadlines.__dataclass_fields__:
            canonical.real(getattr(self.deadlines, name))
        self.protocol.extend(canonical)


@lru_cache(maxsize=256)
def _parameters(spec: JobSpec, holders: int) -> Parameters:
    ckks = spec.ckks
    try:
        return preset(
            ckks.preset,
            values=spec.values + 1,
            max_clients=spec.max_clients,
            holders=holders,
            threshold=ckks.threshold,
            clip=spec.clip,
            security_bits=ckks.security_bits,
            packing=ckks.packing,
        )
    except HEError as error:
        raise PlanError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class CeremonyPlan:
    """What one key ceremony is for; ``attempt`` counts the ceremonies of the round, from 1."""

    spec: JobSpec
    round: RoundNumber
    attempt: int
    group: HolderGroup

    def __post_init__(self) -> None:
        require(self.round >= 1, f"round {self.round}: rounds are counted from 1")
        require(self.attempt >= 1, f"attempt {self.attempt}: attempts are counted from 1")
        require(self.group == self.spec.ckks.group(self.group.holders), "the group's numbers are not the job's")

    @property
    def parameters(self) -> Parameters:
        """The CKKS parameters of the key."""
        return self.spec.parameters(len(self.group.holders))

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 over the canonical encoding."""
        canonical = Canonical(labels.CEREMONY_PLAN)
        self.spec.extend(canonical)
        canonical.integer(self.round).integer(self.attempt)
        self.group.extend(canonical)
        canonical.data(self.parameters.digest())
        return Digest(canonical.sha256())


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """One round; its digest is in every signature of the round."""

    spec: JobSpec
    round: RoundNumber
    protocol: CkksRound | MaskingRound

    def __post_init__(self) -> None:
        require(self.round >= 1, f"round {self.round}: rounds are counted from 1")
        if isinstance(self.protocol, CkksRound):
            group = self.protocol.group
            require(group == self.spec.ckks.group(group.holders), "the group's numbers are not the job's")
        else:
            require(isinstance(self.spec.protocol, MaskingJob), "the round runs masking, and its job does not")

    @property
    def ckks(self) -> CkksRound:
        """The arm that runs ``ckks``; :class:`PlanError` for a round of another protocol."""
        if not isinstance(self.protocol, CkksRound):
            raise PlanError(f"round {self.round} runs {self.spec.protocol.NAME}, not ckks")
        return self.protocol

    @property
    def parameters(self) -> Parameters:
        """The CKKS parameters of the round; :class:`PlanError` for a round of another protocol."""
        return self.spec.parameters(len(self.ckks.group.holders))

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 over the canonical encoding."""
        canonical = Canonical(labels.ROUND_PLAN)
        self.spec.extend(canonical)
        canonical.integer(self.round)
        self.protocol.extend(canonical)
        if isinstance(self.protocol, CkksRound):
            canonical.data(self.parameters.digest())
        else:
            self.spec.masking_parameters.extend(canonical)
        return Digest(canonical.sha256())
