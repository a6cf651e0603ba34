"""TenSEAL at NVFlare's parameters: take one client's vector from its bytes, and add it to the sum in place."""

import time
from importlib.metadata import version
from typing import Any

import numpy as np
import tenseal

from benchmarks.contestants.tenseal_encryption import MOST_ERROR, contexts, vector_of
from benchmarks.stage import Prepare, Run, serve


def add(case: dict[str, Any]) -> Run:
    secret, public = contexts()
    vector = vector_of(case["values"])
    data = tenseal.ckks_vector(public, vector).serialize()
    total = tenseal.ckks_vector_from(public, data)
    added = 1

    def run() -> dict[str, Any]:
        nonlocal added
        start = time.perf_counter()
        received = tenseal.ckks_vector_from(public, data)
        middle = time.perf_counter()
        total.add_(received)
        end = time.perf_counter()
        added += 1
        phases = {"parse": middle - start, "add": end - middle}
        return {"seconds": end - start, "bytes": len(data), "phases": phases}

    run()
    opened = np.array(tenseal.ckks_vector_from(secret, total.serialize()).decrypt())
    assert np.abs(opened - added * vector.astype(np.float64)).max() < MOST_ERROR * added
    return run


WORKS: dict[str, Prepare] = {"add one client": add, "add one client, hashed": add}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("tenseal", "numpy")})
