"""What a caller of the SDK gets: progress on the way, and the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.messages.round import Phase
from secagg.plan import JobSpec


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an update is.

    Attributes:
        phase: OPEN while a round is awaited, the update encrypted and the roster not frozen; in ``masking`` SHARING while
            shares are exchanged; the first UPLOADING comes when the roster is verified and before a byte of the update is
            sent or masked; then the round's own phases to PUBLISHED.
        done: chunks encrypted in OPEN, bytes sent from UPLOADING on.
        total: of how many; 0 while no round is there.
        round: the round's number; 0 while no round is there.
        note: why another round than the last one is awaited, where that is no everyday matter; mostly empty.
    """

    phase: Phase
    done: int
    total: int
    round: int
    note: str = ""


ProgressCallback: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What a round published.

    Attributes:
        mean: the weighted mean, with the names, shapes and dtypes of the update.
        total_weight: sum of the contributors' weights.
        contributors: the clients whose updates are in it, by name; this one among them.
        round: the round's number.
        clipped: how many entries of this client's own update were clipped.
        uploaded_bytes: length of this client's own ciphertext or masked vector.
        resumed: whether what counts is the update that an earlier process masked, and not the one given to this call.
    """

    mean: dict[str, npt.NDArray[Any]] = field(repr=False)
    total_weight: float
    contributors: tuple[str, ...]
    round: int
    clipped: int
    uploaded_bytes: int
    resumed: bool = False


def mean_from_bytes(spec: JobSpec, data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a verified mean: names, shapes and dtypes of the plan, in this machine's byte order."""
    mean, start = {}, 0
    for tensor in spec.tensors:
        dtype = np.dtype(tensor.dtype)
        flat = np.frombuffer(data, dtype=dtype.newbyteorder("<"), count=tensor.size, offset=start)
        mean[tensor.name] = flat.reshape(tensor.shape).astype(dtype)
        start += tensor.size * dtype.itemsize
    return mean
