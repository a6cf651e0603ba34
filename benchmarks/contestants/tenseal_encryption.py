"""TenSEAL as it comes, at NVFlare's parameters, with a public key: encrypt, and serialise."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import tenseal

from benchmarks.stage import Checked, Prepare, Run, serve

NOTE = "N = 8192, log2 Q = 100 ([60, 40]; 140 with the special prime; λ ≥ 128 up to 218), scale 2^40, public key"
CHECKED_VALUES = 10_000
MOST_ERROR = 1e-4


def contexts() -> tuple[Any, Any]:
    """One with the secret key, and one without."""
    secret = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40])
    secret.global_scale = 2**40
    return secret, tenseal.context_from(secret.serialize(save_secret_key=False))


def vector_of(values: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, values).astype(np.float32)


def check(secret: Any, public: Any, values: int) -> dict[str, Any]:
    """Open what is sent; return the largest error of a value."""
    vector = vector_of(values)
    sent = tenseal.ckks_vector(public, vector).serialize()
    opened = tenseal.ckks_vector_from(secret, sent).decrypt()
    error = float(np.abs(np.array(opened) - vector).max())
    assert error < MOST_ERROR
    return {"error": error}


def encrypt(case: dict[str, Any]) -> Run:
    secret, public = contexts()
    check(secret, public, CHECKED_VALUES)
    vector = vector_of(case["values"])

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        encrypted = tenseal.ckks_vector(public, vector)
        middle = time.perf_counter()
        data = encrypted.serialize()
        end = time.perf_counter()
        phases = {"encrypt": middle - start, "serialise": end - middle}
        return {"seconds": end - start, "bytes": len(data), "phases": phases, "note": NOTE}

    return Checked(run, lambda: check(secret, public, case["values"]))


WORKS: dict[str, Prepare] = {"encrypt": encrypt}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("tenseal", "numpy")})
