"""Our client's encryption: pack the update, encrypt and serialise it; and the whole way into the spool, with the digests that it signs.

SUMVEIL_ENGINE and SUMVEIL_PACKING choose what is not the default.
"""

import asyncio
import math
import os
import secrets
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stage import Checked, Prepare, Run, serve
from he.ciphertext import Ciphertext, chunk_to_bytes
from he.encrypt import SEED_BYTES, Encryptor
from he.moduli import MAX_MODULUS_BITS
from he.parameters import Parameters
from he.public_key import PublicKey
from secagg.client import encryption
from secagg.client.spool import CiphertextSpool
from secagg.client.updates import packed
from secagg.messages.round import Half
from secagg.plan import CkksJob, JobSpec, TensorSpec
from secagg.roles.client.events import BuildKey
from tests.he_material import draw_key, open_alone
from tests.job_material import HOLDERS, a_job, a_plan

ENGINE, PACKING = os.environ.get("SUMVEIL_ENGINE", "numpy"), os.environ.get("SUMVEIL_PACKING", CkksJob.packing)
CHECKED_VALUES = 10_000
DEVIATIONS = 8


def job_of(values: int) -> JobSpec:
    """A job of 10 clients and 5 holders with one tensor, float32 (values,); how precise it is costs no time."""
    tensors = (TensorSpec(name="layer", shape=(values,), dtype="float32"),)
    return a_job(tensors=tensors, protocol=CkksJob(holders=HOLDERS, packing=PACKING, precision=0.1), max_clients=10)


def vector_of(values: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, values).astype(np.float32)


def wire(update: dict[str, np.ndarray], spec: JobSpec, key: PublicKey) -> tuple[bytes, dict[str, float]]:
    """What is uploaded, c0 and then c1, and the seconds of the phases."""
    start = time.perf_counter()
    vector, _ = packed(update, 1.0, spec)
    after_packing = time.perf_counter()
    encryptor = Encryptor(key, engine=ENGINE, seed=secrets.token_bytes(SEED_BYTES))
    halves: tuple[list[bytes], list[bytes]] = [], []
    serialising = 0.0
    for block in encryptor.encrypt_blocks(vector):
        before = time.perf_counter()
        for parts, residues in zip(halves, block, strict=True):
            parts.append(chunk_to_bytes(residues))
        serialising += time.perf_counter() - before
    after_encryption = time.perf_counter()
    data = b"".join([*halves[0], *halves[1]])
    joining = time.perf_counter() - after_encryption
    return data, {
        "pack": after_packing - start,
        "encrypt": after_encryption - after_packing - serialising,
        "serialise": serialising + joining,
    }


def note_of(parameters: Parameters) -> str:
    """What the security and the precision hang on."""
    data, key = (math.log2(math.prod(primes)) for primes in (parameters.data_primes, parameters.key_primes))
    most = MAX_MODULUS_BITS[parameters.degree]
    return (
        f"N = {parameters.degree}, log2 Q = {data:.0f} ({key:.0f} with the special prime; λ ≥ 128 up to {most}), "
        f"scale 2^{math.log2(parameters.scale):.1f}, {PACKING} packing, {ENGINE} engine, public key; "
        f"an opened value's deviation, smudging included, is {parameters.value_error(1):.1e}"
    )


def check(values: int) -> dict[str, Any]:
    """Somebody with the whole secret key opens what is sent; return the largest error of a value."""
    spec, vector = job_of(values), vector_of(values)
    parameters = a_plan(spec).parameters
    key, secret = draw_key(parameters, seed=0)
    data, _ = wire({"layer": vector}, spec, key)
    shape = (2, parameters.chunks, len(parameters.data_primes), parameters.degree)
    opened = open_alone(Ciphertext(parameters, *np.frombuffer(data, dtype="<u4").reshape(shape)), secret)
    expected, _ = packed({"layer": vector}, 1.0, spec)
    # Nothing is smudged here: what is opened has the noise of one encryption.
    error = float(np.abs(opened - expected).max())
    assert error < DEVIATIONS * parameters.value_error(1)
    return {"error": error}


def encrypt(case: dict[str, Any]) -> Run:
    check(CHECKED_VALUES)
    spec, update = job_of(case["values"]), {"layer": vector_of(case["values"])}
    parameters = a_plan(spec).parameters
    key, _ = draw_key(parameters, seed=0)
    note = note_of(parameters)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        data, phases = wire(update, spec, key)
        return {"seconds": time.perf_counter() - start, "bytes": len(data), "phases": phases, "note": note}

    return Checked(run, lambda: check(case["values"]))


def spool(case: dict[str, Any]) -> Run:
    """As the client does it: every core works, and nothing but a few blocks is in memory."""
    spec, update = job_of(case["values"]), {"layer": vector_of(case["values"])}
    plan = a_plan(spec)
    effect = BuildKey(plan=plan, public_key=draw_key(plan.parameters, seed=0)[0])

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, CiphertextSpool(Path(folder)) as ciphertexts:
            start = time.perf_counter()
            asyncio.run(encryption.encrypt(update, 1.0, effect, ciphertexts, lambda *_: None, engine=ENGINE))
            seconds = time.perf_counter() - start
            size = sum(os.fstat(ciphertexts._files[half].fileno()).st_size for half in Half)  # noqa: SLF001
        return {"seconds": seconds, "bytes": size, "note": note_of(plan.parameters)}

    return run


WORKS: dict[str, Prepare] = {"encrypt": encrypt, "encrypt into the spool": spool}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("sumveil", "tenseal", "numpy", "cryptography")})
