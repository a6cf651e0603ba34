"""What `secagg plan` predicts, done: the works of the other programs, and those that only a planner asks about.

BENCH_FOLDER: where the calibration is kept for the program, and vectors lie.
"""

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contestants import (
    sumveil_addition,
    sumveil_encryption,
    sumveil_masking,
    sumveil_opening,
    sumveil_unmasking,
)
from benchmarks.stage import Prepare, Run, serve
from secagg.ids import ClientId
from secagg.key_holder.contributions import ContributionReader
from secagg.messages.round import Half
from secagg.planning import stopwatch
from secagg.planning.calibration import save
from secagg.planning.measuring import measure

CALIBRATION = "calibration.json"
CLIENTS = 2


def calibrate(case: dict[str, Any]) -> Run:
    """As `secagg plan calibrate`, but for presets that are not asked about; quick: one repetition of each piece."""
    if case["quick"]:
        stopwatch.FEWEST, stopwatch.BUDGET_SECONDS = 1, 0.0  # type: ignore[misc]

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        measured = measure(Path(os.environ["BENCH_FOLDER"]), presets=case["presets"])
        seconds = time.perf_counter() - start
        save(measured, Path(os.environ["BENCH_FOLDER"]) / CALIBRATION)
        return {"seconds": seconds}

    return run


def read_c1(case: dict[str, Any]) -> Run:
    """A key holder reads and adds up the c1 of some clients, in parts of a MiB."""
    sent = sumveil_addition.SentVector(case["values"])
    data, step = sent.data[Half.C1], (1 << 20) // sent.chunk_bytes * sent.chunk_bytes
    names = [ClientId(f"client-{place}") for place in range(CLIENTS)]

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        reader = ContributionReader(sent.parameters, names)
        for place in range(CLIENTS):
            for at in range(0, len(data), step):
                reader.add(contributor=place, first_chunk=at // sent.chunk_bytes, data=data[at : at + step])
        computed, _ = reader.finish()
        seconds = time.perf_counter() - start
        assert all(one.root == sent.roots[Half.C1] for one in computed)
        return {"seconds": seconds / CLIENTS}

    return run


WORKS: dict[str, Prepare] = {
    "calibrate": calibrate,
    "client: encrypt": sumveil_encryption.spool,
    "client: mask": sumveil_masking.client,
    "coordinator: take one upload": sumveil_addition.take,
    "coordinator: recover": sumveil_opening.recover,
    "coordinator: unmask": sumveil_unmasking.prepare,
    "key holder: read one c1": read_c1,
    "key holder: answer": sumveil_opening.partial,
}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("sumveil", "numpy", "cryptography")})
