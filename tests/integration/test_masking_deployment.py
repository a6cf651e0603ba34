"""Masking rounds of SDK clients in a deployment of real processes that has no key holder."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from secagg.client import RoundResult
from secagg.messages.round import Phase
from tests.live_deployment import ROUND_SECONDS, LiveDeployment, visited
from tests.live_jobs import error_bound, largest_error, live_deadlines, live_masking_job, updates_of, weights_of

NAMES = ("alice", "bob", "carol", "dave", "erin")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("live"), holders=())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def live(standing: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    async with visited(standing) as deployment:
        yield deployment


async def test_two_rounds_are_published_with_no_key_holder_anywhere(live: LiveDeployment) -> None:
    spec = await live.create(live_masking_job(rounds=2))
    first = await live.published(spec, NAMES)
    second = await live.published(spec, NAMES, after=1)
    for status in (first, second):
        assert status.phase is Phase.PUBLISHED
        assert (status.joined, status.shared, status.uploaded, status.holders) == (5, 5, 5, ())
    assert first.plan is not None
    assert second.plan is not None
    assert first.plan.digest != second.plan.digest


async def test_a_client_that_leaves_after_it_shared_is_not_in_the_sum_and_its_masks_are(live: LiveDeployment) -> None:
    spec = await live.create(live_masking_job(deadlines=live_deadlines(uploading_seconds=4.0)))
    staying = NAMES[:-1]
    updates, weights = updates_of(spec, NAMES), weights_of(NAMES)
    leaving = asyncio.ensure_future(
        live.client("erin").participate(
            spec.job,
            updates["erin"],
            weights["erin"],
            progress=lambda progress: leaving.cancel() if progress.phase is Phase.UPLOADING else None,
        )
    )
    async with asyncio.timeout(ROUND_SECONDS):
        results = await asyncio.gather(
            *(live.client(name).participate(spec.job, updates[name], weights[name]) for name in staying)
        )
        with pytest.raises(asyncio.CancelledError):
            await leaving
    kept = {name: weights[name] for name in staying}
    for result in results:
        assert isinstance(result, RoundResult)
        assert result.contributors == staying
        off = largest_error(result.mean, [updates[name] for name in staying], kept.values())
        assert off < error_bound(spec, kept)
    status = await live.ended(spec)
    assert (status.joined, status.shared, status.uploaded) == (5, 5, 4)
