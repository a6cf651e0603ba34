"""The one module that imports TenSEAL: encryption under a public context, chunk by chunk.

TenSEAL's and SEAL's own exceptions stop here and become `HEError`.
"""

import numpy as np
import numpy.typing as npt
import tenseal

from he.ciphertext import chunk_from_seal
from he.errors import HEError
from he.ntt import Workspace
from he.parameters import Parameters
from he.plaintext import encoder_for
from he.public_key import PublicKey
from he.ring import Floats, Residues, ring_for
from he.tenseal_format import read_vector


class TenSealEngine:
    """A public TenSEAL context, loaded once. Holds the interpreter's lock while it encrypts."""

    def __init__(self, public_key: PublicKey) -> None:
        """Load the key into TenSEAL (about 0.1 s). Raises `HEError` when SEAL refuses it."""
        self._parameters: Parameters = public_key.parameters
        self._encoder = encoder_for(self._parameters)
        self._context = load_context(public_key.to_tenseal())

    def encrypt(self, values: Floats, key: bytes) -> tuple[Residues, Residues]:  # noqa: ARG002 - SEAL draws by itself
        """Encrypt float64 (k, chunk_values) to (c0, c1), each uint32 (k, L, N).

        TenSEAL takes real slots only. Of values in coefficients it encrypts zeros, in complex packing the
        real parts; the encoding of the rest is added to c0, which leaves c1, key and noise TenSEAL's own.
        """
        packing = self._parameters.packing
        if packing == "real":
            return self._encrypt_reals(values)
        rest = values.copy()
        if packing == "complex":
            rest[:, 0::2] = 0
            reals = values[:, 0::2]
        else:
            reals = np.zeros((len(values), self._parameters.slots))
        c0, c1 = self._encrypt_reals(reals)
        return ring_for(self._parameters).add(c0, self._encoding(rest)), c1

    def _encoding(self, values: Floats) -> Residues:
        """Encode without encryption: uint32 (k, L, N), NTT form."""
        ring = ring_for(self._parameters)
        parts = self._encoder.parts(values)
        out = np.empty((len(values), len(ring.primes), ring.degree), dtype=np.uint32)
        work = Workspace(len(values), ring.degree)
        for index, transform in enumerate(ring.transforms):
            modulus = transform.modulus
            reduced = self._encoder.reduce(parts, modulus.prime, work.low, work.scratch)
            modulus.canonical(reduced, work.scratch, out[:, index])
        return ring.forward(out)

    def _encrypt_reals(self, slots: Floats) -> tuple[Residues, Residues]:
        chunks = [read_vector(encrypt_slots(self._context, row), max_chunks=1).ciphertexts[0] for row in slots]
        halves = [chunk_from_seal(self._parameters, chunk) for chunk in chunks]
        return np.stack([c0 for c0, _ in halves]), np.stack([c1 for _, c1 in halves])


def load_context(data: bytes) -> tenseal.Context:
    """Load the bytes that `PublicKey.to_tenseal` made; never those of a peer."""
    try:
        # one thread: the pool would never have more than one chunk to work on
        return tenseal.context_from(data, n_threads=1)
    except (RuntimeError, ValueError) as error:
        raise HEError(f"TenSEAL refuses the public context: {error}") from error


def encrypt_slots(context: tenseal.Context, slots: npt.NDArray[np.float64]) -> bytes:
    """Encrypt one full chunk float64 (N/2,) to a serialised `CKKSVector` of one ciphertext.

    A longer vector would make TenSEAL print to stdout; a shorter one it repeats.
    """
    try:
        data: bytes = tenseal.ckks_vector(context, slots.tolist()).serialize()
    except (RuntimeError, ValueError) as error:
        raise HEError(f"TenSEAL cannot encrypt this chunk: {error}") from error
    return data
