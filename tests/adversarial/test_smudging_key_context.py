"""A smudging key is of one ceremony, even if every part of it came again: noise that is used twice can be taken off."""

from he.ceremony import Dealing, assemble
from tests.ceremony_room import CeremonyRoom
from tests.he_material import small_parameters


def test_the_same_parts_in_another_ceremony_make_another_key() -> None:
    room = CeremonyRoom(small_parameters(), seed=5)
    dealings = [
        Dealing.from_bytes(room.parameters, room.dealings[sender, 1] or b"", sender=sender, receiver=1)
        for sender in room.everyone
    ]
    first, second = (
        assemble(room.parameters, 1, context, dealings).smudging_keys for context in (bytes(32), b"\1" * 32)
    )
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())
