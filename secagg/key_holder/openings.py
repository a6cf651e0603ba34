"""Sealing a roster, approving of a request and answering it: the driver of `secagg.roles.key_holder.opening`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from he.ciphertext import half_chunk_bytes
from he.key_share import KeyShare
from he.partial import answer_block
from he.residues import residues_to_bytes
from secagg.errors import BusyError, WrongPhaseError
from secagg.ids import Digest
from secagg.key_holder.book import HeldRound, RoundBook
from secagg.key_holder.contributions import ContributionReader, SumOfC1
from secagg.messages.round import Approval, PartialStatement, RosterSeal
from secagg.roles.key_holder.opening import (
    ApprovalAsked,
    ApprovalOffered,
    DecryptionAsked,
    OpeningEffect,
    ReplyApproval,
    ReplySeal,
    RosterOffered,
)
from secagg.roles.key_holder.request import Request

ANSWER_PART_BYTES: Final = 1 << 20


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
            BusyError: too many sums are in memory.
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

    async def decrypt(self, event: DecryptionAsked) -> AsyncIterator[bytes | PartialStatement]:
        """Yield the answer in parts of whole chunks, at most 1 MiB each, and at last the statement to sign.

        Raises:
            NotFoundError: this holder has no share of the key.
            FaultyCoordinatorError, ConflictError, WrongPhaseError: as the machine says.
        """
        held = self._book.of_key(event.key_id)
        await self._book.open_step(held, event)
        digest = hashlib.sha256()
        share, total = held.share, held.total
        if share is None or total is None:
            raise WrongPhaseError("the share of this key was destroyed")
        for start, stop in _blocks(total):
            data = await self._book.run(_answer, share, total, start, stop)
            digest.update(data)
            yield data
        yield PartialStatement(
            key_id=event.key_id,
            request_digest=event.request_digest,
            holder=self._book.holder,
            answer_digest=Digest(digest.digest()),
        )


def _approval_in(effects: Sequence[OpeningEffect]) -> Approval | None:
    return next((effect.approval for effect in effects if isinstance(effect, ReplyApproval)), None)


def _read(reader: ContributionReader, part: Part) -> None:
    reader.add(contributor=part.contributor, first_chunk=part.first_chunk, data=part.data)


def _blocks(total: SumOfC1) -> list[tuple[int, int]]:
    chunks = total.parameters.chunks
    step = max(1, ANSWER_PART_BYTES // half_chunk_bytes(total.parameters))
    return [(start, min(start + step, chunks)) for start in range(0, chunks, step)]


def _answer(share: KeyShare, total: SumOfC1, start: int, stop: int) -> bytes:
    return residues_to_bytes(answer_block(share, total.block(start, stop)))
