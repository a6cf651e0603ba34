"""What each step of a ``ckks`` round takes on this machine, done by the product's own functions, without disk and network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Final

import numpy as np

from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, chunk_to_bytes, half_chunk_bytes
from he.encrypt import BLOCK_CHUNKS, SEED_BYTES, Encryptor
from he.errors import ParameterError
from he.key_share import KeyShare
from he.keygen import generate
from he.parameters import PACKINGS, Parameters, preset
from he.partial import answer_block
from he.public_key import PublicKey
from he.recover import open_block
from he.residues import residues_to_bytes
from he.ring import Residues
from secagg.client.encryption import LANES
from secagg.cores import usable_cores
from secagg.planning.calibration import CkksRates
from secagg.planning.stopwatch import in_lanes, line_through, seconds_of
from secagg.transcript import CiphertextRoot

BLOCKS: Final = 2
"""As many as a client works on at a time."""
CLIENTS: Final = 100
_COLD_BYTES: Final = 8 * 1024**2
"""What is added up, and its sum, are longer than what a cache keeps."""
_OTHER_HOLDERS: Final = (3, 2)


@dataclass(frozen=True)
class _Round:
    """A key of n holders, t of whom open, and a few chunks encrypted under it."""

    preset: str
    packing: str
    holders: int = 5
    threshold: int = 3

    @cached_property
    def parameters(self) -> Parameters:
        def fitted(values: int) -> Parameters:
            numbers = {"max_clients": CLIENTS, "holders": self.holders, "threshold": self.threshold}
            return preset(self.preset, values=values, packing=self.packing, **numbers)

        return fitted(BLOCKS * BLOCK_CHUNKS * fitted(1).chunk_values)

    @cached_property
    def keys(self) -> tuple[PublicKey, tuple[KeyShare, ...]]:
        return generate(self.parameters)

    @cached_property
    def vector(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        made: np.ndarray[tuple[int], np.dtype[np.float64]] = np.random.default_rng(1).uniform(
            -1, 1, self.parameters.values
        )
        return made

    @cached_property
    def halves(self) -> tuple[Residues, Residues]:
        """One block of a ciphertext."""
        return self._encryptor().encrypt_block(self.vector, 0)

    def _encryptor(self) -> Encryptor:
        return Encryptor(self.keys[0], engine="numpy", seed=os.urandom(SEED_BYTES))

    def encrypt(self, lanes: int) -> None:
        """Encrypt, serialise and hash the vector, as `secagg.client.encryption` does."""
        encryptor = self._encryptor()

        def block(index: int) -> None:
            for half in encryptor.encrypt_block(self.vector, index):
                root = CiphertextRoot()
                for chunk in half:
                    root.add(chunk_to_bytes(chunk))

        in_lanes(block, range(encryptor.blocks), lanes)

    @cached_property
    def sent(self) -> tuple[list[bytes], list[bytes]]:
        """Both halves of a long ciphertext, chunk by chunk."""
        copies = -(-_COLD_BYTES // (BLOCK_CHUNKS * half_chunk_bytes(self.parameters)))
        c0, c1 = ([chunk_to_bytes(chunk) for _ in range(copies) for chunk in half] for half in self.halves)
        return c0, c1

    def receive(self, total: ResidueAccumulator) -> None:
        """Do with a client's block what the coordinator does: part digests, roots, residues, then the sum of c0."""
        c0, c1 = self.sent
        for chunks in (c0, c1):
            for data in chunks:
                hashlib.sha256(data)
                hashlib.sha256(data)
                chunk_from_bytes(self.parameters, data)
        for index, data in enumerate(c0):
            total.add_chunk(index, chunk_from_bytes(self.parameters, data))

    def add(self, total: ResidueAccumulator) -> None:
        """Do with a client's c1 what a key holder does."""
        for index, data in enumerate(self.sent[1]):
            total.add_chunk(index, chunk_from_bytes(self.parameters, data))
            hashlib.sha256(data)

    @cached_property
    def answers(self) -> dict[int, Residues]:
        """What every holder answers for that block."""
        return {share.holder: answer_block(share, self.halves[1]) for share in self.keys[1]}


def with_packings(presets: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each preset with every packing that it has rounds of: in a wide modulus slots hide too little."""
    for name, packing in product(presets, PACKINGS):
        if _can_be_planned(name, packing):
            yield name, packing


def _can_be_planned(name: str, packing: str) -> bool:
    try:
        _Round(name, packing).parameters.verify_encoding()
    except ParameterError:
        return False
    return True


def measure_ckks(name: str, packing: str) -> CkksRates:
    """Measure one preset and packing; one to three seconds."""
    usual, other = _Round(name, packing), _Round(name, packing, *_OTHER_HOLDERS)
    lanes = min(LANES, usable_cores())
    encrypt, encrypt_one_core = (
        seconds_of(partial(usual.encrypt, count), parts=BLOCKS * BLOCK_CHUNKS, elapsed=count > 1)
        for count in (lanes, 1)
    )
    recover, recover_answer = _recovery(usual)
    answering, answering_subset = _answering(usual, other)
    return CkksRates(
        encrypt=encrypt,
        encrypt_one_core=encrypt_one_core,
        receive=_adding(usual, usual.receive),
        holder_add=_adding(usual, usual.add),
        partial=answering,
        partial_subset=answering_subset,
        recover=recover,
        recover_answer=recover_answer,
        # each of n holders draws once and reads n dealings
        ceremony=seconds_of(lambda: generate(usual.parameters), parts=usual.holders**2),
    )


def _adding(round: _Round, add: Callable[[ResidueAccumulator], None]) -> float:
    chunks = len(round.sent[0])
    # It takes CLIENTS of them, more than the repetitions of one figure.
    total = ResidueAccumulator(round.parameters, chunks=chunks)
    return seconds_of(lambda: add(total), parts=chunks)


def _recovery(round: _Round) -> tuple[float, float]:
    c0, answers, times = round.halves[0], round.answers, []
    for count in (round.threshold, round.holders):
        chosen = {holder: answers[holder] for holder in sorted(answers)[:count]}
        spent = seconds_of(partial(open_block, round.parameters, c0, chosen), parts=BLOCK_CHUNKS)
        times.append((count, spent))
    return line_through(*times)


def _answering(usual: _Round, other: _Round) -> tuple[float, float]:
    """Time answers of holders in fewer and in more subsets; whose c1 it is makes no difference."""
    c1, times = usual.halves[1], []
    for round in (other, usual):
        share = round.keys[1][0]
        spent = seconds_of(partial(_answered, share, c1), parts=BLOCK_CHUNKS)
        times.append((len(share.smudging_keys), spent))
    return line_through(*times)


def _answered(share: KeyShare, c1: Residues) -> bytes:
    return residues_to_bytes(answer_block(share, c1))
