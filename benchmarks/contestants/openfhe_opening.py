"""OpenFHE's threshold CKKS, 3 of 3: one party's partial decryption of a whole vector; fusion and read-out of all of it.

N = 4096, depth 0, scale 2^50, 128 bits (classic): the smallest ring that it takes for one addition-only level.
"""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import openfhe

from benchmarks.stage import Prepare, Run, serve

DEGREE, SCALE_BITS, PARTIES = 4096, 50, 3
SLOTS = DEGREE // 2
NOTE = "3 of 3 parties, N = 4096, 128 bits, threshold noise fixed at 2^20"
MOST_ERROR = 1e-3
"""Of one value: its threshold noise is fixed at 2^20, far below."""


class Parties:
    """A context, everybody's key shares and the ciphertexts of one vector (values,), float64."""

    def __init__(self, values: int) -> None:
        self.context = _context()
        first = self.context.KeyGen()
        pairs = [first]
        for _ in range(PARTIES - 1):
            pairs.append(self.context.MultipartyKeyGen(pairs[-1].publicKey))
        self.secrets = [pair.secretKey for pair in pairs]
        self.vector = np.random.default_rng(0).uniform(-1, 1, values)
        parts = [self.vector[start : start + SLOTS].tolist() for start in range(0, values, SLOTS)]
        self.ciphertexts = [
            self.context.Encrypt(pairs[-1].publicKey, self.context.MakeCKKSPackedPlaintext(part)) for part in parts
        ]

    def answers(self) -> list[list[Any]]:
        """Of the lead first, then of the others: a list of partial decryptions each."""
        lead = self.context.MultipartyDecryptLead(self.ciphertexts, self.secrets[0])
        return [lead, *(self.context.MultipartyDecryptMain(self.ciphertexts, one) for one in self.secrets[1:])]

    def fused(self, answers: list[list[Any]]) -> np.ndarray:
        """The vector again, float64 (values,)."""
        out = np.empty(len(self.ciphertexts) * SLOTS)
        for index, of_one in enumerate(zip(*answers, strict=True)):
            opened = self.context.MultipartyDecryptFusion(list(of_one))
            opened.SetLength(SLOTS)
            out[index * SLOTS : (index + 1) * SLOTS] = opened.GetRealPackedValue()
        return out[: len(self.vector)]

    def check(self, opened: np.ndarray) -> float:
        error = float(np.abs(opened - self.vector).max())
        assert error < MOST_ERROR, error
        return error


def _context() -> Any:
    parameters = openfhe.CCParamsCKKSRNS()
    parameters.SetSecurityLevel(openfhe.SecurityLevel.HEStd_128_classic)
    parameters.SetRingDim(DEGREE)
    parameters.SetBatchSize(SLOTS)
    parameters.SetMultiplicativeDepth(0)
    parameters.SetScalingModSize(SCALE_BITS)
    # Nothing is ever relinearised: without the extra modulus of the hybrid technique N = 4096 keeps its 128 bits.
    parameters.SetKeySwitchTechnique(openfhe.KeySwitchTechnique.BV)
    parameters.SetScalingTechnique(openfhe.ScalingTechnique.FIXEDMANUAL)
    context = openfhe.GenCryptoContext(parameters)
    for feature in ("PKE", "KEYSWITCH", "LEVELEDSHE", "ADVANCEDSHE", "MULTIPARTY"):
        context.Enable(getattr(openfhe.PKESchemeFeature, feature))
    return context


def partial(case: dict[str, Any]) -> Run:
    parties = Parties(case["values"])
    parties.check(parties.fused(parties.answers()))
    bytes_ = len(parties.ciphertexts) * len(
        openfhe.Serialize(
            parties.context.MultipartyDecryptMain(parties.ciphertexts[:1], parties.secrets[1])[0], openfhe.BINARY
        )
    )

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        parties.context.MultipartyDecryptMain(parties.ciphertexts, parties.secrets[1])
        return {"seconds": time.perf_counter() - start, "bytes": bytes_, "note": NOTE}

    return run


def recover(case: dict[str, Any]) -> Run:
    parties = Parties(case["values"])
    answers = parties.answers()

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        opened = parties.fused(answers)
        return {"seconds": time.perf_counter() - start, "error": parties.check(opened), "note": NOTE}

    return run


WORKS: dict[str, Prepare] = {"partial decryption": partial, "recovery": recover}

if __name__ == "__main__":
    serve(WORKS, lambda: {"openfhe": version("openfhe")})
