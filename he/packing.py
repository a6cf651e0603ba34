"""A named set of tensors and a weight as one vector, and the weighted mean back out of a sum.

A client sends w·x and w (as w·clip, so that every entry uses the same range); the mean is
Σ w·x / Σ w. Source: docs/protocol.md, section "Weights" (DESIGN 3).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from he.errors import ImplausibleSumError, UpdateError

DTYPES: Final = frozenset({f"float{bits}" for bits in (16, 32, 64)} | {f"int{bits}" for bits in (8, 16, 32, 64)})
"""Element types that a tensor may have; integer means are rounded to nearest."""

_PIECE_VALUES: Final = 1 << 15  # 256 KiB of float64, which stay in the cache from the first pass to the last


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names, shapes and dtypes (numpy's names) of the tensors, in order of sorted names.

    Raises `UpdateError` when the three do not describe a set of tensors in canonical order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.shapes) == len(self.dtypes):
            raise UpdateError("layout needs one shape and one dtype for each name")
        if list(self.names) != sorted(set(self.names)):
            raise UpdateError("layout names must be sorted and distinct")
        for name, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            if dtype not in DTYPES:
                raise UpdateError(f"tensor {name!r} is {dtype}: convert it to one of {', '.join(sorted(DTYPES))}")
            if min(shape, default=0) < 0:
                raise UpdateError(f"tensor {name!r} has the impossible shape {shape}")
        if self.entries == 0:
            raise UpdateError("the tensors hold no entry at all: leave out empty updates")

    @classmethod
    def of(cls, update: Mapping[str, npt.NDArray[np.generic]]) -> Self:
        """Describe an update, which must map names to numpy arrays."""
        _verify_arrays(update)
        names = tuple(sorted(update))
        return cls(
            names=names,
            shapes=tuple(update[name].shape for name in names),
            dtypes=tuple(update[name].dtype.name for name in names),
        )

    @property
    def entries(self) -> int:
        """Entries of all tensors together."""
        return sum(map(math.prod, self.shapes))

    @property
    def values(self) -> int:
        """Length of the packed vector: all entries and the weight."""
        return self.entries + 1


def verify_update(
    update: Mapping[str, npt.NDArray[np.generic]], weight: float, *, layout: Layout, max_weight: float
) -> None:
    """Raise what `pack` would, `UpdateError`, without a vector."""
    _verify_tensors(update, weight, layout=layout, max_weight=max_weight)
    for name in layout.names:
        flat = np.asarray(update[name]).reshape(-1)
        for start in range(0, len(flat), _PIECE_VALUES):
            _verify_finite(name, finite=np.isfinite(flat[start : start + _PIECE_VALUES]).all())


def pack(
    update: Mapping[str, npt.NDArray[np.generic]],
    weight: float,
    *,
    layout: Layout,
    clip: float,
    max_weight: float,
) -> tuple[npt.NDArray[np.float64], int]:
    """Vector float64 (layout.values,) of w·clip(x) and w·clip, with the count of clipped entries.

    w = weight / max_weight lies in (0, 1]. Raises `UpdateError` naming the tensor and the way out.
    """
    _verify_tensors(update, weight, layout=layout, max_weight=max_weight)
    vector = np.empty(layout.values)
    start = clipped = 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        stop = start + math.prod(shape)
        clipped += _fill(vector[start:stop], name, np.asarray(update[name]), clip, weight / max_weight)
        start = stop
    vector[-1] = clip * (weight / max_weight)
    return vector, clipped


def _fill(out: npt.NDArray[np.float64], name: str, tensor: npt.NDArray[np.generic], clip: float, factor: float) -> int:
    """Write factor·clip(x) for each entry in C order; returns how many were clipped."""
    source, clipped = tensor.reshape(-1), 0
    magnitudes = np.empty(min(len(out), _PIECE_VALUES))
    for start in range(0, len(out), _PIECE_VALUES):
        piece = out[start : start + _PIECE_VALUES]
        piece[:] = source[start : start + _PIECE_VALUES]
        top = np.abs(piece, out=magnitudes[: len(piece)]).max()  # NaN if there is one
        _verify_finite(name, finite=math.isfinite(top))
        if top > clip:
            clipped += int(np.count_nonzero(magnitudes[: len(piece)] > clip))
            np.clip(piece, -clip, clip, out=piece)
        piece *= factor
    return clipped


def unpack_mean(
    vector: npt.NDArray[np.float64],
    layout: Layout,
    clip: float,
    max_weight: float,
) -> tuple[dict[str, npt.NDArray[np.generic]], float]:
    """Weighted mean by name, and the total weight in the units of the callers' weights.

    `vector` is a sum float64 (layout.values,) of packed vectors. Raises `ImplausibleSumError`
    when its total weight is not positive.
    """
    if vector.shape != (layout.values,):
        raise UpdateError(f"sum of shape {vector.shape}; the layout has {layout.values} values")
    total = float(vector[-1]) / clip
    if not (math.isfinite(total) and total > 0):
        raise ImplausibleSumError(f"total weight is {total!r}: a client sent something that is no weight")
    mean: dict[str, npt.NDArray[np.generic]] = {}
    start = 0
    for name, shape, dtype in zip(layout.names, layout.shapes, layout.dtypes, strict=True):
        stop = start + math.prod(shape)
        mean[name] = _as_dtype(vector[start:stop] / total, dtype).reshape(shape)
        start = stop
    return mean, total * max_weight


def _verify_arrays(update: Mapping[str, object]) -> None:
    for name, tensor in update.items():
        if not isinstance(tensor, np.ndarray):
            raise UpdateError(f"tensor {name!r} is a {type(tensor).__name__}: pass a numpy array")


def _verify_tensors(
    update: Mapping[str, npt.NDArray[np.generic]], weight: float, *, layout: Layout, max_weight: float
) -> None:
    if not 0 < weight <= max_weight:
        raise UpdateError(f"weight {weight!r} is not in (0, {max_weight!r}]: the plan's max_weight bounds it")
    if set(update) != set(layout.names):
        raise UpdateError(f"tensors {sorted(set(update) ^ set(layout.names))} are missing or not in the plan")
    _verify_arrays(update)
    for name, shape, dtype in zip(layout.names, layout.shapes, layout.dtypes, strict=True):
        _verify_tensor(name, update[name], shape, dtype)


def _verify_finite(name: str, *, finite: bool | np.bool_) -> None:
    if not finite:
        raise UpdateError(f"tensor {name!r} holds NaN or infinity: drop this update or repair the training step")


def _verify_tensor(name: str, tensor: npt.NDArray[np.generic], shape: tuple[int, ...], dtype: str) -> None:
    if tensor.shape != shape:
        raise UpdateError(f"tensor {name!r} has shape {tensor.shape}, the plan says {shape}: reshape it")
    if tensor.dtype.name != dtype:
        raise UpdateError(f"tensor {name!r} is {tensor.dtype.name}, the plan says {dtype}: convert it with astype")


def _as_dtype(values: npt.NDArray[np.float64], dtype: str) -> npt.NDArray[np.generic]:
    kind = np.dtype(dtype)
    if kind.kind == "i":
        limit = 2.0 ** (8 * kind.itemsize - 1)
        # just below the limit truncates to the largest integer, in int64 to the largest that float64 holds
        return np.clip(np.rint(values), -limit, np.nextafter(limit, 0)).astype(kind)
    with np.errstate(over="ignore"):
        cast = values.astype(kind)
    if not np.isfinite(cast).all():
        raise ImplausibleSumError(f"a mean exceeds {dtype}: the total weight is too small for these entries")
    return cast
