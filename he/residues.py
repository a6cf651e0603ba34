"""Ring elements as bytes: C-order little-endian uint32, every residue below its prime."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from he.errors import FormatError

Residues = npt.NDArray[np.uint32]


def residues_to_bytes(array: Residues) -> bytes:
    """Encode residues (..., L, N), uint32; 4 bytes each."""
    return array.astype("<u4", copy=False).tobytes()


def residues_from_bytes(data: bytes | memoryview, primes: Sequence[int], *leading: int, degree: int) -> Residues:
    """Decode residues of shape (*leading, len(primes), degree), uint32, as a fresh array.

    Raises `FormatError` on another length or on a residue that is not below its prime.
    """
    shape = (*leading, len(primes), degree)
    expected_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if len(data) != expected_bytes:
        message = f"expected {expected_bytes} bytes of residues, got {len(data)}"
        raise FormatError(message)
    array = np.frombuffer(data, dtype="<u4").reshape(shape).astype(np.uint32)
    if not are_canonical(array, primes):
        message = "a residue is not below its prime"
        raise FormatError(message)
    return array


def are_canonical(array: Residues, primes: Sequence[int]) -> bool:
    """Tell whether every residue of (..., L, N) is below its prime."""
    return all(bool((array[..., index, :] < prime).all()) for index, prime in enumerate(primes))
