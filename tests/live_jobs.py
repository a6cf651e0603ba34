"""Jobs and updates for tests of a live deployment, and what their mean must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count, cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.ids import HolderId, JobId
from secagg.messages.round import HolderVerdict, RoundStatus
from secagg.plan import CkksJob, Deadlines, JobSpec, MaskingJob, TensorSpec

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
WEIGHTS = (40.0, 30.0, 20.0, 50.0, 60.0)

Update = Mapping[str, npt.NDArray[Any]]

_numbers = count(1)


def live_job(**changes: Any) -> JobSpec:
    """Return a small job under a name of its own; three clients fill its roster."""
    fields: dict[str, Any] = {
        "job": JobId(f"job-{next(_numbers)}"),
        "purpose": "integration tests",
        "tensors": (
            TensorSpec(name="w", shape=(80, 60), dtype="float32"),
            TensorSpec(name="b", shape=(7,), dtype="float64"),
        ),
        "protocol": CkksJob(holders=HOLDERS),
        "min_contributors": 2,
        "max_clients": 3,
        "max_weight": 100.0,
        "min_total_weight": 50.0,
        "deadlines": live_deadlines(),
    }
    return JobSpec(**{**fields, **changes})


def live_masking_job(**changes: Any) -> JobSpec:
    """Return a small job without key holders; five clients fill its roster, and one of them may vanish."""
    fields = {"protocol": MaskingJob(dropout_fraction=0.2), "min_contributors": 4, "max_clients": 5}
    return live_job(**{**fields, **changes})


def live_deadlines(**changes: float) -> Deadlines:
    """Long enough never to matter, unless a test says otherwise."""
    return Deadlines(**{**dict.fromkeys(Deadlines.__dataclass_fields__, 30.0), **changes})


def updates_of(spec: JobSpec, names: Iterable[str]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return an update within the clip bound for each client, always the same one for a name."""
    made = {}
    for name in names:
        source = np.random.default_rng([*name.encode()])
        made[name] = {
            tensor.name: np.asarray(spec.clip * source.uniform(-0.9, 0.9, tensor.shape), dtype=tensor.dtype)
            for tensor in spec.tensors
        }
    return made


def largest_error(mean: Update, updates: Iterable[Update], weights: Iterable[float]) -> float:
    """Return how far any coordinate of a mean is off the weighted mean in float64."""
    given, known = list(updates), list(weights)
    total = sum(known)
    errors = []
    for name, array in mean.items():
        expected = sum(weight * one[name].astype(np.float64) for one, weight in zip(given, known, strict=True)) / total
        errors.append(np.abs(array.astype(np.float64) - expected).max())
    return float(max(errors))


def verdicts(status: RoundStatus) -> dict[str, HolderVerdict]:
    """Return what a round says of each key holder."""
    return {one.holder: one.verdict for one in status.holders}


def weights_of(names: Iterable[str]) -> dict[str, float]:
    """Return the weight of each client, by its place in the order of the names."""
    return dict(zip(sorted(names), cycle(WEIGHTS), strict=False))


def error_bound(spec: JobSpec, weights: Mapping[str, float]) -> float:
    """Return how far an entry of the mean may be off, as the plan has it for these contributors, and the dtype's rounding.

    In ``ckks`` six deviations of the noise, in ``masking`` the bound of the quantisation, which nothing exceeds.
    """
    total = sum(weights.values()) / spec.max_weight
    coarsest = max(float(np.finfo(tensor.dtype).eps) for tensor in spec.tensors)
    if isinstance(spec.protocol, MaskingJob):
        return spec.masking_parameters.mean_error(total) + spec.clip * coarsest
    deviation = spec.parameters(len(spec.ckks.holders)).mean_error(len(weights), total)
    return 6 * deviation + spec.clip * coarsest
