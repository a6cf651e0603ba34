"""Sealing a roster, approving of a request and answering it: the driver of `secagg.roles.key_holder.opening`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Protocol

import structlog

from he.key_share import KeyShare
from he.partial import answer_block
from he.residues import residues_to_bytes
from secagg.errors import BusyError, StorageError, WrongPhaseError
from secagg.faults import reach
from secagg.ids import Digest
from secagg.key_holder.book import RoundBook
from secagg.key_holder.contributions import ContributionReader
from secagg.key_holder.held_round import HeldRound
from secagg.key_holder.sums import SumReader, blocks_of
from secagg.messages.round import Approval, PartialStatement, RosterSeal
from secagg.roles.key_holder.opening import (
    ASK_AGAIN,
    NO_SUM,
    ApprovalAsked,
    ApprovalOffered,
    DecryptionAsked,
    OpeningEffect,
    ReplyApproval,
    ReplySeal,
    RosterOffered,
    SumLost,
)
from secagg.roles.key_holder.request import Request

_log: Final = structlog.get_logger("secagg.key_holder")


class Part(Protocol):
    """Whole chunks of one contributor's c1."""

    @property
    def contributor(self) -> int:
        """Place in the request's uploads, from 0."""
        ...

    @property
    def first_chunk(self) -> int:
        """Index of the first chunk in `data`, from 0."""
        ...

    @property
    def data(self) -> bytes:
        """Residues, little-endian uint32."""
        ...


class Openings:
    """Seals, approves and answers; see `RoundBook`."""

    def __init__(self, book: RoundBook) -> None:
        self._book = book
        self._reading: set[Digest] = set()

    async def seal(self, event: RosterOffered) -> RosterSeal:
        """Record the one roster of a key and return the seal to sign.

        Raises:
            NotFoundError: this holder has no share of the key.
            FaultyCoordinatorError, ConflictError: as the machine says; nothing is recorded.
        """
        held = self._book.of_key(event.plan.ckks.key_id)
        taken = await self._book.open_step(held, event)
        return next(effect.seal for effect in taken.effects if isinstance(effect, ReplySeal))

    async def approve(self, request: Request, parts: AsyncIterator[Part]) -> Approval:
        """Verify a request, read and add up all its c1, record it and return the approval to sign.

        Raises:
            NotFoundError: this holder has no share of the key.
            BusyError: too many sums are kept.
            FaultyCoordinatorError, FaultyClientError, ConflictError: as the machine says; nothing is recorded.
        """
        held = self._book.of_key(request.plan.ckks.key_id)
        async with held.approving:
            taken = await self._book.open_step(held, ApprovalOffered(request=request))
            approval = _approval_in(taken.effects)
            if approval is None:
                return await self._read_and_approve(held, request, parts)
            async for _part in parts:
                pass
            return approval

    async def _read_and_approve(self, held: HeldRound, request: Request, parts: AsyncIterator[Part]) -> Approval:
        self._reserve(held)
        try:
            clients = [one.message.client for one in request.uploads]
            reader = await self._book.run(ContributionReader, request.plan.parameters, clients)
            async for part in parts:
                await self._book.run(_read, reader, part)
            computed, total = await self._book.run(reader.finish)
            event = ApprovalAsked(request=request, computed=computed)
            taken = await self._book.open_step(held, event, total=total)
        finally:
            self._reading.discard(held.ceremony_digest)
        return next(effect.approval for effect in taken.effects if isinstance(effect, ReplyApproval))

    def _reserve(self, held: HeldRound) -> None:
        kept = {one.ceremony_digest for one in self._book.rounds if one.total is not None}
        if len(kept | self._reading) >= self._book.limits.max_sums:
            raise BusyError(f"this key holder keeps {self._book.limits.max_sums} sums at a time")
        self._reading.add(held.ceremony_digest)

    async def decrypt(self, event: DecryptionAsked) -> AsyncGenerator[bytes | PartialStatement]:
        """Yield the answer in parts of whole chunks, at most 1 MiB each, and at last the statement to sign.

        Raises:
            NotFoundError: this holder has no share of the key.
            FaultyCoordinatorError, ConflictError, WrongPhaseError: as the machine says.
        """
        held = self._book.of_key(event.key_id)
        await self._book.open_step(held, event)
        share = held.share
        if share is None:
            raise WrongPhaseError("the share of this key was destroyed")
        reader = await self._opened(held)
        digest = hashlib.sha256()
        try:
            for start, stop in blocks_of(share.parameters):
                data = await self._book.run(_answer, share, reader, start, stop)
                digest.update(data)
                reach("decrypt.answering")
                yield data
        finally:
            reader.close()
        yield PartialStatement(
            key_id=event.key_id,
            request_digest=event.request_digest,
            holder=self._book.holder,
            answer_digest=Digest(digest.digest()),
        )

    async def _opened(self, held: HeldRound) -> SumReader:
        """Open the sum that was approved; one that is damaged is as good as none, and c1 has to be shown again."""
        if held.total is None:
            raise WrongPhaseError("the share of this key was destroyed")
        opening = asyncio.ensure_future(self._book.run(held.total.open))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The caller is gone; the thread that opens the file is not.
            opening.add_done_callback(_close)
            raise
        except StorageError as error:
            _log.error("a sum cannot be used", ceremony=held.ceremony_digest.hex(), cause=str(error))
            await self._book.open_step(held, SumLost())
            raise WrongPhaseError(NO_SUM, next_step=ASK_AGAIN) from error


def _approval_in(effects: Sequence[OpeningEffect]) -> Approval | None:
    return next((effect.approval for effect in effects if isinstance(effect, ReplyApproval)), None)


def _read(reader: ContributionReader, part: Part) -> None:
    reader.add(contributor=part.contributor, first_chunk=part.first_chunk, data=part.data)


def _close(opening: asyncio.Future[SumReader]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _answer(share: KeyShare, reader: SumReader, start: int, stop: int) -> bytes:
    return residues_to_bytes(answer_block(share, reader.block(start, stop)))
