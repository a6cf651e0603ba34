"""The collective public key, and the TenSEAL context that we assemble around it."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

import numpy as np

from he.errors import FormatError, ParameterError
from he.parameters import Parameters
from he.ring import Residues
from he.seal_format import SealCiphertext, parms_id, write_ciphertext, write_encryption_parameters
from he.tenseal_format import ContextBytes, write_context

_DIGEST_LABEL: Final = b"secagg he public key v1\0"


@dataclass(frozen=True, eq=False)
class PublicKey:
    """The pair (b, a) with b = -a·s + e: uint32 (L+1, N) over the key primes, NTT form.

    Raises `ParameterError` on arrays of another shape, dtype or range: decode with `from_bytes`.
    """

    parameters: Parameters
    a: Residues
    b: Residues

    def __post_init__(self) -> None:
        for polynomial in (self.a, self.b):
            if polynomial.dtype != np.uint32 or polynomial.shape != _shape(self.parameters):
                raise ParameterError(f"polynomial is not uint32 {_shape(self.parameters)}")
            if not _is_reduced(self.parameters, polynomial):
                raise ParameterError("a residue is not below its prime")

    def to_tenseal(self) -> bytes:
        """A public TenSEAL context: parameters, this key and the scale; no other key in it."""
        parameters = self.parameters
        key = SealCiphertext(
            parms_id=parms_id(parameters.degree, parameters.key_primes),
            ntt_form=True,
            scale=1.0,
            correction_factor=1,
            polynomials=np.stack([self.b, self.a]).astype(np.uint64),
        )
        context = ContextBytes(
            encryption_parameters=write_encryption_parameters(parameters.degree, parameters.key_primes),
            public_key=write_ciphertext(key),
            scale=parameters.scale,
        )
        return write_context(context)

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) over the parameters' digest and both polynomials."""
        polynomials = self.a.astype("<u4", copy=False).tobytes() + self.to_bytes()
        return sha256(_DIGEST_LABEL + self.parameters.digest() + polynomials).digest()

    def to_bytes(self) -> bytes:
        """Wire form of b alone, little-endian uint32 (L+1, N): everybody expands `a` himself."""
        return self.b.astype("<u4", copy=False).tobytes()

    @classmethod
    def from_bytes(cls, parameters: Parameters, a: Residues, data: bytes | memoryview) -> Self:
        """Join a received b to the `a` that the receiver expanded. Raises `FormatError`."""
        rows, degree = _shape(parameters)
        if len(data) != 4 * rows * degree:
            raise FormatError(f"public key of {len(data)} bytes, not {4 * rows * degree}")
        b = np.frombuffer(data, dtype="<u4").reshape(rows, degree).astype(np.uint32)
        if not _is_reduced(parameters, b):
            raise FormatError("public key has a residue that is not below its prime")
        return cls(parameters, a, b)


def _shape(parameters: Parameters) -> tuple[int, int]:
    return len(parameters.key_primes), parameters.degree


def _is_reduced(parameters: Parameters, polynomial: Residues) -> bool:
    return bool((polynomial.max(axis=-1) < np.array(parameters.key_primes, dtype=np.uint32)).all())
