"""What the coordinator relays to a key holder: complete, in order, unchanged (docs/protocol.md, section 4)."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from secagg.errors import (
    FaultyCoordinatorError,
    FaultyKeyHolderError,
)
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, SeedOpening
from secagg.roles.key_holder.events import (
    BlameAsked,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    SeedAsked,
    TrialsReceived,
)
from tests.holder_material import HolderRoom, signed, with_changes
from tests.machines.ceremony_lies import (
    EAST,
    NORTH,
    false_complaint,
    other_message,
    room_of,
    wrong_answer,
)


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
