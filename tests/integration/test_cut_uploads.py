"""An upload of 200 MB over a wire that is cut again and again: it finishes, and what was sent twice is a small part of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secagg.client import AsyncClient, RoundResult
from secagg.client.asynchronous import configured
from secagg.plan import JobSpec, MaskingJob, TensorSpec
from tests.cutting_proxy import cutting_proxy
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import live_deadlines, live_masking_job

VALUES = 50_000_000
"""At 31 bits and one for the sum of two: 4 bytes each."""
NAMES = ("alice", "bob")
CUTS = 8
SEED = 20_261_126
MOST_OF_THE_SIZE = 1.1


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveDeployment]:
    made = LiveDeployment(tmp_path, holders=())
    try:
        made.start()
        async with visited(made) as deployment:
            yield deployment
    finally:
        made.close()


def large_job() -> JobSpec:
    """Return a job of two clients that trust each other, which costs the least computing for each byte that travels."""
    return live_masking_job(
        tensors=(TensorSpec(name="w", shape=(VALUES,), dtype="float16"),),
        protocol=MaskingJob(value_bits=31, corrupt_fraction=0.0, dropout_fraction=0.0),
        min_contributors=2,
        max_clients=2,
        deadlines=live_deadlines(uploading_seconds=90.0, unmasking_seconds=90.0, confirming_seconds=90.0),
    )


def client_at(live: LiveDeployment, name: str, address: str) -> AsyncClient:
    arguments = configured(live.client_config(name))
    policy = replace(arguments["policy"], min_corrupt_fraction=0.0, corrupt_clients=0)
    return AsyncClient(**{**arguments, "address": address, "policy": policy})


async def take_part(live: LiveDeployment, spec: JobSpec, name: str, address: str) -> RoundResult:
    value = {"alice": 0.25, "bob": 0.75}[name]
    update = {"w": np.full(VALUES, value, dtype=np.float16)}
    async with client_at(live, name, address) as client:
        return await client.participate(spec.job, update, spec.max_weight)


async def test_an_upload_that_is_cut_at_random_offsets_sends_little_of_it_twice(live: LiveDeployment) -> None:
    spec = await live.create(large_job())
    size = spec.masking_parameters.vector_bytes
    assert size >= 200_000_000
    cuts = random.Random(SEED).sample(range(1, size), CUTS)
    began = time.monotonic()
    async with cutting_proxy(live.ports["coordinator"].number, cuts=cuts) as proxy:
        alice, _ = await asyncio.gather(
            take_part(live, spec, "alice", proxy.address), take_part(live, spec, "bob", live.address)
        )
        print(f"{proxy.cut} cuts, {proxy.upward / size:.4f} of the upload, {time.monotonic() - began:.1f} s")
        assert proxy.cut == CUTS
        assert proxy.upward < MOST_OF_THE_SIZE * size
    assert alice.uploaded_bytes == size
    assert alice.contributors == NAMES
    assert np.abs(alice.mean["w"] - 0.5).max() < 1e-3
