"""From an opened sum to the mean on disk, with a part of either in memory: the sum waits in a blob until all of it is there.

Everything here blocks; the asyncio side calls it in an executor.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from coordinator.contracts import BlobStore, mean_name, upload_prefix
from he.packing import Layout, unpack_mean
from secagg import faults
from secagg.errors import StorageError
from secagg.ids import Digest, JobId, RoundNumber
from secagg.plan import JobSpec

PART_VALUES: Final = 1 << 17
"""Values that are divided and written at a time."""
_SUM: Final = np.dtype("<f8")

Floats = npt.NDArray[np.float64]


@contextmanager
def sum_on_disk(blobs: BlobStore, job: JobId, round: RoundNumber) -> Iterator[SumFile]:
    """Lend a file for a round's opened sum, gone afterwards; what a kill leaves of it goes with the round's uploads."""
    # Of another attempt, here or elsewhere, nothing must be in it.
    name = f"{upload_prefix(job, round)}/sum/{secrets.token_hex(8)}"
    try:
        yield SumFile(blobs, name)
    finally:
        with suppress(StorageError):
            blobs.delete_prefix(name)


class SumFile:
    """The opened sum of one round: float64, 8 bytes for each value, on disk.

    Args:
        blobs: where it lies.
        name: of its blob.
    """

    def __init__(self, blobs: BlobStore, name: str) -> None:
        self._blobs = blobs
        self._name = name
        self._size = 0

    def append(self, values: Floats) -> None:
        """Add the next values, float64 (k,)."""
        self._size = self._blobs.append(self._name, self._size, values.astype(_SUM, copy=False).tobytes())

    def write_mean(self, spec: JobSpec, round: RoundNumber) -> tuple[float, Digest, int]:
        """Write every tensor in the order of the plan, little-endian in its own dtype.

        Returns:
            Total weight in the units of the clients' weights, SHA-256 and bytes of the mean.

        Raises:
            HEError: the values are no sum of packed updates.
            StorageError: the mean could not be stored.
        """
        with closing(self._blobs.open(self._name)) as file:
            (last,) = self._read(file, spec.layout.entries, 1)
            _, total_weight = _mean_of(np.zeros(1), last, spec, "float64")
            # Hashed before it is written: the digest is in the name.
            hashed = hashlib.sha256()
            for part in self._parts(file, spec, last):
                hashed.update(part)
            digest = Digest(hashed.digest())
            size = self._blobs.write(mean_name(spec.job, round, digest), self._parts(file, spec, last))
        faults.reach("mean.written")
        return total_weight, digest, size

    def _read(self, file: BinaryIO, start: int, count: int) -> Floats:
        file.seek(start * _SUM.itemsize)
        return np.frombuffer(file.read(count * _SUM.itemsize), dtype=_SUM)

    def _parts(self, file: BinaryIO, spec: JobSpec, last: float) -> Iterator[bytes]:
        places = _places(spec.layout)
        for tensor in spec.tensors:
            first, after = places[tensor.name]
            for start in range(first, after, PART_VALUES):
                values = self._read(file, start, min(PART_VALUES, after - start))
                yield _mean_of(values, last, spec, tensor.dtype)[0]


def _places(layout: Layout) -> dict[str, tuple[int, int]]:
    """Return where each tensor's entries begin in the vector, and the place after its last one."""
    found, start = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        found[name] = (start, start + math.prod(shape))
        start += math.prod(shape)
    return found


def _mean_of(values: Floats, last: float, spec: JobSpec, dtype: str) -> tuple[bytes, float]:
    """Return the mean of some entries of one tensor, little-endian, and the total weight, which ``last`` tells."""
    layout = Layout(names=("",), shapes=(values.shape,), dtypes=(dtype,))
    mean, total_weight = unpack_mean(np.append(values, last), layout, spec.clip, spec.max_weight)
    part = mean[""]
    return part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes(), total_weight
