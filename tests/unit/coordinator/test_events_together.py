"""Events that come while others are being stored are stored with one another: in one step, each with its own answer, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.contracts import AnsweredRequest, RequestRecord, RoundMove
from coordinator.rounds import together
from coordinator.rounds.live import LiveRound
from secagg.errors import ConflictError, ElsewhereError, SecAggError, StorageError, WrongPhaseError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from tests.masking_material import ALICE, BOB, CLIENTS, ROUND, SPEC, finished
from tests.simulation.masking.parties import party
from tests.unit.coordinator.durable_engine import Deployment, run

FIRST, *OTHERS = CLIENTS


@pytest.fixture
def deployed(tmp_path: Path) -> Any:
    made = Deployment(tmp_path)
    yield made
    made.close()


class Played:
    """Joins of all clients at one time: the first is stored alone, and meanwhile the others come."""

    def __init__(self, deployed: Deployment, live: LiveRound) -> None:
        self.deployed, self.live = deployed, live
        self.moves: list[RoundMove] = []
        self.digests = dict.fromkeys(CLIENTS, b"\1" * 32)
        deployed.store.fails = self._seen

    def _seen(self, name: str, args: tuple[Any, ...]) -> str:
        if name == "advance_round":
            self.moves.append(args[0])
        return ""

    def request(self, client: ClientId) -> AnsweredRequest:
        record = RequestRecord(caller=str(party(client)), request_id="join", digest=self.digests[client])
        return AnsweredRequest(request=record, answer=client.encode())

    async def all_join(self) -> dict[ClientId, BaseException | None]:
        """Return what became of each."""
        first = asyncio.ensure_future(self._join(FIRST))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = await asyncio.gather(*map(self._join, OTHERS), return_exceptions=True)
        return dict(zip(CLIENTS, [*await asyncio.gather(first, return_exceptions=True), *others], strict=True))

    async def _join(self, client: ClientId) -> None:
        await self.live.apply(finished().join(client), self.request(client))

    async def rejoin(self, client: ClientId) -> None:
        """Join while another error is being handled."""
        try:
            {}[client]
        except KeyError:
            await self._join(client)

    @property
    def joined(self) -> set[ClientId]:
        return set(self.live.state.joins)

    @property
    def kept(self) -> list[int]:
        return [one.sequence for one in self.deployed.store.store.kept_events(SPEC.job, ROUND)]

    @property
    def sizes(self) -> list[int]:
        """How many events each step of the store had."""
        return [len(move.events) for move in self.moves]

    def answers(self) -> dict[ClientId, bytes | None]:
        store = self.deployed.store.store
        return {client: store.answer_to(self.request(client).request) for client in CLIENTS}


def playing(deployed: Deployment, work: Callable[[Played], Coroutine[Any, Any, None]]) -> None:
    """Start the round, play, and stop."""

    async def whole() -> None:
        await work(Played(deployed, cast("LiveRound", await deployed.start())))
        await deployed.engine.stop(0.0)

    run(whole)


def test_what_comes_meanwhile_is_stored_in_one_step(deployed: Deployment) -> None:
    async def work(played: Played) -> None:
        assert set((await played.all_join()).values()) == {None}
        assert played.sizes == [1, len(OTHERS)]
        assert played.kept == list(range(1, len(CLIENTS) + 1))
        assert list(played.live.state.joins) == list(CLIENTS)
        assert played.answers() == {client: client.encode() for client in CLIENTS}
        assert played.live.state.phase is Phase.SHARING

    playing(deployed, work)


def test_a_step_of_the_store_is_never_larger_than_its_bound(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOST_TOGETHER", 2)

    async def work(played: Played) -> None:
        assert set((await played.all_join()).values()) == {None}
        assert played.sizes == [1, 2, 2, 2]

    playing(deployed, work)


def test_nothing_is_stored_with_what_follows_the_end_of_a_phase(deployed: Deployment) -> None:
    """So that timers, and what is asked for, are always those of the phase that the event belongs to."""

    async def work(played: Played) -> None:
        live, made = played.live, finished()
        joins = [live.apply(made.join(client)) for client in CLIENTS]
        shares = [live.apply(made.shares(client)) for client in CLIENTS]
        assert set(await asyncio.gather(*joins, *shares)) == {None}
        assert played.sizes == [len(CLIENTS), len(CLIENTS)]
        recorded = [move.record.status.phase for move in played.moves if move.record is not None]
        assert recorded == [Phase.SHARING, Phase.UPLOADING]

    playing(deployed, work)


def test_who_is_refused_is_refused_alone(deployed: Deployment) -> None:
    async def work(played: Played) -> None:
        live, made = played.live, finished()
        found = await asyncio.gather(
            live.apply(made.join(ALICE)),
            live.apply(made.shares(ALICE)),
            live.apply(made.join(BOB)),
            live.apply(made.join(ALICE), played.request(ALICE)),
            return_exceptions=True,
        )
        assert [type(one) for one in found] == [type(None), WrongPhaseError, type(None), type(None)]
        assert played.sizes == [2]
        assert played.joined == {ALICE, BOB}
        # The repetition changed nothing, and has its answer all the same.
        assert played.answers()[ALICE] == ALICE.encode()

    playing(deployed, work)


def test_a_request_that_said_something_else_before_is_refused_alone(deployed: Deployment) -> None:
    async def work(played: Played) -> None:
        deployed.store.store.keep_answer(played.request(BOB), 1.0)
        played.digests[BOB] = b"\2" * 32
        found = await played.all_join()
        assert {client for client, error in found.items() if error is not None} == {BOB}
        assert isinstance(found[BOB], ConflictError)
        assert played.joined == set(CLIENTS) - {BOB}
        assert played.kept == list(range(1, len(CLIENTS)))

    playing(deployed, work)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_that_fails_is_everybodys_failure_and_counts_once(deployed: Deployment, when: str) -> None:
    async def work(played: Played) -> None:
        before = played.live.state
        deployed.store.fails = lambda name, _args: when if name == "advance_round" else ""
        calls = [deployed.call(client, "join") for client in CLIENTS]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, SecAggError) for error in found)
        assert played.live.state is before
        deployed.store.fails = lambda _name, _args: ""
        for client in CLIENTS:
            await deployed.insist(client, "join")
        now = (await deployed.engine.run_of(SPEC.job)).live
        assert now is not None
        assert set(now.state.joins) == set(CLIENTS)
        assert played.kept == list(range(1, len(CLIENTS) + 1))

    playing(deployed, work)


def test_a_round_that_is_left_while_events_wait_tells_each_of_them(deployed: Deployment) -> None:
    """What is being stored is finished; whoever goes on with the round has it, and answers it."""

    async def work(played: Played) -> None:
        suspended: list[asyncio.Future[None]] = []

        def suspending(name: str, _args: tuple[Any, ...]) -> str:
            if name == "advance_round":
                suspended.append(asyncio.ensure_future(played.live.suspend()))
            return ""

        deployed.store.fails = suspending
        found = await played.all_join()
        assert len(suspended) == 1
        await suspended[0]
        assert all(isinstance(error, ElsewhereError) for error in found.values())
        assert played.kept == [1]

    playing(deployed, work)


def test_callers_that_go_away_change_nothing_for_the_others(deployed: Deployment) -> None:
    async def work(played: Played) -> None:
        live, made = played.live, finished()
        joins = [asyncio.ensure_future(live.apply(made.join(client))) for client in CLIENTS]
        await asyncio.sleep(0)
        for gone in joins[::2]:
            gone.cancel()
        await asyncio.gather(*joins[1::2])
        assert played.joined == set(CLIENTS)

    playing(deployed, work)


def test_turns_that_are_cancelled_before_they_begin_leave_nobody_waiting(deployed: Deployment) -> None:
    """A process that dies cancels everything, also what was only just begun."""

    async def work(played: Played) -> None:
        joining = asyncio.ensure_future(played.live.apply(finished().join(ALICE)))
        await asyncio.sleep(0)
        for task in tuple(played.live._moves):
            task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([joining])
        assert joining.cancelled()
        # And whoever comes next has a turn again.
        await played.live.apply(finished().join(BOB))
        assert played.joined == {BOB}

    playing(deployed, work)


def test_of_one_failure_each_gets_an_error_of_its_own(deployed: Deployment) -> None:
    """What one caller was doing when it failed is nothing that another one's log tells."""

    async def work(played: Played) -> None:
        deployed.store.fails = lambda name, _args: "before" if name == "advance_round" else ""
        found = await asyncio.gather(*map(played.rejoin, CLIENTS), return_exceptions=True)
        assert [type(one) for one in found] == [StorageError] * len(CLIENTS)
        assert [cast("StorageError", one).__context__.args for one in found] == [(client,) for client in CLIENTS]

    playing(deployed, work)
