"""A key ceremony of two real holders and a corrupt one that a test plays; what is relayed to whom is the test's choice."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from coordinator.rounds.holders import HolderClient
from secagg.ids import HolderId
from secagg.messages.ceremony import DealingBundle, Hello, KeyCommitment, TrialBundle
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
)
from secagg.roles.key_holder.state import CeremonyState, New
from tests.holder_material import ceremony_plan, job_spec
from tests.holder_processes import HolderProcesses
from tests.lying_coordinator import SECONDS, asked, signed_by

HOLDERS = NORTH, EAST, SOUTH = tuple(HolderId(name) for name in ("north", "east", "south"))
SPEC = job_spec(3, 2, min_contributors=3)
_rounds = count(1)


def step(state: CeremonyState, event: CeremonyEvent) -> tuple[CeremonyState, Reply]:
    taken = ceremony.step(state, event)
    reply = taken.effects[-1]
    assert isinstance(reply, Reply)
    return taken.state, reply


def for_one(dealings: Sequence[DealingBundle], receiver: HolderId) -> tuple[DealingBundle, ...]:
    return tuple(replace(one, sealed={receiver: one.sealed[receiver]}) for one in dealings)


@dataclass(kw_only=True)
class Ceremony:
    """A ceremony as far as the test took it; what south says to whom is the test's to choose."""

    holders: HolderProcesses
    calls: dict[HolderId, HolderClient]
    plan: CeremonyPlan = field(default_factory=lambda: ceremony_plan(SPEC, round=next(_rounds)))
    south: CeremonyState = field(default_factory=lambda: New(holder=SOUTH, policy=HolderPolicy()))
    statements: list[Any] = field(default_factory=list)

    def sign(self, message: Any) -> Authenticated[Any]:
        return signed_by(self.holders.holder(SOUTH), message)

    def south_says(self, event: CeremonyEvent) -> Reply:
        self.south, reply = step(self.south, event)
        return reply

    async def hello(self, holder: HolderId) -> Authenticated[Hello]:
        return await asked(self.calls[holder].begin_ceremony(self.plan, timeout_seconds=SECONDS))

    async def commit(self, holder: HolderId, hellos: Sequence[Authenticated[Hello]]) -> Authenticated[KeyCommitment]:
        return await asked(self.calls[holder].commit_key(self.plan.digest, hellos, timeout_seconds=SECONDS))

    async def deal(self, holder: HolderId, commitments: Sequence[Authenticated[KeyCommitment]]) -> DealingBundle:
        return await asked(self.calls[holder].deal_shares(self.plan.digest, commitments, timeout_seconds=SECONDS))

    async def attempt(self, holder: HolderId, dealings: Sequence[DealingBundle]) -> TrialBundle:
        shown = for_one(dealings, holder)
        return await asked(self.calls[holder].try_key(self.plan.digest, shown, timeout_seconds=SECONDS))

    async def certify(self, holder: HolderId, trials: Sequence[TrialBundle]) -> bytes:
        call = self.calls[holder].certify_key(self.plan.digest, trials, timeout_seconds=SECONDS)
        statement, b = await asked(call)
        self.statements.append(statement)
        return b

    async def open_seed(self, holder: HolderId, trials: Sequence[TrialBundle]) -> Any:
        return await asked(self.calls[holder].open_seed(self.plan.digest, trials, timeout_seconds=SECONDS))

    def begin_south(self) -> Authenticated[Hello]:
        return self.sign(self.south_says(BeginCeremony(plan=self.plan, seed=secrets.token_bytes(32))).message)

    async def hellos(self) -> tuple[Authenticated[Hello], ...]:
        return (await self.hello(NORTH), await self.hello(EAST), self.begin_south())

    async def commitments(self) -> tuple[Authenticated[KeyCommitment], ...]:
        hellos = await self.hellos()
        south = self.sign(self.south_says(HellosReceived(hellos=hellos)).message)
        return (await self.commit(NORTH, hellos), await self.commit(EAST, hellos), south)

    def deal_south(self, commitments: tuple[Authenticated[KeyCommitment], ...]) -> DealingBundle:
        reply = self.south_says(CommitmentsReceived(commitments=commitments))
        return DealingBundle(dealing=self.sign(reply.message), sealed=reply.sealed)

    async def dealings(self) -> tuple[DealingBundle, ...]:
        commitments = await self.commitments()
        honest = [await self.deal(holder, commitments) for holder in (NORTH, EAST)]
        return (*honest, self.deal_south(commitments))

    def try_south(self, dealings: Sequence[DealingBundle]) -> TrialBundle:
        reply = self.south_says(DealingsReceived(dealings=for_one(dealings, SOUTH)))
        return TrialBundle(trial=self.sign(reply.message), answer=reply.attachment)

    async def trials(self) -> tuple[TrialBundle, ...]:
        dealings = await self.dealings()
        honest = [await self.attempt(holder, dealings) for holder in (NORTH, EAST)]
        return (*honest, self.try_south(dealings))

    def wrong(self, bundle: TrialBundle) -> TrialBundle:
        """Return south's trial with another answer, signed like the true one."""
        answer = bundle.answer[:-1] + bytes([bundle.answer[-1] ^ 1])
        trial = replace(bundle.trial.message, answer_digest=hashlib.sha256(answer).digest())
        return TrialBundle(trial=self.sign(trial), answer=answer)

    def verify_no_key(self) -> None:
        """North and east keep no share, and vouched for nothing."""
        assert self.statements == []
        assert self.holders.shares(NORTH) == self.holders.shares(EAST) == []
