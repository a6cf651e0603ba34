"""Running ceremonies: the driver of `secagg.roles.key_holder.ceremony`."""

from __future__ import annotations

import secrets

from secagg.errors import ConflictError, NotFoundError, PolicyError, SecAggError
from secagg.ids import NONCE_BYTES, Digest
from secagg.key_holder.book import RoundBook
from secagg.key_holder.held_round import HeldRound
from secagg.key_holder.store import BEGUN_BEFORE, NEXT_ATTEMPT
from secagg.plan import CeremonyPlan
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    CeremonyEffect,
    CeremonyEvent,
    RecordCeremony,
    Reply,
    SealShare,
)
from secagg.roles.key_holder.state import Ended, New


class Ceremonies:
    """Takes steps of ceremonies; see `RoundBook`."""

    def __init__(self, book: RoundBook) -> None:
        self._book = book

    async def begin(self, plan: CeremonyPlan) -> Reply:
        """Begin a ceremony, or repeat the hello of one that was begun.

        Raises:
            BusyError: too many rounds are under way.
            PolicyError: the plan is weaker than the policy, or lasts longer than is allowed.
            PlanError: this holder is not one of the plan's.
            ConflictError: the ceremony was begun before this process started.
        """
        return await self._book.to_end(self._begin(plan))

    async def _begin(self, plan: CeremonyPlan) -> Reply:
        held = self._book.find(plan.digest) or self._new_round(plan)
        if isinstance(held.ceremony, Ended):
            raise ConflictError(BEGUN_BEFORE, next_step=NEXT_ATTEMPT)
        self._book.hold(held)
        try:
            return await self._step(held, BeginCeremony(plan=plan, seed=secrets.token_bytes(NONCE_BYTES)))
        finally:
            if isinstance(held.ceremony, New):
                self._book.drop(held)

    def _new_round(self, plan: CeremonyPlan) -> HeldRound:
        book, deadlines = self._book, plan.spec.deadlines
        longest, asked = book.limits.max_round_seconds, plan.spec.longest_seconds
        if asked > longest:
            raise PolicyError(f"the plan's deadlines add up to {asked:g} s, at most {longest:g} here")
        return HeldRound(
            ceremony_digest=plan.digest,
            begun_at=book.clock(),
            expires_at=book.clock() + deadlines.keying_seconds + book.limits.slack_seconds,
            ceremony=New(holder=book.holder, policy=book.policy),
        )

    async def step(self, ceremony_digest: Digest, event: CeremonyEvent) -> Reply:
        """Take one step of a ceremony and return what is to be signed.

        Raises:
            NotFoundError: it was never begun here.
            ConflictError: it was lost in a restart, or is over.
            he.errors.HEError, SecAggError: as the machine says.
        """
        held = self._book.find(ceremony_digest)
        if held is None or isinstance(held.ceremony, Ended):
            raise await self._absence(ceremony_digest)
        return await self._book.to_end(self._step(held, event))

    async def _absence(self, ceremony_digest: Digest) -> SecAggError:
        if await self._book.run(self._book.store.was_begun, ceremony_digest):
            return ConflictError(BEGUN_BEFORE, next_step=NEXT_ATTEMPT)
        return NotFoundError("this key holder has no such ceremony", next_step="Begin it first, or a new attempt")

    async def _step(self, held: HeldRound, event: CeremonyEvent) -> Reply:
        async with held.stepping:
            taken = await self._book.run(ceremony.step, held.ceremony, event)
            replies = [await self._carry_out(held, effect) for effect in taken.effects]
            held.ceremony = taken.state
        return next(reply for reply in replies if reply is not None)

    async def _carry_out(self, held: HeldRound, effect: CeremonyEffect) -> Reply | None:
        if isinstance(effect, Reply):
            return effect
        if isinstance(effect, RecordCeremony):
            await self._record(effect)
        elif isinstance(effect, SealShare):
            await self._book.seal(held, effect)
        return None

    async def _record(self, effect: RecordCeremony) -> None:
        book = self._book
        await book.run(lambda: book.store.record_ceremony(effect.ceremony_digest, at=book.clock()))
