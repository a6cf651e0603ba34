"""A ceremony of key holders' machines in memory, with liars, and a request to open a sum. Signatures are taken as verified."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from he.ciphertext import chunk_to_bytes
from he.ring import Residues
from secagg import transcript
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import (
    Dealing,
    DealingBundle,
    Hello,
    KeyCommitment,
    SeedOpening,
    Trial,
    TrialBundle,
    Verdict,
)
from secagg.messages.round import Approval, FrozenRoster, Join, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import CeremonyPlan, CkksJob, CkksRound, Deadlines, JobSpec, RoundPlan, TensorSpec
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.request import ComputedHalf, Request
from secagg.roles.key_holder.state import CeremonyState, New
from secagg.signing import SignedMessage

ALL_HOLDERS = tuple(HolderId(name) for name in ("north", "east", "south", "west", "middle"))
_UNSIGNED = SignedMessage(payload=b"", signature=b"", certificate=b"")


def signed(message: object) -> Authenticated[Any]:
    """Stand in for the codec: a message whose signature was verified."""
    holder = getattr(message, "holder", None)
    role, name = (Role.KEY_HOLDER, holder) if holder else (Role.CLIENT, getattr(message, "client", "nobody"))
    return Authenticated(message=message, party=Party(role=role, name=str(name)), signed=_UNSIGNED)


def with_changes(value: Any, **changes: Any) -> Any:
    """Return a frozen value with some fields changed, whatever its type."""
    return replace(value, **changes)


@cache
def job_spec(holders: int = 3, threshold: int = 2, *, values: int = 8195, min_contributors: int = 2) -> JobSpec:
    """Return a job that takes three chunks of ckks-4096."""
    protocol = CkksJob(
        holders=ALL_HOLDERS[:holders], threshold=threshold, corrupt_holders=threshold - 1, min_holders=holders
    )
    return JobSpec(
        job=JobId("digits"),
        tensors=(TensorSpec(name="w", shape=(values,), dtype="float32"),),
        protocol=protocol,
        min_contributors=min_contributors,
        max_clients=4,
        purpose="testing",
        deadlines=Deadlines(),
    )


def ceremony_plan(spec: JobSpec, *, round: int = 1, attempt: int = 1) -> CeremonyPlan:
    """Return the plan of a ceremony of all the job's holders."""
    group = spec.ckks.group(spec.ckks.holders)
    return CeremonyPlan(spec=spec, round=RoundNumber(round), attempt=attempt, group=group)


Lie = Callable[[Reply], Reply]
_OWN = {Hello: "hello", KeyCommitment: "commitment", Dealing: "dealing", Trial: "trial", SeedOpening: "opening"}


@dataclass
class HolderRoom:
    """Everybody's machine and a coordinator that relays; `lies` alter what a liar's machine says, by kind of message."""

    plan: CeremonyPlan
    lies: dict[tuple[HolderId, type], Lie] = field(default_factory=dict)
    policy: HolderPolicy = field(default_factory=HolderPolicy)
    states: dict[HolderId, CeremonyState] = field(default_factory=dict)
    said: dict[tuple[HolderId, type], Reply] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = {holder: New(holder=holder, policy=self.policy) for holder in self.holders}

    @property
    def holders(self) -> tuple[HolderId, ...]:
        return self.plan.group.holders

    def tell(self, holder: HolderId, event: CeremonyEvent) -> Reply:
        """Let one machine take a step; a refusal must leave its state as it was."""
        before = self.states[holder]
        try:
            step = ceremony.step(before, event)
        finally:
            assert self.states[holder] is before
        self.states[holder] = step.state
        reply = step.effects[-1]
        assert isinstance(reply, Reply)
        lie = self.lies.get((holder, type(reply.message)))
        if lie is not None:
            reply = lie(reply)
            self._believe(holder, reply)
        self.said[holder, type(reply.message)] = reply
        return reply

    def _believe(self, holder: HolderId, reply: Reply) -> None:
        """A liar's own machine has to take the lie for what it sent, or it would refuse to go on."""
        own: dict[str, Any] = {_OWN[type(reply.message)]: reply.message}
        if isinstance(reply.message, Dealing):
            own["sealed"] = reply.sealed
        if isinstance(reply.message, Trial):
            own["answer"] = reply.attachment
        self.states[holder] = with_changes(self.states[holder], **own)

    def everyone(self, make: Callable[[HolderId], CeremonyEvent]) -> list[Reply]:
        return [self.tell(holder, make(holder)) for holder in self.holders]

    def greet(self) -> tuple[Authenticated[Any], ...]:
        def begin(holder: HolderId) -> BeginCeremony:
            return BeginCeremony(plan=self.plan, seed=hashlib.sha256(holder.encode()).digest())

        return tuple(signed(reply.message) for reply in self.everyone(begin))

    def commit(self) -> tuple[Authenticated[Any], ...]:
        hellos = self.greet()
        return tuple(signed(reply.message) for reply in self.everyone(lambda _: HellosReceived(hellos=hellos)))

    def deal(self) -> list[Reply]:
        commitments = self.commit()
        return self.everyone(lambda _: CommitmentsReceived(commitments=commitments))

    def bundles(self, dealings: Sequence[Reply], receivers: Iterable[HolderId]) -> tuple[DealingBundle, ...]:
        wanted = tuple(receivers)
        return tuple(
            DealingBundle(
                dealing=signed(reply.message),
                sealed={receiver: reply.sealed[receiver] for receiver in wanted},
            )
            for reply in dealings
        )

    def own_dealings(self, holder: HolderId) -> tuple[DealingBundle, ...]:
        """Return what is relayed to a liar: its own machine wants its own dealing back, lie or not."""
        return self.bundles([self.said[one, Dealing] for one in self.holders], [holder])

    def try_key(self) -> tuple[TrialBundle, ...]:
        self.deal()
        for holder in self.holders:
            self.tell(holder, DealingsReceived(dealings=self.own_dealings(holder)))
        return self.trials()

    def trials(self) -> tuple[TrialBundle, ...]:
        replies = [self.said[holder, Trial] for holder in self.holders]
        return tuple(TrialBundle(trial=signed(one.message), answer=one.attachment) for one in replies)

    def certify(self) -> list[Reply]:
        trials = self.try_key()
        return self.everyone(lambda _: TrialsReceived(trials=trials))

    def open_seeds(self, holders: Iterable[HolderId] | None = None) -> tuple[Authenticated[SeedOpening], ...]:
        trials = self.trials()
        asked = tuple(holders or self.holders)
        return tuple(signed(self.tell(one, SeedAsked(trials=trials)).message) for one in asked)

    def blame(self, openings: tuple[Authenticated[SeedOpening], ...]) -> dict[HolderId, tuple[HolderId, ...]]:
        bundles = self.bundles([self.said[one, Dealing] for one in self.holders], self.holders)
        event = BlameAsked(openings=openings, dealings=bundles)
        verdicts = {one.message.holder: self.tell(one.message.holder, event).message for one in openings}
        return {holder: verdict.liars for holder, verdict in verdicts.items() if isinstance(verdict, Verdict)}


@dataclass(frozen=True, kw_only=True)
class Contributor:
    """One client's half of a ciphertext, and what it signed of it."""

    client: ClientId
    nonce: bytes
    root_c0: Digest
    c1: Residues

    @property
    def half(self) -> ComputedHalf:
        root = transcript.CiphertextRoot()
        for chunk in self.c1:
            root.add(chunk_to_bytes(chunk))
        return ComputedHalf(root=root.digest(), chunk_digests=b"".join(root.digests))


def contributor(plan: RoundPlan, name: str, *, seed: int) -> Contributor:
    """Return a client with random residues for c1."""
    rng, parameters = np.random.default_rng(seed), plan.parameters
    primes = np.array(parameters.data_primes)[:, None]
    c1 = rng.integers(1, primes, size=(parameters.chunks, len(primes), parameters.degree)).astype(np.uint32)
    return Contributor(client=ClientId(name), nonce=rng.bytes(32), root_c0=Digest(rng.bytes(32)), c1=c1)


def round_plan(ceremony: CeremonyPlan, key_id: KeyId) -> RoundPlan:
    """Return the plan of the round that the key was made for."""
    return RoundPlan(spec=ceremony.spec, round=ceremony.round, protocol=CkksRound(key_id=key_id, group=ceremony.group))


def join_of(plan: RoundPlan, one: Contributor) -> Join:
    commitment = transcript.ciphertext_commitment(
        plan_digest=plan.digest,
        key_id=plan.ckks.key_id,
        client=one.client,
        nonce=one.nonce,
        root_c0=one.root_c0,
        root_c1=one.half.root,
    )
    return Join(plan_digest=plan.digest, client=one.client, commitment=commitment)


def upload_of(plan: RoundPlan, roster_digest: Digest, one: Contributor) -> Upload:
    parameters = plan.parameters
    return Upload(
        plan_digest=plan.digest,
        roster_digest=roster_digest,
        client=one.client,
        nonce=one.nonce,
        parameters_digest=Digest(parameters.digest()),
        level=len(parameters.data_primes),
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=one.root_c0,
        root_c1=one.half.root,
    )


def request_of(plan: RoundPlan, contributors: Sequence[Contributor], *, absent: Sequence[Contributor] = ()) -> Request:
    """Return the request of an honest coordinator; `absent` joined and did not upload."""
    everyone = sorted([*contributors, *absent], key=lambda one: one.client)
    joins = [join_of(plan, one) for one in everyone]
    roster = sealed(plan, tuple(signed(join) for join in joins))
    digest = transcript.roster_digest(plan.digest, joins)
    ordered = sorted(contributors, key=lambda one: one.client)
    uploads = tuple(signed(upload_of(plan, digest, one)) for one in ordered)
    return Request(plan=plan, roster=roster, uploads=uploads)


def sealed(plan: RoundPlan, joins: tuple[Authenticated[Join], ...]) -> FrozenRoster:
    """Return a roster with the seals of a quorum."""
    digest = transcript.roster_digest(plan.digest, [one.message for one in joins])
    return FrozenRoster(plan_digest=plan.digest, joins=joins, seals=seals_of(plan, digest))


def seals_of(
    plan: RoundPlan, digest: Digest, holders: Iterable[HolderId] | None = None, **changes: Any
) -> tuple[Authenticated[RosterSeal], ...]:
    """Return these holders' seals of a roster: a quorum's, if none are named."""
    group, key_id = plan.ckks.group, plan.ckks.key_id
    return tuple(
        signed(replace(RosterSeal(key_id=key_id, roster_digest=digest, holder=holder), **changes))
        for holder in (group.holders[: group.quorum] if holders is None else holders)
    )


def approvals_of(key_id: KeyId, digest: Digest, holders: Iterable[HolderId]) -> tuple[Authenticated[Approval], ...]:
    return tuple(signed(Approval(key_id=key_id, request_digest=digest, holder=holder)) for holder in holders)


def random_key_id() -> KeyId:
    return KeyId(secrets.token_bytes(32))
