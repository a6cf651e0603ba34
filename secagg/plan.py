"""Plans: what a job asks for, what a key ceremony is for, and what one round does (``docs/protocol.md``, section 3).

A plan proves itself when it is made: what does not fit raises :class:`PlanError` naming the number to change.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from he.errors import HEError
from he.packing import Layout
from he.parameters import Parameters, preset
from secagg import labels
from secagg.digests import Canonical
from secagg.errors import PlanError
from secagg.ids import DIGEST_BYTES, Digest, HolderId, JobId, KeyId, RoundNumber

TENSOR_DTYPES = ("float16", "float32", "float64")
MAX_TENSORS = 10_000
MAX_VALUES = 100_000_000
MAX_CLIENTS = 1_500
"""A roster with two signed messages of each client, 1 KiB apiece, must fit into one gRPC message of 4 MiB."""
MAX_TEXT = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_name(name: str, what: str) -> None:
    """Raise :class:`PlanError` unless ``name`` can stand in a certificate, a file name and a log."""
    if not _NAME.fullmatch(name):
        message = f"{what} {name[:80]!r}: use 1 to 63 of a-z, 0-9 and '-', and start with a letter or a digit"
        raise PlanError(message)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise PlanError(message)


def _require_positive(value: float, what: str) -> None:
    _require(math.isfinite(value) and value > 0, f"{what} is {value}: it must be a finite number above 0")


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One array of an update: its name, shape and dtype (one of ``TENSOR_DTYPES``)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        _require(0 < len(self.name) <= MAX_TEXT, "a tensor's name must have 1 to 500 characters")
        _require(
            self.dtype in TENSOR_DTYPES, f"tensor {self.name!r}: dtype {self.dtype!r} is not one of {TENSOR_DTYPES}"
        )
        _require(
            all(size > 0 for size in self.shape),
            f"tensor {self.name!r}: every size in shape {self.shape} must be above 0",
        )

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds that each phase may last; a roster is sealed within `approving_seconds` too."""

    keying_seconds: float = 60.0
    open_seconds: float = 600.0
    uploading_seconds: float = 600.0
    approving_seconds: float = 300.0
    decrypting_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            _require_positive(getattr(self, name), f"deadlines.{name}")

    @property
    def total_seconds(self) -> float:
        """Longest life of a round; sealing the roster may take as long as approving."""
        return float(sum(getattr(self, name) for name in self.__dataclass_fields__)) + self.approving_seconds


def quorum_for(holders: int, corrupt_holders: int) -> int:
    """Return the fewest approvals q with 2q > n + c: any two quorums share an honest holder (DESIGN 4.4)."""
    return (holders + corrupt_holders) // 2 + 1


@dataclass(frozen=True, kw_only=True)
class HolderGroup:
    """Who holds one round's key: holder i of n is ``holders[i - 1]``; t answers open, q approvals must be seen first."""

    holders: tuple[HolderId, ...]
    threshold: int
    corrupt_holders: int
    quorum: int

    def __post_init__(self) -> None:
        n, t, c, q = len(self.holders), self.threshold, self.corrupt_holders, self.quorum
        for holder in self.holders:
            check_name(holder, "key holder")
        _require(len(set(self.holders)) == n, f"a key holder is named twice in {self.holders}")
        _require(3 <= n <= 9, f"{n} key holders: name 3 to 9")
        _require(2 <= t <= n, f"threshold {t} of {n} key holders: choose 2 to {n}")
        _require(
            0 <= c <= t - 1,
            f"corrupt_holders {c} with threshold {t}: at most {t - 1}, or t corrupt holders open everything",
        )
        _require(
            n + c < 2 * q <= 2 * n,
            f"quorum {q} of {n} with {c} corrupt: 2q > n + c is needed, so {quorum_for(n, c)} to {n}",
        )

    def index(self, holder: HolderId) -> int:
        """Return the point of a holder, 1 to n; :class:`PlanError` when it is not one of the group."""
        if holder not in self.holders:
            message = f"{holder!r} is not one of the key holders {self.holders}"
            raise PlanError(message)
        return self.holders.index(holder) + 1

    def extend(self, canonical: Canonical) -> None:
        """Add this group to a digest."""
        canonical.integer(len(self.holders))
        for holder in self.holders:
            canonical.text(holder)
        canonical.integer(self.threshold).integer(self.corrupt_holders).integer(self.quorum)


@dataclass(frozen=True, kw_only=True)
class CkksJob:
    """The arm of a job that runs ``ckks``. ``precision``: largest error of a coordinate of the mean, in units of clip."""

    holders: tuple[HolderId, ...]
    threshold: int = 3
    corrupt_holders: int = 2
    min_holders: int = 4
    preset: str = "ckks-4096"
    packing: str = "real"
    security_bits: int = 40
    precision: float = 1e-4

    def __post_init__(self) -> None:
        n, least = len(self.holders), self.min_holders
        _require(self.packing == "real", f"packing {self.packing!r}: only 'real' exists")
        _require_positive(self.precision, "precision")
        _require(40 <= self.security_bits <= 128, f"security_bits {self.security_bits}: choose 40 to 128")
        _require(least <= n, f"min_holders {least} is more than the {n} key holders named")
        for count in range(least, n + 1):
            self.group(self.holders[:count])

    def group(self, holders: tuple[HolderId, ...]) -> HolderGroup:
        """Return the group that these of the job's holders form; :class:`PlanError` when they cannot."""
        strangers = sorted(set(holders) - set(self.holders))
        _require(not strangers, f"the group holds names that the job does not: {', '.join(strangers)}")
        _require(
            len(holders) >= self.min_holders, f"{len(holders)} key holders are left, min_holders is {self.min_holders}"
        )
        quorum = quorum_for(len(holders), self.corrupt_holders)
        return HolderGroup(
            holders=holders, threshold=self.threshold, corrupt_holders=self.corrupt_holders, quorum=quorum
        )


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What stays the same from round to round. ``clip`` bounds each coordinate of an update, ``max_weight`` its weight."""

    job: JobId
    tensors: tuple[TensorSpec, ...]
    protocol: CkksJob
    min_contributors: int
    max_clients: int
    purpose: str
    clip: float = 1.0
    max_weight: float = 1.0
    min_total_weight: float = 1.0
    rounds: int = 1
    deadlines: Deadlines = Deadlines()

    def __post_init__(self) -> None:
        check_name(self.job, "job")
        _require(0 < len(self.purpose) <= MAX_TEXT, "purpose: say in 1 to 500 characters what the data is used for")
        self._check_tensors()
        for name in ("clip", "max_weight", "min_total_weight"):
            _require_positive(getattr(self, name), name)
        _require(self.rounds >= 0, f"rounds is {self.rounds}: 0 or more")
        least, most = self.min_contributors, self.max_clients
        _require(least >= 2, f"min_contributors {least}: the sum of one update is that update, so at least 2")
        _require(
            least <= most <= MAX_CLIENTS, f"max_clients {most}: choose {least} (min_contributors) to {MAX_CLIENTS}"
        )
        bound = most * self.max_weight
        _require(
            self.min_total_weight <= bound,
            f"min_total_weight {self.min_total_weight} is above what {most} clients reach ({bound})",
        )
        for count in range(self.protocol.min_holders, len(self.protocol.holders) + 1):
            self._check_precision(self.parameters(count))

    def _check_tensors(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        _require(0 < len(names) <= MAX_TENSORS, f"{len(names)} tensors: name 1 to {MAX_TENSORS}")
        _require(len(set(names)) == len(names), "a tensor's name stands twice")
        _require(
            self.values <= MAX_VALUES, f"{self.values} values: at most {MAX_VALUES}; split the update over several jobs"
        )

    def _check_precision(self, parameters: Parameters) -> None:
        least_total = self.min_total_weight / self.max_weight
        _require(
            least_total > 0, f"min_total_weight {self.min_total_weight} vanishes beside max_weight {self.max_weight}"
        )
        error = parameters.mean_error(self.min_contributors, least_total) / self.clip
        larger = "" if self.protocol.preset == "ckks-8192" else "use preset 'ckks-8192', "
        message = (
            f"the mean of {self.min_contributors} contributors of total weight {self.min_total_weight} errs by {error:.1e} of clip, "
            f"and precision asks for {self.protocol.precision:.1e}: {larger}raise min_total_weight, or lower max_clients or security_bits"
        )
        _require(error <= self.protocol.precision, message)

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
        ckks = self.protocol
        canonical.text("ckks").text(ckks.preset).text(ckks.packing).integer(ckks.security_bits).real(ckks.precision)
        canonical.integer(len(ckks.holders))
        for holder in ckks.holders:
            canonical.text(holder)
        canonical.integer(ckks.min_holders).integer(ckks.threshold).integer(ckks.corrupt_holders)


@lru_cache(maxsize=256)
def _parameters(spec: JobSpec, holders: int) -> Parameters:
    ckks = spec.protocol
    try:
        return preset(
            ckks.preset,
            values=spec.values + 1,
            max_clients=spec.max_clients,
            holders=holders,
            threshold=ckks.threshold,
            clip=spec.clip,
            security_bits=ckks.security_bits,
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
        _require(self.round >= 1, f"round {self.round}: rounds are counted from 1")
        _require(self.attempt >= 1, f"attempt {self.attempt}: attempts are counted from 1")
        _require(self.group == self.spec.protocol.group(self.group.holders), "the group's numbers are not the job's")

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
class CkksRound:
    """The arm of a round that runs ``ckks``: the key, and who holds it."""

    key_id: KeyId
    group: HolderGroup

    def __post_init__(self) -> None:
        _require(len(self.key_id) == DIGEST_BYTES, "key_id must have 32 bytes")


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """One round; its digest is in every signature of the round."""

    spec: JobSpec
    round: RoundNumber
    protocol: CkksRound

    def __post_init__(self) -> None:
        _require(self.round >= 1, f"round {self.round}: rounds are counted from 1")
        group = self.protocol.group
        _require(group == self.spec.protocol.group(group.holders), "the group's numbers are not the job's")

    @property
    def parameters(self) -> Parameters:
        """The CKKS parameters of the round."""
        return self.spec.parameters(len(self.protocol.group.holders))

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 over the canonical encoding."""
        canonical = Canonical(labels.ROUND_PLAN)
        self.spec.extend(canonical)
        canonical.integer(self.round).text("ckks").data(self.protocol.key_id)
        self.protocol.group.extend(canonical)
        canonical.data(self.parameters.digest())
        return Digest(canonical.sha256())
