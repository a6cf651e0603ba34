"""A key holder is killed at every point where it stores something or is about to answer, and answers when it is back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.rounds.calls import DecryptionRequest
from coordinator.rounds.holders import HolderClient
from he.errors import CeremonyError
from he.key_share import KeyShare
from he.partial import answer_block
from he.recover import recover
from he.residues import residues_to_bytes
from secagg.errors import ConflictError, NotFoundError, RemoteError
from secagg.faults import HOLDER_POINTS
from secagg.ids import Digest, HolderId
from secagg.key_holder.book import _sealing_context
from secagg.key_holder.vault import secret_from_file
from secagg.messages.ceremony import DealingBundle, TrialBundle
from secagg.messages.round import Approval, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.policy import HolderPolicy
from secagg.roles.key_holder.events import (
    BeginCeremony,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    SeedAsked,
)
from secagg.roles.key_holder.state import New
from tests.holder_at_risk import HolderAtRisk
from tests.holder_material import ceremony_plan
from tests.key_holder_house import (
    EAST,
    NORTH,
    SECONDS,
    SOUTH,
    SPEC,
    House,
    Opening,
    _sum,
    opening_of,
    parts_of,
    party,
)
from tests.lying_holder import Liar, for_receiver, lying_trial
from tests.pki_material import deployment

Call = Callable[[HolderClient], Awaitable[Any]]
OF_A_CEREMONY = (
    "begin.stored",
    "begin.answering",
    "commit.answering",
    "deal.answering",
    "try.answering",
    "certify.stored",
    "certify.answering",
)
OF_A_DEAD_KEY = ("seed.answering", "blame.answering")
OF_A_SEAL = ("seal.stored", "witness.behind", "seal.answering")
OF_AN_APPROVAL = ("sum.stored", "approve.stored", "approve.answering")
OF_AN_ANSWER = ("decrypt.answering", "decrypt.stating")
OF_AN_END = ("end.wiped", "end.stored", "end.answering")

# A dozen processes start one after the other; each wait within has a limit of its own.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    yield made
    await made.close()


@pytest.fixture
async def north(house: House) -> AsyncIterator[HolderAtRisk]:
    made = HolderAtRisk.of(house, NORTH)
    yield made
    made.stop()


def test_every_point_is_visited() -> None:
    visited = OF_A_CEREMONY + OF_A_DEAD_KEY + OF_A_SEAL + OF_AN_APPROVAL + OF_AN_ANSWER + OF_AN_END
    assert sorted(visited) == sorted(HOLDER_POINTS)


async def killed_at_each(north: HolderAtRisk, points: Sequence[str], call: Call, *, then: str = "") -> Any:
    """Let it die at each point of a call, the first of which it was started with, and return what it answers in the end.

    `then` is where it dies in a later call.
    """
    for following in (*points[1:], then):
        await north.dies_in(call)
        await north.start(following)
    return await call(north.calls)


async def test_a_round_is_opened_by_a_holder_that_dies_wherever_it_can(house: House, north: HolderAtRisk) -> None:
    await north.start(OF_A_SEAL[0])
    for holder in (EAST, SOUTH):
        await house.start(holder)
    opening = await opening_of(house)
    key_id, roster = opening.plan.ckks.key_id, opening.request.roster

    def seal(calls: HolderClient) -> Awaitable[Authenticated[RosterSeal]]:
        return calls.seal_roster(opening.plan, roster, timeout_seconds=SECONDS)

    def approve(calls: HolderClient) -> Awaitable[Authenticated[Approval]]:
        return calls.approve(opening.request, parts_of(opening.c1()), timeout_seconds=SECONDS)

    def end(calls: HolderClient) -> Awaitable[None]:
        return calls.end_round(opening.ceremony, timeout_seconds=SECONDS)

    sealed = await killed_at_each(north, OF_A_SEAL, seal, then=OF_AN_APPROVAL[0])
    roster_digest = opening.request.uploads[0].message.roster_digest
    assert sealed.message == RosterSeal(key_id=key_id, roster_digest=roster_digest, holder=NORTH)

    approved = await killed_at_each(north, OF_AN_APPROVAL, approve, then=OF_AN_ANSWER[0])
    assert approved.message == Approval(key_id=key_id, request_digest=opening.digest, holder=NORTH)

    # Nobody shows it any c1 again.
    approvals = (approved, await opening.approve(EAST), await opening.approve(SOUTH))
    request = DecryptionRequest(key_id=key_id, request_digest=opening.digest, approvals=approvals)
    expected = answer_of(house, opening)
    wiped, stored, answering = OF_AN_END
    assert await killed_at_each(north, OF_AN_ANSWER, lambda calls: answered(calls, request), then=wiped) == expected
    east = await opening.decrypt(EAST, approvals)
    opened = recover(
        _sum(list(opening.ciphertexts.values())), [opening.partial(NORTH, expected), opening.partial(EAST, east[0])]
    )
    assert np.abs(opened - sum(opening.vectors.values())).max() < 1e-4

    await north.dies_in(end)
    await north.dies_at_start(stored)  # what was wiped is not taken up again
    await north.start(answering)
    await killed_at_each(north, [answering], end)
    await north.refuses(lambda calls: answered(calls, request), NotFoundError)
    assert opening.recorded(NORTH) == opening.digest
    assert list((house.directory / NORTH / "sums").iterdir()) == []


def answer_of(house: House, opening: Opening) -> bytes:
    """Compute north's answer from its stored share and the sum of what the clients encrypted."""
    store = house.stored(NORTH)
    (stored,) = store.shares()
    vault = store.vault(secret_from_file(house.directory / f"{NORTH}.key", create=False))
    store.close()
    data = vault.open(stored.sealed_share, _sealing_context(stored.key_id, stored.ceremony_digest))
    share = KeyShare.from_bytes(opening.plan.parameters, data)
    return residues_to_bytes(answer_block(share, _sum(list(opening.ciphertexts.values())).c1))


async def answered(calls: HolderClient, request: DecryptionRequest) -> bytes:
    parts = [part async for part in calls.decrypt(request, timeout_seconds=SECONDS)]
    assert not isinstance(parts[-1], bytes)
    return b"".join(part for part in parts if isinstance(part, bytes))


@dataclass
class Attempt:
    """One ceremony with north as it is and two others that the test plays; each call is made with what came before."""

    house: House
    number: int
    lies: bool = False
    others: list[Liar] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = ceremony_plan(SPEC, attempt=self.number)
        self.others = [
            Liar(identity=self.house.made.identity(party(holder)), state=New(holder=holder, policy=HolderPolicy()))
            for holder in (EAST, SOUTH)
        ]
        self.hellos: tuple[Any, ...] = ()
        self.commitments: tuple[Any, ...] = ()
        self.dealings: tuple[DealingBundle, ...] = ()
        self.trials: tuple[TrialBundle, ...] = ()
        self.openings: tuple[Any, ...] = ()

    async def begin(self, calls: HolderClient) -> None:
        own = await calls.begin_ceremony(self.plan, timeout_seconds=SECONDS)
        event = BeginCeremony(plan=self.plan, seed=bytes(32))
        self.hellos = (own, *(one.say(event) for one in self.others))

    async def commit(self, calls: HolderClient) -> None:
        own = await calls.commit_key(self.plan.digest, self.hellos, timeout_seconds=SECONDS)
        self.commitments = (own, *(one.say(HellosReceived(hellos=self.hellos)) for one in self.others))

    async def deal(self, calls: HolderClient) -> None:
        own = await calls.deal_shares(self.plan.digest, self.commitments, timeout_seconds=SECONDS)
        self.dealings = (own, *(self.bundle(one) for one in self.others))

    def bundle(self, one: Liar) -> DealingBundle:
        reply = one.step(CommitmentsReceived(commitments=self.commitments))
        return DealingBundle(dealing=one.signed(reply), sealed=reply.sealed)

    async def try_key(self, calls: HolderClient) -> None:
        own = await calls.try_key(self.plan.digest, for_receiver(self.dealings, NORTH), timeout_seconds=SECONDS)
        east, south = self.others
        self.trials = (own, self.trial(east, EAST), self.trial(south, SOUTH, lies=self.lies))

    def trial(self, one: Liar, holder: HolderId, *, lies: bool = False) -> TrialBundle:
        dealings = for_receiver(self.dealings, holder)
        if lies:
            return lying_trial(one, dealings)
        reply = one.step(DealingsReceived(dealings=dealings))
        return TrialBundle(trial=one.signed(reply), answer=reply.attachment)

    async def certify(self, calls: HolderClient) -> None:
        await calls.certify_key(self.plan.digest, self.trials, timeout_seconds=SECONDS)

    async def open_seed(self, calls: HolderClient) -> None:
        own = await calls.open_seed(self.plan.digest, self.trials, timeout_seconds=SECONDS)
        self.openings = (own, *(one.say(SeedAsked(trials=self.trials)) for one in self.others))

    async def lay_blame(self, calls: HolderClient) -> None:
        verdict = await calls.lay_blame(self.plan.digest, self.openings, self.dealings, timeout_seconds=SECONDS)
        assert verdict.message.liars == (SOUTH,)

    async def until(self, north: HolderAtRisk, last: Call) -> None:
        """Make every call before the last one."""
        dead = (self.open_seed, self.lay_blame) if self.lies else (self.certify,)
        for call in (self.begin, self.commit, self.deal, self.try_key, *dead):
            if call == last:
                return
            await call(north.calls)


async def dies_and_refuses(north: HolderAtRisk, attempt: Attempt, call: Call, *, then: str) -> None:
    """Let it die in a ceremony: when it is back, it neither goes on with that one nor begins it anew."""
    await attempt.until(north, call)
    await north.dies_in(call)
    await north.start(then)
    await north.refuses(call, ConflictError)
    await north.refuses(attempt.begin, ConflictError)
    with pytest.raises(RemoteError, match="restarted inside it"):
        await attempt.begin(north.calls)
    await north.calls.end_round(attempt.plan.digest, timeout_seconds=SECONDS)
    assert shares(north.house) == []


def shares(house: House) -> list[Digest]:
    store = house.stored(NORTH)
    try:
        return [one.ceremony_digest for one in store.shares()]
    finally:
        store.close()


async def test_a_ceremony_is_lost_in_a_restart_and_another_attempt_makes_the_key(
    house: House, north: HolderAtRisk
) -> None:
    steps = ("begin", "begin", "commit", "deal", "try_key", "certify", "certify")
    await north.start(OF_A_CEREMONY[0])
    for number, (then, step) in enumerate(zip((*OF_A_CEREMONY[1:], ""), steps, strict=True), start=1):
        attempt = Attempt(house=house, number=number)
        await dies_and_refuses(north, attempt, getattr(attempt, step), then=then)
    last = Attempt(house=house, number=len(steps) + 1)
    await last.until(north, last.certify)
    await last.certify(north.calls)
    assert shares(house) == [last.plan.digest]


async def test_a_dead_ceremony_is_lost_in_a_restart_too(house: House, north: HolderAtRisk) -> None:
    await north.start(OF_A_DEAD_KEY[0])
    for number, (then, step) in enumerate(((OF_A_DEAD_KEY[1], "open_seed"), ("", "lay_blame")), start=1):
        attempt = Attempt(house=house, number=number, lies=True)
        await dies_and_refuses(north, attempt, getattr(attempt, step), then=then)
    attempt = Attempt(house=house, number=3, lies=True)
    await attempt.until(north, attempt.open_seed)
    await north.refuses(attempt.certify, CeremonyError)
