"""SEAL's public-key encryption in numpy, of whole batches of chunks.

(c0, c1) = round((b, a)·u + (e0, e1)) / P) + (m, 0): encryption of zero over the key primes, divided by the
special prime P with rounding, as SEAL's modulus switch does it. Of that only the residues modulo
P are computed as coefficients: with r = b·u + e0 mod P, centred, the quotient is
(b·u + e0 - r)/P, whose NTT modulo a data prime is (b/P)·NTT(u) + NTT((e0 - r)/P + m). For each
chunk that is 1 + L transforms of the small u, two inverses modulo P and 2L forward transforms.

Source: docs/protocol.md, section 7.2; docs/adr/0014-our-own-encryptor.md.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from he.ntt import Floats, Modulus, Residues, Transform, Workspace, aligned, split
from he.plaintext import encoder_for
from he.public_key import PublicKey
from he.ring import batch_chunks, key_ring_for
from he.sampling import centred_binomial, derive, ternary

Small = npt.NDArray[np.int8]


class NumpyEngine:
    """A public key tabulated for encryption; several threads may share it."""

    def __init__(self, public_key: PublicKey) -> None:
        """Tabulate b/P and a/P modulo every data prime, b and a modulo P."""
        self._parameters = public_key.parameters
        *data, special = key_ring_for(self._parameters).transforms
        halves = (public_key.b, public_key.a)
        self._encoder = encoder_for(self._parameters)
        self._rounding = _Rounding(special, halves)
        self._levels = [
            _Level(transform, special.modulus.prime, [half[index] for half in halves])
            for index, transform in enumerate(data)
        ]

    def encrypt(self, values: Floats, key: bytes) -> tuple[Residues, Residues]:
        """Encrypt float64 (k, chunk_values) to (c0, c1), each uint32 (k, L, N).

        `key` (32 bytes) is used for these chunks alone: it fixes u, e0 and e1.
        """
        degree, batch = self._parameters.degree, batch_chunks(self._parameters.degree)
        small = small_polynomials(key, len(values), degree)
        shape = (len(values), len(self._levels), degree)
        c0, c1 = np.empty(shape, dtype=np.uint32), np.empty(shape, dtype=np.uint32)
        work = _Memory(min(batch, len(values)), degree)
        for start in range(0, len(values), batch):
            part = slice(start, start + batch)
            if len(values[part]) < len(work.u_hat):
                work = _Memory(len(values[part]), degree)
            self._encrypt_batch(values[part], [drawn[part] for drawn in small], (c0[part], c1[part]), work)
        return c0, c1

    def _encrypt_batch(
        self, values: Floats, small: Sequence[Small], out: tuple[Residues, Residues], work: "_Memory"
    ) -> None:
        u, *errors = small
        self._rounding.remainders(u, errors, work)
        parts = self._encoder.parts(values)
        for index, level in enumerate(self._levels):
            level.evaluate(u, work)
            message = self._encoder.reduce(parts, level.modulus.prime, work.ntt.low, work.ntt.scratch)
            level.encrypt(message, work, (out[0][:, index], out[1][:, index]))


def small_polynomials(key: bytes, chunks: int, degree: int) -> tuple[Small, Small, Small]:
    """u, e0 and e1 of so many chunks, each int8 (chunks, degree)."""
    count = chunks * degree
    drawn = (
        ternary(derive(key, b"he encryption u v1"), count),
        centred_binomial(derive(key, b"he encryption e0 v1"), count),
        centred_binomial(derive(key, b"he encryption e1 v1"), count),
    )
    u, e0, e1 = (polynomials.reshape(chunks, degree) for polynomials in drawn)
    return u, e0, e1


class _Memory:
    """Arrays of one batch, of one thread at a time."""

    def __init__(self, chunks: int, degree: int) -> None:
        self.ntt = Workspace(chunks, degree)
        self.u_hat: Floats = aligned(chunks, degree)
        self.remainders: Floats = aligned(2, chunks, degree)

    def evaluate(self, u: Small, transform: Transform) -> None:
        """Write NTT(u), centred, to `u_hat`."""
        np.copyto(self.ntt.low, u)
        evaluated = transform.forward_small(self.ntt.low, self.ntt)
        np.copyto(self.u_hat, transform.modulus.centre(evaluated, self.ntt.scratch))


class _Rounding:
    """The part modulo the special prime: what has to be subtracted to make the division exact."""

    def __init__(self, transform: Transform, halves: Sequence[Residues]) -> None:
        self._transform = transform
        chunks = batch_chunks(halves[0].shape[-1])
        self._factors = [transform.modulus.factors(half[-1], chunks) for half in halves]

    def remainders(self, u: Small, errors: Sequence[Small], work: _Memory) -> None:
        """Write e - (b·u + e mod P), |x| <= P/2 + 25, for both halves."""
        modulus, ntt = self._transform.modulus, work.ntt
        work.evaluate(u, self._transform)
        for factors, error, remainder in zip(self._factors, errors, work.remainders, strict=True):
            np.copyto(remainder, work.u_hat)
            product = modulus.multiply(remainder, factors, ntt.low, ntt.scratch)
            opened = self._transform.inverse(product, ntt)
            np.copyto(remainder, error)
            opened += remainder
            np.subtract(remainder, modulus.centre(opened, ntt.scratch), out=remainder)


class _Level:
    """The part modulo one data prime."""

    def __init__(self, transform: Transform, special_prime: int, halves: Sequence[npt.NDArray[np.uint32]]) -> None:
        self.modulus: Modulus = transform.modulus
        self._transform = transform
        self._inverse = self.modulus.centred_power(special_prime, -1)
        chunks = batch_chunks(halves[0].shape[-1])
        self._factors = [self.modulus.factors(half.astype(np.int64) * self._inverse, chunks)[0] for half in halves]
        self._divided_rows = transform.scaled_rows(self._inverse)

    def evaluate(self, u: Small, work: _Memory) -> None:
        """Prepare u for `encrypt`."""
        work.evaluate(u, self._transform)

    def encrypt(self, message: Floats, work: _Memory, out: tuple[Residues, Residues]) -> None:
        """Write c0 and c1, each uint32 (k, N), of the u that was evaluated last.

        `message` is spoiled. It may be the low limb: made after `evaluate`, therefore, which needs it.
        """
        ntt = work.ntt
        # at most (P/2 + 25)·p/2 + p/2 + 4, below 2^53
        np.multiply(work.remainders[0], self._inverse, out=ntt.scratch)
        message += ntt.scratch
        self._add_mask(self._transform.forward(self.modulus.centre(message, ntt.scratch), ntt), 0, work, out[0])
        limbs = split(work.remainders[1], ntt.limbs)
        self._add_mask(self._transform.forward_limbs(limbs, ntt, self._divided_rows), 1, work, out[1])

    def _add_mask(self, evaluated: Floats, half: int, work: _Memory, out: npt.NDArray[np.uint32]) -> None:
        """Add (b/P)·u, below 2^52, to evaluations below 2^50."""
        scratch = work.ntt.scratch
        np.multiply(work.u_hat, self._factors[half][: len(scratch)], out=scratch)
        evaluated += scratch
        self.modulus.canonical(self.modulus.centre(evaluated, scratch), scratch, out)
