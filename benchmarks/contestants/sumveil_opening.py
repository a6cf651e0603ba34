"""Our opening, 3 of 5 holders: one holder's partial decryption of a whole sum; recovery from 3 answers."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.stage import Prepare, Run, serve
from coordinator.rounds.recovery import BLOCK_CHUNKS
from he.ciphertext import Ciphertext
from he.encrypt import SEED_BYTES, Encryptor
from he.key_share import KeyShare
from he.parameters import preset
from he.partial import answer_block
from he.recover import open_block
from he.residues import Residues
from secagg.key_holder.sums import blocks_of
from tests.ceremony_room import CeremonyRoom

HOLDERS, THRESHOLD = 5, 3
DEVIATIONS = 8
NOTE = "3 of 5 holders, ckks-4096, 128 bits, smudging of 40 bits"


class Opening:
    """A ceremony's key, and a sum under it whose vector is known."""

    def __init__(self, values: int) -> None:
        self.parameters = preset("ckks-4096", values=values, max_clients=10, holders=HOLDERS, threshold=THRESHOLD)
        room = CeremonyRoom(self.parameters, seed=0)
        self.vector = np.random.default_rng(0).uniform(-1, 1, values)
        encryptor = Encryptor(room.public_key, seed=bytes(SEED_BYTES))
        self.total: Ciphertext = encryptor.encrypt(self.vector)
        self.shares: list[KeyShare] = []
        for holder in range(1, THRESHOLD + 1):
            share = room.share(holder)
            assert share is not None
            self.shares.append(share.key_share(room.key_id))

    def answer(self, share: KeyShare) -> Residues:
        """Block by block, as a holder sends it: uint32 (chunks, L, N)."""
        blocks = [answer_block(share, self.total.c1[start:stop]) for start, stop in blocks_of(self.parameters)]
        return np.concatenate(blocks)

    def recovered(self, answers: dict[int, Residues]) -> np.ndarray:
        """Block by block, as the coordinator does it: float64 (values,)."""
        blocks = []
        for start in range(0, self.parameters.chunks, BLOCK_CHUNKS):
            block = slice(start, start + BLOCK_CHUNKS)
            of_block = {holder: answer[block] for holder, answer in answers.items()}
            blocks.append(open_block(self.parameters, self.total.c0[block], of_block))
        return np.concatenate(blocks)[: self.parameters.values]

    def answers(self) -> dict[int, Residues]:
        return {share.holder: self.answer(share) for share in self.shares}

    def check(self, opened: np.ndarray) -> float:
        error = float(np.abs(opened - self.vector).max())
        assert error < DEVIATIONS * self.parameters.value_error(1), error
        return error


def partial(case: dict[str, Any]) -> Run:
    opening = Opening(case["values"])
    opening.check(opening.recovered(opening.answers()))

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        answer = opening.answer(opening.shares[0])
        return {"seconds": time.perf_counter() - start, "bytes": answer.nbytes, "note": NOTE}

    return run


def recover(case: dict[str, Any]) -> Run:
    opening = Opening(case["values"])
    answers = opening.answers()

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        opened = opening.recovered(answers)
        return {"seconds": time.perf_counter() - start, "error": opening.check(opened), "note": NOTE}

    return run


WORKS: dict[str, Prepare] = {"partial decryption": partial, "recovery": recover}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("sumveil", "numpy")})
