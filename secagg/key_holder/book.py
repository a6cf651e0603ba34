"""Every round that a key holder has a part in, from its ceremony to the destruction of its share.

An effect is carried out before the state changes and before anything is sent: what cannot be stored did not happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

import structlog

from he.errors import FormatError
from he.key_share import KeyShare
from secagg import codec
from secagg.errors import BusyError, MessageError, NotFoundError, PolicyError, SecAggError, StorageError
from secagg.ids import Digest, HolderId, KeyId
from secagg.key_holder.contributions import SumOfC1
from secagg.key_holder.held_round import HeldRound, Limits
from secagg.key_holder.store import HolderStore, StoredShare
from secagg.key_holder.vault import ShareVault
from secagg.plan import CeremonyPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony, opening
from secagg.roles.key_holder.events import CeremonyEnded, SealShare
from secagg.roles.key_holder.opening import (
    DestroyShare,
    Expired,
    KeepSum,
    OpeningEffect,
    OpeningEvent,
    OpeningPhase,
    OpeningState,
    OpeningStep,
    RecordInLedger,
    RecordRoster,
    RoundEnded,
)
from secagg.roles.key_holder.state import Ended

EXPIRY_RETRY_SECONDS: Final = 5.0
FINISH_SECONDS: Final = 10.0
"""How long a step that stores something may go on after its caller went away and the service ends."""

_log: Final = structlog.get_logger("secagg.key_holder")
T = TypeVar("T")


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
        self._steps: set[asyncio.Task[Any]] = set()

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
        advice = (
            "It was destroyed after its round, given up in a restore, or never made here; a new round makes a new key"
        )
        raise NotFoundError("this key holder has no share of that key", next_step=advice)

    def hold(self, held: HeldRound) -> None:
        """Take a round in; `BusyError` when there are too many."""
        if held.ceremony_digest not in self._rounds and len(self._rounds) >= self.limits.max_rounds:
            raise BusyError(f"this key holder takes part in {self.limits.max_rounds} rounds at a time")
        self._rounds[held.ceremony_digest] = held
        self._changed.set()

    def drop(self, held: HeldRound) -> None:
        """Forget a round of which nothing is to be kept."""
        if self._rounds.get(held.ceremony_digest) is held:
            del self._rounds[held.ceremony_digest]

    def run(self, function: Callable[..., T], *arguments: object) -> Awaitable[T]:
        """Compute or store something off the event loop."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def to_end(self, step: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Take a step to its end even if its caller goes away: what was stored must be known here, for who asks again."""
        task = asyncio.ensure_future(step)
        self._steps.add(task)
        task.add_done_callback(self._settled)
        return asyncio.shield(task)

    def _settled(self, step: asyncio.Task[Any]) -> None:
        self._steps.discard(step)
        if not step.cancelled():
            step.exception()  # looked at here, since whoever asked may be gone

    async def finish(self) -> None:
        """Wait until no step is under way, 10 s at the most."""
        if self._steps:
            await asyncio.wait(self._steps, timeout=FINISH_SECONDS)

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
        """Take up the shares and sums that lie on disk; destroy those that expired; return how many shares are in use."""
        shares = await self.run(self.store.shares)
        await self.run(self.store.sums.sweep, {stored.key_id for stored in shares})
        for stored in shares:
            if stored.expires_at <= self.clock() or stored.wiped:
                await self.run(self.store.destroy_share, stored.key_id)
            else:
                await self._restore_share(stored)
        await self._purge()
        return self.shares

    async def _restore_share(self, stored: StoredShare) -> None:
        """Take up one share; one that is damaged is of no use, and must not keep the others from theirs."""
        try:
            self._rounds[stored.ceremony_digest] = await self.run(self._opened, stored)
        except (StorageError, MessageError, FormatError) as error:
            _log.error("a stored key cannot be used", key=stored.key_id.hex(), cause=str(error))
        except PolicyError as error:
            _log.warning("a stored key is not used any more", key=stored.key_id.hex(), cause=error.reason)
            await self.run(self.store.destroy_share, stored.key_id)

    def _opened(self, stored: StoredShare) -> HeldRound:
        plan: CeremonyPlan = codec.ceremony_plan_from_bytes(stored.ceremony_plan)
        # A key of a plan that was good enough for an older version, or under the policy that was in force when it was made.
        self.policy.check_ceremony(plan)
        data = self._vault.open(stored.sealed_share, _sealing_context(stored.key_id, stored.ceremony_digest))
        digest, approved = self.store.sum_digest(stored.key_id), self.store.approval(stored.key_id)
        total = None if digest is None else self.store.sums.find(stored.key_id, plan.parameters, digest)
        state = OpeningState(
            holder=self.holder,
            policy=self.policy,
            ceremony=plan,
            key_id=stored.key_id,
            phase=OpeningPhase.CERTIFIED if total is None else OpeningPhase.APPROVED,
            roster=self.store.roster(stored.key_id),
            approved=approved,
        )
        return HeldRound(
            ceremony_digest=stored.ceremony_digest,
            begun_at=stored.begun_at,
            expires_at=stored.expires_at,
            ceremony=Ended(),
            opening=state,
            share=KeyShare.from_bytes(plan.parameters, data),
            total=total,
        )

    async def open_step(self, held: HeldRound, event: OpeningEvent, *, total: SumOfC1 | None = None) -> OpeningStep:
        """Take one step of the use of a key; its effects on disk are done when this returns."""
        return await self.to_end(self._open_step(held, event, total))

    async def _open_step(self, held: HeldRound, event: OpeningEvent, total: SumOfC1 | None) -> OpeningStep:
        async with held.stepping:
            return await self._take(held, event, total)

    async def _take(self, held: HeldRound, event: OpeningEvent, total: SumOfC1 | None = None) -> OpeningStep:
        taken: OpeningStep = await self.run(opening.step, held.key, event)
        for effect in taken.effects:
            await self._carry_out(held, effect, total)
        held.opening = taken.state
        return taken

    async def _carry_out(self, held: HeldRound, effect: OpeningEffect, total: SumOfC1 | None) -> None:
        if isinstance(effect, KeepSum) and total is not None:
            held.total = await self.run(self.store.sums.keep, effect.key_id, total)
        elif isinstance(effect, RecordRoster | RecordInLedger):
            await self._record(held, effect)
        elif isinstance(effect, DestroyShare):
            await self._destroy(held, effect.key_id)

    async def _record(self, held: HeldRound, effect: RecordRoster | RecordInLedger) -> None:
        at, store, key_id = self.clock(), self.store, effect.key_id
        if isinstance(effect, RecordRoster):
            roster = effect.roster_digest
            await self.run(lambda: store.record_roster(key_id, roster, at=at))
        else:
            request, kept = effect.request_digest, None if held.total is None else held.total.digest
            await self.run(lambda: store.record_approval(key_id, request, at=at, sum_digest=kept))

    async def _destroy(self, held: HeldRound, key_id: KeyId) -> None:
        held.share = held.total = None
        await self.run(self.store.destroy_share, key_id)
        _log.info("key share destroyed", key=key_id.hex())

    async def end(self, ceremony_digest: Digest, event: RoundEnded | Expired) -> None:
        """End a round wherever it stands; its share is destroyed. A round that is not held is over already."""
        held = self._rounds.get(ceremony_digest)
        if held is not None:
            await self.to_end(self._end(held, event))

    async def _end(self, held: HeldRound, event: RoundEnded | Expired) -> None:
        async with held.stepping:
            if held.opening is not None:
                await self._take(held, event)
            held.ceremony = ceremony.step(held.ceremony, CeremonyEnded()).state
        self.drop(held)
        await self._purge()

    async def _purge(self) -> None:
        """Drop what the ledger says of keys that are long gone; what cannot be dropped now can be later."""
        before = self.clock() - self.limits.retention_seconds
        try:
            purged = await self.run(lambda: self.store.purge(before=before))
        except StorageError as error:
            _log.warning("the ledger could not be purged", cause=str(error))
        else:
            if purged:
                _log.info("ledger purged", keys=purged)

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
