"""The driver of a masking round: late vectors thrown away, and the exact sum of the survivors, whatever shares come first."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from coordinator.contracts import RoundRecord, mean_name
from coordinator.rounds import live as live_module
from coordinator.rounds import masking_chores
from coordinator.rounds.changes import Changes
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.rounds.unmasking import Recovered, recover
from coordinator.spool import UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from coordinator.streams import UploadKey
from he.packing import unpack_mean
from secagg.identity import SignedMessage
from secagg.ids import ClientId
from secagg.masking.masks import MaskedSum, Masks, masked_pieces
from secagg.messages.round import Phase
from secagg.roles.client.masking.events import ConfirmationsShown, MaskUpdate, SurvivorsShown, VectorAccepted
from secagg.roles.coordinator.events import DeadlinePassed, UnmaskingFailed, UnmaskingReceived
from tests.masking_material import ALICE, CLIENTS, NONCE, PLAN, ROUND, SPEC, THRESHOLD, Round, vector_of
from tests.round_cluster import eventually

PARAMETERS = SPEC.masking_parameters


class Signer:
    """Signs nothing: results are looked at in the machine's state."""

    def sign(self, label: bytes, payload: bytes) -> Any:
        return SignedMessage(payload=payload, signature=label, certificate=b"")


class Driven:
    """A live round that is told what the clients of a :class:`Round` said."""

    def __init__(self, directory: Path) -> None:
        self.store = SqlRoundStore(f"sqlite:///{directory / 'rounds.db'}")
        self.store.create_job(SPEC, 1.0)
        blobs = DirectoryBlobStore(directory / "blobs")
        self.around = Surroundings(
            store=self.store,
            blobs=blobs,
            spool=UploadSpool(blobs, max_bytes=1 << 20),
            identity=cast("Any", SimpleNamespace(signer=Signer())),
            holders={},
            clock=lambda: 2.0,
            metrics=RoundMetrics(CollectorRegistry()),
            compute=cast("Any", None),
        )
        self.changes = Changes()
        self.live = LiveRound(SPEC, ROUND, self.around, self.changes)

    def key(self, client: ClientId) -> UploadKey:
        return UploadKey(job=SPEC.job, round=ROUND, client=client)

    async def until(self, *phases: Phase) -> None:
        assert await self.changes.wait_until(lambda: self.live.state.phase in phases, 20.0)

    async def closed(self) -> None:
        async with asyncio.timeout(20):
            await self.live.closed.wait()

    async def spool(self, round: Round, clients: Iterable[ClientId]) -> None:
        for client in clients:
            self.around.vectors.reserve(self.key(client), PARAMETERS.vector_bytes)
            data = round.vectors[client]
            self.around.vectors.append(self.key(client), offset=0, data=data, digest=hashlib.sha256(data).digest())

    async def confirming(self, survivors: tuple[ClientId, ...] = CLIENTS) -> Round:
        """Take both machines to CONFIRMING; every vector is spooled, and those of the survivors count."""
        round = Round().masked()
        await self.live.begin()
        for client in CLIENTS:
            await self.live.apply(round.join(client))
        for client in CLIENTS:
            await self.live.apply(round.shares(client))
        await self.spool(round, CLIENTS)
        for client in survivors:
            await self.live.apply(round.vector(client))
        if len(survivors) < len(CLIENTS):
            await self.live.apply(DeadlinePassed(phase=Phase.UPLOADING))
        assert self.live.state.phase is Phase.CONFIRMING
        return round

    async def unmasking(self, survivors: tuple[ClientId, ...] = CLIENTS) -> Round:
        """Take both machines to UNMASKING, with every survivor's shares ready to be revealed."""
        round = await self.confirming(survivors)
        state = cast("Any", self.live.state)
        for client in survivors:
            round.tell(client, VectorAccepted())
            round.tell(client, SurvivorsShown(survivors=state.survivors))
        for client in survivors:
            await self.live.apply(round.confirmation(client))
        for client in survivors:
            round.tell(client, ConfirmationsShown(confirmations=round.confirmations(survivors)))
        assert self.live.state.phase is Phase.UNMASKING
        return round

    def mean(self) -> np.ndarray:
        result = self.live.state.result
        assert result is not None
        blob = self.around.blobs.read(mean_name(SPEC.job, ROUND, result.mean_digest), 0, 1 << 20)
        return np.frombuffer(blob, dtype="<f4")

    def record(self) -> RoundRecord:
        return self.store.round(SPEC.job, ROUND)


@pytest.fixture
async def driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driven]:
    monkeypatch.setattr(live_module.secrets, "token_bytes", lambda size: NONCE[:size])
    made = Driven(tmp_path)
    yield made
    if not made.live.state.phase.ended:
        await made.live.give_up("the test is over")
    await made.closed()
    made.store.close()


def exact_mean(round: Round, survivors: Iterable[ClientId]) -> np.ndarray:
    """Return the mean of what the survivors quantised, with no mask ever in it."""
    total = MaskedSum(PARAMETERS)
    chosen = tuple(survivors)
    for client in chosen:
        noise = round.sent[client][MaskUpdate].noise_key
        (piece,) = masked_pieces(vector_of(client), PARAMETERS, Masks(), noise)
        total.add(0, PARAMETERS.values, piece)
    mean, _ = unpack_mean(total.values(len(chosen)), SPEC.layout, SPEC.clip, SPEC.max_weight)
    return mean["w"]


async def test_the_round_begins_open_with_a_plan_that_is_stored(driven: Driven) -> None:
    assert driven.live.state.plan is None
    await driven.live.begin()
    assert driven.live.state.plan == PLAN == driven.record().status.plan
    assert driven.record().status.phase is Phase.OPEN


async def test_the_sum_of_all_is_exact(driven: Driven) -> None:
    round = await driven.unmasking()
    for client in CLIENTS[: THRESHOLD + 1]:
        await driven.live.apply(round.unmasking(client))
    await driven.until(Phase.PUBLISHED, Phase.ABORTED)
    await driven.closed()
    assert np.array_equal(driven.mean(), exact_mean(round, CLIENTS))
    record = driven.record()
    assert (record.status.shared, record.status.approvals, record.status.answers) == (7, 7, THRESHOLD + 1)
    assert record.roster is not None
    assert all(one.confirmation is not None for one in record.contributions)
    assert driven.around.spool.reserved_bytes == 0


async def test_a_late_vector_is_thrown_away_and_the_sum_of_the_others_is_exact(driven: Driven) -> None:
    survivors = CLIENTS[1:]
    round = await driven.unmasking(survivors)
    await eventually(lambda: driven.around.vectors.size(driven.key(ALICE)) == 0)
    assert driven.around.vectors.size(driven.key(CLIENTS[1])) == PARAMETERS.vector_bytes
    for client in survivors:
        if not driven.live.state.phase.ended:
            await driven.live.apply(round.unmasking(client))
    await driven.until(Phase.PUBLISHED, Phase.ABORTED)
    assert driven.live.state.contributors == survivors
    assert np.array_equal(driven.mean(), exact_mean(round, survivors))


def lying(round: Round, client: ClientId) -> UnmaskingReceived:
    """Return an unmasking whose shares are each another neighbour's."""
    shares = round.unmasking(client).unmasking.message.shares
    return round.unmasking(client, shares=shares[1:] + shares[:1])


async def test_shares_that_open_nothing_are_waited_out_and_the_sum_is_still_exact(driven: Driven) -> None:
    round = await driven.unmasking()
    liar, honest = CLIENTS[0], CLIENTS[1:]
    await driven.live.apply(lying(round, liar))
    for client in honest[:THRESHOLD]:
        await driven.live.apply(round.unmasking(client))
    await eventually(lambda: "unmasking-failed" in {one.event for one in driven.store.events(SPEC.job)})
    assert driven.live.state.phase is Phase.UNMASKING
    await driven.live.apply(round.unmasking(honest[THRESHOLD]))
    await driven.until(Phase.PUBLISHED, Phase.ABORTED)
    await driven.closed()
    assert np.array_equal(driven.mean(), exact_mean(round, CLIENTS))
    details = {one.event: one.details for one in driven.store.events(SPEC.job)}
    assert details["round-published"]["faulty_clients"] == liar


async def test_shares_that_come_during_a_failing_attempt_are_tried(driven: Driven, monkeypatch: Any) -> None:
    round = await driven.unmasking()
    entered, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    tries: list[int] = []

    def slow(state: Any) -> Recovered | UnmaskingFailed:
        tries.append(len(state.unmaskings))
        if len(tries) == 1:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
        return recover(state)

    monkeypatch.setattr(masking_chores, "recover", slow)
    await driven.live.apply(lying(round, CLIENTS[0]))
    for client in CLIENTS[1 : THRESHOLD + 1]:
        await driven.live.apply(round.unmasking(client))
    await entered.wait()
    for client in CLIENTS[THRESHOLD + 1 :]:
        await driven.live.apply(round.unmasking(client))
    release.set()
    await driven.until(Phase.PUBLISHED, Phase.ABORTED)
    assert driven.live.state.phase is Phase.PUBLISHED, driven.live.state.reason
    assert tries == [THRESHOLD + 1, len(CLIENTS)]
    assert np.array_equal(driven.mean(), exact_mean(round, CLIENTS))


async def test_secrets_that_never_open_end_the_round_and_name_their_owners(driven: Driven) -> None:
    round = await driven.unmasking()
    for client in CLIENTS:
        if not driven.live.state.phase.ended:
            await driven.live.apply(lying(round, client))
    await driven.until(Phase.PUBLISHED, Phase.ABORTED)
    assert driven.live.state.phase is Phase.ABORTED
    assert "do not open the secrets of alice" in driven.live.state.reason
    await driven.closed()
    assert not driven.around.blobs.names("")


def test_recovery_leaves_no_name_out_and_shows_no_secret() -> None:
    round = Round().unmasking_begun()
    found = recover(round.state)
    assert isinstance(found, Recovered)
    assert found.masks.count == len(CLIENTS)
    for key in found.masks.added:
        assert repr(key) not in repr(found)
    bare = replace(round.state, unmaskings={})
    failed = recover(bare)
    assert isinstance(failed, UnmaskingFailed)
    assert failed.can_wait
    assert "alice, bob, carol" in failed.reason
