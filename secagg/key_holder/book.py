"""Every round that a key holder has a part in, from its ceremony to the destruction of its share.

An effect is carried out before the state changes and before anything is sent: what cannot be stored did not happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from he.errors import FormatError
from he.key_share import KeyShare
from secagg import codec
from secagg.errors import BusyError, MessageError, NotFoundError, SecAggError, StorageError, WrongPhaseError
from secagg.ids import Digest, HolderId, KeyId
from secagg.key_holder.contributions import SumOfC1
from secagg.key_holder.store import HolderStore, StoredShare
from secagg.key_holder.vault import ShareVault
from secagg.plan import CeremonyPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony, opening
from secagg.roles.key_holder.events import CeremonyEnded, SealShare
from secagg.roles.key_holder.opening import (
    DestroyShare,
    Expired,
    OpeningEvent,
    OpeningState,
    OpeningStep,
    RecordInLedger,
    RecordRoster,
    RoundEnded,
)
from secagg.roles.key_holder.state import CeremonyState, Ended

EXPIRY_RETRY_SECONDS: Final = 5.0

_log: Final = structlog.get_logger("secagg.key_holder")
T = TypeVar("T")


@dataclass(kw_only=True)
class HeldRound:
    """One ceremony and, once it is certified, the use of its key.

    Attributes:
        ceremony_digest: which ceremony.
        begun_at, expires_at: seconds since the epoch.
        ceremony: where the ceremony stands; `Ended` after a restart, when only the key is left of it.
        opening: the use of the key, once it is certified.
        share: this holder's share of the key, until it is destroyed.
        total: the sum of c1 that was approved.
        stepping: held for one step of either machine.
        approving: held while contributions are read.
    """

    ceremony_digest: Digest
    begun_at: float
    expires_at: float
    ceremony: CeremonyState
    opening: OpeningState | None = None
    share: KeyShare | None = field(default=None, repr=False)
    total: SumOfC1 | None = None
    stepping: asyncio.Lock = field(default_factory=asyncio.Lock)
    approving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> OpeningState:
        """The use of the key; `WrongPhaseError` before it is certified."""
        if self.opening is None:
            raise WrongPhaseError("this key is not certified")
        return self.opening


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a key holder takes on.

    Attributes:
        max_rounds: rounds under way at a time.
        max_sums: sums in memory at a time.
        max_round_seconds: the longest life of a round.
        slack_seconds: how long after its last deadline a share is kept: clocks differ, and the coordinator's own end may
            be on its way.
    """

    max_rounds: int
    max_sums: int
    max_round_seconds: float
    slack_seconds: float = 60.0


class RoundBook:
    """Holds rounds, restores them, ends them; its coroutines belong to one event loop.

    Args:
        holder: this key holder.
        policy: the weakest plan that it serves.
        limits: how much it takes on.
        store: ledger and sealed shares.
        vault: seals shares.
        executor: where everything is computed and stored.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        holder: HolderId,
        policy: HolderPolicy,
        limits: Limits,
        store: HolderStore,
        vault: ShareVault,
        executor: Executor,
        clock: Callable[[], float],
    ) -> None:
        self.holder = holder
        self.policy = policy
        self.limits = limits
        self.store = store
        self.clock = clock
        self._vault = vault
        self._executor = executor
        self._rounds: dict[Digest, HeldRound] = {}
        self._changed = asyncio.Event()

    @property
    def rounds(self) -> tuple[HeldRound, ...]:
        """Every round under way."""
        return tuple(self._rounds.values())

    @property
    def shares(self) -> int:
        """Shares that are not destroyed."""
        return sum(held.share is not None for held in self._rounds.values())

    def find(self, ceremony_digest: Digest) -> HeldRound | None:
        """Return the round of a ceremony, if it is under way."""
        return self._rounds.get(ceremony_digest)

    def of_key(self, key_id: KeyId) -> HeldRound:
        """Return the round of a key whose share is held; `NotFoundError` for every other key."""
        for held in self._rounds.values():
            if held.share is not None and held.opening is not None and held.opening.key_id == key_id:
                return held
        advice = "It was destroyed after its round, or never made here; a new round makes a new key"
        raise NotFoundError("this key holder has no share of that key", next_step=advice)

    def hold(self, held: HeldRound) -> None:
        """Take a round in; `BusyError` when there are too many."""
        if held.ceremony_digest not in self._rounds and len(self._rounds) >= self.limits.max_rounds:
            raise BusyError(f"this key holder takes part in {self.limits.max_rounds} rounds at a time")
        self._rounds[held.ceremony_digest] = held
        self._changed.set()

    def drop(self, held: HeldRound) -> None:
        """Forget a round of which nothing is to be kept."""
        self._rounds.pop(held.ceremony_digest, None)

    def run(self, function: Callable[..., T], *arguments: object) -> Awaitable[T]:
        """Compute or store something off the event loop."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def seal(self, held: HeldRound, effect: SealShare) -> None:
        """Put a share on disk, sealed, and hold it; its life is that of the round from now on."""
        key_id = KeyId(effect.share.key_id)
        expires_at = held.begun_at + effect.plan.spec.longest_seconds + self.limits.slack_seconds
        stored = StoredShare(
            key_id=key_id,
            ceremony_digest=held.ceremony_digest,
            ceremony_plan=codec.ceremony_plan_to_bytes(effect.plan),
            sealed_share=self._vault.seal(effect.share.to_bytes(), _sealing_context(key_id, held.ceremony_digest)),
            begun_at=held.begun_at,
            expires_at=expires_at,
        )
        await self.run(self.store.save_share, stored)
        held.share, held.expires_at = effect.share, expires_at
        held.opening = OpeningState(holder=self.holder, policy=self.policy, ceremony=effect.plan, key_id=key_id)
        self._changed.set()

    async def restore(self) -> int:
        """Take up the shares that lie on disk; destroy those that expired; return how many are in use."""
        for stored in await self.run(self.store.shares):
            if stored.expires_at <= self.clock():
                await self.run(self.store.destroy_share, stored.key_id)
            else:
                await self._restore_share(stored)
        return self.shares

    async def _restore_share(self, stored: StoredShare) -> None:
        """Take up one share; one that is damaged is of no use, and must not keep the others from theirs."""
        try:
            self._rounds[stored.ceremony_digest] = await self.run(self._opened, stored)
        except (StorageError, MessageError, FormatError) as error:
            _log.error("a stored key cannot be used", key=stored.key_id.hex(), cause=str(error))

    def _opened(self, stored: StoredShare) -> HeldRound:
        plan: CeremonyPlan = codec.ceremony_plan_from_bytes(stored.ceremony_plan)
        data = self._vault.open(stored.sealed_share, _sealing_context(stored.key_id, stored.ceremony_digest))
        state = OpeningState(
            holder=self.holder,
            policy=self.policy,
            ceremony=plan,
            key_id=stored.key_id,
            roster=self.store.roster(stored.key_id),
            approved=self.store.approval(stored.key_id),
        )
        return HeldRound(
            ceremony_digest=stored.ceremony_digest,
            begun_at=stored.begun_at,
            expires_at=stored.expires_at,
            ceremony=Ended(),
            opening=state,
            share=KeyShare.from_bytes(plan.parameters, data),
        )

    async def open_step(self, held: HeldRound, event: OpeningEvent, *, total: SumOfC1 | None = None) -> OpeningStep:
        """Take one step of the use of a key; its effects on disk are done when this returns."""
        async with held.stepping:
            taken: OpeningStep = await self.run(opening.step, held.key, event)
            for effect in taken.effects:
                if isinstance(effect, RecordRoster | RecordInLedger):
                    await self._record(effect)
                elif isinstance(effect, DestroyShare):
                    await self._destroy(held, effect.key_id)
            held.opening = taken.state
            held.total = total or held.total
        return taken

    async def _record(self, effect: RecordRoster | RecordInLedger) -> None:
        at = self.clock()
        if isinstance(effect, RecordRoster):
            await self.run(lambda: self.store.record_roster(effect.key_id, effect.roster_digest, at=at))
        else:
            await self.run(lambda: self.store.record_approval(effect.key_id, effect.request_digest, at=at))

    async def _destroy(self, held: HeldRound, key_id: KeyId) -> None:
        held.share = held.total = None
        await self.run(self.store.destroy_share, key_id)
        _log.info("key share destroyed", key=key_id.hex())

    async def end(self, ceremony_digest: Digest, event: RoundEnded | Expired) -> None:
        """End a round wherever it stands; its share is destroyed. A round that is not held is over already."""
        held = self._rounds.get(ceremony_digest)
        if held is None:
            return
        if held.opening is not None:
            await self.open_step(held, event)
        async with held.stepping:
            held.ceremony = ceremony.step(held.ceremony, CeremonyEnded()).state
        self.drop(held)

    async def expire_for_ever(self) -> None:
        """End every round when its time is over, until this is cancelled."""
        while True:
            ended = [await self._expire(held) for held in self.rounds if held.expires_at <= self.clock()]
            await self._wait_for_change(self._seconds_to_next() if all(ended) else EXPIRY_RETRY_SECONDS)

    async def _expire(self, held: HeldRound) -> bool:
        """End one round; a store that fails now may not fail later, so the others must not wait for it."""
        try:
            await self.end(held.ceremony_digest, Expired())
        except SecAggError as error:
            _log.error("an expired round could not be ended", cause=str(error))
            return False
        _log.info("round expired", ceremony=held.ceremony_digest.hex())
        return True

    def _seconds_to_next(self) -> float | None:
        return min((max(held.expires_at - self.clock(), 0.0) for held in self.rounds), default=None)

    async def _wait_for_change(self, seconds: float | None) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def _sealing_context(key_id: KeyId, ceremony_digest: Digest) -> bytes:
    return b"secagg/v1/key-share" + key_id + ceremony_digest
