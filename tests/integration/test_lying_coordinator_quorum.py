"""A coordinator that wants answers without the approvals, or for two sets at once (docs/protocol.md, 6.3 and 6.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from coordinator.rounds.calls import ApprovalRequest
from secagg.errors import (
    CertificateError,
    ConflictError,
    FaultyCoordinatorError,
    MessageError,
    NotFoundError,
    WrongPhaseError,
)
from secagg.ids import HolderId, KeyId
from secagg.messages.round import Approval
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from tests.holder_material import job_spec
from tests.holder_processes import HolderProcesses, running
from tests.lying_coordinator import (
    ALICE,
    BOB,
    CAROL,
    SECONDS,
    LyingCoordinator,
    approval_by,
    coordinating,
    digest_of,
    forged_approvals,
    one_loop,
    signed_by,
)
from tests.pki_material import deployment

HOLDERS = NORTH, EAST, SOUTH, WEST, MIDDLE = tuple(
    HolderId(name) for name in ("north", "east", "south", "west", "middle")
)
SPEC = job_spec(5, 3, min_contributors=3)
QUORUM = 4
STRANGER = HolderId("stranger")
REVOKED = Party(role=Role.KEY_HOLDER, name="former")
pytestmark = one_loop

Approvals = list[Authenticated[Approval]]


@pytest.fixture(scope="module")
def holders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderProcesses]:
    with running(tmp_path_factory.mktemp("holders"), HOLDERS, revoked=[REVOKED]) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def liar(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    async with coordinating(holders, SPEC) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def approved(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    """A round in which north has approved of the sum of all, and nobody else of anything."""
    async with coordinating(holders, SPEC) as made:
        await made.approve(NORTH, made.request())
        yield made


async def test_the_quorum_opens_and_every_answer_can_be_asked_for_again(liar: LyingCoordinator) -> None:
    request = liar.request()
    approvals = await liar.approve_all(request)
    answers = {one: await liar.decrypt(one, digest_of(request), approvals[:QUORUM]) for one in HOLDERS}
    expected = sum(one.vector for one in liar.clients.values())
    assert np.abs(liar.opened(request, answers) - expected).max() < 1e-3
    for holder in HOLDERS:
        assert await liar.decrypt(holder, digest_of(request), approvals[-QUORUM:]) == answers[holder]


async def test_nothing_is_answered_before_it_is_approved_here(liar: LyingCoordinator) -> None:
    request = liar.request()
    approvals = await liar.approve_all(request, HOLDERS[:QUORUM])
    with pytest.raises(WrongPhaseError, match="no sum"):
        await liar.decrypt(MIDDLE, digest_of(request), approvals)
    assert liar.holders.ledger(MIDDLE, liar.plan.ckks.key_id) == []
    liar.verify_nothing_answered()


async def test_different_sets_at_different_holders_reach_no_quorum(liar: LyingCoordinator) -> None:
    """All but dave at three holders, all at two: the two sums would differ by dave."""
    first, second = liar.request(ALICE, BOB, CAROL), liar.request()
    ours = await liar.approve_all(first, HOLDERS[:3])
    theirs = await liar.approve_all(second, HOLDERS[3:])
    for holder in HOLDERS[:3]:
        await no_answer(liar, holder, first, ours, FaultyCoordinatorError, "3 approvals, 4 are due")
        await no_answer(liar, holder, first, [*ours, *theirs], FaultyCoordinatorError, "approvals of another request")
        await no_answer(liar, holder, second, [*theirs, *ours], ConflictError, "another set")
    for holder in HOLDERS[3:]:
        await no_answer(liar, holder, second, theirs, FaultyCoordinatorError, "2 approvals, 4 are due")
        await no_answer(liar, holder, first, ours, ConflictError, "another set")
        with pytest.raises(ConflictError, match="another set"):
            await liar.approve(holder, first)
    liar.verify_nothing_answered()


async def test_two_corrupt_holders_that_sign_anything_open_one_set_alone(liar: LyingCoordinator) -> None:
    """North and east are shown all, south all but dave; west and middle sign both."""
    first, second = liar.request(), liar.request(ALICE, BOB, CAROL)
    honest = await liar.approve_all(first, [NORTH, EAST])
    lonely = await liar.approve_all(second, [SOUTH])
    for_first = [*honest, *(approval_by(liar, one, first) for one in (WEST, MIDDLE))]
    for_second = [*lonely, *(approval_by(liar, one, second) for one in (WEST, MIDDLE))]
    for holder in (NORTH, EAST):
        await liar.decrypt(holder, digest_of(first), for_first)
        await no_answer(liar, holder, second, for_second, ConflictError, "another set")
    await no_answer(liar, SOUTH, second, for_second, FaultyCoordinatorError, "3 approvals, 4 are due")
    await no_answer(liar, SOUTH, first, for_first, ConflictError, "another set")
    assert not liar.holders.answered(SOUTH, liar.plan.ckks.key_id)


async def no_answer(
    liar: LyingCoordinator,
    holder: HolderId,
    request: ApprovalRequest,
    approvals: Approvals,
    kind: type[Exception],
    match: str,
) -> None:
    with pytest.raises(kind, match=match) as raised:
        await liar.decrypt(holder, digest_of(request), approvals)
    assert type(raised.value) is kind


def one_too_few(liar: LyingCoordinator) -> Approvals:
    return forged_approvals(liar, liar.request())[: QUORUM - 1]


def none(_liar: LyingCoordinator) -> Approvals:
    return []


def of_one_holder_only(liar: LyingCoordinator) -> Approvals:
    """Signed anew each time: the signatures differ."""
    return [approval_by(liar, NORTH, liar.request()) for _ in range(QUORUM)]


def one_twice(liar: LyingCoordinator) -> Approvals:
    return [*one_too_few(liar), one_too_few(liar)[0]]


def one_of_a_stranger(liar: LyingCoordinator) -> Approvals:
    return [*one_too_few(liar), approval_by(liar, STRANGER, liar.request())]


def one_of_another_key(liar: LyingCoordinator) -> Approvals:
    return [*one_too_few(liar), approval_by(liar, WEST, liar.request(), key_id=KeyId(bytes(32)))]


def one_of_another_set(liar: LyingCoordinator) -> Approvals:
    return [*one_too_few(liar), approval_by(liar, WEST, liar.request(ALICE, BOB, CAROL))]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (none, "0 approvals"),
        (one_too_few, "3 approvals, 4 are due"),
        (of_one_holder_only, "approval twice"),
        (one_twice, "approval twice"),
        (one_of_a_stranger, "stranger to this key"),
        (one_of_another_key, "approvals of another request"),
        (one_of_another_set, "approvals of another request"),
    ],
)
async def test_less_than_a_quorum_of_this_key_gets_no_answer(
    approved: LyingCoordinator, make: Callable[[LyingCoordinator], Approvals], why: str
) -> None:
    await no_answer(approved, NORTH, approved.request(), make(approved), FaultyCoordinatorError, why)
    approved.verify_nothing_answered()


def by_the_coordinator(liar: LyingCoordinator) -> Authenticated[Approval]:
    return signed_by(liar.holders.coordinator, approval_by(liar, WEST, liar.request()).message)


def by_a_client(liar: LyingCoordinator) -> Authenticated[Approval]:
    return signed_by(liar.holders.client("west"), approval_by(liar, WEST, liar.request()).message)


def by_another_holder(liar: LyingCoordinator) -> Authenticated[Approval]:
    return signed_by(liar.holders.holder(NORTH), approval_by(liar, WEST, liar.request()).message)


def with_a_signature_of_another(liar: LyingCoordinator) -> Authenticated[Approval]:
    one, other = (approval_by(liar, WEST, request) for request in (liar.request(), liar.request(ALICE, BOB, CAROL)))
    return replace(one, signed=replace(one.signed, signature=other.signed.signature))


@pytest.mark.parametrize("forge", [by_the_coordinator, by_a_client, by_another_holder, with_a_signature_of_another])
async def test_a_forged_approval_is_refused(
    approved: LyingCoordinator, forge: Callable[[LyingCoordinator], Authenticated[Approval]]
) -> None:
    approvals = [*one_too_few(approved), forge(approved)]
    await no_answer(approved, NORTH, approved.request(), approvals, MessageError, "sign")
    approved.verify_nothing_answered()


async def test_an_approval_under_a_foreign_or_revoked_certificate_is_refused(
    approved: LyingCoordinator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = deployment(tmp_path_factory.mktemp("foreign")).identity(Party(role=Role.KEY_HOLDER, name=WEST))
    approval = approval_by(approved, WEST, approved.request()).message
    former = replace(approval, holder=HolderId(REVOKED.name))
    for forged in (signed_by(foreign, approval), signed_by(approved.holders.revoked[REVOKED], former)):
        approvals = [*one_too_few(approved), forged]
        await no_answer(approved, NORTH, approved.request(), approvals, CertificateError, "certificate")
    approved.verify_nothing_answered()


async def test_a_quorum_for_another_request_or_key_opens_nothing(approved: LyingCoordinator) -> None:
    request, other = approved.request(), approved.request(ALICE, BOB, CAROL)
    await no_answer(approved, NORTH, other, forged_approvals(approved, other), ConflictError, "another set")
    key_id = KeyId(bytes(32))
    approvals = [approval_by(approved, one, request, key_id=key_id) for one in HOLDERS]
    with pytest.raises(NotFoundError, match="no share of that key"):
        await approved.decrypt(NORTH, digest_of(request), approvals, key_id=key_id)
    approved.verify_nothing_answered()


async def test_a_key_does_not_answer_for_the_sum_of_another(liar: LyingCoordinator, approved: LyingCoordinator) -> None:
    """The set that one key's holders approved of is asked for under another certified key."""
    request = approved.request()
    approvals = forged_approvals(approved, request)
    await no_answer(liar, NORTH, request, approvals, WrongPhaseError, "no sum")
    await liar.approve(NORTH, liar.request())
    await no_answer(liar, NORTH, request, approvals, ConflictError, "another set")
    liar.verify_nothing_answered()


async def test_after_the_end_nothing_is_answered_and_no_share_is_left(liar: LyingCoordinator) -> None:
    request, key_id = liar.request(), liar.plan.ckks.key_id
    approvals = await liar.approve_all(request)
    for holder in HOLDERS:
        await liar.decrypt(holder, digest_of(request), approvals)
        assert key_id in liar.holders.shares(holder)
        await liar.calls(holder).end_round(liar.ceremony, timeout_seconds=SECONDS)
        assert key_id not in liar.holders.shares(holder)
    liar.holders.crash(NORTH)
    for holder in HOLDERS:
        await no_answer(liar, holder, request, approvals, NotFoundError, "no share of that key")
        with pytest.raises(NotFoundError, match="no share of that key"):
            await liar.approve(holder, request)
        assert liar.holders.ledger(holder, key_id) == [digest_of(request)]
