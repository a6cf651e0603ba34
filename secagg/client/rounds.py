"""A client's rounds: one that its update goes to, and the plan of the next one. Loaded with the first of them.

A program imports the SDK long before it has an update, so `secagg.client.asynchronous` leaves all this until then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from secagg.client.calls import Coordinator, Limit
from secagg.client.exchange import Submission
from secagg.client.keeping import Keeping, KeepingNothing, KeepingOnDisk
from secagg.client.offers import await_offer
from secagg.client.participation import Participation, Storage
from secagg.client.progress import ProgressCallback, RoundResult
from secagg.client.spool import CiphertextSpool
from secagg.client.updates import Update
from secagg.coordinators import Channels
from secagg.identity import Party
from secagg.ids import ClientId, JobId
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.tls_identity import TlsIdentity


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What rounds need of a client; the attributes are the arguments of `secagg.client.AsyncClient`.

    Attributes:
        channels: to every address of the coordinator.
        coordinator: whom its certificate must name.
    """

    channels: Channels
    coordinator: Party
    identity: TlsIdentity
    policy: ClientPolicy
    spool_dir: Path | None
    state_dir: Path | None
    silence_seconds: float

    async def participate(
        self,
        job: JobId,
        update: Update,
        weight: float,
        *,
        after_round: int,
        progress: ProgressCallback | None,
        join_timeout_seconds: float,
    ) -> RoundResult:
        """Submit an update to one round; as `AsyncClient.participate`."""
        submission = Submission(
            job=job,
            update=update,
            weight=weight,
            after_round=after_round,
            join_timeout_seconds=join_timeout_seconds,
            progress=progress,
        )
        storage = Storage(spool=partial(CiphertextSpool, self.spool_dir), keeping=self._keeping(job))
        return await Participation(self._called(), self.identity, self.policy, storage, submission).run()

    async def next_plan(self, job: JobId, *, after_round: int, join_timeout_seconds: float) -> RoundPlan:
        """Return the plan of the next round; as `AsyncClient.next_plan`."""
        begun = rules.begin(
            client=ClientId(self.identity.party.name),
            coordinator=self.coordinator,
            policy=self.policy,
            job=job,
            after_round=after_round,
        )
        limit = Limit(join_timeout_seconds)
        offered = await await_offer(self._called(), self.identity.trust, job=job, after_round=after_round, limit=limit)
        await asyncio.to_thread(rules.step, begun.state, offered)
        return offered.plan

    def _keeping(self, job: JobId) -> Keeping:
        if self.state_dir is None:
            return KeepingNothing(self.spool_dir)
        return KeepingOnDisk(self.state_dir, job=job, client=self.identity.party, coordinator=self.coordinator)

    def _called(self) -> Coordinator:
        return Coordinator(self.channels, self.coordinator, self.silence_seconds)
