"""The trial decryption that proves a key before it is used.

(sum b_i, a) is an encryption of zero over the key primes. Every holder answers a·S_j plus its
smudging term, derived under the key id. The key id hashes the transcript, every sealed dealing
included, so a dealer cannot fit a wrong share to wrong smudging keys: it would have to know the
smudging before it deals. `a` is invertible, so no slot of a share escapes.

Source: docs/protocol.md, section "Key ceremony" (DESIGN 4.2, step 4).
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from he.dealing import CeremonyShare
from he.drawing import public_a
from he.errors import CeremonyError, FormatError
from he.key_share import check_holder
from he.parameters import Parameters
from he.public_key import PublicKey
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from he.ring import key_ring_for
from he.sampling import ERROR_ETA
from he.sharing import value_at_zero
from he.smudging import Smudger, noise_centre

_MAGIC: Final = b"HET1"
_HEADER: Final = struct.Struct("<4sB")  # magic, holder


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialAnswer:
    """One holder's answer: (L+1, N) uint32 in NTT form over the key primes. Public."""

    parameters: Parameters
    holder: int
    values: Residues

    def to_bytes(self) -> bytes:
        """Encode canonically: equal answers are equal bytes."""
        return _HEADER.pack(_MAGIC, self.holder) + residues_to_bytes(self.values)

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes, *, holder: int) -> Self:
        """Decode the answer of `holder`. Raises `FormatError` on anything else."""
        check_holder(parameters, holder)
        if data[: _HEADER.size] != _HEADER.pack(_MAGIC, holder):
            message = f"not a trial answer of holder {holder}"
            raise FormatError(message)
        values = residues_from_bytes(data[_HEADER.size :], parameters.key_primes, degree=parameters.degree)
        return cls(parameters=parameters, holder=holder, values=values)


def trial_answer(share: CeremonyShare, key_id: bytes) -> TrialAnswer:
    """Answer the trial; `key_id` (32 bytes) hashes the transcript with every sealed dealing."""
    parameters = share.parameters
    ring = key_ring_for(parameters)
    a = public_a(parameters, share.context)
    smudger = Smudger(
        parameters,
        holder=share.holder,
        key_id=key_id,
        subset_keys=share.smudging_keys,
        primes=parameters.key_primes,
    )
    noise = ring.forward(smudger.noise(a[None])[0])
    values = ring.add(ring.multiply(a, share.secret), noise)
    return TrialAnswer(parameters=parameters, holder=share.holder, values=values)


def trial_bound(parameters: Parameters) -> int:
    """Largest honest coefficient: n·21 of the errors, and 2(2^w - 1) of each subset's smudging.

    A wrong key opens to uniform coefficients modulo the key modulus K, all of which stay within
    the bound B with probability (2B/K)^N: below 2^-N for every preset.
    """
    smudging = parameters.smudging_subsets * noise_centre(parameters.smudging_word_bits)
    return parameters.holders * ERROR_ETA + smudging


def verify_trial(public_key: PublicKey, answers: Iterable[TrialAnswer]) -> None:
    """Check that the answers of all n holders prove the key.

    Raises `CeremonyError` without holders: who lied shows only once the seeds are open, since
    an honest holder that was dealt a wrong share answers wrongly too.
    """
    parameters = public_key.parameters
    by_holder = {answer.holder: answer.values[None] for answer in answers}
    if sorted(by_holder) != [*range(1, parameters.holders + 1)]:
        message = f"the trial needs the answers of all {parameters.holders} holders"
        raise CeremonyError(message)
    value, agree = value_at_zero(by_holder, parameters.threshold, parameters.key_primes)
    if not agree.all():
        message = "the trial answers do not lie on one polynomial: the key is dead"
        raise CeremonyError(message)
    ring = key_ring_for(parameters)
    opened = ring.inverse(ring.add(public_key.b, value[0]))
    if not _are_small(opened, parameters.key_primes, trial_bound(parameters)):
        message = "the trial does not open to small noise: the key is dead"
        raise CeremonyError(message)


def _are_small(coefficients: Residues, primes: tuple[int, ...], bound: int) -> bool:
    """Whether |x| <= bound for every x given by residues (L, N), exactly (CRT on integers)."""
    modulus = math.prod(primes)
    lifted = np.zeros(coefficients.shape[1], dtype=object)
    for row, prime in zip(coefficients, primes, strict=True):
        rest = modulus // prime
        lifted += row.astype(object) * (rest * pow(rest, -1, prime))
    lifted = (lifted + bound) % modulus
    return bool((lifted <= 2 * bound).all())
