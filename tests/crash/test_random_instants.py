"""Processes die at instants that seeds choose, and every round is published all the same: exact, once, and nothing left over."""

from __future__ import annotations

import os

import pytest

from tests.crash.crash_house import CrashHouse
from tests.crash.random_rounds import run_seed

pytestmark = pytest.mark.timeout(300)

SEEDS = range(10)
SOAK_SEEDS = 1_000
PARTS = 20


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_round_outlives_deaths_at_random_instants(house: CrashHouse, seed: int) -> None:
    await run_seed(house, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part-{part}-")
async def test_a_thousand_rounds_outlive_deaths_at_random_instants(house: CrashHouse, part: int) -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    # Part 0 begins with the seed itself, so that a failure is repeated by it.
    for seed in range(first + part, first + SOAK_SEEDS, PARTS):
        await run_seed(house, seed)
