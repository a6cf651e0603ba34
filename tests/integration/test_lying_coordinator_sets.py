"""A coordinator that asks key holders to open another sum than the one that everybody committed to (docs/protocol.md, 6.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from coordinator.rounds.calls import ApprovalRequest
from secagg.errors import ConflictError, FaultyCoordinatorError, NotFoundError, WrongPhaseError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.plan import RoundPlan
from tests.holder_material import job_spec
from tests.holder_processes import HolderProcesses
from tests.lying_coordinator import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    EVERYONE,
    LyingCoordinator,
    coordinating,
    digest_of,
    one_loop,
)

HOLDERS = NORTH, EAST, SOUTH = tuple(HolderId(name) for name in ("north", "east", "south"))
SPEC = job_spec(3, 2, min_contributors=3)
pytestmark = one_loop
SECOND_SET = "approved of another set"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    async with coordinating(holders, SPEC) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def approved(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    """A round of the test's own, in which it goes as far as approvals."""
    async with coordinating(holders, SPEC) as made:
        yield made


async def test_what_an_honest_coordinator_asks_for_is_opened(approved: LyingCoordinator) -> None:
    request = approved.request()
    approvals = await approved.approve_all(request)
    answers = {holder: await approved.decrypt(holder, digest_of(request), approvals) for holder in HOLDERS}
    expected = sum(one.vector for one in approved.clients.values())
    assert np.abs(approved.opened(request, answers) - expected).max() < 1e-3
    # The log's line follows the last byte of the answer.
    async with asyncio.timeout(10):
        key_id = approved.plan.ckks.key_id
        while not all(approved.holders.answered(one, key_id) for one in HOLDERS):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("clients", [(ALICE,), (ALICE, BOB), ()])
async def test_fewer_than_the_minimum_are_never_opened(liar: LyingCoordinator, clients: tuple[str, ...]) -> None:
    whole = liar.request()
    request = replace(whole, uploads=tuple(one for one in whole.uploads if one.message.client in clients))
    async with liar.refused(FaultyCoordinatorError, f"a sum of {len(clients)} contributions, at least 3"):
        await liar.approve(NORTH, request)


async def test_one_client_does_not_count_three_times(liar: LyingCoordinator) -> None:
    request = liar.request(ALICE, ALICE, ALICE)
    async with liar.refused(FaultyCoordinatorError, "names a client twice"):
        await liar.approve(NORTH, request)


async def test_a_roster_that_names_a_client_twice_is_refused(liar: LyingCoordinator) -> None:
    own = liar.clients[BOB]
    roster = liar.roster(carol=own.join(liar.plan, commitment=bytes(32)))
    async with liar.refused(FaultyCoordinatorError, "roster names a client twice"):
        await liar.approve(NORTH, liar.request(ALICE, BOB, DAVE, roster=roster))


async def test_a_client_that_never_joined_is_not_added(liar: LyingCoordinator) -> None:
    whole = liar.roster()
    roster = replace(whole, joins=whole.joins[:3])
    async with liar.refused(FaultyCoordinatorError, "dave is not in the roster"):
        await liar.approve(NORTH, liar.request(ALICE, BOB, DAVE, roster=roster))


def of_another_job(plan: RoundPlan) -> RoundPlan:
    return replace(plan, spec=replace(plan.spec, job=JobId("others")))


def of_a_lower_minimum(plan: RoundPlan) -> RoundPlan:
    return replace(plan, spec=replace(plan.spec, min_contributors=2))


def of_another_round(plan: RoundPlan) -> RoundPlan:
    return replace(plan, round=RoundNumber(plan.round + 1))


@pytest.mark.parametrize("forge", [of_another_job, of_a_lower_minimum, of_another_round])
async def test_a_plan_that_the_key_was_not_made_for_is_refused(
    liar: LyingCoordinator, forge: Callable[[RoundPlan], RoundPlan]
) -> None:
    """All clients sign that other plan, so that nothing but the plan is wrong."""
    other = replace(liar, key=replace(liar.key, plan=forge(liar.plan)))
    async with liar.refused(FaultyCoordinatorError, "the plan"):
        await other.approve(NORTH, other.request())


async def test_a_key_that_was_never_made_opens_nothing(liar: LyingCoordinator) -> None:
    protocol = replace(liar.plan.protocol, key_id=KeyId(bytes(32)))
    other = replace(liar, key=replace(liar.key, plan=replace(liar.plan, protocol=protocol)))
    async with liar.refused(NotFoundError, "no share of that key"):
        await other.approve(NORTH, other.request())


def without_dave(liar: LyingCoordinator) -> ApprovalRequest:
    return liar.request(ALICE, BOB, CAROL)


def of_another_roster(liar: LyingCoordinator) -> ApprovalRequest:
    whole = liar.roster()
    return liar.request(ALICE, BOB, CAROL, roster=replace(whole, joins=whole.joins[:3]))


@pytest.mark.parametrize("second", [without_dave, of_another_roster])
async def test_a_second_set_is_refused_once_one_is_approved(
    approved: LyingCoordinator, second: Callable[[LyingCoordinator], ApprovalRequest]
) -> None:
    first, other = approved.request(), second(approved)
    await approved.approve_all(first)
    for holder in HOLDERS:
        with pytest.raises(ConflictError, match=SECOND_SET):
            await approved.approve(holder, other)
        assert approved.holders.ledger(holder, approved.plan.ckks.key_id) == [digest_of(first)]
    approved.verify_nothing_answered()


async def test_one_roster_is_sealed_for_a_key_whatever_else_is_shown(approved: LyingCoordinator) -> None:
    """Not a second one, and nothing uploaded to a second one, not even after a crash; the sealed one is opened."""
    whole = replace(approved.roster(), seals=())
    second = approved.sealed(replace(whole, joins=whole.joins[:3]))
    seals = [await approved.seal(holder, whole) for holder in HOLDERS]
    approved.holders.crash(NORTH)
    for holder in HOLDERS:
        with pytest.raises(ConflictError, match="sealed another roster"):
            await approved.seal(holder, second)
        with pytest.raises(ConflictError, match="sealed another roster"):
            await approved.approve(holder, approved.request(ALICE, BOB, CAROL, roster=second))
        assert approved.holders.ledger(holder, approved.plan.ckks.key_id) == []
    assert (await approved.seal(NORTH, whole)).message == seals[0].message
    request = approved.request(roster=replace(whole, seals=tuple(seals)))
    assert [one.message.holder for one in await approved.approve_all(request)] == list(HOLDERS)


async def test_a_roster_without_a_quorum_of_seals_is_not_approved(liar: LyingCoordinator) -> None:
    whole = liar.roster()
    for roster in (
        replace(whole, seals=()),
        liar.sealed(whole, HOLDERS[:2]),
        liar.sealed(whole, [NORTH, EAST, EAST]),
        liar.sealed(whole, roster_digest=bytes(32)),
    ):
        async with liar.refused(FaultyCoordinatorError, "seal"):
            await liar.approve(NORTH, liar.request(roster=roster))


async def test_a_second_set_is_refused_once_one_is_answered(approved: LyingCoordinator) -> None:
    first, other = approved.request(), without_dave(approved)
    approvals = await approved.approve_all(first)
    before = await approved.decrypt(NORTH, digest_of(first), approvals)
    with pytest.raises(ConflictError, match=SECOND_SET):
        await approved.approve(NORTH, other)
    with pytest.raises(ConflictError, match=SECOND_SET):
        await approved.decrypt(NORTH, digest_of(other), approvals)
    assert await approved.decrypt(NORTH, digest_of(first), approvals) == before


async def test_the_ledger_outlives_a_crash(approved: LyingCoordinator) -> None:
    first, other = approved.request(), without_dave(approved)
    approvals = await approved.approve_all(first)
    before = await approved.decrypt(NORTH, digest_of(first), approvals)
    approved.holders.crash(NORTH)
    with pytest.raises(ConflictError, match=SECOND_SET):
        await approved.decrypt(NORTH, digest_of(other), approvals)
    assert await approved.decrypt(NORTH, digest_of(first), approvals) == before
    approved.holders.crash(NORTH, lose_sums=True)
    for request in (first, other):
        with pytest.raises(WrongPhaseError, match="no sum"):
            await approved.decrypt(NORTH, digest_of(request), approvals)
    with pytest.raises(ConflictError, match=SECOND_SET):
        await approved.approve(NORTH, other)
    assert (await approved.approve(NORTH, first)).message == approvals[0].message
    assert await approved.decrypt(NORTH, digest_of(first), approvals) == before


async def test_after_a_crash_other_bytes_do_not_pass_for_the_approved_set(approved: LyingCoordinator) -> None:
    request = approved.request()
    approvals = await approved.approve_all(request)
    approved.holders.crash(NORTH, lose_sums=True)
    with pytest.raises(FaultyCoordinatorError, match="not the one that was signed"):
        await approved.approve(
            NORTH, request, alice=approved.clients[BOB].ciphertext.c1, bob=approved.clients[ALICE].ciphertext.c1
        )
    with pytest.raises(WrongPhaseError, match="no sum"):
        await approved.decrypt(NORTH, digest_of(request), approvals)
    approved.verify_nothing_answered()


async def test_asking_again_with_other_bytes_changes_no_answer(approved: LyingCoordinator) -> None:
    """The sum that was added up is answered, and not what is sent along with a repeated request."""
    request = approved.request()
    approvals = await approved.approve_all(request)
    before = await approved.decrypt(NORTH, digest_of(request), approvals)
    single = dict.fromkeys(EVERYONE, approved.clients[ALICE].ciphertext.c1)
    assert (await approved.approve(NORTH, request, **single)).message == approvals[0].message
    assert await approved.decrypt(NORTH, digest_of(request), approvals) == before
