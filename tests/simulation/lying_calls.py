"""What a lying coordinator tells key holders: other requests than there are, messages of elsewhere, everything twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import DealingBundle, Hello, KeyCommitment, KeyStatement, TrialBundle
from secagg.messages.round import Approval, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan
from tests.simulation.coordinator_lies import CoordinatorFate
from tests.simulation.holder_calls import HolderCalls
from tests.simulation.network import REFUSALS
from tests.simulation.round_material import client_party, signed_by

T = TypeVar("T")
Asked = tuple[ApprovalRequest, list[ContributorPart]]
CAMPAIGN_TRIES = 4
_OPENS_MORE = (CoordinatorFate.SPLITS_SETS, CoordinatorFate.ASKS_TWICE, CoordinatorFate.ASKS_FOR_ONE)


@dataclass
class Loot:
    """What the liar collected.

    Attributes:
        approvals: by request.
        heard: what holders said in other ceremonies, by kind and holder.
        tasks: what the liar is about.
    """

    approvals: dict[Digest, dict[HolderId, Authenticated[Approval]]] = field(default_factory=dict)
    heard: dict[tuple[type, HolderId], Authenticated[Any]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class LyingCalls(HolderCalls):
    """Asks a holder for something else, and tries to have every request answered that it ever had approved."""

    def lie(self, fate: CoordinatorFate, seed: int, everyone: Sequence[HolderCalls], loot: Loot) -> None:
        self._fate, self._everyone, self._loot = fate, everyone, loot
        self._draws = random.Random(f"{seed}/lies/{self.holder}")

    def _later(self, attempt: Callable[[], Awaitable[Any]]) -> None:
        """Try something beside what is due, within half a minute; an honest holder's refusal is what the invariants want."""

        async def tried(seconds: float) -> None:
            await asyncio.sleep(seconds)
            await _tried(attempt())

        task = asyncio.ensure_future(tried(self._draws.uniform(0.0, 30.0)))
        self._loot.tasks.add(task)
        task.add_done_callback(self._loot.tasks.discard)

    # the ceremony

    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Authenticated[Hello]:
        if self._fate is CoordinatorFate.BENDS_CEREMONY:
            for _ in range(2):
                self._later(lambda: super(LyingCalls, self).begin_ceremony(plan, timeout_seconds=timeout_seconds))
        return await super().begin_ceremony(plan, timeout_seconds=timeout_seconds)

    async def commit_key(
        self, ceremony: Digest, hellos: Sequence[Authenticated[Hello]], *, timeout_seconds: float
    ) -> Authenticated[KeyCommitment]:
        ask = super().commit_key
        return await self._twice(hellos, lambda shown: ask(ceremony, shown, timeout_seconds=timeout_seconds))

    async def deal_shares(
        self, ceremony: Digest, commitments: Sequence[Authenticated[KeyCommitment]], *, timeout_seconds: float
    ) -> DealingBundle:
        ask = super().deal_shares
        return await self._twice(commitments, lambda shown: ask(ceremony, shown, timeout_seconds=timeout_seconds))

    async def try_key(
        self, ceremony: Digest, dealings: Sequence[DealingBundle], *, timeout_seconds: float
    ) -> TrialBundle:
        return await super().try_key(ceremony, self._bent(dealings), timeout_seconds=timeout_seconds)

    async def certify_key(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> tuple[Authenticated[KeyStatement], bytes]:
        if self._fate is CoordinatorFate.BENDS_CEREMONY:
            ask = super().open_seed
            self._later(lambda: ask(ceremony, trials, timeout_seconds=timeout_seconds))
            self._later(lambda: ask(ceremony, self._bent(trials), timeout_seconds=timeout_seconds))
        return await super().certify_key(ceremony, self._bent(trials), timeout_seconds=timeout_seconds)

    async def _twice(self, relayed: Sequence[Any], ask: Callable[[Sequence[Any]], Awaitable[T]]) -> T:
        """Ask as is due, or bent; and once more with what a holder said in another ceremony, to have it called faulty."""
        if self._fate is not CoordinatorFate.BENDS_CEREMONY:
            return await ask(relayed)
        answer = await ask(self._bent(relayed))
        framed = [self._loot.heard.get((type(one.message), one.message.holder), one) for one in relayed]
        await _tried(
            ask(
                [
                    own if own.message.holder == self.holder else other
                    for own, other in zip(relayed, framed, strict=True)
                ]
            )
        )
        for one in relayed:
            self._loot.heard.setdefault((type(one.message), one.message.holder), one)
        return answer

    def _bent(self, relayed: Sequence[Any]) -> Sequence[Any]:
        if self._fate is not CoordinatorFate.BENDS_CEREMONY or self._draws.random() < 0.9:
            return relayed
        shown = list(relayed)
        one = self._draws.randrange(len(shown))
        match self._draws.randrange(3):
            case 0:
                del shown[one]
            case 1:
                shown[one], shown[one - 1] = shown[one - 1], shown[one]
            case _:
                shown[one] = _altered(shown[one], shown[one - 1])
        return shown

    # the opening

    async def approve(
        self, request: ApprovalRequest, parts: AsyncIterator[ContributorPart], *, timeout_seconds: float
    ) -> Authenticated[Approval]:
        due = request, [part async for part in parts]
        if self._fate in _OPENS_MORE:
            for _ in range(CAMPAIGN_TRIES):
                self._later(lambda: self._campaign(due, timeout_seconds))
        return await self._approved(self._bent_request(due), timeout_seconds)

    async def _approved(self, asked: Asked, seconds: float) -> Authenticated[Approval]:
        request, parts = asked
        approval = await super().approve(request, _streamed(parts), timeout_seconds=seconds)
        self._loot.approvals.setdefault(approval.message.request_digest, {})[self.holder] = approval
        return approval

    async def _campaign(self, due: Asked, seconds: float) -> None:
        """Have one set or another approved, and ask everybody to answer everything with whatever approvals there are."""
        await _tried(self._approved(due if self._draws.random() < 0.5 else self._fewer(due), seconds))
        for digest, approvals in tuple(self._loot.approvals.items()):
            shown = tuple(approvals.values())
            request = DecryptionRequest(key_id=shown[0].message.key_id, request_digest=digest, approvals=shown)
            for calls in self._everyone:
                await _tried(anext(calls.decrypt(request, timeout_seconds=seconds)))

    def _fewer(self, due: Asked) -> Asked:
        return _left(due, 1 if self._fate is CoordinatorFate.ASKS_FOR_ONE else len(due[0].uploads) - 1)

    def _bent_request(self, due: Asked) -> Asked:
        request, parts = due
        match self._fate:
            case CoordinatorFate.SPLITS_SETS if self._draws.random() < 0.5:
                return self._fewer(due)
            case CoordinatorFate.ASKS_FOR_ONE:
                return self._fewer(due)
            case CoordinatorFate.SWAPS_C1:
                return request, [replace(parts[0], data=parts[1].data), *parts[1:]]
            case CoordinatorFate.REPLAYS_UPLOAD:
                return replace(request, uploads=(_of_yesterday(request.uploads[0]), *request.uploads[1:])), parts
        return due

    async def end_round(self, ceremony: Digest, *, timeout_seconds: float) -> None:
        """Say nothing: what a holder gives away after its round would be the liar's."""


async def _tried(attempt: Awaitable[Any]) -> None:
    try:
        await attempt
    except REFUSALS:
        return


def _altered(shown: Any, other: Any) -> Any:
    match shown:
        case DealingBundle():
            return replace(shown, sealed=other.sealed)
        case TrialBundle():
            return replace(shown, answer=other.answer)
    return other


def _left(due: Asked, count: int) -> Asked:
    request, parts = due
    return replace(request, uploads=request.uploads[:count]), [part for part in parts if part.contributor < count]


def _of_yesterday(upload: Authenticated[Upload]) -> Authenticated[Upload]:
    """Return what the client would have signed for another round."""
    return signed_by(client_party(upload.message.client), replace(upload.message, plan_digest=Digest(bytes(32))))


async def _streamed(parts: Sequence[ContributorPart]) -> AsyncIterator[ContributorPart]:
    for part in parts:
        yield part
