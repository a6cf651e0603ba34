"""The coordinator's end of the way to each key holder: everything is carried by the network, and read with care."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from secagg.errors import FaultyKeyHolderError, RemoteError, UnreachableError
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import (
    Dealing,
    DealingBundle,
    Hello,
    KeyCommitment,
    KeyStatement,
    SeedOpening,
    Trial,
    TrialBundle,
    Verdict,
)
from secagg.messages.round import Approval, FrozenRoster, PartialStatement, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.roles.key_holder.events import (
    BlameAsked,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.opening import RoundEnded
from tests.simulation.holder_nodes import HolderNode
from tests.simulation.network import REFUSALS, Link
from tests.simulation.round_material import read, read_all


class HolderCalls:
    """The coordinator's end of the way to one holder (`coordinator.rounds.calls.KeyHolderCalls`)."""

    def __init__(self, node: HolderNode, link: Link) -> None:
        self._node = node
        self._link = link

    @property
    def holder(self) -> HolderId:
        return self._node.holder

    async def _ask(self, handler: Callable[[], Awaitable[Any]], seconds: float) -> Any:
        try:
            return await self._link.call(handler, timeout_seconds=seconds)
        except UnreachableError:
            raise
        except REFUSALS as error:
            raise RemoteError(f"key holder {self.holder}", f"it refused: {error}") from error

    async def _step(self, ceremony: Digest, event: CeremonyEvent, kind: type, seconds: float) -> Any:
        said, reply = await self._ask(lambda: self._node.step(ceremony, event), seconds)
        return self._read(said, kind), reply

    def _read(self, said: Authenticated[Any], kind: type) -> Authenticated[Any]:
        try:
            return read(said.signed, kind)
        except REFUSALS as error:
            raise FaultyKeyHolderError(self.holder, str(error)) from error

    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Authenticated[Hello]:
        said, _ = await self._ask(lambda: self._node.begin(plan), timeout_seconds)
        return self._read(said, Hello)

    async def commit_key(
        self, ceremony: Digest, hellos: Sequence[Authenticated[Hello]], *, timeout_seconds: float
    ) -> Authenticated[KeyCommitment]:
        event = HellosReceived(hellos=read_all(tuple(hellos), Hello))
        said, _ = await self._step(ceremony, event, KeyCommitment, timeout_seconds)
        return said  # type: ignore[no-any-return]

    async def deal_shares(
        self, ceremony: Digest, commitments: Sequence[Authenticated[KeyCommitment]], *, timeout_seconds: float
    ) -> DealingBundle:
        event = CommitmentsReceived(commitments=read_all(tuple(commitments), KeyCommitment))
        said, reply = await self._step(ceremony, event, Dealing, timeout_seconds)
        return DealingBundle(dealing=said, sealed=reply.sealed)

    async def try_key(
        self, ceremony: Digest, dealings: Sequence[DealingBundle], *, timeout_seconds: float
    ) -> TrialBundle:
        event = DealingsReceived(dealings=_dealings(dealings))
        said, reply = await self._step(ceremony, event, Trial, timeout_seconds)
        return TrialBundle(trial=said, answer=reply.attachment)

    async def certify_key(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> tuple[Authenticated[KeyStatement], bytes]:
        event = TrialsReceived(trials=_trials(trials))
        said, reply = await self._step(ceremony, event, KeyStatement, timeout_seconds)
        return said, reply.attachment

    async def open_seed(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> Authenticated[SeedOpening]:
        event = SeedAsked(trials=_trials(trials))
        said, _ = await self._step(ceremony, event, SeedOpening, timeout_seconds)
        return said  # type: ignore[no-any-return]

    async def lay_blame(
        self,
        ceremony: Digest,
        openings: Sequence[Authenticated[SeedOpening]],
        dealings: Sequence[DealingBundle],
        *,
        timeout_seconds: float,
    ) -> Authenticated[Verdict]:
        event = BlameAsked(openings=read_all(tuple(openings), SeedOpening), dealings=_dealings(dealings))
        said, _ = await self._step(ceremony, event, Verdict, timeout_seconds)
        return said  # type: ignore[no-any-return]

    async def seal_roster(
        self, plan: RoundPlan, roster: FrozenRoster, *, timeout_seconds: float
    ) -> Authenticated[RosterSeal]:
        said = await self._ask(lambda: self._node.seal(plan, roster), timeout_seconds)
        return self._read(said, RosterSeal)

    async def approve(
        self, request: ApprovalRequest, parts: AsyncIterator[ContributorPart], *, timeout_seconds: float
    ) -> Authenticated[Approval]:
        shown = [part async for part in parts]
        said = await self._ask(lambda: self._node.approve(request, shown), timeout_seconds)
        return self._read(said, Approval)

    async def decrypt(
        self, request: DecryptionRequest, *, timeout_seconds: float
    ) -> AsyncIterator[bytes | Authenticated[PartialStatement]]:
        for part in await self._ask(lambda: self._node.decrypt(request), timeout_seconds):
            yield part if isinstance(part, bytes) else self._read(part, PartialStatement)

    async def end_round(self, ceremony: Digest, *, timeout_seconds: float) -> None:
        await self._ask(lambda: self._node.book.end(ceremony, RoundEnded()), timeout_seconds)


def _dealings(bundles: Sequence[DealingBundle]) -> tuple[DealingBundle, ...]:
    return tuple(DealingBundle(dealing=read(one.dealing.signed, Dealing), sealed=one.sealed) for one in bundles)


def _trials(bundles: Sequence[TrialBundle]) -> tuple[TrialBundle, ...]:
    return tuple(TrialBundle(trial=read(one.trial.signed, Trial), answer=one.answer) for one in bundles)
