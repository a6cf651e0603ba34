"""What a planner is asked: a round's size, in the words of its operator, as the job that it would be."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from secagg.ids import HolderId, JobId
from secagg.masking.parameters import DEFAULT_VALUE_BITS
from secagg.masking.planner import Numbers, corrupt_count, dropped_count, plan_numbers, quorum_of, verify_numbers
from secagg.plan import CkksJob, Deadlines, JobSpec, MaskingJob, TensorSpec
from secagg.plan_checks import require, require_positive

ANY_PRECISION: Final = sys.float_info.max
"""For a plan that asks for no precision: the error is shown, and refuses nothing."""
DTYPE_BYTES: Final = {"float16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A round as its operator thinks of it.

    Attributes:
        clients: in the frozen roster, all of them of full weight.
        values: coordinates of an update, without the weight.
        dropout: fraction of the clients that may vanish.
        corrupt: fraction of the clients that may be in league with the coordinator.
        min_contributors: fewest clients in a sum; None: as many as a ``masking`` round's quorum, so that answers compare.
        clip: bound of a coordinate.
        precision: largest error of a coordinate of the mean, in units of clip; None: any.
        uplink_mbit: megabits that a client sends in a second.
        holder_link_mbit: megabits that a key holder reads in a second; None: its transfer is in no limit.
        dtype: of the update's arrays, and of the mean's.
        name_bytes: length of a party's name.
        uploading_seconds: deadline of the phase in which clients upload.
    """

    clients: int
    values: int
    dropout: float = 0.1
    corrupt: float = 0.05
    min_contributors: int | None = None
    clip: float = 1.0
    precision: float | None = None
    uplink_mbit: float | None = None
    holder_link_mbit: float | None = None
    dtype: str = "float32"
    name_bytes: int = 10
    uploading_seconds: float = Deadlines.uploading_seconds

    def __post_init__(self) -> None:
        require(self.clients >= 2, f"clients is {self.clients}: the sum of one update is that update, so at least 2")
        require(self.values >= 1, f"values is {self.values}: at least 1")
        require(self.dtype in DTYPE_BYTES, f"dtype {self.dtype!r}: choose one of {', '.join(DTYPE_BYTES)}")
        require(1 <= self.name_bytes <= 63, f"name_bytes is {self.name_bytes}: choose 1 to 63")
        require_positive(self.uploading_seconds, "uploading_seconds")
        for name in ("precision", "uplink_mbit", "holder_link_mbit"):
            if getattr(self, name) is not None:
                require_positive(getattr(self, name), name)

    @cached_property
    def least(self) -> int:
        """Fewest clients in a sum; :class:`~secagg.errors.PlanError` for impossible fractions."""
        if self.min_contributors is not None:
            return self.min_contributors
        # As many as have to confirm anyway, and never more than are left.
        remaining = self.clients - dropped_count(self.clients, self.dropout, 0)
        return min(remaining, quorum_of(self.clients, corrupt_count(self.clients, self.corrupt)))

    @property
    def dropped(self) -> int:
        """Clients that may vanish and leave enough for a sum."""
        return dropped_count(self.clients, self.dropout, self.least)

    @cached_property
    def numbers(self) -> Numbers:
        """The numbers of a ``masking`` round; :class:`~secagg.errors.PlanError` names what to change where none are safe."""
        least = self.least
        found = plan_numbers(
            self.clients, corrupt_fraction=self.corrupt, dropout_fraction=self.dropout, min_contributors=least
        )
        verify_numbers(found, corrupt_fraction=self.corrupt, min_contributors=least)
        return found

    def job(self, protocol: CkksJob | MaskingJob) -> JobSpec:
        """Return the job that this would be; :class:`~secagg.errors.PlanError` names what to change where it cannot be one."""
        spec = JobSpec(
            job=JobId("a" * self.name_bytes),
            purpose="planned",
            tensors=(TensorSpec(name="w", shape=(self.values,), dtype=self.dtype),),
            protocol=protocol,
            min_contributors=self.least,
            max_clients=self.clients,
            clip=self.clip,
            min_total_weight=float(self.least),
            deadlines=Deadlines(uploading_seconds=self.uploading_seconds),
        )
        spec.verify_new()
        return spec

    @property
    def asked_precision(self) -> float:
        """What a job's ``precision`` would be."""
        return ANY_PRECISION if self.precision is None else self.precision

    def masking_job(self, value_bits: int = DEFAULT_VALUE_BITS) -> JobSpec:
        """Return the ``masking`` job; see :meth:`job`."""
        return self.job(
            MaskingJob(
                value_bits=value_bits,
                precision=self.asked_precision,
                corrupt_fraction=self.corrupt,
                dropout_fraction=self.dropout,
            )
        )

    def ckks_job(
        self, *, holders: int = 5, threshold: int = 3, preset: str = CkksJob.preset, packing: str = CkksJob.packing
    ) -> JobSpec:
        """Return the ``ckks`` job, with as many corrupt key holders as the threshold bears; see :meth:`job`."""
        require(3 <= holders <= 9, f"holders is {holders}: choose 3 to 9")
        require(2 <= threshold <= holders, f"threshold {threshold} of {holders} key holders: choose 2 to {holders}")
        return self.job(
            CkksJob(
                holders=holder_names(holders, self.name_bytes),
                threshold=threshold,
                corrupt_holders=threshold - 1,
                min_holders=holders,
                preset=preset,
                packing=packing,
                precision=self.asked_precision,
            )
        )


def holder_names(count: int, length: int) -> tuple[HolderId, ...]:
    """Return so many names of one length."""
    return tuple(HolderId(f"{number}".ljust(length, "h")) for number in range(1, count + 1))
