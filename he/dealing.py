"""Dealings: what holder i hands holder j in the third message, sealed, and what j makes of them.

Source: docs/protocol.md, section "Key ceremony" (DESIGN 4.2, steps 2 and 3).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from he.drawing import HolderSecrets
from he.errors import CeremonyError, FormatError
from he.key_share import (
    KeyShare,
    check_holder,
    subset_keys_from_bytes,
    subset_keys_to_bytes,
)
from he.parameters import Parameters
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from he.ring import key_ring_for
from he.sampling import derive
from he.sharing import evaluate
from he.smudging import Subset, subsets_with

_MAGIC: Final = b"HED1"
_HEADER: Final = struct.Struct("<4sBBBB")  # magic, sender, receiver, holders, threshold


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dealing:
    """f_i(j) over the key primes, (L+1, N) uint32 NTT form, and i's parts of shared subset keys."""

    parameters: Parameters
    sender: int
    receiver: int
    share: Residues
    smudging_parts: Mapping[Subset, bytes]

    def to_bytes(self) -> bytes:
        """Encode canonically: equal dealings are equal bytes."""
        counts = (self.parameters.holders, self.parameters.threshold)
        header = _HEADER.pack(_MAGIC, self.sender, self.receiver, *counts)
        parts = subset_keys_to_bytes(self.smudging_parts)
        return header + residues_to_bytes(self.share) + parts

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes, *, sender: int, receiver: int) -> Self:
        """Decode the dealing that `sender` owes `receiver`. Raises `FormatError` on anything else."""
        _check_header(parameters, data, sender, receiver)
        share_end = _HEADER.size + 4 * len(parameters.key_primes) * parameters.degree
        subsets = subsets_with(parameters.holders, parameters.threshold, sender, receiver)
        share = residues_from_bytes(data[_HEADER.size : share_end], parameters.key_primes, degree=parameters.degree)
        return cls(
            parameters=parameters,
            sender=sender,
            receiver=receiver,
            share=share,
            smudging_parts=subset_keys_from_bytes(data[share_end:], subsets),
        )


def _check_header(parameters: Parameters, data: bytes, sender: int, receiver: int) -> None:
    check_holder(parameters, sender)
    check_holder(parameters, receiver)
    counts = (parameters.holders, parameters.threshold)
    if data[: _HEADER.size] != _HEADER.pack(_MAGIC, sender, receiver, *counts):
        message = f"not a dealing from holder {sender} to holder {receiver} of this ceremony"
        raise FormatError(message)


def deal(secrets: HolderSecrets, receiver: int) -> Dealing:
    """Make the dealing for `receiver` (1..n, the sender itself included)."""
    parameters = secrets.parameters
    check_holder(parameters, receiver)
    subsets = subsets_with(parameters.holders, parameters.threshold, secrets.holder, receiver)
    return Dealing(
        parameters=parameters,
        sender=secrets.holder,
        receiver=receiver,
        share=evaluate(secrets.polynomial, receiver, parameters.key_primes),
        smudging_parts={subset: secrets.smudging_part(subset) for subset in subsets},
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CeremonyShare:
    """A share still on trial: S_j over the key primes, (L+1, N) uint32, and the smudging keys."""

    parameters: Parameters
    context: bytes
    holder: int
    secret: Residues
    smudging_keys: Mapping[Subset, bytes]

    def key_share(self, key_id: bytes) -> KeyShare:
        """Return the share to keep once the trial has passed: the special prime is dropped."""
        return KeyShare(
            parameters=self.parameters,
            holder=self.holder,
            key_id=key_id,
            secret=self.secret[: len(self.parameters.data_primes)].copy(),
            smudging_keys=dict(self.smudging_keys),
        )


def assemble(parameters: Parameters, holder: int, context: bytes, dealings: Iterable[Dealing]) -> CeremonyShare:
    """Add up what all n holders, `holder` itself included, dealt to `holder`.

    Raises `CeremonyError` unless there is exactly one dealing of each holder to this one.
    """
    by_sender = _one_of_each(parameters, holder, tuple(dealings))
    subsets = subsets_with(parameters.holders, parameters.threshold, holder)
    return CeremonyShare(
        parameters=parameters,
        context=context,
        holder=holder,
        secret=_added(parameters, [dealing.share for dealing in by_sender.values()]),
        smudging_keys={subset: _smudging_key(context, subset, by_sender) for subset in subsets},
    )


def _one_of_each(parameters: Parameters, holder: int, dealings: Sequence[Dealing]) -> dict[int, Dealing]:
    senders = sorted(dealing.sender for dealing in dealings)
    receivers = {dealing.receiver for dealing in dealings}
    if senders != [*range(1, parameters.holders + 1)] or receivers != {holder}:
        message = f"holder {holder} needs one dealing of each of {parameters.holders} holders"
        raise CeremonyError(message)
    return {dealing.sender: dealing for dealing in dealings}


def _added(parameters: Parameters, shares: Sequence[Residues]) -> Residues:
    ring = key_ring_for(parameters)
    total = np.zeros_like(shares[0])
    for share in shares:
        total = ring.add(total, share)
    return total


def _smudging_key(context: bytes, subset: Subset, dealings: Mapping[int, Dealing]) -> bytes:
    parts = b"".join(dealings[member].smudging_parts[subset] for member in subset)
    return derive(parts, b"he smudging key v1", context, bytes(subset))
