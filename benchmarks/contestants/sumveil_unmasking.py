"""Our coordinator from masked vectors on disk and revealed shares to the mean on disk, as the service does it.

Another process plays all clients once, with their real machine. What is measured is `coordinator.rounds.unmasking`: recover the secrets
that the sum hangs on, agree on the masks, add the vectors up piece by piece, take the masks off, divide, write.
"""

import os
import pickle
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.stage import serve
from coordinator.contracts import mean_name
from coordinator.rounds.unmasking import recover, unmask_sum
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import Spool
from coordinator.vectors import VectorSpool


def record(case: dict[str, Any], folder: Path) -> None:
    """Let all clients work; in a process of its own, for their memory is not the coordinator's."""
    # Only here: what is measured needs none of it.
    from benchmarks.contestants.masking_round import play  # noqa: PLC0415

    (folder / "state").write_bytes(pickle.dumps(play(case, DirectoryBlobStore(folder), folder)))


def prepare(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """The coordinator's work with so many of `clients` `dropped` after they shared."""
    folder = Path(tempfile.mkdtemp(prefix="sumveil-", dir=os.environ["BENCH_FOLDER"]))
    process = get_context("spawn").Process(target=record, args=(case, folder))
    process.start()
    process.join()
    assert process.exitcode == 0, "the clients' process failed"
    played: dict[str, Any] = pickle.loads((folder / "state").read_bytes())  # noqa: S301 - written above
    state: Any = SimpleNamespace(**played["state"])
    blobs = DirectoryBlobStore(folder)
    vectors = VectorSpool(blobs, Spool(blobs, max_bytes=1))

    def run() -> dict[str, Any]:
        began = time.perf_counter()
        found = recover(state)
        recovered = time.perf_counter()
        done = unmask_sum(vectors, blobs, state, found)  # type: ignore[arg-type]
        ended = time.perf_counter()
        check(blobs, state, done, folder)
        return {
            "seconds": ended - began,
            "phases": {
                "recover secrets, agree on masks": recovered - began,
                "add, unmask, write the mean": ended - recovered,
            },
            "masks": found.masks.count,  # type: ignore[union-attr]
        }

    return run


def check(blobs: DirectoryBlobStore, state: Any, done: Any, folder: Path) -> None:
    """The mean on disk is that of the survivors' updates; looked at in pieces, not to be the peak of memory itself."""
    with blobs.open(mean_name(state.spec.job, state.round, done.mean_digest)) as file:
        true = np.load(folder / "mean.npy", mmap_mode="r")
        for start in range(0, len(true), 1 << 16):
            part = true[start : start + (1 << 16)]
            mean = np.frombuffer(file.read(4 * len(part)), dtype="<f4")
            assert np.abs(mean - part).max() < state.spec.masking.precision


def versions() -> dict[str, str]:
    """Of what our figures hang on."""
    from benchmarks.contestants.masking_people import versions as all_versions  # noqa: PLC0415 - as above

    return all_versions()


if __name__ == "__main__":
    serve({"server": prepare}, versions)
