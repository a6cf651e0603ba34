"""A coordinator that shows two rosters of one key, and Mallory, who commits to a multiple of Alice's uploaded ciphertext.

Roster 1 is shown to Alice, who would upload; roster 2, in which Mallory's second commitment stands, to Bob and Carol. Whatever
c corrupt holders sign, no two rosters of one key get a quorum of seals, so that only one of the two can be uploaded to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pytest

from he.ciphertext import Ciphertext, chunk_to_bytes
from he.keygen import generate
from he.packing import pack
from secagg.errors import ConflictError, FaultyCoordinatorError, SecAggError
from secagg.ids import ClientId, HolderId, KeyId
from secagg.messages.round import FrozenRoster, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.policy import ClientPolicy, HolderPolicy
from secagg.roles.client.checks import verify_roster
from secagg.roles.key_holder import opening
from secagg.roles.key_holder.opening import ApprovalAsked, ApprovalOffered, OpeningState, ReplySeal, RosterOffered
from secagg.roles.key_holder.request import Request, digest_of
from secagg.transcript import CiphertextRoot
from tests.encryption_material import encrypt_once
from tests.holder_material import (
    ALL_HOLDERS,
    Contributor,
    ceremony_plan,
    job_spec,
    join_of,
    request_of,
    round_plan,
    seals_of,
    signed,
)

TIMES = 500
NAMES = ALICE, BOB, CAROL, MALLORY = "alice", "bob", "carol", "mallory"
_SPEC = job_spec(5, 3, min_contributors=3)
CEREMONY = ceremony_plan(replace(_SPEC, max_clients=1000, protocol=replace(_SPEC.protocol, precision=1.0)))
PARAMETERS, GROUP = CEREMONY.parameters, CEREMONY.group
PUBLIC_KEY, SHARES = generate(PARAMETERS, randomness=bytes(32))
PLAN = round_plan(CEREMONY, KeyId(SHARES[0].key_id))
POLICY = ClientPolicy(holders=frozenset(ALL_HOLDERS), min_contributors=3, corrupt_clients=1)
CORRUPT, HONEST = ALL_HOLDERS[: GROUP.corrupt_holders], ALL_HOLDERS[GROUP.corrupt_holders :]


def contributor(name: str, ciphertext: Ciphertext) -> Contributor:
    root = CiphertextRoot()
    for chunk in ciphertext.c0:
        root.add(chunk_to_bytes(chunk))
    return Contributor(client=ClientId(name), nonce=name.encode().ljust(32), root_c0=root.digest(), c1=ciphertext.c1)


def multiple(ciphertext: Ciphertext) -> Ciphertext:
    """Mallory's: it outweighs Bob's and Carol's in the sum, and opens to 500 times what Alice sent."""
    primes = np.array(PARAMETERS.data_primes, dtype=np.uint64)[:, None]
    halves = ((half * np.uint64(TIMES) % primes).astype(np.uint32) for half in (ciphertext.c0, ciphertext.c1))
    return Ciphertext(PARAMETERS, *halves)


@dataclass(frozen=True)
class Split:
    """Two rosters, each with nothing wrong in it; a test says who seals what."""

    first: FrozenRoster
    request: Request
    contributors: tuple[Contributor, ...]
    sent: dict[str, Ciphertext] = field(repr=False)

    def shown_to(self, name: str, roster: FrozenRoster) -> None:
        """Let an honest client look at a roster; what it refuses, it does not upload to."""
        verify_roster(PLAN, POLICY, join_of(PLAN, contributor(name, self.sent[name])), roster)

    @property
    def asked(self) -> ApprovalAsked:
        return ApprovalAsked(request=self.request, computed=tuple(one.half for one in self.contributors))


@pytest.fixture(scope="module")
def split() -> Split:
    spec, rng = CEREMONY.spec, np.random.default_rng(1)
    sent = {}
    for name in NAMES:
        update = {"w": rng.uniform(-1, 1, spec.values).astype(np.float32)}
        vector = pack(update, 1.0, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)[0]
        sent[name] = encrypt_once(PUBLIC_KEY, vector)
    first = request_of(PLAN, [contributor(name, one) for name, one in sent.items()])
    made = {BOB: sent[BOB], CAROL: sent[CAROL], MALLORY: multiple(sent[ALICE])}
    contributors = tuple(contributor(name, one) for name, one in made.items())
    second = request_of(PLAN, contributors, absent=[contributor(ALICE, sent[ALICE])])
    return Split(first=first.roster, request=second, contributors=contributors, sent=sent)


def holder(name: HolderId) -> OpeningState:
    return OpeningState(holder=name, policy=HolderPolicy(), ceremony=CEREMONY, key_id=PLAN.ckks.key_id)


def seal_by(state: OpeningState, roster: FrozenRoster) -> tuple[OpeningState, Authenticated[RosterSeal]]:
    step = opening.step(state, RosterOffered(plan=PLAN, roster=replace(roster, seals=())))
    [reply] = [effect for effect in step.effects if isinstance(effect, ReplySeal)]
    return step.state, signed(reply.seal)


def test_each_roster_alone_would_be_taken(split: Split) -> None:
    """Nothing else is wrong with either: with a quorum of seals a client uploads, and the holders approve."""
    for name in NAMES:
        split.shown_to(name, split.first)
    for name in (BOB, CAROL):
        split.shown_to(name, split.request.roster)
    opening.step(holder(HONEST[0]), split.asked)


def test_who_sealed_alices_roster_opens_nothing_of_the_other(split: Split) -> None:
    state, _ = seal_by(holder(HONEST[0]), split.first)
    with pytest.raises(ConflictError, match="sealed another roster"):
        seal_by(state, split.request.roster)
    for event in (ApprovalOffered(request=split.request), split.asked):
        with pytest.raises(ConflictError, match="sealed another roster"):
            opening.step(state, event)


def test_who_approved_of_the_other_roster_does_not_seal_alices(split: Split) -> None:
    state = opening.step(holder(HONEST[0]), split.asked).state
    with pytest.raises(ConflictError, match="sealed another roster"):
        seal_by(state, split.first)


@pytest.mark.parametrize("shown", list(product([False, True], repeat=len(HONEST))))
def test_however_honest_holders_are_shown_rosters_no_two_have_a_quorum(split: Split, shown: tuple[bool, ...]) -> None:
    """The corrupt holders seal both. Whoever uploads to one, nobody does, and nothing is opened, of the other."""
    rosters = (split.first, split.request.roster)
    seals = [list(seals_of(PLAN, digest_of(roster), CORRUPT)) for roster in rosters]
    states = []
    for name, second in zip(HONEST, shown, strict=True):
        state, seal = seal_by(holder(name), rosters[second])
        states.append(state)
        seals[second].append(seal)
    sealed = [replace(roster, seals=tuple(those)) for roster, those in zip(rosters, seals, strict=True)]
    taken = [_taken(split, name, roster) for name, roster in zip((ALICE, BOB), sealed, strict=True)]
    assert taken.count(True) <= 1
    request = replace(split.request, roster=sealed[1])
    approved = [_approves(state, replace(split.asked, request=request)) for state in states]
    if taken[0]:
        assert sum(approved) + len(CORRUPT) < GROUP.quorum


def _taken(split: Split, name: str, roster: FrozenRoster) -> bool:
    try:
        split.shown_to(name, roster)
    except FaultyCoordinatorError:
        return False
    return True


def _approves(state: OpeningState, event: ApprovalAsked) -> bool:
    try:
        opening.step(state, event)
    except SecAggError:
        return False
    return True


def test_alice_uploads_to_no_roster_without_a_quorum(split: Split) -> None:
    first = split.first
    quorum = first.seals
    for seals in ((), quorum[:-1], (*quorum[:-1], quorum[0]), split.request.roster.seals):
        with pytest.raises(FaultyCoordinatorError, match="seal"):
            split.shown_to(ALICE, replace(first, seals=seals))
    stranger = seals_of(PLAN, digest_of(first), [HolderId("stranger")])
    with pytest.raises(FaultyCoordinatorError, match="stranger"):
        split.shown_to(ALICE, replace(first, seals=(*quorum[:-1], *stranger)))
