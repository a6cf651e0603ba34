"""What a key holder checks before it approves and before it answers (docs/protocol.md, section 6)."""

from dataclasses import replace
from typing import Any

import pytest

from secagg import transcript
from secagg.errors import ConflictError, FaultyClientError, FaultyCoordinatorError, WrongPhaseError
from secagg.ids import ClientId, Digest, HolderId, KeyId, RoundNumber
from secagg.messages.round import Approval, FrozenRoster, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.plan import HolderGroup, RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import opening
from secagg.roles.key_holder.opening import (
    Answer,
    ApprovalAsked,
    ApprovalOffered,
    DecryptionAsked,
    DestroyShare,
    Expired,
    KeepSum,
    OpeningPhase,
    OpeningState,
    RecordInLedger,
    RecordRoster,
    ReplyApproval,
    ReplySeal,
    RosterOffered,
    RoundEnded,
    SumLost,
    request_digest_of,
)
from secagg.roles.key_holder.request import ComputedHalf, Request, digest_of, verify_chunks_distinct
from tests.holder_material import (
    approvals_of,
    ceremony_plan,
    contributor,
    job_spec,
    random_key_id,
    request_of,
    round_plan,
    seals_of,
    signed,
)

NORTH, EAST, SOUTH = (HolderId(name) for name in ("north", "east", "south"))
CEREMONY = ceremony_plan(job_spec())
KEY_ID = random_key_id()
PLAN = round_plan(CEREMONY, KEY_ID)
ALICE, BOB, CAROL = (contributor(PLAN, name, seed=seed) for seed, name in enumerate(("alice", "bob", "carol")))
HALVES = (ALICE.half, BOB.half)
REQUEST = request_of(PLAN, [ALICE, BOB], absent=[CAROL])
DIGEST = request_digest_of(REQUEST)
ROSTER = digest_of(REQUEST.roster)


def state_of(**changes: Any) -> OpeningState:
    state = OpeningState(holder=NORTH, policy=HolderPolicy(), ceremony=CEREMONY, key_id=KEY_ID)
    return replace(state, **changes)


def asked(request: Request = REQUEST, computed: tuple[ComputedHalf, ...] = HALVES) -> ApprovalAsked:
    return ApprovalAsked(request=request, computed=computed)


def approved() -> OpeningState:
    return opening.step(state_of(), asked()).state


def decryption(
    approvals: tuple[Authenticated[Approval], ...] | None = None, *, key_id: KeyId = KEY_ID, digest: Digest = DIGEST
) -> DecryptionAsked:
    shown = approvals_of(KEY_ID, DIGEST, [NORTH, EAST, SOUTH]) if approvals is None else approvals
    return DecryptionAsked(key_id=key_id, request_digest=digest, approvals=shown)


def refuse_everywhere(request: Request, error: type[Exception], match: str) -> None:
    """A request is refused before c1 is read and after, whatever the phase, and nothing is recorded."""
    for event in (ApprovalOffered(request=request), asked(request)):
        with pytest.raises(error, match=match):
            opening.step(state_of(), event)


def with_roster(request: Request, **changes: Any) -> Request:
    return replace(request, roster=replace(request.roster, **changes))


def with_upload(request: Request, place: int, **changes: Any) -> Request:
    uploads = list(request.uploads)
    uploads[place] = signed(replace(uploads[place].message, **changes))
    return replace(request, uploads=tuple(uploads))


def test_an_honest_request_is_recorded_before_it_is_signed() -> None:
    step = opening.step(state_of(), asked())
    approval = Approval(key_id=KEY_ID, request_digest=DIGEST, holder=NORTH)
    assert step.effects == (
        RecordRoster(key_id=KEY_ID, roster_digest=ROSTER),
        KeepSum(key_id=KEY_ID),
        RecordInLedger(key_id=KEY_ID, request_digest=DIGEST),
        ReplyApproval(approval=approval),
    )
    assert step.state.roster == ROSTER
    assert step.state.phase is OpeningPhase.APPROVED
    assert step.state.approved == DIGEST


def test_an_offer_changes_nothing_before_c1_was_read() -> None:
    state = state_of()
    step = opening.step(state, ApprovalOffered(request=REQUEST))
    assert step.state == state
    assert step.effects == ()


@pytest.mark.parametrize("phase", [OpeningPhase.APPROVED, OpeningPhase.ANSWERED])
def test_the_same_request_again_gets_the_same_approval(phase: OpeningPhase) -> None:
    state = state_of(phase=phase, roster=ROSTER, approved=DIGEST)
    approval = Approval(key_id=KEY_ID, request_digest=DIGEST, holder=NORTH)
    assert opening.step(state, ApprovalOffered(request=REQUEST)).effects == (ReplyApproval(approval=approval),)
    again = opening.step(state, asked())
    assert again.state == state
    assert ReplyApproval(approval=approval) in again.effects


@pytest.mark.parametrize("phase", [OpeningPhase.CERTIFIED, OpeningPhase.APPROVED, OpeningPhase.ANSWERED])
def test_a_second_set_of_contributions_is_refused_for_ever(phase: OpeningPhase) -> None:
    other = request_of(PLAN, [ALICE, CAROL], absent=[BOB])
    state = state_of(phase=phase, approved=DIGEST)
    for event in (ApprovalOffered(request=other), asked(other, (ALICE.half, CAROL.half))):
        with pytest.raises(ConflictError):
            opening.step(state, event)


def offered(roster: FrozenRoster = REQUEST.roster, plan: RoundPlan = PLAN) -> RosterOffered:
    return RosterOffered(plan=plan, roster=replace(roster, seals=()))


OTHER = request_of(PLAN, [ALICE, BOB])


@pytest.mark.parametrize("phase", [OpeningPhase.CERTIFIED, OpeningPhase.APPROVED, OpeningPhase.ANSWERED])
def test_a_roster_is_recorded_before_it_is_sealed_and_sealed_again(phase: OpeningPhase) -> None:
    step = opening.step(state_of(phase=phase), offered())
    seal = RosterSeal(key_id=KEY_ID, roster_digest=ROSTER, holder=NORTH)
    assert step.effects == (RecordRoster(key_id=KEY_ID, roster_digest=ROSTER), ReplySeal(seal=seal))
    assert step.state == state_of(phase=phase, roster=ROSTER)
    again = opening.step(step.state, offered())
    assert (again.state, again.effects) == (step.state, step.effects)


def test_a_second_roster_of_a_key_is_never_sealed() -> None:
    state = opening.step(state_of(), offered()).state
    with pytest.raises(ConflictError, match="sealed another roster"):
        opening.step(state, offered(OTHER.roster))


@pytest.mark.parametrize("event", [ApprovalOffered(request=OTHER), ApprovalAsked(request=OTHER, computed=HALVES)])
def test_another_roster_than_the_sealed_one_is_not_approved_whoever_sealed_it(
    event: ApprovalOffered | ApprovalAsked,
) -> None:
    state = opening.step(state_of(), offered()).state
    with pytest.raises(ConflictError, match="sealed another roster"):
        opening.step(state, event)


def test_the_sealed_roster_needs_no_seals_of_others() -> None:
    state = opening.step(state_of(), offered()).state
    opening.step(state, asked(with_roster(REQUEST, seals=())))


def test_who_was_down_takes_the_word_of_a_quorum_and_no_second_roster() -> None:
    state = opening.step(state_of(), asked()).state
    with pytest.raises(ConflictError):
        opening.step(state, offered(OTHER.roster))


@pytest.mark.parametrize(
    "seals",
    [
        (),
        seals_of(PLAN, ROSTER, [NORTH, EAST]),
        seals_of(PLAN, ROSTER, [NORTH, EAST, EAST]),
        seals_of(PLAN, ROSTER, [NORTH, EAST, HolderId("stranger")]),
        seals_of(PLAN, ROSTER, [NORTH, EAST, SOUTH, HolderId("stranger")]),
        seals_of(PLAN, digest_of(OTHER.roster)),
        seals_of(PLAN, ROSTER, key_id=KeyId(bytes(32))),
        seals_of(PLAN, ROSTER, [NORTH, EAST]) + seals_of(PLAN, digest_of(OTHER.roster), [SOUTH]),
    ],
)
def test_a_roster_with_less_than_a_quorum_of_seals_is_not_approved(
    seals: tuple[Authenticated[RosterSeal], ...],
) -> None:
    refuse_everywhere(with_roster(REQUEST, seals=seals), FaultyCoordinatorError, "seal")


def test_a_roster_below_the_minimum_is_not_sealed() -> None:
    with pytest.raises(FaultyCoordinatorError, match="1 clients, at least 2"):
        opening.step(state_of(), offered(request_of(PLAN, [ALICE]).roster))
    strict = state_of(policy=HolderPolicy(min_contributors=4))
    with pytest.raises(FaultyCoordinatorError, match="3 clients, at least 4"):
        opening.step(strict, offered())


def test_a_roster_that_is_none_is_not_sealed() -> None:
    joins = REQUEST.roster.joins
    with pytest.raises(FaultyCoordinatorError, match="roster names"):
        opening.step(state_of(), offered(replace(REQUEST.roster, joins=(joins[1], joins[0]))))
    with pytest.raises(FaultyCoordinatorError, match="another key"):
        opening.step(state_of(), offered(plan=round_plan(CEREMONY, random_key_id())))


def test_a_plan_of_another_key_is_refused() -> None:
    plan = round_plan(CEREMONY, random_key_id())
    refuse_everywhere(request_of(plan, [ALICE, BOB]), FaultyCoordinatorError, "another key")


def test_a_plan_of_another_job_is_refused() -> None:
    plan = replace(PLAN, spec=job_spec(min_contributors=3))
    refuse_everywhere(request_of(plan, [ALICE, BOB, CAROL]), FaultyCoordinatorError, "another job")


def test_a_plan_of_another_round_is_refused() -> None:
    plan = replace(PLAN, round=RoundNumber(2))
    refuse_everywhere(request_of(plan, [ALICE, BOB]), FaultyCoordinatorError, "round 2")


def test_a_plan_of_another_group_is_refused() -> None:
    group = HolderGroup(holders=(EAST, NORTH, SOUTH), threshold=2, corrupt_holders=1, quorum=3)
    plan = RoundPlan(spec=PLAN.spec, round=PLAN.round, protocol=replace(PLAN.protocol, group=group))
    refuse_everywhere(request_of(plan, [ALICE, BOB]), FaultyCoordinatorError, "other key holders")


def test_a_roster_of_another_plan_is_refused() -> None:
    refuse_everywhere(
        with_roster(REQUEST, plan_digest=Digest(bytes(32))), FaultyCoordinatorError, "belongs to another plan"
    )


def test_a_join_of_another_plan_is_refused() -> None:
    joins = list(REQUEST.roster.joins)
    joins[2] = signed(replace(joins[2].message, plan_digest=Digest(bytes(32))))
    refuse_everywhere(with_roster(REQUEST, joins=tuple(joins)), FaultyCoordinatorError, "belongs to another plan")


@pytest.mark.parametrize("order", [(0, 0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_a_roster_names_everybody_once_and_in_order(order: tuple[int, ...]) -> None:
    joins = tuple(REQUEST.roster.joins[place] for place in order)
    refuse_everywhere(with_roster(REQUEST, joins=joins), FaultyCoordinatorError, "roster names")


def test_a_roster_has_no_more_clients_than_the_plan_allows() -> None:
    others = [contributor(PLAN, f"x{number}", seed=number + 10) for number in range(3)]
    refuse_everywhere(request_of(PLAN, [ALICE, BOB], absent=others), FaultyCoordinatorError, "the roster has 5 clients")


def test_a_copied_commitment_is_refused() -> None:
    joins = list(REQUEST.roster.joins)
    joins[2] = signed(replace(joins[2].message, commitment=joins[0].message.commitment))
    refuse_everywhere(with_roster(REQUEST, joins=tuple(joins)), FaultyCoordinatorError, "commitment stands twice")


def test_one_clients_update_is_never_opened() -> None:
    refuse_everywhere(request_of(PLAN, [ALICE], absent=[BOB]), FaultyCoordinatorError, "sum of 1")


def test_the_stricter_of_plan_and_policy_counts() -> None:
    state = state_of(policy=HolderPolicy(min_contributors=3))
    with pytest.raises(FaultyCoordinatorError, match="at least 3"):
        opening.step(state, asked())
    opening.step(state, asked(request_of(PLAN, [ALICE, BOB, CAROL]), (ALICE.half, BOB.half, CAROL.half)))


@pytest.mark.parametrize("order", [(0, 0), (1, 0)])
def test_a_list_of_uploads_names_everybody_once_and_in_order(order: tuple[int, ...]) -> None:
    request = replace(REQUEST, uploads=tuple(REQUEST.uploads[place] for place in order))
    refuse_everywhere(request, FaultyCoordinatorError, "list of uploads names")


def test_a_contributor_that_never_joined_is_refused() -> None:
    request = with_upload(REQUEST, 1, client=ClientId("mallory"))
    refuse_everywhere(request, FaultyCoordinatorError, "not in the roster")


def test_a_replay_from_another_round_is_refused() -> None:
    request = with_upload(REQUEST, 1, plan_digest=Digest(bytes(32)))
    refuse_everywhere(request, FaultyCoordinatorError, "another round or job")


def test_an_upload_for_another_roster_is_refused() -> None:
    request = with_upload(REQUEST, 1, roster_digest=Digest(bytes(32)))
    refuse_everywhere(request, FaultyCoordinatorError, "another roster")


@pytest.mark.parametrize(
    "change", [{"parameters_digest": Digest(bytes(32))}, {"level": 2}, {"scale": 2.0}, {"chunks": 2}, {"chunks": 4}]
)
def test_an_upload_that_does_not_fit_the_plan_names_its_client(change: dict[str, Any]) -> None:
    with pytest.raises(FaultyClientError) as raised:
        opening.step(state_of(), ApprovalOffered(request=with_upload(REQUEST, 1, **change)))
    assert raised.value.client_id == "bob"


def test_another_c1_than_the_client_signed_is_refused() -> None:
    with pytest.raises(FaultyCoordinatorError, match="not the one that was signed"):
        opening.step(state_of(), asked(computed=(ALICE.half, CAROL.half)))


def test_a_c1_that_was_not_committed_is_refused() -> None:
    request = with_upload(REQUEST, 1, root_c1=CAROL.half.root)
    with pytest.raises(FaultyClientError, match="commitment") as raised:
        opening.step(state_of(), asked(request, (ALICE.half, CAROL.half)))
    assert raised.value.client_id == "bob"


@pytest.mark.parametrize("change", [{"nonce": bytes(32)}, {"root_c0": Digest(bytes(32))}])
def test_an_upload_opens_its_own_commitment(change: dict[str, Any]) -> None:
    with pytest.raises(FaultyClientError, match="commitment"):
        opening.step(state_of(), asked(with_upload(REQUEST, 1, **change)))


def test_a_missing_contribution_is_refused() -> None:
    with pytest.raises(FaultyCoordinatorError, match="1 of 2"):
        opening.step(state_of(), asked(computed=(ALICE.half,)))


@pytest.mark.parametrize("kept", [0, 2])
def test_a_contribution_with_missing_chunks_is_refused(kept: int) -> None:
    short = replace(BOB.half, chunk_digests=BOB.half.chunk_digests[: 32 * kept])
    with pytest.raises(FaultyCoordinatorError, match="chunks of client bob"):
        opening.step(state_of(), asked(computed=(ALICE.half, short)))


def test_the_same_c1_of_two_clients_is_refused() -> None:
    copier = replace(BOB, c1=ALICE.c1)
    with pytest.raises(FaultyCoordinatorError, match="same c1"):
        opening.step(state_of(), asked(request_of(PLAN, [ALICE, copier]), (ALICE.half, copier.half)))


@pytest.mark.parametrize("places", [(0, 0), (0, 2)])
def test_one_chunk_of_another_clients_c1_is_refused(places: tuple[int, int]) -> None:
    theirs, ours = places
    c1 = BOB.c1.copy()
    c1[ours] = ALICE.c1[theirs]
    copier = replace(BOB, c1=c1)
    with pytest.raises(FaultyCoordinatorError, match="chunk of c1 twice"):
        opening.step(state_of(), asked(request_of(PLAN, [ALICE, copier]), (ALICE.half, copier.half)))


def test_a_chunk_twice_in_one_c1_is_refused() -> None:
    c1 = BOB.c1.copy()
    c1[1] = c1[0]
    copier = replace(BOB, c1=c1)
    with pytest.raises(FaultyCoordinatorError, match="chunk of c1 twice"):
        opening.step(state_of(), asked(request_of(PLAN, [ALICE, copier]), (ALICE.half, copier.half)))


def test_digests_that_differ_only_in_trailing_zeros_are_different() -> None:
    prefix = b"\x01" * 30
    halves = [
        ComputedHalf(root=Digest(bytes([number]) * 32), chunk_digests=prefix + tail)
        for number, tail in enumerate((b"\x00\x00", b"\x01\x00"))
    ]
    verify_chunks_distinct(halves)
    with pytest.raises(FaultyCoordinatorError):
        verify_chunks_distinct([halves[0], halves[0]])


def test_a_quorum_gets_an_answer_and_gets_it_again() -> None:
    step = opening.step(approved(), decryption())
    assert step.effects == (Answer(key_id=KEY_ID, request_digest=DIGEST),)
    assert step.state.phase is OpeningPhase.ANSWERED
    again = opening.step(step.state, decryption())
    assert (again.state, again.effects) == (step.state, step.effects)


def test_nothing_is_answered_that_was_not_added_up_here() -> None:
    with pytest.raises(WrongPhaseError):
        opening.step(state_of(), decryption())


def test_a_sum_that_did_not_outlive_a_restart_has_to_be_shown_again() -> None:
    with pytest.raises(WrongPhaseError):
        opening.step(state_of(approved=DIGEST), decryption())
    assert opening.step(state_of(approved=DIGEST), asked()).state.phase is OpeningPhase.APPROVED


def test_a_sum_that_is_lost_has_to_be_shown_again_and_no_other_one_may_be() -> None:
    answered = opening.step(approved(), decryption()).state
    lost = opening.step(answered, SumLost()).state
    with pytest.raises(WrongPhaseError):
        opening.step(lost, decryption())
    with pytest.raises(ConflictError):
        opening.step(lost, ApprovalOffered(request=request_of(PLAN, [ALICE, CAROL], absent=[BOB])))
    assert opening.step(opening.step(lost, asked()).state, decryption()).effects == (
        Answer(key_id=KEY_ID, request_digest=DIGEST),
    )


@pytest.mark.parametrize("change", [{"digest": Digest(bytes(32))}, {"key_id": KeyId(bytes(32))}])
def test_another_request_than_the_approved_one_is_not_answered(change: dict[str, Any]) -> None:
    with pytest.raises(ConflictError):
        opening.step(approved(), decryption(**change))


def test_a_quorum_for_another_request_is_not_answered() -> None:
    other = Digest(bytes(32))
    shown = approvals_of(KEY_ID, other, [NORTH, EAST, SOUTH])
    with pytest.raises(ConflictError):
        opening.step(approved(), decryption(shown, digest=other))


@pytest.mark.parametrize(
    "shown",
    [
        (),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST]),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST, EAST]),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST, HolderId("stranger")]),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST]) + approvals_of(KEY_ID, Digest(bytes(32)), [SOUTH]),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST]) + approvals_of(KeyId(bytes(32)), DIGEST, [SOUTH]),
        approvals_of(KEY_ID, DIGEST, [NORTH, EAST, SOUTH, HolderId("stranger")]),
    ],
)
def test_less_than_a_quorum_gets_no_answer(shown: tuple[Authenticated[Approval], ...]) -> None:
    with pytest.raises(FaultyCoordinatorError):
        opening.step(approved(), decryption(shown))


@pytest.mark.parametrize("event", [RoundEnded(), Expired()])
@pytest.mark.parametrize("phase", [OpeningPhase.CERTIFIED, OpeningPhase.APPROVED, OpeningPhase.ANSWERED])
def test_the_end_destroys_the_share_and_keeps_the_ledger(phase: OpeningPhase, event: RoundEnded | Expired) -> None:
    step = opening.step(state_of(phase=phase, approved=DIGEST), event)
    assert step.effects == (DestroyShare(key_id=KEY_ID),)
    assert step.state.phase is OpeningPhase.DESTROYED
    assert step.state.approved == DIGEST
    assert opening.step(step.state, event).effects == ()


def test_the_request_digest_covers_roster_and_contributors() -> None:
    digests = {
        DIGEST,
        request_digest_of(request_of(PLAN, [ALICE, BOB])),
        request_digest_of(request_of(PLAN, [ALICE, CAROL], absent=[BOB])),
        request_digest_of(with_upload(REQUEST, 0, nonce=bytes(32))),
    }
    assert len(digests) == 4
    roster_digest = REQUEST.uploads[0].message.roster_digest
    uploads = [one.message for one in REQUEST.uploads]
    assert transcript.request_digest(PLAN.digest, roster_digest, uploads) == DIGEST
