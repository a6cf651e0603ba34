"""Large vectors through a whole round of processes: they pass, and no service's memory grows with the number of clients.

The measured peaks are printed; `VmHWM` is what Linux has ever counted as resident.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from secagg.client import RoundResult
from secagg.plan import CkksJob, JobSpec, TensorSpec
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import HOLDERS, error_bound, largest_error, live_deadlines, live_job, updates_of, weights_of

CLIENTS = ("alice", "bob", "carol", "dave", "erin")
MEBIBYTE = 2**20
COORDINATOR_BYTES = 220 * MEBIBYTE
"""A process with its libraries (130 MiB), and 12 MiB for each of a few uploads at a time, whatever their length."""
HOLDER_BYTES = 185 * MEBIBYTE
"""A process with its libraries (130 MiB), and the request that it reads."""
COORDINATOR_BYTES_PER_VALUE = 78
"""Sum of c0 (12), opened sum and mean (8 and 8, and their parts), blocks of answers: never a client's vector (24)."""
HOLDER_BYTES_PER_VALUE = 48
"""Sum of c1 (12) and the work on a block: never a client's c1 (12)."""


@pytest.fixture
async def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveDeployment]:
    """A deployment whose processes have done nothing yet, so that their peaks are this test's own."""
    # With an arena for each thread, malloc keeps 100 MiB and more that nobody uses: noise above what is measured here.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    made = LiveDeployment(tmp_path)
    try:
        made.start()
        async with visited(made) as live:
            yield live
    finally:
        made.close()


def large_job(values: int, clients: int) -> JobSpec:
    rows = values // 1000
    return live_job(
        tensors=(TensorSpec(name="w", shape=(rows, 1000), dtype="float32"),),
        max_clients=clients,
        deadlines=live_deadlines(
            uploading_seconds=300.0, approving_seconds=300.0, decrypting_seconds=300.0, open_seconds=300.0
        ),
        protocol=CkksJob(holders=HOLDERS, precision=1e-3),
    )


async def run_round(live: LiveDeployment, values: int, names: tuple[str, ...]) -> None:
    spec = await live.create(large_job(values, len(names)))
    began = time.monotonic()
    results = await live.take_part(spec, names, seconds=400.0)
    seconds = time.monotonic() - began
    updates, weights = updates_of(spec, names), weights_of(names)
    (first, *others) = results.values()
    assert isinstance(first, RoundResult), repr(first)
    assert largest_error(first.mean, updates.values(), weights.values()) < error_bound(spec, weights)
    for other in others:
        assert isinstance(other, RoundResult), repr(other)
        assert np.array_equal(other.mean["w"], first.mean["w"])
    status = await live.ended(spec)
    starts = sorted((at, phase.value) for phase, at in status.phase_started.items())
    phases = {name: f"{after - at:.1f}" for (at, name), (after, _) in pairwise(starts)}
    print(f"{values} values, {len(names)} clients: {seconds:.1f} s, by phase {phases}, load {os.getloadavg()[0]:.1f}")


def peaks(live: LiveDeployment) -> tuple[int, int]:
    """Return the peak of the coordinator and the highest of the holders'."""
    return live.coordinator.peak_rss_bytes(), max(live.services[holder].peak_rss_bytes() for holder in HOLDERS)


async def check_round(live: LiveDeployment, values: int, names: tuple[str, ...]) -> None:
    """Run one round; every peak keeps its bound, which knows nothing of clients and is below what their vectors take."""
    await run_round(live, values, names)
    coordinator, holder = peaks(live)
    print(f"peak: coordinator {coordinator / MEBIBYTE:.0f} MiB, holder {holder / MEBIBYTE:.0f} MiB")
    assert coordinator < COORDINATOR_BYTES + COORDINATOR_BYTES_PER_VALUE * values
    assert holder < HOLDER_BYTES + HOLDER_BYTES_PER_VALUE * values


async def test_half_a_million_values_and_memory_that_no_client_adds_to(fresh: LiveDeployment) -> None:
    await check_round(fresh, 500_000, CLIENTS)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_five_million_values(fresh: LiveDeployment) -> None:
    await check_round(fresh, 5_000_000, CLIENTS[:3])
