"""A client's machine in every phase, and what an honest coordinator shows it. The key is made by the holders' own machines."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

from secagg import transcript
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, JobId
from secagg.messages.ceremony import Hello, KeyStatement, PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Result
from secagg.messages.signed import Authenticated
from secagg.plan import CkksRound, JobSpec, RoundPlan
from secagg.policy import ClientPolicy, HolderPolicy
from secagg.roles.client import rules
from secagg.roles.client.checks import mean_bytes
from secagg.roles.client.events import (
    CiphertextReady,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    UploadAccepted,
)
from secagg.roles.client.state import ClientPhase, ClientState, Joined
from secagg.signing import SignedMessage
from tests.holder_material import ALL_HOLDERS, HolderRoom, ceremony_plan, job_spec, sealed, signed

ALICE, BOB, CAROL = ClientId("alice"), ClientId("bob"), ClientId("carol")
COORDINATOR = Party(role=Role.COORDINATOR, name="main")
POLICY = ClientPolicy(
    holders=frozenset(ALL_HOLDERS), min_holders=3, min_threshold=2, min_corrupt_holders=1, min_contributors=2
)
READY = CiphertextReady(nonce=b"\x01" * 32, root_c0=Digest(b"\x02" * 32), root_c1=Digest(b"\x03" * 32))
MEAN = hashlib.sha256(b"mean").digest()


def start(**changes: object) -> ClientState:
    terms: dict[str, object] = {
        "client": ALICE,
        "coordinator": COORDINATOR,
        "policy": POLICY,
        "job": JobId("digits"),
        "after_round": 0,
        **changes,
    }
    return rules.begin(**terms).state  # type: ignore[arg-type]


@cache
def offer(spec: JobSpec | None = None, holders: HolderPolicy | None = None) -> PlanOffered:
    """Run a ceremony of three holders, and return what an honest coordinator makes of it."""
    room = HolderRoom(plan=ceremony_plan(spec or job_spec()), policy=holders or HolderPolicy())
    replies = room.certify()
    statements = tuple(signed(reply.message) for reply in replies)
    first = replies[0].message
    assert isinstance(first, KeyStatement)
    bundle = PublicKeyBundle(
        plan=room.plan,
        hellos=tuple(signed(room.said[holder, Hello].message) for holder in room.holders),  # type: ignore[misc]
        b=replies[0].attachment,
        statements=statements,  # type: ignore[arg-type]
    )
    protocol = CkksRound(key_id=first.key_id, group=room.plan.group)
    return PlanOffered(plan=RoundPlan(spec=room.plan.spec, round=room.plan.round, protocol=protocol), bundle=bundle)


def plan() -> RoundPlan:
    return offer().plan


def join_of(client: ClientId) -> Join:
    """Return alice's own join as her machine makes it, or somebody else's with a commitment of its own."""
    if client == ALICE:
        state = state_in(ClientPhase.JOINED)
        assert isinstance(state, Joined)
        return state.join
    return Join(plan_digest=plan().digest, client=client, commitment=hashlib.sha256(client.encode()).digest())


def roster_of(*clients: ClientId, **changes: object) -> FrozenRoster:
    joins = tuple(signed(join_of(client)) for client in clients)
    return replace(sealed(plan(), joins), **changes)


def published(**changes: object) -> ResultPublished:
    """Return the result of alice, bob and carol; changes go into the signed message."""
    joins = [join_of(client) for client in (ALICE, BOB, CAROL)]
    message = Result(
        plan_digest=plan().digest,
        roster_digest=transcript.roster_digest(plan().digest, joins),
        contributors=(ALICE, BOB, CAROL),
        total_weight=2.5,
        mean_digest=Digest(MEAN),
        mean_bytes=mean_bytes(plan()),
    )
    unsigned = SignedMessage(payload=b"", signature=b"", certificate=b"")
    result = Authenticated(message=replace(message, **changes), party=COORDINATOR, signed=unsigned)
    return ResultPublished(result=result, mean_digest=Digest(MEAN), mean_bytes=mean_bytes(plan()))


@cache
def state_in(phase: ClientPhase) -> ClientState:
    """Return alice's state in a phase, reached by legal moves."""
    if phase is ClientPhase.FAILED:
        return rules.step(state_in(ClientPhase.JOINED), RoundEnded(reason="too few clients")).state
    state = start()
    steps = {
        ClientPhase.OFFERED: offer,
        ClientPhase.KEY_CHECKED: lambda: READY,
        ClientPhase.JOINED: lambda: RosterFrozen(roster=roster_of(ALICE, BOB, CAROL)),
        ClientPhase.UPLOADING: UploadAccepted,
        ClientPhase.WAITING: published,
    }
    while state.phase is not phase:
        state = rules.step(state, steps[state.phase]()).state
    return state
