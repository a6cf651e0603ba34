"""SEAL's own work at our parameters: TenSEAL encodes and encrypts chunk by chunk, and serialises nothing."""

from importlib.metadata import version
from typing import Any

import numpy as np
import tenseal

from benchmarks.stage import Prepare, Run, serve

DEGREE, PRIME_BITS, SCALE = 4096, [27, 27, 27, 28], 2.0**40
SLOTS = DEGREE // 2
MOST_ERROR = 1e-6


def encrypt(case: dict[str, Any]) -> Run:
    secret = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=DEGREE, coeff_mod_bit_sizes=PRIME_BITS)
    secret.global_scale = SCALE
    public = tenseal.context_from(secret.serialize(save_secret_key=False))
    values = np.random.default_rng(0).uniform(-1, 1, (-(-case["values"] // SLOTS), SLOTS)).tolist()
    sent = tenseal.ckks_vector(public, values[0]).serialize()
    assert np.abs(np.array(tenseal.ckks_vector_from(secret, sent).decrypt()) - values[0]).max() < MOST_ERROR

    def run() -> dict[str, Any]:
        for chunk in values:
            tenseal.ckks_vector(public, chunk)
        return {"count": len(values)}

    return run


WORKS: dict[str, Prepare] = {"encrypt chunks": encrypt}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("tenseal", "numpy")})
