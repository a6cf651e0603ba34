"""The SDK in a masking round: whole rounds, and a coordinator that is late, ends the round, or shows what it should not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import codec
from secagg.client import AsyncClient, Progress, exchange
from secagg.errors import (
    FaultyCoordinatorError,
    LateError,
    PolicyError,
    RoundAbortedError,
    UnreachableError,
    UsageError,
    WrongPhaseError,
)
from secagg.messages.round import Phase
from secagg.plan import Deadlines, RoundPlan
from secagg.policy import ClientPolicy
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_pb2
from secagg.wire.v1 import masking_service_pb2 as masking_pb
from tests.masking_material import CLIENTS, PLAN, POLICY, SPEC, vector_of
from tests.scripted_coordinator import PARTY, Stage, scripted_coordinator
from tests.scripted_masking import OTHERS, UPDATE, WEIGHT, MaskingPlay


def with_deadlines(**seconds: float) -> RoundPlan:
    """Return the plan with some phases short."""
    return replace(PLAN, spec=replace(SPEC, deadlines=Deadlines(**seconds)))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with scripted_coordinator(tmp_path / "house") as made:
        yield made


@pytest.fixture
def play(stage: Stage) -> MaskingPlay:
    return MaskingPlay(stage)


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "GRACE_SECONDS", 0.5)


def standing(phase: Phase, reason: str = "") -> masking_pb.Standing:
    return masking_pb.Standing(phase=codec.phase_to_wire(phase), reason=reason)


ABORTED = pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.ABORTED), reason="bob vanished", have=3, need=5)


async def test_a_whole_round_gives_the_mean_of_all_and_leaves_nothing(play: MaskingPlay, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = await play.perform(spool_dir=tmp_path / "spool", progress=told.append)
    vectors = [vector_of(client) for client in OTHERS]
    own = np.append(UPDATE["w"].astype(np.float64) * WEIGHT, WEIGHT)
    total = sum(vectors) + own
    np.testing.assert_allclose(result.mean["w"], total[:-1] / total[-1], atol=1e-4)
    assert (result.contributors, result.round, result.clipped) == (CLIENTS, 1, 0)
    (vector,) = play.vectors()
    assert result.uploaded_bytes == len(vector) == SPEC.masking_parameters.vector_bytes
    assert list(dict.fromkeys(one.phase for one in told)) == [
        Phase.OPEN,
        Phase.SHARING,
        Phase.UPLOADING,
        Phase.CONFIRMING,
        Phase.UNMASKING,
        Phase.PUBLISHED,
    ]
    uploading = [(one.done, one.total) for one in told if one.phase is Phase.UPLOADING]
    assert uploading == [(0, len(vector)), (len(vector), len(vector))]
    assert list((tmp_path / "spool").iterdir()) == []


async def test_an_update_that_does_not_fit_is_refused_before_the_join(play: MaskingPlay) -> None:
    with pytest.raises(UsageError, match="tensor 'w' holds NaN"):
        await play.perform({"w": np.full(50, np.nan, dtype=np.float32)})
    assert play.payloads()["Join"] == set()


async def test_a_plan_that_bears_fewer_corrupt_clients_than_the_policy_wants(play: MaskingPlay) -> None:
    with pytest.raises(PolicyError, match="corrupt"):
        await play.perform(policy=replace(POLICY, min_corrupt_fraction=0.2))
    with pytest.raises(PolicyError, match="protocol"):
        await play.perform(policy=replace(POLICY, protocols=frozenset({"ckks"})))
    assert play.payloads()["Join"] == set()


async def test_the_next_plan_of_a_masking_job(play: MaskingPlay) -> None:
    arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": play.stage.identity}
    async with AsyncClient(play.stage.address, **arguments, policy=POLICY) as client:
        assert await client.next_plan(SPEC.job) == PLAN
    async with AsyncClient(play.stage.address, **arguments, policy=ClientPolicy(max_clip=0.5)) as client:
        with pytest.raises(PolicyError, match="clip"):
            await client.next_plan(SPEC.job)


async def test_who_joins_too_late_draws_new_keys_for_the_next_round(play: MaskingPlay) -> None:
    earlier = replace(PLAN, protocol=replace(PLAN.protocol, nonce=bytes(32)))
    offers = [
        pb.WaitForRoundResponse(found=True, plan=codec.round_plan_to_wire(one))
        for one in (earlier, replace(PLAN, round=2))
    ]
    with pytest.raises(RoundAbortedError, match="bob vanished"):
        await play.perform(
            WaitForRound=offers,
            Join=[LateError("the roster is frozen"), pb.JoinResponse()],
            WaitForRoster=[pb.WaitForRosterResponse(phase=ABORTED.phase, reason="bob vanished")],
        )
    first, second = (one.join.payload for one in play.stage.service.sent(pb.JoinRequest))
    assert [one.after_round for one in play.stage.service.sent(pb.WaitForRoundRequest)] == [0, 1]
    keys = [masking_pb2.MaskingJoin.FromString(payload) for payload in (first, second)]
    assert len({key for one in keys for key in (one.mask_key, one.share_key)}) == 4


# each wait and each call: aborted, refused, late, silent


WAITS = {
    "WaitForShares": masking_pb.WaitForSharesResponse,
    "WaitForSurvivors": masking_pb.WaitForSurvivorsResponse,
    "WaitForConfirmations": masking_pb.WaitForConfirmationsResponse,
}
SHOWN = {"WaitForShares": "sharers", "WaitForSurvivors": "survivors", "WaitForConfirmations": "confirmations"}


@pytest.mark.parametrize("method", WAITS)
async def test_a_round_that_ends_during_a_wait(play: MaskingPlay, method: str) -> None:
    ended = standing(Phase.ABORTED, "too few clients")
    ended.have, ended.need = 3, 5
    answers = [WAITS[method](standing=standing(Phase.UPLOADING)), WAITS[method](standing=ended)]
    with pytest.raises(RoundAbortedError, match=r"too few clients \(have 3, need 5\)"):
        await play.perform(**{method: answers})
    assert play.payloads()["Unmask"] == set()


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        ("WaitForShares", "sharing_seconds"),
        ("WaitForSurvivors", "uploading_seconds"),
        ("WaitForConfirmations", "confirming_seconds"),
    ],
)
async def test_what_is_never_shown_is_waited_for_as_long_as_the_plan_says(
    stage: Stage, little_grace: None, method: str, phase: str
) -> None:
    play = MaskingPlay(stage, with_deadlines(**{phase: 1.5}))
    with pytest.raises(RoundAbortedError, match=f"showed no {SHOWN[method]} within 2 s"):
        await play.perform(**{method: [WAITS[method](standing=standing(Phase.UPLOADING))]})
    assert play.payloads()["Unmask"] == set()


@pytest.mark.parametrize("method", WAITS)
async def test_an_answer_without_a_phase_is_the_coordinators_fault(play: MaskingPlay, method: str) -> None:
    with pytest.raises(FaultyCoordinatorError, match="its answer is refused"):
        await play.perform(**{method: [WAITS[method](ready=True)]})


@pytest.mark.parametrize("method", WAITS)
async def test_who_was_declared_dropped_is_told_so(play: MaskingPlay, method: str) -> None:
    with pytest.raises(LateError, match="dropped out"):
        await play.perform(
            **{method: [LateError("client alice has dropped out")]},
            WaitForResult=[pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.UPLOADING))],
        )


@pytest.mark.parametrize("refusal", [LateError("the shares are closed"), WrongPhaseError("it is over")])
@pytest.mark.parametrize("method", ["SendShares", "UploadVector", "CompleteVector"])
async def test_what_is_refused_because_the_round_was_aborted(
    play: MaskingPlay, method: str, refusal: Exception
) -> None:
    with pytest.raises(RoundAbortedError, match="bob vanished"):
        await play.perform(**{method: [refusal]}, WaitForResult=[ABORTED])


@pytest.mark.parametrize("method", ["SendShares", "UploadVector", "CompleteVector"])
async def test_who_is_late_while_the_round_goes_on_has_dropped_out(play: MaskingPlay, method: str) -> None:
    going_on = pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.UPLOADING))
    with pytest.raises(LateError, match="closed"):
        await play.perform(**{method: [LateError("it is closed")]}, WaitForResult=[going_on])
    assert play.payloads()["Confirm"] == set()


@pytest.mark.parametrize("refusal", [LateError("the round is over"), WrongPhaseError("it is published")])
async def test_a_confirmation_that_is_late_reveals_nothing_and_waits_for_the_result(
    play: MaskingPlay, refusal: Exception
) -> None:
    with pytest.raises(RoundAbortedError, match="bob vanished"):
        await play.perform(Confirm=[refusal], WaitForResult=[ABORTED])
    assert play.payloads()["Unmask"] == set()
    assert play.stage.service.sent(masking_pb.WaitForConfirmationsRequest) == []


async def test_a_round_that_was_published_without_the_own_shares(play: MaskingPlay) -> None:
    published = masking_pb.WaitForConfirmationsResponse(standing=standing(Phase.PUBLISHED))
    with pytest.raises(RoundAbortedError, match="bob vanished"):
        await play.perform(WaitForConfirmations=[published], WaitForResult=[ABORTED])
    assert play.payloads()["Unmask"] == set()


@pytest.mark.parametrize("method", ["WaitForShares", "WaitForSurvivors"])
async def test_a_round_that_was_published_while_the_client_was_away(play: MaskingPlay, method: str) -> None:
    with pytest.raises(RoundAbortedError, match="is not known here"):
        await play.perform(**{method: [WAITS[method](standing=standing(Phase.PUBLISHED))]})
    assert play.payloads()["Unmask"] == set()


@pytest.mark.parametrize("refusal", [LateError("enough shares are there"), WrongPhaseError("it is published")])
async def test_shares_that_come_too_late_are_no_harm(play: MaskingPlay, refusal: Exception) -> None:
    honest = play.stage.service.script["Unmask"][0]

    def late(request: Any) -> Exception:
        honest(request)
        return refusal

    assert (await play.perform(Unmask=[late])).contributors == CLIENTS


async def test_a_roster_that_never_comes(stage: Stage, little_grace: None) -> None:
    play = MaskingPlay(stage, with_deadlines(open_seconds=1.5))
    with pytest.raises(RoundAbortedError, match="showed no roster within 2 s"):
        await play.perform(WaitForRoster=[pb.WaitForRosterResponse(phase=codec.phase_to_wire(Phase.OPEN))])
    assert play.payloads()["SendShares"] == set()


async def test_a_result_that_never_comes(stage: Stage, little_grace: None) -> None:
    play = MaskingPlay(stage, with_deadlines(confirming_seconds=1.0, unmasking_seconds=0.5))
    unmasking = pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.UNMASKING))
    with pytest.raises(RoundAbortedError, match="no result was shown within 2 s"):
        await play.perform(WaitForResult=[unmasking])


# what only a faulty coordinator shows


def bent(play: MaskingPlay, method: str, bend: Any) -> Any:
    honest = play.stage.service.script[method][0]

    def answer(request: Any) -> Any:
        made = honest(request)
        bend(made)
        return made

    return {method: [answer]}


async def test_a_join_of_the_roster_that_nobody_signed(play: MaskingPlay) -> None:
    def bend(answer: pb.WaitForRosterResponse) -> None:
        answer.masking_roster.joins[1].signature = b"\x00" * 70

    with pytest.raises(FaultyCoordinatorError, match="signature of client/bob"):
        await play.perform(**bent(play, "WaitForRoster", bend))
    assert play.payloads()["SendShares"] == set()


@pytest.mark.parametrize(
    ("method", "field", "sent"),
    [("WaitForShares", "sharers", "CompleteVector"), ("WaitForSurvivors", "survivors", "Confirm")],
)
async def test_positions_outside_the_roster(play: MaskingPlay, method: str, field: str, sent: str) -> None:
    def bend(answer: Any) -> None:
        getattr(answer, field)[-1] = 99

    with pytest.raises(FaultyCoordinatorError, match="stay within"):
        await play.perform(**bent(play, method, bend))
    assert play.payloads()[sent] == set()


async def test_too_few_confirmations_reveal_nothing(play: MaskingPlay) -> None:
    def bend(answer: masking_pb.WaitForConfirmationsResponse) -> None:
        del answer.confirmations[3:]

    with pytest.raises(FaultyCoordinatorError, match="4 clients confirmed the survivors, 5 are due"):
        await play.perform(**bent(play, "WaitForConfirmations", bend))
    assert play.payloads()["Unmask"] == set()


async def test_a_confirmation_that_another_signed_reveals_nothing(play: MaskingPlay) -> None:
    def bend(answer: masking_pb.WaitForConfirmationsResponse) -> None:
        answer.confirmations[0].certificate = answer.confirmations[1].certificate

    with pytest.raises(FaultyCoordinatorError, match="its answer is refused"):
        await play.perform(**bent(play, "WaitForConfirmations", bend))
    assert play.payloads()["Unmask"] == set()


async def test_more_bytes_than_the_vector_has(play: MaskingPlay) -> None:
    answer = masking_pb.UploadVectorResponse(bytes=SPEC.masking_parameters.vector_bytes + 1)
    with pytest.raises(FaultyCoordinatorError, match="more than the"):
        await play.perform(UploadVector=[answer])


# the upload goes on where it broke, and a cancelled client leaves nothing


async def test_a_broken_upload_goes_on_where_it_broke(play: MaskingPlay) -> None:
    service = play.stage.service
    service.break_after_messages = [2]
    offset = masking_pb.GetVectorOffsetResponse(bytes=17)

    def whole(_: Any) -> Any:
        first, second = service.vectors
        assert second[1].part.offset == 17
        data = first[1].part.data
        assert data[17:] == second[1].part.data
        assert first[0] == second[0]
        service.vectors[:] = [first]
        return masking_pb.UploadVectorResponse(bytes=len(data))

    result = await play.perform(GetVectorOffset=[offset], UploadVector=[whole])
    assert result.contributors == CLIENTS


async def test_a_coordinator_that_is_gone(play: MaskingPlay, tmp_path: Path) -> None:
    play.stage.service.break_after_messages = [1] * 50
    service = play.stage.service
    service.script["GetVectorOffset"] = [masking_pb.GetVectorOffsetResponse(bytes=0)]
    with pytest.raises(UnreachableError):
        await play.perform()


@pytest.mark.parametrize("state", [None, "state"])
async def test_a_cancelled_client_leaves_nothing_behind_but_what_another_call_goes_on_with(
    play: MaskingPlay, tmp_path: Path, state: str | None
) -> None:
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: Any) -> Any:
        loop.call_soon_threadsafe(waiting.set)
        return masking_pb.WaitForSurvivorsResponse(standing=standing(Phase.UPLOADING))

    directory = None if state is None else tmp_path / state
    normally = play.stage.service.script["WaitForSurvivors"]
    work = play.perform(state_dir=directory, spool_dir=tmp_path / "spool", WaitForSurvivors=[wait])
    task = asyncio.create_task(work)
    await asyncio.wait_for(waiting.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    spool = tmp_path / "spool"
    assert not spool.exists() or list(spool.iterdir()) == []
    assert not any(str(tmp_path / "s") in target for target in _open_files())
    if directory is not None:
        # A service manager ends its processes in order; the round is not lost by that.
        sent = play.payloads()
        result = await play.perform(state_dir=directory, WaitForSurvivors=normally)
        assert result.contributors == CLIENTS
        assert result.resumed
        assert all(play.payloads()[method] == once for method, once in sent.items() if once)
        assert list(directory.iterdir()) == []


def _open_files() -> list[str]:
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(os.readlink(descriptor))  # noqa: PTH115 - deleted files are no paths
        except OSError:
            continue
    return targets
