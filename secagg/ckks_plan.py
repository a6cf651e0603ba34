"""The arms of a job and of a round that run ``ckks``: who holds the key, and what it takes to open a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from he.parameters import PACKINGS
from secagg.deadlines import Deadlines
from secagg.digests import Canonical
from secagg.errors import PlanError
from secagg.ids import DIGEST_BYTES, HolderId, KeyId
from secagg.plan_checks import check_name, require, require_positive


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
        require(len(set(self.holders)) == n, f"a key holder is named twice in {self.holders}")
        require(3 <= n <= 9, f"{n} key holders: name 3 to 9")
        require(2 <= t <= n, f"threshold {t} of {n} key holders: choose 2 to {n}")
        require(
            0 <= c <= t - 1,
            f"corrupt_holders {c} with threshold {t}: at most {t - 1}, or t corrupt holders open everything",
        )
        require(
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
    """The arm of a job that runs ``ckks``.

    ``packing``: where the values lie: one in each coefficient (``coefficients``), or two or one in each slot (``complex``,
    ``real``). Slots let an opening show how each client's values were rounded, so policies refuse them unless they are told
    otherwise; ``real`` takes twice the bytes and the work besides.
    ``precision``: largest error of a coordinate of the mean, in units of clip.
    """

    NAME: ClassVar = "ckks"
    holders: tuple[HolderId, ...]
    threshold: int = 3
    corrupt_holders: int = 2
    min_holders: int = 4
    preset: str = "ckks-4096"
    packing: str = "coefficients"
    security_bits: int = 40
    precision: float = 1e-4

    def __post_init__(self) -> None:
        n, least = len(self.holders), self.min_holders
        require(self.packing in PACKINGS, f"packing {self.packing!r}: choose one of {', '.join(PACKINGS)}")
        require_positive(self.precision, "precision")
        require(40 <= self.security_bits <= 128, f"security_bits {self.security_bits}: choose 40 to 128")
        require(least <= n, f"min_holders {least} is more than the {n} key holders named")
        for count in self.group_sizes:
            self.group(self.holders[:count])

    @property
    def group_sizes(self) -> range:
        """How many key holders a round may have."""
        return range(self.min_holders, len(self.holders) + 1)

    @property
    def finer(self) -> str:
        """Advice to a job that errs too much: the packing or else the preset that errs less; empty where there is none."""
        if self.packing != "coefficients":
            return "use packing 'coefficients', "
        return "" if self.preset == "ckks-8192" else "use preset 'ckks-8192', "

    def group(self, holders: tuple[HolderId, ...]) -> HolderGroup:
        """Return the group that these of the job's holders form; :class:`PlanError` when they cannot."""
        strangers = sorted(set(holders) - set(self.holders))
        require(not strangers, f"the group holds names that the job does not: {', '.join(strangers)}")
        require(
            len(holders) >= self.min_holders, f"{len(holders)} key holders are left, min_holders is {self.min_holders}"
        )
        quorum = quorum_for(len(holders), self.corrupt_holders)
        return HolderGroup(
            holders=holders, threshold=self.threshold, corrupt_holders=self.corrupt_holders, quorum=quorum
        )

    def extend(self, canonical: Canonical) -> None:
        """Add this arm to a digest."""
        canonical.text(self.NAME).text(self.preset).text(self.packing).integer(self.security_bits).real(self.precision)
        canonical.integer(len(self.holders))
        for holder in self.holders:
            canonical.text(holder)
        canonical.integer(self.min_holders).integer(self.threshold).integer(self.corrupt_holders)

    @staticmethod
    def seconds(deadlines: Deadlines) -> float:
        """Return the longest life of a round; sealing the roster may take as long as approving."""
        phases = (deadlines.keying_seconds, deadlines.open_seconds, deadlines.uploading_seconds)
        return sum(phases) + 2 * deadlines.approving_seconds + deadlines.decrypting_seconds


@dataclass(frozen=True, kw_only=True)
class CkksRound:
    """The arm of a round that runs ``ckks``: the key, and who holds it."""

    key_id: KeyId
    group: HolderGroup

    def __post_init__(self) -> None:
        require(len(self.key_id) == DIGEST_BYTES, "key_id must have 32 bytes")

    def extend(self, canonical: Canonical) -> None:
        """Add this arm to a digest."""
        canonical.text(CkksJob.NAME).data(self.key_id)
        self.group.extend(canonical)
