"""A calibration in which every piece of work takes a second, so that seconds count pieces."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from he.parameters import PACKINGS, PRESET_NAMES
from secagg.planning.calibration import (
    Calibration,
    CkksRates,
    MaskingRates,
    SharedRates,
    this_machine,
    versions,
)


def only(kind: type[Any], **seconds: float) -> Any:
    """Return rates of 0 s but for those given."""
    return kind(**{one.name: 0.0 for one in fields(kind)} | seconds)


def free() -> Calibration:
    """Return one in which nothing takes any time."""
    return Calibration(
        taken_at=datetime(2026, 11, 26, tzinfo=UTC),
        machine=this_machine(),
        versions=versions(),
        shared=only(SharedRates),
        masking=only(MaskingRates),
        ckks={f"{name} {packing}": only(CkksRates) for name in PRESET_NAMES for packing in PACKINGS},
    )


def counting(*, shared: str = "", masking: str = "", ckks: str = "") -> Calibration:
    """Return one in which only that piece of work takes time: a second."""
    made = free()
    return replace(
        made,
        shared=only(SharedRates, **({shared: 1.0} if shared else {})),
        masking=only(MaskingRates, **({masking: 1.0} if masking else {})),
        ckks={name: only(CkksRates, **({ckks: 1.0} if ckks else {})) for name in made.ckks},
    )
