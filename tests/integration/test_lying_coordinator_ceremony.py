"""A coordinator that relays other messages than were sent, alone and with a corrupt holder (docs/protocol.md, section 4).

North and east are real processes. South is corrupt: the test plays it, with its real certificate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from coordinator.rounds.holders import HolderPool
from he.errors import CeremonyError
from secagg.errors import (
    CertificateError,
    FaultyCoordinatorError,
    FaultyKeyHolderError,
    MessageError,
    NotFoundError,
    PolicyError,
    WrongPhaseError,
)
from secagg.messages.ceremony import DealingBundle, PublicKeyBundle, Trial, TrialBundle
from secagg.party import Party, Role
from secagg.plan import CkksRound, RoundPlan
from secagg.roles.client.checks import checked_key
from secagg.roles.key_holder.events import (
    CommitmentsReceived,
    HellosReceived,
)
from tests.holder_material import ceremony_plan
from tests.holder_processes import HolderProcesses, running
from tests.lying_ceremony import EAST, NORTH, SOUTH, SPEC, Ceremony, step
from tests.lying_coordinator import SECONDS, one_loop, signed_by
from tests.pki_material import deployment

OTHER_BYTES = bytes(32)
pytestmark = one_loop


@pytest.fixture(scope="module")
def holders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderProcesses]:
    with running(tmp_path_factory.mktemp("holders"), [NORTH, EAST]) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def made(holders: HolderProcesses) -> AsyncIterator[Ceremony]:
    pool = HolderPool(holders.coordinator, holders.addresses)
    ceremony = Ceremony(holders=holders, calls=pool.calls)
    yield ceremony
    for holder in (NORTH, EAST):
        await pool.calls[holder].end_round(ceremony.plan.digest, timeout_seconds=SECONDS)
    await pool.close()


async def test_an_honest_ceremony_is_certified_and_its_seeds_stay_closed(made: Ceremony) -> None:
    trials = await made.trials()
    for holder in (NORTH, EAST):
        with pytest.raises(FaultyCoordinatorError, match="seed of a key whose trial succeeded"):
            await made.open_seed(holder, trials)
        await made.certify(holder, trials)
        assert len(made.holders.shares(holder)) == 1
        for shown in (trials, (*trials[:2], made.wrong(trials[2]))):
            with pytest.raises(WrongPhaseError):
                await made.open_seed(holder, shown)


async def test_a_holder_that_opened_its_seed_never_vouches(made: Ceremony) -> None:
    trials = await made.trials()
    dead = (*trials[:2], made.wrong(trials[2]))
    with pytest.raises(CeremonyError):
        await made.certify(NORTH, dead)
    assert (await made.open_seed(NORTH, dead)).message.holder == NORTH
    for shown in (dead, trials):
        with pytest.raises(WrongPhaseError):
            await made.certify(NORTH, shown)
    with pytest.raises(FaultyKeyHolderError, match=r"south .*two different messages"):
        await made.open_seed(NORTH, trials)
    made.verify_no_key()


async def test_two_hellos_of_one_holder_make_no_key(made: Ceremony) -> None:
    honest = (await made.hello(NORTH), await made.hello(EAST))
    other = Ceremony(holders=made.holders, calls=made.calls, plan=made.plan)
    for_north, for_east = (*honest, made.begin_south()), (*honest, other.begin_south())
    north, east = await made.commit(NORTH, for_north), await made.commit(EAST, for_east)
    for face, reader, hellos in ((made, NORTH, for_north), (other, EAST, for_east)):
        south = face.sign(face.south_says(HellosReceived(hellos=hellos)).message)
        with pytest.raises(FaultyCoordinatorError, match="follows other hellos"):
            await face.deal(reader, (north, east, south))
    with pytest.raises(FaultyKeyHolderError, match=r"south .*two different messages as its hello"):
        await made.commit(NORTH, for_east)
    made.verify_no_key()


async def test_two_commitments_of_one_holder_make_no_key(made: Ceremony) -> None:
    north, east, south = await made.commitments()
    lie = made.sign(replace(south.message, commitment=OTHER_BYTES))
    dealings = [await made.deal(NORTH, (north, east, south)), await made.deal(EAST, (north, east, lie))]
    dealings.append(made.deal_south((north, east, south)))
    await no_key_from_different_views(made, dealings, dealings)
    with pytest.raises(FaultyKeyHolderError, match=r"south .*two different messages as its commitment"):
        await made.deal(NORTH, (north, east, lie))


async def test_two_dealings_of_one_holder_make_no_key(made: Ceremony) -> None:
    """What south seals twice opens to the same, and is another message all the same."""
    commitments = await made.commitments()
    honest = [await made.deal(holder, commitments) for holder in (NORTH, EAST)]
    _, again = step(made.south, CommitmentsReceived(commitments=commitments))
    first = made.deal_south(commitments)
    second = DealingBundle(dealing=made.sign(again.message), sealed=again.sealed)
    await no_key_from_different_views(made, [*honest, first], [*honest, second])


async def no_key_from_different_views(
    made: Ceremony, for_north: Sequence[DealingBundle], for_east: Sequence[DealingBundle]
) -> None:
    trials = [await made.attempt(NORTH, for_north), await made.attempt(EAST, for_east), made.try_south(for_north)]
    assert trials[0].trial.message.key_id != trials[1].trial.message.key_id
    with pytest.raises(FaultyCoordinatorError, match="east tried another key"):
        await made.certify(NORTH, trials)
    with pytest.raises(FaultyCoordinatorError, match="north tried another key"):
        await made.certify(EAST, trials)
    for holder in (NORTH, EAST):
        with pytest.raises(FaultyCoordinatorError, match="tried another key"):
            await made.open_seed(holder, trials)
    made.verify_no_key()


async def test_two_trials_of_one_holder_make_no_key_that_a_client_takes(made: Ceremony) -> None:
    """North saw the trial succeed and vouches; east saw it fail, opens its seed and never will."""
    trials = await made.trials()
    lie = (*trials[:2], made.wrong(trials[2]))
    b = await made.certify(NORTH, trials)
    with pytest.raises(CeremonyError):
        await made.certify(EAST, lie)
    await made.open_seed(EAST, lie)
    with pytest.raises(WrongPhaseError):
        await made.certify(EAST, trials)
    with pytest.raises(FaultyKeyHolderError, match=r"south .*two different messages as its trial"):
        await made.certify(NORTH, lie)
    assert made.holders.shares(EAST) == []
    forged = made.sign(replace(made.statements[0].message, holder=EAST))
    for statements in ([made.statements[0]], [made.statements[0], made.statements[0], forged]):
        verify_no_client_takes(made, b, statements)


def verify_no_client_takes(made: Ceremony, b: bytes, statements: Sequence[Any]) -> None:
    key_id = statements[0].message.key_id
    plan = RoundPlan(spec=SPEC, round=made.plan.round, protocol=CkksRound(key_id=key_id, group=made.plan.group))
    hellos = made.south.hellos  # type: ignore[union-attr]
    bundle = PublicKeyBundle(plan=made.plan, hellos=hellos, b=b, statements=tuple(statements))
    with pytest.raises(FaultyCoordinatorError, match="it shows key statements of"):
        checked_key(plan, bundle)


async def test_messages_that_are_missing_altered_or_of_elsewhere_are_refused(made: Ceremony) -> None:
    hellos = await made.hellos()
    north, east, south = hellos
    elsewhere = Ceremony(holders=made.holders, calls=made.calls).begin_south()
    for shown, why in (
        (hellos[:2], "hellos of north, east"),
        ((east, north, south), "hellos of east, north, south"),
        ((north, east, east), "hellos of north, east, east"),
        ((north, east, elsewhere), "south belongs to another ceremony"),
    ):
        with pytest.raises(FaultyCoordinatorError, match=why):
            await made.commit(NORTH, shown)
    foreign = signed_by(stranger(made), replace(south.message))
    forgeries = (
        (signed_by(made.holders.coordinator, south.message), MessageError),
        (signed_by(made.holders.holder(EAST), south.message), MessageError),
        (replace(south, signed=replace(south.signed, signature=north.signed.signature)), MessageError),
        (foreign, CertificateError),
    )
    for forged, kind in forgeries:
        with pytest.raises(kind):
            await made.commit(NORTH, (north, east, forged))
    made.verify_no_key()


def stranger(made: Ceremony) -> Any:
    directory = made.holders.directory / f"foreign-{made.plan.round}"
    return deployment(directory).identity(Party(role=Role.KEY_HOLDER, name=SOUTH))


async def test_a_sealed_part_that_was_altered_or_exchanged_is_refused(made: Ceremony) -> None:
    dealings = await made.dealings()
    east = dealings[1]
    part = east.sealed[NORTH]
    altered = part[:-1] + bytes([part[-1] ^ 1])
    for lie in (altered, east.sealed[SOUTH], dealings[2].sealed[NORTH]):
        shown = (dealings[0], replace(east, sealed={**east.sealed, NORTH: lie}), dealings[2])
        with pytest.raises(FaultyCoordinatorError, match="what east sealed to north was altered"):
            await made.attempt(NORTH, shown)
    made.verify_no_key()


async def test_an_altered_trial_answer_is_refused(made: Ceremony) -> None:
    trials = await made.trials()
    lie = replace(trials[1], answer=made.wrong(trials[1]).answer)
    for ask in (made.certify, made.open_seed):
        with pytest.raises(FaultyCoordinatorError, match="the trial answer of east was altered"):
            await ask(NORTH, (trials[0], lie, trials[2]))
    made.verify_no_key()


async def test_a_complaint_of_a_stranger_opens_no_seed(made: Ceremony) -> None:
    """The coordinator needs a failing trial to be told a seed, and cannot sign one for any holder."""
    trials = await made.trials()
    complaint = Trial(key_id=trials[0].trial.message.key_id, holder=EAST, answer_digest=b"", complaint="south: lies")
    forged = TrialBundle(trial=signed_by(made.holders.coordinator, complaint), answer=b"")
    with pytest.raises(MessageError, match="was signed by coordinator"):
        await made.open_seed(NORTH, (trials[0], forged, trials[2]))
    made.verify_no_key()


async def test_a_plan_weaker_than_the_holders_policy_is_not_begun(made: Ceremony) -> None:
    protocol = replace(SPEC.protocol, corrupt_holders=0)
    weak = replace(SPEC, protocol=protocol)
    made.plan = ceremony_plan(weak, round=made.plan.round)
    with pytest.raises(PolicyError, match="corrupt key holders"):
        await made.hello(NORTH)
    with pytest.raises(NotFoundError, match="no such ceremony"):
        await made.commit(NORTH, [])
    made.verify_no_key()
