"""What a lying coordinator gets from making a client fail and come back, to the same round even: nothing of the first time again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secagg import codec
from secagg.client.threads import in_thread
from secagg.errors import (
    FaultyCoordinatorError,
    PolicyError,
    RemoteError,
    SecAggError,
    UnknownRoundError,
    UsageError,
)
from secagg.messages.masking import MaskingJoin
from secagg.wire.v1 import client_service_pb2 as pb
from tests.scripted_coordinator import scripted_coordinator
from tests.scripted_masking import MaskingPlay


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[MaskingPlay]:
    async with scripted_coordinator(tmp_path / "house") as stage:
        yield MaskingPlay(stage)


def join_of(play: MaskingPlay) -> MaskingJoin:
    (request,) = play.stage.service.sent(pb.JoinRequest)
    signed = codec.signed_from_wire(request.join)
    return codec.authenticate(signed, MaskingJoin, trust=play.stage.identity.trust, at=play.stage.made.at).message


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_client_that_failed_comes_back_to_the_same_plan_with_nothing_of_the_first_time(
    play: MaskingPlay, tmp_path: Path, *, keeps: bool
) -> None:
    """Two vectors of one plan are masked with other keys throughout, and the first roster is none to it any more."""
    state = tmp_path / "state" if keeps else None
    with pytest.raises(SecAggError, match="confirmed too much"):
        await play.perform(state_dir=state, Confirm=[FaultyCoordinatorError("alice confirmed too much")])
    first, vectors, sent = join_of(play), play.vectors(), play.payloads()
    assert len(sent["Confirm"]) == 1
    assert state is None or list(state.iterdir()) == []
    play.rewind()
    # The same plan, and then the roster of the first time.
    with pytest.raises(FaultyCoordinatorError, match="does not hold the join of alice as it was sent"):
        await play.perform(state_dir=state)
    second = join_of(play)
    assert second.plan_digest == first.plan_digest
    assert {second.mask_key, second.share_key}.isdisjoint({first.mask_key, first.share_key})
    assert second.seed_commitment != first.seed_commitment
    assert len(vectors) == 1
    again = play.payloads()
    assert [again[method] for method in ("SendShares", "CompleteVector", "Confirm", "Unmask")] == [set()] * 4
    assert play.vectors() == set()


@pytest.mark.parametrize("named", [UsageError, PolicyError, UnknownRoundError])
@pytest.mark.parametrize(
    "method", ["CompleteVector", "WaitForSurvivors", "Confirm", "WaitForConfirmations", "Unmask", "WaitForResult"]
)
async def test_no_coordinator_makes_it_look_as_if_nothing_had_been_sent(
    play: MaskingPlay, method: str, named: type[SecAggError]
) -> None:
    """A caller takes part again, with the same update, after errors that say that nothing was sent: two sums that differ."""
    acts: dict[str, Any] = {method: [named("nothing was sent")]}
    with pytest.raises(RemoteError, match="whether to submit it again is your decision") as raised:
        await play.perform(**acts)
    assert isinstance(raised.value.__cause__, named)


async def test_before_the_update_is_out_an_error_stays_what_it_is(play: MaskingPlay) -> None:
    with pytest.raises(UsageError, match="no such job"):
        await play.perform(Join=[UsageError("no such job")])


async def test_work_in_a_thread_outlives_every_cancellation() -> None:
    """A client that is cancelled twice, by a timeout and by its group, closes no journal that is being written."""
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(20)
        ended.set()

    task: asyncio.Task[Any] = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 20)
    for _ in range(3):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
