"""A coordinator that shows one holder what another honest one signed for another ceremony frames nobody by it."""

from dataclasses import replace

import pytest

from secagg.errors import FaultyCoordinatorError
from secagg.ids import HolderId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment
from secagg.roles.key_holder.events import (
    BlameAsked,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    TrialsReceived,
)
from tests.holder_material import HolderRoom, ceremony_plan, job_spec, signed

NORTH, EAST, SOUTH = (HolderId(name) for name in ("north", "east", "south"))


def room_of(attempt: int) -> HolderRoom:
    return HolderRoom(plan=ceremony_plan(job_spec(), attempt=attempt))


def replayed(room: HolderRoom, earlier: HolderRoom, kind: type) -> CeremonyEvent:
    """What EAST said in this step of an earlier attempt, among what the others said in this one."""
    said = [signed(room.said[one, kind].message) for one in room.holders]
    said[1] = signed(earlier.said[EAST, kind].message)
    messages = tuple(said)
    if kind is Hello:
        return HellosReceived(hellos=messages)
    return CommitmentsReceived(commitments=messages)


@pytest.mark.parametrize("kind", [Hello, KeyCommitment])
def test_a_replayed_message_is_the_coordinators_fault(kind: type) -> None:
    earlier, room = room_of(1), room_of(2)
    earlier.try_key()
    room.try_key()
    with pytest.raises(FaultyCoordinatorError, match="belongs to another"):
        room.tell(NORTH, replayed(room, earlier, kind))


def test_a_replayed_dealing_is_the_coordinators_fault() -> None:
    earlier, room = room_of(1), room_of(2)
    earlier.try_key()
    room.try_key()
    bundles = room.own_dealings(NORTH)
    event = DealingsReceived(dealings=(bundles[0], earlier.own_dealings(NORTH)[1], bundles[2]))
    with pytest.raises(FaultyCoordinatorError, match="belongs to another"):
        room.tell(NORTH, event)


def test_a_replayed_trial_is_the_coordinators_fault() -> None:
    earlier, room = room_of(1), room_of(2)
    earlier.certify()
    room.certify()
    trials = room.trials()
    with pytest.raises(FaultyCoordinatorError, match="belongs to another"):
        room.tell(NORTH, TrialsReceived(trials=(trials[0], earlier.trials()[1], trials[2])))


def test_a_replayed_dealing_names_nobody_when_blame_is_laid() -> None:
    earlier, room = room_of(1), room_of(2)
    earlier.try_key()
    trials = room.try_key()
    complaint = replace(trials[2].trial.message, answer_digest=b"", complaint="of everything")
    said = room.said[SOUTH, type(complaint)]
    room.said[SOUTH, type(complaint)] = replace(said, message=complaint, attachment=b"")
    openings = room.open_seeds([NORTH])
    bundles = room.bundles([room.said[one, Dealing] for one in room.holders], room.holders)
    foreign = earlier.bundles([earlier.said[one, Dealing] for one in room.holders], room.holders)
    with pytest.raises(FaultyCoordinatorError, match="belongs to another"):
        room.tell(NORTH, BlameAsked(openings=openings, dealings=(bundles[0], foreign[1], bundles[2])))
