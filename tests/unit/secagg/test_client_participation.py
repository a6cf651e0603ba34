"""What the SDK makes of a coordinator that lets it wait, is late, or ends a round at an awkward moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import codec, transcript
from secagg.client import AsyncClient, exchange
from secagg.errors import FaultyCoordinatorError, LateError, RoundAbortedError, WrongPhaseError
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest
from secagg.messages.round import Join, Phase, Result
from secagg.plan import Deadlines
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import round_pb2
from tests.client_material import POLICY, offer
from tests.holder_material import job_spec, seals_of
from tests.scripted_coordinator import PARTY, Stage, scripted_coordinator

SPEC = replace(
    job_spec(),
    deadlines=Deadlines(open_seconds=1.0, uploading_seconds=1.0, approving_seconds=0.1, decrypting_seconds=0.1),
)
UPDATE = {"w": np.zeros(8195, dtype=np.float32)}
HALF_BYTES = 3 * 49152


def parsed_join(signed: Any) -> Join:
    wire = round_pb2.Join.FromString(signed.payload)
    return Join(plan_digest=Digest(wire.plan_digest), client=ClientId(wire.client), commitment=wire.commitment)


class Play:
    """A round as an honest coordinator shows it to alice, with bob beside her; a test replaces an act."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.plan = offer(SPEC).plan
        stage.service.script = {
            "WaitForRound": [pb.WaitForRoundResponse()] * 2 + [self.offered()],
            "Join": [pb.JoinResponse()],
            "WaitForRoster": [pb.WaitForRosterResponse(phase=round_pb2.PHASE_OPEN), self.roster],
            "UploadHalves": [pb.UploadHalvesResponse(c0_bytes=HALF_BYTES, c1_bytes=HALF_BYTES)],
            "CompleteUpload": [pb.CompleteUploadResponse()],
            "WaitForResult": [pb.WaitForResultResponse(phase=round_pb2.PHASE_APPROVING)],
            "DownloadMean": [[b"mean"]],
        }

    def sign(self, message: Any, role: Role, name: str) -> Any:
        identity = self.stage.made.identity(Party(role=role, name=name))
        return codec.signed_to_wire(codec.sign(message, identity.signer))

    def offered(self) -> pb.WaitForRoundResponse:
        bundle = offer(SPEC).bundle
        key = codec.key_bundle_to_wire(bundle)
        del key.hellos[:], key.statements[:]
        for one in bundle.hellos:
            key.hellos.append(self.sign(one.message, Role.KEY_HOLDER, one.message.holder))
        for statement in bundle.statements:
            key.statements.append(self.sign(statement.message, Role.KEY_HOLDER, statement.message.holder))
        return pb.WaitForRoundResponse(found=True, plan=codec.round_plan_to_wire(self.plan), key=key)

    def roster(self, _: Any) -> pb.WaitForRosterResponse:
        joined = next(one for one in self.stage.service.seen if isinstance(one, pb.JoinRequest))
        bob = Join(plan_digest=self.plan.digest, client=ClientId("bob"), commitment=b"\x07" * 32)
        joins = [joined.join, self.sign(bob, Role.CLIENT, "bob")]
        messages = [parsed_join(one) for one in joins]
        digest = transcript.roster_digest(self.plan.digest, messages)
        seals = [self.sign(one.message, Role.KEY_HOLDER, one.message.holder) for one in seals_of(self.plan, digest)]
        roster = round_pb2.FrozenRoster(plan_digest=self.plan.digest, joins=joins, seals=seals)
        return pb.WaitForRosterResponse(phase=round_pb2.PHASE_UPLOADING, roster=roster)

    def result(self, _: Any) -> pb.WaitForResultResponse:
        message = Result(
            plan_digest=self.plan.digest,
            roster_digest=Digest(bytes(32)),
            contributors=(ClientId("alice"), ClientId("bob")),
            total_weight=2.0,
            mean_digest=Digest(bytes(32)),
            mean_bytes=4 * 8195,
        )
        return pb.WaitForResultResponse(
            phase=round_pb2.PHASE_PUBLISHED, result=self.sign(message, Role.COORDINATOR, PARTY.name)
        )

    async def perform(self, **acts: list[Any]) -> Any:
        self.stage.service.script.update(acts)
        arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": self.stage.identity, "policy": POLICY}
        async with AsyncClient(self.stage.address, **arguments, silence_seconds=1.0) as client:
            return await client.participate(SPEC.job, UPDATE, 1.0)


@pytest.fixture
async def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    monkeypatch.setattr(exchange, "GRACE_SECONDS", 0.5)
    async with scripted_coordinator(tmp_path) as stage:
        yield Play(stage)


ABORTED = pb.WaitForResultResponse(phase=round_pb2.PHASE_ABORTED, reason="bob did not upload")


async def test_a_roster_that_never_comes(play: Play) -> None:
    with pytest.raises(RoundAbortedError, match="showed no roster within"):
        await play.perform(WaitForRoster=[pb.WaitForRosterResponse(phase=round_pb2.PHASE_OPEN)])
    assert play.stage.service.uploads == []


async def test_a_result_that_never_comes(play: Play) -> None:
    with pytest.raises(RoundAbortedError, match="no result was shown within"):
        await play.perform()


@pytest.mark.parametrize("refusal", [LateError("the uploads are closed"), WrongPhaseError("it is over")])
async def test_an_upload_that_is_refused_because_the_round_was_aborted(play: Play, refusal: Exception) -> None:
    with pytest.raises(RoundAbortedError, match="bob did not upload"):
        await play.perform(UploadHalves=[refusal], WaitForResult=[ABORTED])


async def test_an_upload_that_is_refused_while_the_round_goes_on_without_it(play: Play) -> None:
    with pytest.raises(LateError, match="the uploads are closed"):
        await play.perform(CompleteUpload=[LateError("the uploads are closed")])


async def test_a_round_that_is_aborted_after_the_upload(play: Play) -> None:
    with pytest.raises(RoundAbortedError, match="bob did not upload"):
        await play.perform(WaitForResult=[pb.WaitForResultResponse(phase=round_pb2.PHASE_UPLOADING), ABORTED])


async def test_a_result_of_another_roster_is_not_delivered(play: Play) -> None:
    with pytest.raises(FaultyCoordinatorError, match="another roster"):
        await play.perform(WaitForResult=[play.result])


async def test_a_phase_that_does_not_exist(play: Play) -> None:
    with pytest.raises(FaultyCoordinatorError, match="its answer is refused"):
        await play.perform(WaitForRoster=[pb.WaitForRosterResponse()])
    assert play.stage.service.uploads == []


async def test_nothing_is_uploaded_to_a_roster_without_the_own_join(play: Play) -> None:
    def without_alice(request: Any) -> pb.WaitForRosterResponse:
        answer = play.roster(request)
        carol = Join(plan_digest=play.plan.digest, client=ClientId("carol"), commitment=b"\x08" * 32)
        del answer.roster.joins[0]
        answer.roster.joins.append(play.sign(carol, Role.CLIENT, "carol"))
        return answer

    with pytest.raises(FaultyCoordinatorError, match="does not hold the join of alice"):
        await play.perform(WaitForRoster=[without_alice])
    assert play.stage.service.uploads == []


async def test_a_join_in_anothers_name_is_no_join(play: Play) -> None:
    """The coordinator cannot fill a roster with clients that it made up: each join is signed by the client that it names."""

    def invented(request: Any) -> pb.WaitForRosterResponse:
        answer = play.roster(request)
        carol = Join(plan_digest=play.plan.digest, client=ClientId("carol"), commitment=b"\x08" * 32)
        answer.roster.joins.append(play.sign(carol, Role.CLIENT, "bob"))
        return answer

    with pytest.raises(FaultyCoordinatorError, match="in the name of 'carol'"):
        await play.perform(WaitForRoster=[invented])
    assert play.stage.service.uploads == []


async def test_a_key_statement_that_the_coordinator_signed_itself(play: Play) -> None:
    offered = play.offered()
    statement = offer(SPEC).bundle.statements[0].message
    offered.key.statements[0].CopyFrom(play.sign(statement, Role.COORDINATOR, PARTY.name))
    with pytest.raises(FaultyCoordinatorError, match="key-holder must sign it"):
        await play.perform(WaitForRound=[offered])
    assert not any(isinstance(one, pb.JoinRequest) for one in play.stage.service.seen)


async def test_what_a_caller_is_told_while_it_waits(play: Play) -> None:
    told: list[Phase] = []
    arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": play.stage.identity, "policy": POLICY}
    async with AsyncClient(play.stage.address, **arguments) as client:
        with pytest.raises(RoundAbortedError):
            await client.participate(SPEC.job, UPDATE, 1.0, progress=lambda one: told.append(one.phase))
    order = list(dict.fromkeys(told))
    assert order == [Phase.OPEN, Phase.UPLOADING, Phase.APPROVING]
