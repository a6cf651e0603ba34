"""Our coordinator and one client's ciphertexts: from bytes to the sum; with every byte hashed; and over its disk, as in a round."""

import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stage import Prepare, Run, serve
from coordinator.spool import MAX_PART_BYTES, UploadKey, UploadPart, UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, chunk_to_bytes, half_chunk_bytes
from he.parameters import Parameters, preset
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot
from tests.he_material import random_ciphertext

CLIENTS = 100
JOB, ROUND, CLIENT = JobId("bench"), RoundNumber(1), ClientId("client-1")


def parameters_of(values: int) -> Parameters:
    return preset("ckks-4096", values=values, max_clients=CLIENTS, holders=5, threshold=3)


class SentVector:
    """What one client sends: both halves as bytes, and the roots that it signed."""

    def __init__(self, values: int) -> None:
        self.parameters = parameters_of(values)
        self.chunk_bytes = half_chunk_bytes(self.parameters)
        ciphertext = random_ciphertext(self.parameters, seed=0)
        self.residues = {Half.C0: ciphertext.c0, Half.C1: ciphertext.c1}
        self.data = {half: chunk_to_bytes(residues) for half, residues in self.residues.items()}
        self.roots = {half: self.root(half) for half in Half}

    def chunks(self, half: Half) -> Iterator[memoryview]:
        view = memoryview(self.data[half])
        for start in range(0, len(view), self.chunk_bytes):
            yield view[start : start + self.chunk_bytes]

    def root(self, half: Half) -> Digest:
        root = CiphertextRoot()
        for chunk in self.chunks(half):
            root.add(chunk)
        return root.digest()

    @property
    def bytes(self) -> int:
        return sum(map(len, self.data.values()))


class Sum:
    """The sum of both halves, each added by the coordinator or, in a round, by the holders."""

    def __init__(self, sent: SentVector) -> None:
        self._sent = sent
        self._totals = {half: ResidueAccumulator(sent.parameters) for half in Half}

    def add(self) -> None:
        """Parse the chunks, check every residue, and add."""
        for half, total in self._totals.items():
            for index, chunk in enumerate(self._sent.chunks(half)):
                total.add_chunk(index, chunk_from_bytes(self._sent.parameters, chunk))

    def add_hashed(self) -> float:
        """Hash every chunk before it is parsed, and compare the roots with what was signed; the seconds of the hashing."""
        hashing = 0.0
        for half, total in self._totals.items():
            root = CiphertextRoot()
            for index, chunk in enumerate(self._sent.chunks(half)):
                start = time.perf_counter()
                root.add(chunk)
                hashing += time.perf_counter() - start
                total.add_chunk(index, chunk_from_bytes(self._sent.parameters, chunk))
            assert root.digest() == self._sent.roots[half]
        return hashing

    def check(self) -> None:
        """What was added twice is twice what was sent."""
        primes = np.array(self._sent.parameters.data_primes, dtype=np.uint64)[:, None]
        for half, total in self._totals.items():
            assert np.array_equal(total.finish(), self._sent.residues[half].astype(np.uint64) * 2 % primes)


def add(case: dict[str, Any]) -> Run:
    """As much as TenSEAL does, which hashes nothing."""
    sent, total = _begun(case)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        total.add()
        return {"seconds": time.perf_counter() - start, "bytes": sent.bytes}

    return run


def add_hashed(case: dict[str, Any]) -> Run:
    """With the SHA-256 of every byte, as the coordinator holds it against the client's signature."""
    sent, total = _begun(case)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        hashing = total.add_hashed()
        seconds = time.perf_counter() - start
        phases = {"hash": hashing, "parse, check and add": seconds - hashing}
        return {"seconds": seconds, "bytes": sent.bytes, "phases": phases}

    return run


def _begun(case: dict[str, Any]) -> tuple[SentVector, Sum]:
    sent = SentVector(case["values"])
    total = Sum(sent)
    total.add()
    total.add()
    total.check()
    return sent, total


def take(case: dict[str, Any]) -> Run:
    """Parts onto the disk, both roots and every residue checked from there, and the c0 read again and added."""
    sent = SentVector(case["values"])
    parts = [
        UploadPart(half=half, offset=start, data=data, digest=sha256(data).digest())
        for half in Half
        for start in range(0, len(sent.data[half]), MAX_PART_BYTES)
        for data in [sent.data[half][start : start + MAX_PART_BYTES]]
    ]
    key = UploadKey(job=JOB, round=ROUND, client=CLIENT)
    digest = Digest(bytes(32))
    upload = Upload(
        plan_digest=digest,
        roster_digest=digest,
        client=CLIENT,
        nonce=bytes(32),
        parameters_digest=digest,
        level=len(sent.parameters.data_primes),
        scale=sent.parameters.scale,
        chunks=sent.parameters.chunks,
        root_c0=sent.roots[Half.C0],
        root_c1=sent.roots[Half.C1],
    )

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            spool = UploadSpool(DirectoryBlobStore(Path(folder)), max_bytes=1 << 40)
            spool.reserve(key, len(sent.data[Half.C0]))
            begin = time.perf_counter()
            for part in parts:
                spool.append(key, part)
            received = time.perf_counter()
            spool.verify(key, sent.parameters, upload)
            verified = time.perf_counter()
            total = spool.total(JOB, ROUND, sent.parameters, (CLIENT,))
            for start in range(0, sent.parameters.chunks, 16):
                total.block(start, min(start + 16, sent.parameters.chunks))
            end = time.perf_counter()
        phases = {"receive": received - begin, "verify": verified - received, "add c0": end - verified}
        return {"seconds": end - begin, "bytes": sent.bytes, "phases": phases}

    return run


WORKS: dict[str, Prepare] = {"add one client": add, "add one client, hashed": add_hashed, "take one upload": take}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("sumveil", "numpy")})
