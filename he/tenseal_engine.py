"""The one module that imports TenSEAL: encryption of one chunk under a public context.

TenSEAL's and SEAL's own exceptions stop here and become `HEError`.
"""

import numpy as np
import numpy.typing as npt
import tenseal

from he.errors import HEError


class Engine:
    """A public TenSEAL context, loaded once. Holds the interpreter's lock while it encrypts."""

    def __init__(self, context: bytes) -> None:
        """Load the bytes that `PublicKey.to_tenseal` made; never those of a peer."""
        try:
            # one thread: the pool would never have more than one chunk to work on
            self._context = tenseal.context_from(context, n_threads=1)
        except (RuntimeError, ValueError) as error:
            raise HEError(f"TenSEAL refuses the public context: {error}") from error

    def encrypt(self, slots: npt.NDArray[np.float64]) -> bytes:
        """Encrypt one full chunk float64 (N/2,) to a serialised `CKKSVector` of one ciphertext.

        A longer vector would make TenSEAL print to stdout; a shorter one it repeats.
        """
        try:
            vector = tenseal.ckks_vector(self._context, slots.tolist())
            data: bytes = vector.serialize()
        except (RuntimeError, ValueError) as error:
            raise HEError(f"TenSEAL cannot encrypt this chunk: {error}") from error
        return data
