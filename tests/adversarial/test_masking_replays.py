"""A coordinator that shows honest clients what was said in another roster of the same plan, or says it in the wrong direction.

The nonce that tells two rounds' plans apart is the coordinator's, so two rosters can have one plan digest. Everything after the
join is bound to the roster, and a join to its client's machine, which has one master seed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from secagg import codec
from secagg.errors import FaultyCoordinatorError, MessageError
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.roles.client.masking.state import Masking
from tests.adversarial.masking_adversary import Table
from tests.adversarial.masking_people import Person, a_plan, named, people, roster_of, said, signer_of, trust
from tests.pki_material import NOW

PLAN = a_plan(min_contributors=5, max_clients=9, corrupt=0.2)
HONEST, CORRUPT = named("honest", 7), frozenset(named("mallory", 2))
EVERYONE = tuple(sorted({*HONEST, *CORRUPT}))


def a_table(*, salt: bytes = b"") -> Table:
    """Return a roster in which everybody has dealt shares. ``salt``: other secrets than in another roster."""
    everyone = {name: Person(name, PLAN, salt=salt) for name in EVERYONE}
    table = Table(roster_of(PLAN, [one.join for one in everyone.values()]), everyone, CORRUPT)
    table.deal()
    return table


def test_a_join_of_another_round_with_the_same_plan_digest_does_not_pass_for_ones_own() -> None:
    """A client that took part before draws new secrets: the roster must hold the join of this very run."""
    before, now = people(EVERYONE, PLAN), Person(HONEST[0], PLAN, salt=b"now")
    with pytest.raises(FaultyCoordinatorError, match="as it was sent"):
        now.sees_roster(roster_of(PLAN, [one.join for one in before.values()]))


def test_a_join_of_a_round_with_another_nonce_is_refused() -> None:
    """Its plan digest is another."""
    other = a_plan(min_contributors=5, max_clients=9, corrupt=0.2, nonce=bytes(32))
    everyone = people(EVERYONE, PLAN)
    everyone[HONEST[1]] = Person(HONEST[1], other)
    with pytest.raises(FaultyCoordinatorError, match="another plan"):
        everyone[HONEST[0]].sees_roster(roster_of(PLAN, [one.join for one in everyone.values()]))


def test_confirmations_of_another_roster_with_the_same_plan_digest_reveal_nothing() -> None:
    """All of them signed the same survivors, by name."""
    before, now = a_table(), a_table(salt=b"now")
    for table in (before, now):
        table.show_sharers(EVERYONE, to=EVERYONE)
    old = before.confirm(EVERYONE, by=HONEST)
    now.confirm(EVERYONE, by=HONEST[:1])
    with pytest.raises(FaultyCoordinatorError, match="another plan, roster or set"):
        now.reveal(old + before.forged(EVERYONE, EVERYONE), by=HONEST[:1])


@pytest.mark.parametrize(
    "swap", ["reflected", "another sender's", "another receiver's", "another roster's", "cut", "absent"]
)
def test_a_sealed_share_opens_for_one_receiver_of_one_sender_in_one_roster(swap: str) -> None:
    """A client holds no share that its neighbour did not deal to it here; it masks with that neighbour all the same."""
    before, now = a_table(), a_table(salt=b"now")
    reader, sender, third = HONEST[:3]
    sealed = now.sealed_to(reader)
    honest = len(sealed[sender])
    changed = {
        "reflected": now.sealed_to(sender)[reader],
        "another sender's": sealed[third],
        "another receiver's": now.sealed_to(third)[sender],
        "another roster's": before.sealed_to(reader)[sender],
        "cut": sealed[sender][: honest - 1],
        "absent": b"",
    }
    now.everyone[reader].sees_sharers(EVERYONE, {**sealed, sender: changed[swap]})
    state = now.everyone[reader].state
    assert isinstance(state, Masking)
    assert state.unopened == (sender,)
    told = state.held.reveal((sender, third), frozenset(EVERYONE))
    assert told[0] == b""
    assert told[1]


def test_the_same_client_in_two_rosters_of_one_plan_has_no_mask_in_common() -> None:
    """The update is the same in both, the plan digest too."""
    before, now = a_table(), a_table(salt=b"now")
    for table in (before, now):
        table.show_sharers(EVERYONE, to=HONEST)
    for name in HONEST:
        first, second = before.everyone[name], now.everyone[name]
        same = sum(one == other for one, other in zip(first.vector, second.vector, strict=True))
        assert same < len(first.vector) // 10


def test_a_signature_of_one_kind_counts_as_no_other_kind() -> None:
    """Messages of a masking round have labels of their own, whatever their bytes could be read as."""
    table = a_table()
    table.show_sharers(EVERYONE, to=EVERYONE)
    person = table.everyone[HONEST[0]]
    (confirmation,) = table.confirm(EVERYONE, by=HONEST[:1])
    for one in (person.join, person.shares, confirmation):
        for kind in (MaskingJoin, Shares, MaskedUpload, Confirmation, Unmasking):
            if kind is type(one.message):
                continue
            with pytest.raises(MessageError):
                codec.authenticate(one.signed, kind, trust=trust(), at=NOW)


def test_a_client_cannot_speak_in_the_name_of_another() -> None:
    """The adversary's own certificates sign for the adversary's own names."""
    table = a_table()
    (forged, _) = table.forged(EVERYONE, EVERYONE)
    with_other_name = replace(forged.message, client=HONEST[0])
    assert said(with_other_name).party.name == HONEST[0], "only with the honest client's key"
    payload = codec.sign(with_other_name, signer_of(forged.message.client))
    with pytest.raises(MessageError, match="in the name of"):
        codec.authenticate(payload, Confirmation, trust=trust(), at=NOW)
