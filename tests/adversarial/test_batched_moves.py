"""Events that are stored together: what one caller can do to the others, and what each is told of what became of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.rounds.ledger import _REPEATS_KEPT
from coordinator.rounds.live import LiveRound
from secagg.errors import ConflictError, ElsewhereError, StorageError, UsageError
from secagg.ids import ClientId
from secagg.messages.masking import MaskingJoin
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import JoinReceived
from tests.batched_material import House, new_house, queued, request, together
from tests.masking_material import ALICE, CLIENTS, SPEC, authenticated, finished
from tests.unit.coordinator.durable_engine import Deployment, run

FIRST, *OTHERS = CLIENTS
MANY = 256
CONFLICTING = (5, 69, 133, 197)
"""One in each full batch of 64."""
MOST_TRANSACTIONS = 64
"""To find one among 64 takes the batch that fails, and two for each of six halvings: 52 for all of them."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path) as made:
        yield made


async def opened(house: House) -> LiveRound:
    live = house.live()
    await live.begin()
    return live


async def join(live: LiveRound, client: ClientId, request_id: str = "join") -> None:
    await live.apply(finished().join(client), request(f"client/{client}", request_id))


def joins_of_many(live: LiveRound) -> list[JoinReceived]:
    """Return joins of clients that have nothing but a name: nobody ever uses their keys."""
    joins = []
    for number in range(MANY):
        client = ClientId(f"c{number:04}")
        mask_key, share_key, seed = (hashlib.sha256(f"{client}/{key}".encode()).digest()[:31] + b"\0" for key in "abc")
        message = MaskingJoin(
            plan_digest=live.state.certified.digest,
            client=client,
            mask_key=mask_key,
            share_key=share_key,
            seed_commitment=seed,
        )
        joins.append(JoinReceived(join=authenticated(message)))
    return joins


async def test_conflicting_requests_cost_the_others_some_transactions_and_nothing_else(tmp_path: Path) -> None:
    spec = replace(SPEC, max_clients=MANY + 1, min_contributors=MANY // 2, min_total_weight=100.0)
    with new_house(tmp_path, spec) as house:
        live = await opened(house)
        for number in CONFLICTING:
            house.sql.keep_answer(request(f"client/{number}", content=b"another"), 2.0)
        moves = [live.apply(event, request(f"client/{number}")) for number, event in enumerate(joins_of_many(live))]
        results = await asyncio.gather(*moves, return_exceptions=True)
        refused = {number: type(error) for number, error in enumerate(results) if error is not None}
        assert refused == dict.fromkeys(CONFLICTING, ConflictError)
        assert len(live.state.joins) == len(house.kept) == MANY - len(CONFLICTING)
        assert house.store.calls["advance_round"] <= MOST_TRANSACTIONS
        await live.suspend()


async def test_one_client_alone_spoils_a_bounded_number_of_batches(house: House) -> None:
    """Two calls under one request id, both on their way: only as often as answers to one caller's repetitions are kept."""
    live = await opened(house)
    for client in CLIENTS:
        await join(live, client)
    spoiled = 0
    while await _spoils_a_batch(house, live, f"again-{spoiled}", OTHERS[spoiled : spoiled + 1]):
        spoiled += 1
    assert spoiled == _REPEATS_KEPT
    await live.apply(finished().shares(ALICE), request("client/alice", "shares"))
    await live.suspend()


async def _spoils_a_batch(house: House, live: LiveRound, request_id: str, with_it: Sequence[ClientId]) -> bool:
    """Repeat alice's join, and send her shares under the same id while the answer is being stored; whether it was."""
    held = house.store.hold("keep_answer")
    repeated = asyncio.create_task(join(live, ALICE, request_id))
    begun = asyncio.create_task(held.begun())
    await asyncio.wait({repeated, begun}, return_when=asyncio.FIRST_COMPLETED)
    if repeated.done():
        begun.cancel()
        return False
    same = request("client/alice", request_id, b"shares")
    shares = [asyncio.create_task(live.apply(finished().shares(ALICE), same))]
    shares += [asyncio.create_task(live.apply(finished().shares(client))) for client in with_it]
    await queued(live, 1 + len(shares))
    held.release()
    results = await asyncio.gather(repeated, *shares, return_exceptions=True)
    assert isinstance(results.pop(1), ConflictError)
    assert set(results) == {None}
    return True


async def test_an_event_that_cannot_be_stored_takes_nobody_with_it(house: House) -> None:
    """Half a character in a request id, which no database takes."""
    live = await opened(house)
    results = await together(
        house,
        live,
        join(live, FIRST),
        join(live, OTHERS[0], "half of one: \ud800"),
        *(join(live, client) for client in OTHERS[1:]),
    )
    assert isinstance(results[1], UsageError)
    assert results[:1] + results[2:] == [None] * (len(CLIENTS) - 1)
    assert set(live.state.joins) == set(CLIENTS) - {OTHERS[0]}
    await live.suspend()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_refusal_that_rests_on_what_was_not_stored_is_no_refusal(house: House, when: str) -> None:
    """The twin of a join in its batch is told what the others are told: nobody knows whether that join counts."""
    live = await opened(house)
    taken: Any = finished().join(OTHERS[0]).join.message
    twin = live.apply(finished().join(OTHERS[3], share_key=taken.share_key), request("client/twin"))

    def failing(_tasks: object) -> None:
        setattr(house.store, when, fails)

    def fails(name: str, _args: object) -> None:
        # The first is under way; what is told of it is another matter.
        if name == "advance_round" and house.store.calls[name] > 1:
            raise StorageError("lost")

    moves = [join(live, client) for client in OTHERS[:3]]
    results = await together(house, live, join(live, FIRST), *moves, twin, meanwhile=failing)
    assert [type(one) for one in results] == [type(None), *[StorageError] * 4]
    house.store.open()
    again = await asyncio.gather(*(join(live, client) for client in OTHERS[:3]), return_exceptions=True)
    assert [type(one) for one in again] == [type(None) if when == "before" else ElsewhereError] * 3
    assert house.kept == [1, 2, 3, 4]
    await live.suspend()


def test_a_phase_that_is_complete_in_the_store_does_not_wait_for_its_deadline(tmp_path: Path) -> None:
    """The answer to the last write is lost; whoever repeats a call is answered by the store, and nobody tells the round."""
    deployed = Deployment(tmp_path)

    async def work() -> None:
        await deployed.start()
        await deployed.play("join", clients=CLIENTS[:-1])
        deployed.store.fails = lambda name, _args: "after" if name == "advance_round" else ""
        with pytest.raises(StorageError):
            await deployed.call(CLIENTS[-1], "join")
        deployed.store.fails = lambda _name, _args: ""
        await deployed.play("join")
        await asyncio.sleep(20)
        live = (await deployed.engine.run_of(SPEC.job)).live
        assert live is not None
        assert (live.state.phase, len(live.state.joins)) == (Phase.SHARING, len(CLIENTS))
        await deployed.engine.stop(0.0)

    run(work)
    deployed.close()


async def test_callers_that_give_up_find_their_answers_when_they_come_back(house: House) -> None:
    """One while it is being stored, one while it waits."""
    live = await opened(house)

    def give_up(tasks: list[asyncio.Task[None]]) -> None:
        tasks[0].cancel()
        tasks[2].cancel()

    results = await together(house, live, *(join(live, client) for client in CLIENTS), meanwhile=give_up)
    gone = [client for client, error in zip(CLIENTS, results, strict=True) if error is not None]
    assert gone == [CLIENTS[0], CLIENTS[2]]
    assert set(live.state.joins) == set(CLIENTS)
    for client in gone:
        caller = f"client/{client}"
        assert house.sql.answer_to(request(caller, "join").request) == caller.encode()
    await live.suspend()


async def test_turns_that_are_cancelled_leave_nobody_waiting(house: House) -> None:
    """As when the whole process ends."""
    live = await opened(house)

    def cancel(_tasks: object) -> None:
        for move in live._moves:
            move.cancel()

    async with asyncio.timeout(10):
        results = await together(house, live, *(join(live, client) for client in CLIENTS), meanwhile=cancel)
    assert all(isinstance(one, asyncio.CancelledError) for one in results)
    await live.suspend()


async def test_a_lease_lost_under_a_batch_acknowledges_and_stores_nothing_of_it(house: House) -> None:
    live = await opened(house)

    def lose(_tasks: object) -> None:
        house.sql.give_back(house.lease)
        assert house.sql.take_lease(SPEC.job, "other", 1e6) is not None

    moves = [join(live, client) for client in CLIENTS[:5]]
    results = await together(house, live, *moves, join(live, FIRST, "again"), meanwhile=lose)
    assert {type(one) for one in results} == {ElsewhereError}
    assert house.kept == []
    assert house.sql.answer_to(request(f"client/{FIRST}", "again").request) is None
    async with asyncio.timeout(10):
        await live.closed.wait()
    with pytest.raises(ElsewhereError):
        await join(live, OTHERS[0])
    assert live._timers == {}


async def test_nothing_is_begun_after_a_round_was_let_go_of(house: House) -> None:
    """The lease is lost while the answer to a repetition is being stored; the event behind it in the batch ends the phase."""
    live = await opened(house)
    for client in CLIENTS[:5]:
        await join(live, client)
    answering: list[Any] = []
    letting_go: list[asyncio.Task[None]] = []

    async def let_go() -> None:
        await answering[0].begun()
        # What is stored shows at once, with the time at which it began.
        assert set(live.status.phase_started) == {Phase.OPEN, Phase.SHARING}
        assert live.status.phase is Phase.SHARING
        suspended = asyncio.create_task(live.suspend())
        await asyncio.sleep(0)
        answering[0].release()
        await suspended

    def meanwhile(_tasks: object) -> None:
        answering.append(house.store.hold("keep_answer"))
        letting_go.append(asyncio.create_task(let_go()))

    moves = (join(live, CLIENTS[5]), join(live, ALICE, "again"), join(live, CLIENTS[6]))
    results: list[Any] = await together(house, live, *moves, meanwhile=meanwhile)
    await letting_go[0]
    assert results == [None] * 3
    assert live._timers == {}
