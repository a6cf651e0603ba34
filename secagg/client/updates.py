"""The update that a caller submits, as one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from he.errors import UpdateError
from he.packing import pack
from secagg.errors import UsageError
from secagg.plan import JobSpec

Update: TypeAlias = Mapping[str, npt.NDArray[Any]]


def packed(update: Update, weight: float, spec: JobSpec) -> tuple[npt.NDArray[np.float64], int]:
    """Return an update packed and clipped, float64 (layout.values,), and how many entries were clipped.

    Raises:
        UsageError: the update does not fit the job; it names the tensor and the way out.
    """
    try:
        return pack(update, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)
    except UpdateError as error:
        raise UsageError(str(error), next_step="Correct the update; nothing of it was sent") from error
