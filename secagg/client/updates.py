"""The update that a caller submits, as one vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from he.errors import UpdateError
from he.packing import pack, verify_update
from secagg.errors import UsageError
from secagg.plan import JobSpec

Update: TypeAlias = Mapping[str, npt.NDArray[Any]]


def packed(update: Update, weight: float, spec: JobSpec) -> tuple[npt.NDArray[np.float64], int]:
    """Return an update packed and clipped, float64 (layout.values,), and how many entries were clipped.

    Raises:
        UsageError: the update does not fit the job; it names the tensor and the way out.
    """
    with _told_to_the_caller():
        return pack(update, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)


def verify_fits(update: Update, weight: float, spec: JobSpec) -> None:
    """Raise what `packed` would, at a fraction of its cost."""
    with _told_to_the_caller():
        verify_update(update, weight, layout=spec.layout, max_weight=spec.max_weight)


@contextmanager
def _told_to_the_caller() -> Iterator[None]:
    try:
        yield
    except UpdateError as error:
        raise UsageError(str(error), next_step="Correct the update; nothing of it was sent") from error
