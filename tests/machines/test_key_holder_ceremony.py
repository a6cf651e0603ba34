"""Ceremonies of key holders' machines, with liars (docs/protocol.md, section 4)."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from he import ceremony as steps
from he.errors import CeremonyError
from secagg import transcript
from secagg.errors import (
    FaultyCoordinatorError,
    FaultyKeyHolderError,
    PlanError,
    PolicyError,
    WrongPhaseError,
)
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, SeedOpening, Trial
from secagg.messages.signed import Authenticated
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.dealings import deal_to_all
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CeremonyEnded,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
    SealShare,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.sealing import seal
from secagg.roles.key_holder.state import CeremonyPhase, Certified, Committed, Dead, Dealt, New, Tried
from tests.holder_material import HolderRoom, Lie, ceremony_plan, job_spec, signed, with_changes

SIZES = [(3, 2), (5, 3)]
NORTH, EAST, SOUTH = (HolderId(name) for name in ("north", "east", "south"))


def room_of(holders: int = 3, threshold: int = 2) -> HolderRoom:
    return HolderRoom(plan=ceremony_plan(job_spec(holders, threshold)))


def resealed(
    room: HolderRoom, liar: HolderId, victim: HolderId, alter: Callable[[steps.Dealing], steps.Dealing]
) -> Lie:
    """Deal something else to the victim, properly sealed and signed."""

    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        number = room.plan.group.index(victim)
        plaintext = alter(steps.deal(state.secrets, number)).to_bytes()
        key = state.hellos[number - 1].message.hpke_public_key
        part = seal(plaintext, public_key=key, info=transcript.sealing_info(state.context, liar, victim))
        return with_part(reply, room, victim, part)

    return lie


def with_part(reply: Reply, room: HolderRoom, victim: HolderId, part: bytes) -> Reply:
    assert isinstance(reply.message, Dealing)
    digests = list(reply.message.sealed_digests)
    digests[room.plan.group.index(victim) - 1] = Digest(hashlib.sha256(part).digest())
    message = with_changes(reply.message, sealed_digests=tuple(digests))
    return Reply(message=message, sealed={**reply.sealed, victim: part})


def wrong_share(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def alter(dealing: steps.Dealing) -> steps.Dealing:
        share = dealing.share.copy()
        share[0, 0] = (int(share[0, 0]) + 1) % room.plan.parameters.key_primes[0]
        return replace(dealing, share=share)

    room.lies[liar, Dealing] = resealed(room, liar, victim, alter)


def wrong_smudging_part(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def alter(dealing: steps.Dealing) -> steps.Dealing:
        subset = next(iter(dealing.smudging_parts))
        return replace(dealing, smudging_parts={**dealing.smudging_parts, subset: bytes(32)})

    room.lies[liar, Dealing] = resealed(room, liar, victim, alter)


def bad_sealed_blob(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Dealing] = lambda reply: with_part(reply, room, victim, b"no HPKE at all" * 9)


def sealed_nonsense(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        key = state.hellos[room.plan.group.index(victim) - 1].message.hpke_public_key
        info = transcript.sealing_info(state.context, liar, victim)
        return with_part(reply, room, victim, seal(b"no dealing", public_key=key, info=info))

    room.lies[liar, Dealing] = lie


def wrong_opening(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        other = steps.draw(room.plan.parameters, state.reader.number, bytes(32), state.context)
        return Reply(message=with_changes(reply.message, b=other.opening_bytes), sealed=reply.sealed)

    room.lies[liar, Dealing] = lie


def another_draw_after_the_commitment(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    """Commit to one b and deal another whole draw, consistent in itself: only the commitment tells."""

    def lie(_reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        late = steps.draw(room.plan.parameters, state.reader.number, b"chosen late" + bytes(21), state.context)
        # The seed stays, or the liar's own HPKE key would be another than it announced.
        other = with_changes(late, seed=state.seed)
        room.states[liar] = with_changes(state, secrets=other)
        hellos = [one.message for one in state.hellos]
        dealing, sealed = deal_to_all(other, context=state.context, holder=liar, hellos=hellos)
        return Reply(message=dealing, sealed=sealed)

    room.lies[liar, Dealing] = lie


def unreadable_opening(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    """Commit to bytes that are no polynomial, and open to them."""
    b = b"\xff" * (4 * 4 * room.plan.parameters.degree)

    def commit(reply: Reply) -> Reply:
        assert isinstance(reply.message, KeyCommitment)
        number = room.plan.group.index(liar)
        return Reply(message=with_changes(reply.message, commitment=steps.commitment(number, reply.message.context, b)))

    room.lies[liar, KeyCommitment] = commit
    room.lies[liar, Dealing] = lambda reply: Reply(message=with_changes(reply.message, b=b), sealed=reply.sealed)


def false_complaint(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Trial] = lambda reply: Reply(
        message=with_changes(reply.message, answer_digest=b"", complaint=f"{victim}: what it sealed cannot be opened")
    )


def wrong_answer(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        answer = reply.attachment[:-1] + bytes([reply.attachment[-1] ^ 1])
        message = with_changes(reply.message, answer_digest=hashlib.sha256(answer).digest())
        return Reply(message=message, attachment=answer)

    room.lies[liar, Trial] = lie


def answer_of_no_form(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Trial] = lambda reply: Reply(
        message=with_changes(reply.message, answer_digest=hashlib.sha256(b"nothing").digest()), attachment=b"nothing"
    )


LIES = [
    wrong_share,
    wrong_smudging_part,
    bad_sealed_blob,
    sealed_nonsense,
    wrong_opening,
    another_draw_after_the_commitment,
    unreadable_opening,
    false_complaint,
    wrong_answer,
    answer_of_no_form,
]


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_honest_holders_vouch_for_one_key(holders: int, threshold: int) -> None:
    room = room_of(holders, threshold)
    statements = [reply.message for reply in room.certify()]
    assert len({with_changes(one, holder=NORTH) for one in statements}) == 1
    assert {state.phase for state in room.states.values()} == {CeremonyPhase.CERTIFIED}


def test_a_share_is_stored_before_the_key_is_vouched_for() -> None:
    room = room_of()
    trials = room.try_key()
    step = ceremony.step(room.states[NORTH], TrialsReceived(trials=trials))
    assert [type(effect) for effect in step.effects] == [SealShare, Reply]
    assert isinstance(step.effects[0], SealShare)
    assert step.effects[0].share.key_id == step.state.key_id


def test_no_secret_shows_in_a_state() -> None:
    room = room_of()
    room.try_key()
    state = room.states[NORTH]
    assert isinstance(state, Tried)
    assert repr(state.seed) not in repr(state)
    assert "seed=" not in repr(state)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_a_lie_kills_the_key_and_names_the_liar(
    lie: Callable[[HolderRoom, HolderId, HolderId], None], holders: int, threshold: int
) -> None:
    room = room_of(holders, threshold)
    lie(room, EAST, NORTH)
    trials = room.try_key()
    for holder in room.holders:
        with pytest.raises(CeremonyError):
            room.tell(holder, TrialsReceived(trials=trials))
    verdicts = room.blame(room.open_seeds())
    assert verdicts == dict.fromkeys(room.holders, (EAST,))


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_that_keeps_its_seed_gets_no_honest_holder_named(
    lie: Callable[[HolderRoom, HolderId, HolderId], None],
) -> None:
    room = room_of(5, 3)
    lie(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds([holder for holder in room.holders if holder != EAST])
    for liars in room.blame(openings).values():
        assert set(liars) <= {EAST}


def test_a_wrong_seed_is_named() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    room.lies[SOUTH, SeedOpening] = lambda reply: Reply(message=with_changes(reply.message, seed=bytes(32)))
    room.try_key()
    assert room.blame(room.open_seeds())[NORTH] == (EAST, SOUTH)


def test_a_seed_is_never_opened_of_a_key_that_was_vouched_for() -> None:
    room = room_of()
    room.certify()
    trials = room.trials()
    bad = with_changes(trials[1].trial.message, answer_digest=b"", complaint="of everything")
    failing = (trials[0], with_changes(trials[1], trial=signed(bad), answer=b""), trials[2])
    for shown in (trials, failing):
        with pytest.raises(WrongPhaseError):
            room.tell(NORTH, SeedAsked(trials=shown))
    assert isinstance(room.states[NORTH], Certified)
    assert not hasattr(room.states[NORTH], "seed")


def test_a_seed_is_not_opened_while_the_trial_succeeds() -> None:
    room = room_of()
    trials = room.try_key()
    with pytest.raises(FaultyCoordinatorError, match="succeeded"):
        room.tell(NORTH, SeedAsked(trials=trials))


def test_a_seed_is_not_opened_without_everybodys_trial() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    trials = room.try_key()
    with pytest.raises(FaultyCoordinatorError, match="relayed trials"):
        room.tell(NORTH, SeedAsked(trials=trials[:2]))


def test_a_seed_is_not_opened_for_trials_of_another_key() -> None:
    room = room_of()
    trials = room.try_key()
    foreign = with_changes(trials[1].trial.message, key_id=KeyId(bytes(32)))
    with pytest.raises(FaultyCoordinatorError, match="another key"):
        room.tell(NORTH, SeedAsked(trials=(trials[0], with_changes(trials[1], trial=signed(foreign)), trials[2])))


def test_a_holder_that_opened_its_seed_never_vouches() -> None:
    room = room_of()
    good = room.try_key()
    bad = with_changes(good[1].trial.message, answer_digest=b"", complaint="of everything")
    failing = (good[0], with_changes(good[1], trial=signed(bad), answer=b""), good[2])
    assert isinstance(room.tell(NORTH, SeedAsked(trials=failing)).message, SeedOpening)
    assert isinstance(room.states[NORTH], Dead)
    with pytest.raises(WrongPhaseError):
        room.tell(NORTH, TrialsReceived(trials=good))


def other_message(message: object) -> Any:
    if isinstance(message, Hello):
        return with_changes(message, nonce=bytes(32))
    if isinstance(message, KeyCommitment):
        return with_changes(message, commitment=bytes(32))
    assert isinstance(message, Dealing)
    return with_changes(message, b=message.b[::-1])


@pytest.mark.parametrize("kind", [Hello, KeyCommitment, Dealing, Trial])
def test_who_signs_two_messages_for_one_step_is_named(kind: type) -> None:
    room = room_of()
    room.certify() if kind is Trial else room.try_key()
    if kind is Hello:
        hellos = [signed(room.said[one, Hello].message) for one in room.holders]
        event: CeremonyEvent = HellosReceived(hellos=(hellos[0], signed(other_message(hellos[1].message)), hellos[2]))
    elif kind is KeyCommitment:
        said = [signed(room.said[one, KeyCommitment].message) for one in room.holders]
        event = CommitmentsReceived(commitments=(said[0], signed(other_message(said[1].message)), said[2]))
    elif kind is Dealing:
        bundles = room.own_dealings(NORTH)
        other = with_changes(bundles[1], dealing=signed(other_message(bundles[1].dealing.message)))
        event = DealingsReceived(dealings=(bundles[0], other, bundles[2]))
    else:
        trials = room.trials()
        changed = with_changes(trials[1].trial.message, answer_digest=bytes(32))
        event = TrialsReceived(trials=(trials[0], with_changes(trials[1], trial=signed(changed)), trials[2]))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, event)
    assert raised.value.holder_id == EAST


def test_an_equivocator_that_split_the_others_is_named_when_blame_is_laid() -> None:
    room = room_of()
    wrong_share(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds()
    bundles = list(room.bundles([room.said[one, Dealing] for one in room.holders], room.holders))
    bundles[1] = with_changes(bundles[1], dealing=signed(other_message(bundles[1].dealing.message)))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, BlameAsked(openings=openings, dealings=tuple(bundles)))
    assert raised.value.holder_id == EAST


def test_holders_that_were_shown_different_dealings_do_not_vouch() -> None:
    room = room_of()
    room.deal()
    honest = room.own_dealings(NORTH)
    lied = wrong_split(room)
    room.tell(NORTH, DealingsReceived(dealings=honest))
    for holder in (EAST, SOUTH):
        bundles = room.own_dealings(holder)
        shown = tuple(with_changes(one, dealing=lied) if one.dealing.message.holder == EAST else one for one in bundles)
        room.states[EAST] = with_changes(room.states[EAST], dealing=lied.message)
        room.tell(holder, DealingsReceived(dealings=shown))
    with pytest.raises(FaultyCoordinatorError, match="another key"):
        room.tell(NORTH, TrialsReceived(trials=room.trials()))


def wrong_split(room: HolderRoom) -> Authenticated[Any]:
    dealing = room.said[EAST, Dealing].message
    assert isinstance(dealing, Dealing)
    digests = (Digest(bytes(32)), *dealing.sealed_digests[1:])
    return signed(with_changes(dealing, sealed_digests=digests))


@pytest.mark.parametrize("damage", ["short", "twice", "swapped", "stranger"])
def test_a_relayed_list_holds_everybody_once_and_in_order(damage: str) -> None:
    room = room_of()
    hellos = list(room.greet())
    if damage == "short":
        hellos.pop()
    elif damage == "twice":
        hellos[1] = hellos[2]
    elif damage == "swapped":
        hellos[1], hellos[2] = hellos[2], hellos[1]
    else:
        hellos[2] = signed(with_changes(hellos[2].message, holder=HolderId("stranger")))
    with pytest.raises(FaultyCoordinatorError, match="relayed hellos"):
        room.tell(NORTH, HellosReceived(hellos=tuple(hellos)))


def swapped_lists(room: HolderRoom) -> dict[str, CeremonyEvent]:
    """Return for each step what is relayed, with two entries swapped."""

    def swapped(entries: Sequence[Any]) -> tuple[Any, ...]:
        return entries[0], entries[2], entries[1]

    def of(kind: type) -> list[Any]:
        return [signed(room.said[one, kind].message) for one in room.holders]

    return {
        "hellos": HellosReceived(hellos=swapped(of(Hello))),
        "commitments": CommitmentsReceived(commitments=swapped(of(KeyCommitment))),
        "dealings": DealingsReceived(dealings=swapped(room.own_dealings(NORTH))),
        "trials": TrialsReceived(trials=swapped(room.trials())),
        "failed trials": SeedAsked(trials=swapped(room.trials())),
    }


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("hellos", HolderRoom.greet),
        ("hellos", HolderRoom.commit),
        ("commitments", HolderRoom.commit),
        ("commitments", HolderRoom.deal),
        ("dealings", HolderRoom.deal),
        ("dealings", HolderRoom.try_key),
        ("trials", HolderRoom.try_key),
        ("trials", HolderRoom.certify),
        ("failed trials", HolderRoom.try_key),
        ("failed trials", HolderRoom.open_seeds),
        ("blame", HolderRoom.open_seeds),
    ],
)
def test_a_swapped_list_is_refused_at_every_step_and_every_repeat(step: str, before: Callable[..., object]) -> None:
    whole, room = room_of(), room_of()
    wrong_answer(whole, EAST, NORTH)
    whole.try_key()
    if before is HolderRoom.open_seeds:
        wrong_answer(room, EAST, NORTH)
        room.try_key()
    before(room)
    if step == "blame":
        bundles = room.bundles([room.said[one, Dealing] for one in room.holders], room.holders)
        opening = signed(room.said[NORTH, SeedOpening].message)
        event: CeremonyEvent = BlameAsked(openings=(opening,), dealings=(bundles[0], bundles[2], bundles[1]))
    else:
        event = swapped_lists(whole)[step]
    with pytest.raises(FaultyCoordinatorError, match="it relayed"):
        room.tell(NORTH, event)


def test_ones_own_hello_comes_back_unchanged() -> None:
    room = room_of()
    hellos = room.greet()
    altered = signed(with_changes(hellos[0].message, nonce=bytes(32)))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, HellosReceived(hellos=(altered, *hellos[1:])))


def test_ones_own_commitment_comes_back_unchanged() -> None:
    room = room_of()
    commitments = room.commit()
    altered = signed(with_changes(commitments[0].message, commitment=bytes(32)))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, CommitmentsReceived(commitments=(altered, *commitments[1:])))


def test_ones_own_dealing_comes_back_unchanged() -> None:
    room = room_of()
    room.deal()
    bundles = room.own_dealings(NORTH)
    altered = with_changes(bundles[0], dealing=signed(other_message(bundles[0].dealing.message)))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, DealingsReceived(dealings=(altered, *bundles[1:])))


def test_ones_own_trial_comes_back_unchanged() -> None:
    room = room_of()
    trials = room.try_key()
    altered = signed(with_changes(trials[0].trial.message, answer_digest=bytes(32)))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, TrialsReceived(trials=(with_changes(trials[0], trial=altered), *trials[1:])))


def test_a_hello_of_another_ceremony_is_refused() -> None:
    room = room_of()
    hellos = room.greet()
    foreign = signed(with_changes(hellos[1].message, ceremony_digest=Digest(bytes(32))))
    with pytest.raises(FaultyCoordinatorError, match="another ceremony"):
        room.tell(NORTH, HellosReceived(hellos=(hellos[0], foreign, hellos[2])))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": b"short"},
        {"seed_commitment": b"short"},
        {"hpke_public_key": b"short"},
        {"hpke_public_key": bytes(32)},
    ],
)
def test_a_hello_of_no_use_names_its_signer(change: dict[str, bytes]) -> None:
    room = room_of()
    hellos = room.greet()
    useless = signed(with_changes(hellos[1].message, **change))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, HellosReceived(hellos=(hellos[0], useless, hellos[2])))
    assert raised.value.holder_id == EAST


def test_a_commitment_to_other_hellos_is_refused() -> None:
    room = room_of()
    commitments = room.commit()
    foreign = signed(with_changes(commitments[1].message, context=Digest(bytes(32))))
    with pytest.raises(FaultyCoordinatorError, match="other hellos"):
        room.tell(NORTH, CommitmentsReceived(commitments=(commitments[0], foreign, commitments[2])))


def test_a_commitment_of_another_length_names_its_signer() -> None:
    room = room_of()
    commitments = room.commit()
    short = signed(with_changes(commitments[1].message, commitment=b"short"))
    with pytest.raises(FaultyKeyHolderError):
        room.tell(NORTH, CommitmentsReceived(commitments=(commitments[0], short, commitments[2])))


def test_a_dealing_of_other_hellos_is_refused() -> None:
    room = room_of()
    room.deal()
    bundles = room.own_dealings(NORTH)
    foreign = with_changes(
        bundles[1], dealing=signed(with_changes(bundles[1].dealing.message, context=Digest(bytes(32))))
    )
    with pytest.raises(FaultyCoordinatorError, match="other hellos"):
        room.tell(NORTH, DealingsReceived(dealings=(bundles[0], foreign, bundles[2])))


def test_a_sealed_part_that_was_altered_on_the_way_is_the_coordinators_fault() -> None:
    room = room_of()
    room.deal()
    bundles = room.own_dealings(NORTH)
    altered = with_changes(bundles[1], sealed={NORTH: bundles[1].sealed[NORTH][:-1] + b"?"})
    with pytest.raises(FaultyCoordinatorError, match="altered"):
        room.tell(NORTH, DealingsReceived(dealings=(bundles[0], altered, bundles[2])))


@pytest.mark.parametrize("receivers", [(), (EAST,), (NORTH, EAST)])
def test_a_dealing_comes_with_this_holders_part_alone(receivers: tuple[HolderId, ...]) -> None:
    room = room_of()
    dealings = room.deal()
    own, wrong = room.own_dealings(NORTH), room.bundles(dealings, receivers)
    with pytest.raises(FaultyCoordinatorError, match="sealed parts"):
        room.tell(NORTH, DealingsReceived(dealings=(own[0], wrong[1], own[2])))


def test_a_dealing_with_too_few_digests_names_its_signer() -> None:
    room = room_of()
    room.deal()
    bundles = room.own_dealings(NORTH)
    message = bundles[1].dealing.message
    short = with_changes(bundles[1], dealing=signed(with_changes(message, sealed_digests=message.sealed_digests[:2])))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, DealingsReceived(dealings=(bundles[0], short, bundles[2])))
    assert raised.value.holder_id == EAST


def test_a_trial_answer_that_was_altered_on_the_way_is_the_coordinators_fault() -> None:
    room = room_of()
    trials = room.try_key()
    altered = with_changes(trials[1], answer=trials[1].answer[:-1] + b"?")
    with pytest.raises(FaultyCoordinatorError, match="altered"):
        room.tell(NORTH, SeedAsked(trials=(trials[0], altered, trials[2])))


def test_a_complaint_comes_without_an_answer() -> None:
    room = room_of()
    false_complaint(room, EAST, NORTH)
    trials = room.try_key()
    smuggled = with_changes(trials[1], answer=b"something")
    with pytest.raises(FaultyCoordinatorError, match="altered"):
        room.tell(NORTH, SeedAsked(trials=(trials[0], smuggled, trials[2])))


@pytest.mark.parametrize("change", [{"answer_digest": b""}, {"complaint": "and an answer"}])
def test_a_trial_is_an_answer_or_a_complaint(change: dict[str, object]) -> None:
    room = room_of()
    trials = room.try_key()
    neither = signed(with_changes(trials[1].trial.message, **change))
    with pytest.raises(FaultyKeyHolderError):
        room.tell(NORTH, TrialsReceived(trials=(trials[0], with_changes(trials[1], trial=neither), trials[2])))


@pytest.mark.parametrize("damage", ["twice", "foreign", "without ours", "ours altered"])
def test_openings_are_distinct_of_this_key_and_hold_ones_own(damage: str) -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    room.try_key()
    openings = list(room.open_seeds())
    if damage == "twice":
        openings[1] = openings[2]
    elif damage == "foreign":
        openings[1] = signed(with_changes(openings[1].message, key_id=KeyId(bytes(32))))
    elif damage == "without ours":
        openings.pop(0)
    else:
        openings[0] = signed(with_changes(openings[0].message, seed=bytes(32)))
    bundles = room.bundles([room.said[one, Dealing] for one in room.holders], room.holders)
    with pytest.raises(FaultyCoordinatorError):
        room.tell(NORTH, BlameAsked(openings=tuple(openings), dealings=bundles))


def test_a_weaker_plan_than_the_policy_is_not_begun() -> None:
    plan = ceremony_plan(job_spec())
    state = New(holder=NORTH, policy=HolderPolicy(min_contributors=3))
    with pytest.raises(PolicyError, match="contributors"):
        ceremony.step(state, BeginCeremony(plan=plan, seed=secrets.token_bytes(32)))


def test_a_plan_without_this_holder_is_not_begun() -> None:
    state = New(holder=HolderId("stranger"), policy=HolderPolicy())
    with pytest.raises(PlanError, match="stranger"):
        ceremony.step(state, BeginCeremony(plan=ceremony_plan(job_spec()), seed=secrets.token_bytes(32)))


def test_another_plan_for_a_begun_ceremony_is_refused() -> None:
    room = room_of()
    room.greet()
    other = ceremony_plan(job_spec(), round=2)
    with pytest.raises(PlanError, match="another plan"):
        room.tell(NORTH, BeginCeremony(plan=other, seed=secrets.token_bytes(32)))


def test_every_step_repeated_gets_the_same_answer() -> None:
    room = room_of()
    hellos = room.greet()
    assert room.tell(NORTH, BeginCeremony(plan=room.plan, seed=secrets.token_bytes(32))).message == hellos[0].message
    for kind, event in _history(room):
        assert room.tell(NORTH, event).message == room.tell(NORTH, event).message, kind


def _history(room: HolderRoom) -> Iterator[tuple[str, CeremonyEvent]]:
    """Run a ceremony for everybody and hand north's events over again after each step."""
    hellos = tuple(signed(room.said[one, Hello].message) for one in room.holders)
    yield "hellos", HellosReceived(hellos=hellos)
    for holder in (EAST, SOUTH):
        room.tell(holder, HellosReceived(hellos=hellos))
    commitments = tuple(signed(room.said[one, KeyCommitment].message) for one in room.holders)
    yield "commitments", CommitmentsReceived(commitments=commitments)
    for holder in (EAST, SOUTH):
        room.tell(holder, CommitmentsReceived(commitments=commitments))
    yield "dealings", DealingsReceived(dealings=room.own_dealings(NORTH))
    for holder in (EAST, SOUTH):
        room.tell(holder, DealingsReceived(dealings=room.own_dealings(holder)))
    yield "trials", TrialsReceived(trials=room.trials())


def test_sealing_is_not_repeated() -> None:
    room = room_of()
    commitments = room.commit()
    first = room.tell(NORTH, CommitmentsReceived(commitments=commitments))
    assert room.tell(NORTH, CommitmentsReceived(commitments=commitments)).sealed == first.sealed


def test_the_end_drops_every_secret() -> None:
    room = room_of()
    room.try_key()
    ended = ceremony.step(room.states[NORTH], CeremonyEnded())
    assert vars(ended.state) == {}


def test_the_shares_open_the_key_that_was_vouched_for() -> None:
    room = room_of()
    trials = room.try_key()
    state = room.states[NORTH]
    assert isinstance(state, Committed)
    steps_taken = [ceremony.step(room.states[one], TrialsReceived(trials=trials)) for one in room.holders]
    shares = [effect.share for taken in steps_taken for effect in taken.effects if isinstance(effect, SealShare)]
    assert [share.holder for share in shares] == [1, 2, 3]
    assert len({bytes(share.key_id) for share in shares}) == 1
    assert not np.array_equal(shares[0].secret, shares[1].secret)


def test_an_opening_is_repeated_and_a_second_trial_named() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    trials = room.try_key()
    first = room.tell(NORTH, SeedAsked(trials=trials))
    assert room.tell(NORTH, SeedAsked(trials=trials)).message == first.message
    other = signed(with_changes(trials[1].trial.message, answer_digest=bytes(32)))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, SeedAsked(trials=(trials[0], with_changes(trials[1], trial=other), trials[2])))
    assert raised.value.holder_id == EAST


def test_blame_is_not_laid_on_parts_that_were_altered_on_the_way() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds()
    bundles = list(room.bundles([room.said[one, Dealing] for one in room.holders], room.holders))
    bundles[2] = with_changes(bundles[2], sealed={**bundles[2].sealed, EAST: b"altered"})
    with pytest.raises(FaultyCoordinatorError, match="was altered"):
        room.tell(NORTH, BlameAsked(openings=openings, dealings=tuple(bundles)))


def test_a_repeat_with_ones_own_message_altered_is_the_coordinators_fault() -> None:
    room = room_of()
    room.commit()
    hellos = [signed(room.said[one, Hello].message) for one in room.holders]
    hellos[0] = signed(other_message(hellos[0].message))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, HellosReceived(hellos=tuple(hellos)))
