"""A holder's share of one round's key: its point of the secret, and its smudging keys."""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from he.errors import FormatError
from he.parameters import Parameters
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from he.sampling import KEY_BYTES
from he.smudging import Subset, subsets_with

KEY_ID_BYTES: Final = 32

_MAGIC: Final = b"HEK1"
_HEADER: Final = struct.Struct("<4sB32s32s")  # magic, holder, parameters' digest, key id


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KeyShare:
    """What holder `holder` (1..n) keeps of a key: secret, to be sealed on disk and destroyed.

    `secret` is S_j over the data primes, NTT form, (L, N) uint32; `smudging_keys` holds 32 bytes
    for every subset of n-t+1 holders with this one; `key_id` (32 bytes) is the transcript's hash.
    """

    parameters: Parameters
    holder: int
    key_id: bytes
    secret: Residues
    smudging_keys: Mapping[Subset, bytes]

    def __repr__(self) -> str:
        """Name the share, and nothing of what it holds."""
        return f"KeyShare(holder={self.holder}, key_id={self.key_id.hex()})"

    def to_bytes(self) -> bytes:
        """Encode everything but the parameters, of which only the digest is stored."""
        digest = self.parameters.digest()
        header = _HEADER.pack(_MAGIC, self.holder, digest, self.key_id)
        keys = subset_keys_to_bytes(self.smudging_keys)
        return header + residues_to_bytes(self.secret) + keys

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes) -> Self:
        """Decode what `to_bytes` made under the same parameters. Raises `FormatError`."""
        holder, key_id = _read_header(parameters, data)
        secret_end = _HEADER.size + 4 * len(parameters.data_primes) * parameters.degree
        subsets = subsets_with(parameters.holders, parameters.threshold, holder)
        secret = residues_from_bytes(data[_HEADER.size : secret_end], parameters.data_primes, degree=parameters.degree)
        return cls(
            parameters=parameters,
            holder=holder,
            key_id=key_id,
            secret=secret,
            smudging_keys=subset_keys_from_bytes(data[secret_end:], subsets),
        )


def _read_header(parameters: Parameters, data: bytes) -> tuple[int, bytes]:
    if len(data) < _HEADER.size:
        message = "a key share is longer than this"
        raise FormatError(message)
    magic, holder, digest, key_id = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        message = "these bytes are not a key share"
        raise FormatError(message)
    if not hmac.compare_digest(digest, parameters.digest()):
        message = "the key share belongs to other parameters"
        raise FormatError(message)
    check_holder(parameters, holder)
    return holder, key_id


def check_holder(parameters: Parameters, holder: int) -> None:
    """Raise `FormatError` unless `holder` is one of 1..n: zero is where the secret lies."""
    if not 1 <= holder <= parameters.holders:
        message = f"holder {holder} is not one of 1 to {parameters.holders}"
        raise FormatError(message)


def subset_keys_to_bytes(keys: Mapping[Subset, bytes]) -> bytes:
    """Members (one byte each) and 32 bytes of key for every subset, in lexicographic order."""
    return b"".join(bytes(subset) + keys[subset] for subset in sorted(keys))


def subset_keys_from_bytes(data: bytes, subsets: tuple[Subset, ...]) -> dict[Subset, bytes]:
    """Decode the keys of exactly `subsets`, in their order. Raises `FormatError`."""
    entry_bytes = (len(subsets[0]) if subsets else 0) + KEY_BYTES
    if len(data) != entry_bytes * len(subsets):
        message = f"expected {len(subsets)} smudging keys in {entry_bytes * len(subsets)} bytes"
        raise FormatError(message)
    entries = [data[at : at + entry_bytes] for at in range(0, len(data), entry_bytes)]
    for subset, entry in zip(subsets, entries, strict=True):
        if entry[: len(subset)] != bytes(subset):
            message = "the smudging keys are those of other subsets"
            raise FormatError(message)
    return {subset: entry[len(subset) :] for subset, entry in zip(subsets, entries, strict=True)}
