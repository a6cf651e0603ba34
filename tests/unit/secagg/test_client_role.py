"""What a client refuses to believe (docs/protocol.md, 5.1, 5.5, 6.6). Each case bends one thing; its text names the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from he.public_key import PublicKey
from secagg import transcript
from secagg.errors import FaultyCoordinatorError, PolicyError, SecAggError, UsageError
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster
from secagg.plan import CkksRound, HolderGroup
from secagg.roles.client import rules
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    BuildKey,
    DeliverResult,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.roles.client.state import ClientPhase, ClientState, Joined, Offered
from tests.client_material import (
    ALICE,
    BOB,
    CAROL,
    COORDINATOR,
    MEAN,
    POLICY,
    READY,
    join_of,
    offer,
    plan,
    published,
    roster_of,
    start,
    state_in,
)
from tests.holder_material import seals_of, signed

OTHER = Digest(b"\x55" * 32)
DAVE, ERIN = ClientId("dave"), ClientId("erin")


def refusal(state: ClientState, event: Event) -> SecAggError:
    """Return the error of a step that must fail; the state is frozen, so nothing else can have happened."""
    with pytest.raises(SecAggError) as caught:
        rules.step(state, event)
    return caught.value


def bent(bend: Callable[[PublicKeyBundle], PublicKeyBundle]) -> PlanOffered:
    return PlanOffered(plan=plan(), bundle=bend(offer().bundle))


def change(messages: tuple[Any, ...], place: int, **changes: object) -> tuple[Any, ...]:
    altered = list(messages)
    altered[place] = signed(replace(messages[place].message, **changes))
    return tuple(altered)


def swapped(messages: tuple[Any, ...]) -> tuple[Any, ...]:
    return (messages[1], messages[0], *messages[2:])


def test_an_honest_offer_gives_the_key_that_the_holders_made() -> None:
    step = rules.step(start(), offer())
    (build,) = step.effects
    assert isinstance(build, BuildKey)
    assert build.plan == plan()
    assert build.public_key.digest() == offer().bundle.statements[0].message.public_key_digest
    assert step.state.phase is ClientPhase.KEY_CHECKED


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"job": JobId("other")}, "job digits, and other was asked for"),
        ({"after_round": 1}, "round 1, and one after 1"),
    ],
)
def test_only_what_was_asked_for(changes: dict[str, object], text: str) -> None:
    error = refusal(start(**changes), offer())
    assert isinstance(error, FaultyCoordinatorError)
    assert text in str(error)


def test_a_plan_below_the_policy() -> None:
    strangers = replace(POLICY, holders=frozenset({HolderId("north"), HolderId("east")}))
    error = refusal(start(policy=strangers), offer())
    assert isinstance(error, PolicyError)
    assert "south" in str(error)


def other_spec(bundle: PublicKeyBundle) -> PublicKeyBundle:
    return replace(bundle, plan=replace(bundle.plan, spec=replace(bundle.plan.spec, purpose="another")))


def other_round(bundle: PublicKeyBundle) -> PublicKeyBundle:
    return replace(bundle, plan=replace(bundle.plan, round=RoundNumber(2)))


def other_group(bundle: PublicKeyBundle) -> PublicKeyBundle:
    group = bundle.plan.group
    return replace(bundle, plan=replace(bundle.plan, group=replace(group, holders=swapped(group.holders))))


def altered_b(bundle: PublicKeyBundle) -> PublicKeyBundle:
    b = np.frombuffer(bundle.b, dtype="<u4").copy()
    b[0] = b[0] + 1 if b[0] < 1000 else b[0] - 1
    return replace(bundle, b=b.tobytes())


def another_key_of_the_coordinator(bundle: PublicKeyBundle) -> PublicKeyBundle:
    """A key that the coordinator made itself, for the very parameters of the plan."""
    parameters = plan().parameters
    residues = np.ones((len(parameters.key_primes), parameters.degree), dtype=np.uint32)
    return replace(bundle, b=PublicKey(parameters, residues, residues).to_bytes())


@pytest.mark.parametrize(
    ("bend", "text"),
    [
        (other_spec, "made for another job"),
        (other_round, "made for round 2"),
        (other_group, "by other key holders"),
        (lambda one: replace(one, hellos=one.hellos[:2]), "hellos of north, east, and"),
        (lambda one: replace(one, hellos=swapped(one.hellos)), "hellos of east, north"),
        (lambda one: replace(one, hellos=(*one.hellos[:2], one.hellos[0])), "hellos of north, east, north"),
        (lambda one: replace(one, hellos=change(one.hellos, 1, ceremony_digest=OTHER)), "hello of east belongs"),
        (lambda one: replace(one, hellos=change(one.hellos, 2, nonce=b"short")), "nonce of south"),
        (lambda one: replace(one, hellos=change(one.hellos, 0, nonce=OTHER)), "from other hellos"),
        (lambda one: replace(one, hellos=change(one.hellos, 0, hpke_public_key=OTHER)), "from other hellos"),
        (lambda one: replace(one, statements=()), "key statements of nobody"),
        (lambda one: replace(one, statements=one.statements[:2]), "key statements of north, east, and"),
        (lambda one: replace(one, statements=swapped(one.statements)), "key statements of east, north"),
        (lambda one: replace(one, statements=one.statements[:1] * 3), "key statements of north, north, north"),
        (
            lambda one: replace(one, statements=change(one.statements, 2, key_id=OTHER)),
            "south vouches for another key id",
        ),
        (lambda one: replace(one, statements=change(one.statements, 2, ceremony_digest=OTHER)), "another ceremony"),
        (lambda one: replace(one, statements=change(one.statements, 2, context=OTHER)), "from other hellos"),
        (lambda one: replace(one, statements=change(one.statements, 2, public_key_digest=OTHER)), "another public key"),
        (altered_b, "another public key"),
        (another_key_of_the_coordinator, "another public key"),
        (lambda one: replace(one, b=one.b[:-4]), "what it shows as the public key is none"),
        (lambda one: replace(one, b=b"\xff" * len(one.b)), "what it shows as the public key is none"),
    ],
)
def test_a_key_that_the_holders_do_not_vouch_for(bend: Callable[[PublicKeyBundle], PublicKeyBundle], text: str) -> None:
    error = refusal(start(), bent(bend))
    assert isinstance(error, FaultyCoordinatorError)
    assert text in str(error)


def test_a_plan_that_names_another_key_id() -> None:
    other = replace(plan(), protocol=CkksRound(key_id=KeyId(OTHER), group=plan().ckks.group))
    error = refusal(start(), PlanOffered(plan=other, bundle=offer().bundle))
    assert "another key id" in str(error)


def test_a_plan_with_a_weaker_quorum_cannot_even_be_made() -> None:
    group = plan().ckks.group
    with pytest.raises(SecAggError, match="quorum 1"):
        HolderGroup(holders=group.holders, threshold=2, corrupt_holders=1, quorum=1)


def test_the_commitment_opens_to_nonce_and_roots() -> None:
    step = rules.step(state_in(ClientPhase.KEY_CHECKED), READY)
    (send,) = step.effects
    assert isinstance(send, SendJoin)
    assert (send.join.client, send.join.plan_digest) == (ALICE, plan().digest)
    assert send.join.commitment == transcript.ciphertext_commitment(
        plan_digest=plan().digest,
        key_id=plan().ckks.key_id,
        client=ALICE,
        nonce=READY.nonce,
        root_c0=READY.root_c0,
        root_c1=READY.root_c1,
    )


def test_a_nonce_that_hides_too_little() -> None:
    error = refusal(state_in(ClientPhase.KEY_CHECKED), replace(READY, nonce=b"\x01" * 31))
    assert isinstance(error, UsageError)


def test_a_refused_join_waits_for_the_next_round_and_forgets_the_ciphertext() -> None:
    step = rules.step(state_in(ClientPhase.JOINED), JoinRefused())
    assert step.effects == (AwaitRound(after_round=1),)
    assert type(step.state) is Offered
    assert step.state == start(after_round=1)


def test_an_honest_roster_opens_the_commitment_to_it() -> None:
    step = rules.step(state_in(ClientPhase.JOINED), RosterFrozen(roster=roster_of(ALICE, BOB, CAROL)))
    (send,) = step.effects
    assert isinstance(send, SendUpload)
    upload, parameters = send.upload, plan().parameters
    joins = [join_of(client) for client in (ALICE, BOB, CAROL)]
    assert upload.roster_digest == transcript.roster_digest(plan().digest, joins)
    assert (upload.nonce, upload.root_c0, upload.root_c1) == (READY.nonce, READY.root_c0, READY.root_c1)
    assert (upload.level, upload.scale, upload.chunks) == (3, parameters.scale, parameters.chunks)
    assert upload.parameters_digest == parameters.digest()


def copied_commitment() -> FrozenRoster:
    copy = replace(join_of(BOB), commitment=join_of(ALICE).commitment)
    return replace(roster_of(ALICE, CAROL), joins=tuple(signed(one) for one in (join_of(ALICE), copy)))


def with_join(**changes: object) -> FrozenRoster:
    joins = (replace(join_of(ALICE), **changes), join_of(BOB))
    return replace(roster_of(ALICE, BOB), joins=tuple(signed(one) for one in joins))


def foreign_join() -> FrozenRoster:
    joins = (join_of(ALICE), replace(join_of(BOB), plan_digest=OTHER))
    return replace(roster_of(ALICE, BOB), joins=tuple(signed(one) for one in joins))


@pytest.mark.parametrize(
    ("roster", "text"),
    [
        (lambda: roster_of(ALICE, BOB, plan_digest=OTHER), "belongs to another plan"),
        (foreign_join, "belongs to another plan"),
        (lambda: roster_of(BOB, ALICE), "not in the order"),
        (lambda: roster_of(ALICE, BOB, BOB), "names a client twice"),
        (lambda: roster_of(BOB, CAROL), "does not hold the join of alice"),
        (lambda: with_join(commitment=bytes(32)), "does not hold the join of alice as it was sent"),
        (copied_commitment, "a commitment stands twice"),
        (lambda: roster_of(ALICE), "has 1 clients, between 2 and 4"),
        (lambda: roster_of(ALICE, BOB, CAROL, DAVE, ERIN), "has 5 clients, between 2 and 4"),
    ],
)
def test_a_roster_that_is_not_ours(roster: Callable[[], FrozenRoster], text: str) -> None:
    error = refusal(state_in(ClientPhase.JOINED), RosterFrozen(roster=roster()))
    assert isinstance(error, FaultyCoordinatorError)
    assert text in str(error)


def seals(*holders: str, **changes: Any) -> tuple[Any, ...]:
    digest = transcript.roster_digest(plan().digest, [join_of(client) for client in (ALICE, BOB, CAROL)])
    return seals_of(plan(), digest, [HolderId(name) for name in holders], **changes)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (lambda: (), "the seals of 0 key holders, 3 are due"),
        (lambda: seals("north", "east"), "the seals of 2 key holders, 3 are due"),
        (lambda: seals("north", "east", "east"), "a seal twice"),
        (lambda: seals("north", "east", "south", "south"), "a seal twice"),
        (lambda: seals("north", "east", "west"), "of a stranger to this key"),
        (lambda: seals("north", "east", "south", roster_digest=OTHER), "a seal of another roster or key"),
        (lambda: seals("north", "east", "south", key_id=OTHER), "a seal of another roster or key"),
        (lambda: seals("north", "east") + seals("south", roster_digest=OTHER), "a seal of another roster or key"),
    ],
)
def test_nothing_is_uploaded_to_a_roster_that_no_quorum_sealed(shown: Callable[[], tuple[Any, ...]], text: str) -> None:
    roster = roster_of(ALICE, BOB, CAROL, seals=shown())
    assert text in str(refusal(state_in(ClientPhase.JOINED), RosterFrozen(roster=roster)))


def test_a_policy_that_wants_more_than_the_plan_counts_for_the_roster() -> None:
    joined = state_in(ClientPhase.JOINED)
    assert isinstance(joined, Joined)
    strict = replace(joined, policy=replace(POLICY, min_contributors=3))
    assert "between 3 and 4" in str(refusal(strict, RosterFrozen(roster=roster_of(ALICE, BOB))))


def test_an_accepted_upload_waits_for_a_mean_of_the_plans_size() -> None:
    step = rules.step(state_in(ClientPhase.UPLOADING), UploadAccepted())
    assert step.effects == (AwaitResult(mean_bytes=4 * 8195),)


def test_an_honest_result_is_delivered() -> None:
    step = rules.step(state_in(ClientPhase.WAITING), published())
    (deliver,) = step.effects
    assert isinstance(deliver, DeliverResult)
    assert deliver.result.contributors == (ALICE, BOB, CAROL)
    assert deliver.round == 1


def signed_by(party: Party) -> ResultPublished:
    return replace(published(), result=replace(published().result, party=party))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (lambda: signed_by(replace(COORDINATOR, name="other")), "signed by coordinator/other"),
        (lambda: signed_by(Party(role=Role.CLIENT, name="main")), "signed by client/main"),
        (lambda: published(plan_digest=OTHER), "belongs to another round"),
        (lambda: published(roster_digest=OTHER), "or to another roster"),
        (lambda: published(contributors=(BOB, ALICE)), "not in the order"),
        (lambda: published(contributors=(ALICE, ALICE, BOB)), "names a client twice"),
        (lambda: published(contributors=(ALICE, BOB, DAVE)), "counts dave"),
        (lambda: published(contributors=(ALICE,)), "a sum of 1 contributions, at least 2"),
        (lambda: published(contributors=(BOB, CAROL)), "leaves out alice"),
        (lambda: published(total_weight=0.5), "total weight 0.5 is below 1.0"),
        (lambda: published(total_weight=float("nan")), "total weight nan"),
        (lambda: published(total_weight=float("inf")), "total weight inf"),
        (lambda: published(mean_bytes=4 * 8194), "the plan has 32780"),
        (lambda: replace(published(), mean_bytes=4 * 8194), "32776 bytes, 32780 are signed"),
        (lambda: replace(published(mean_bytes=8), mean_bytes=8), "the plan has 32780"),
        (lambda: replace(published(), mean_digest=OTHER), "not the one that it signed"),
        (lambda: published(mean_digest=OTHER), "not the one that it signed"),
    ],
)
def test_a_result_that_is_not_of_this_round(event: Callable[[], ResultPublished], text: str) -> None:
    error = refusal(state_in(ClientPhase.WAITING), event())
    assert isinstance(error, FaultyCoordinatorError)
    assert text in str(error)


def test_a_sum_of_fewer_than_the_policy_wants() -> None:
    waiting = state_in(ClientPhase.WAITING)
    strict = replace(waiting, policy=replace(POLICY, min_contributors=3))  # type: ignore[call-arg]
    assert "at least 3" in str(refusal(strict, published(contributors=(ALICE, BOB))))


@pytest.mark.parametrize("phase", [ClientPhase.JOINED, ClientPhase.UPLOADING, ClientPhase.WAITING])
def test_an_aborted_round_fails_and_submits_nothing_again(phase: ClientPhase) -> None:
    step = rules.step(state_in(phase), RoundEnded(reason="too few"))
    assert step.effects == (Fail(reason="too few"),)
    assert step.state.phase is ClientPhase.FAILED


def test_terms_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="is no coordinator"):
        start(coordinator=Party(role=Role.KEY_HOLDER, name="north"))
    with pytest.raises(UsageError, match="after_round is -1"):
        start(after_round=-1)


def test_no_state_shows_the_nonce_before_the_upload() -> None:
    assert repr(READY.nonce) not in repr(state_in(ClientPhase.JOINED))
    assert len(MEAN) == 32
