"""The service that the coordinator calls (docs/protocol.md, sections 4 to 6): read, step, sign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc.aio
import structlog
from google.protobuf.message import Message

from secagg import codec
from secagg.errors import NotAllowedError
from secagg.faults import reach
from secagg.identity import Party, Signer
from secagg.key_holder.book import RoundBook
from secagg.key_holder.ceremonies import Ceremonies
from secagg.key_holder.metrics import KeyHolderMetrics
from secagg.key_holder.openings import Openings
from secagg.key_holder.reading import RequestReader, digest_of, read_dealings, read_header, read_parts, within_limit
from secagg.key_holder.repeats import RequestIds
from secagg.roles.key_holder.events import CeremonyEvent, Reply
from secagg.roles.key_holder.opening import RoundEnded
from secagg.transport import current_caller
from secagg.wire.v1 import ceremony_pb2, signed_pb2
from secagg.wire.v1 import key_holder_service_pb2 as wire
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]

_log: Final = structlog.get_logger("secagg.key_holder")


@dataclass(frozen=True, kw_only=True)
class SignedReply:
    """A machine's reply with its signature."""

    reply: Reply
    signed: signed_pb2.Signed


class KeyHolderServicer(KeyHolderServiceServicer):
    """Serves one key holder.

    Args:
        book: its rounds.
        reader: authenticates what is shown.
        signer: signs what it says.
        metrics: counts.
        coordinators: the names that may call; empty for any coordinator.
    """

    def __init__(
        self,
        *,
        book: RoundBook,
        reader: RequestReader,
        signer: Signer,
        metrics: KeyHolderMetrics,
        coordinators: frozenset[str] = frozenset(),
    ) -> None:
        self._book = book
        self._ceremonies = Ceremonies(book)
        self._openings = Openings(book)
        self._reader = reader
        self._signer = signer
        self._metrics = metrics
        self._coordinators = coordinators
        self._request_ids = RequestIds()

    async def BeginCeremony(self, request: wire.BeginCeremonyRequest, context: Context) -> wire.BeginCeremonyResponse:
        """Step 4.2."""
        self._admit(request.request_id, request)
        plan = await self._book.run(self._reader.plan, request)
        answer = await self._signed(await self._ceremonies.begin(plan))
        reach("begin.answering")
        _log.info("ceremony begun", ceremony=plan.digest.hex(), job=plan.spec.job, round=plan.round)
        return wire.BeginCeremonyResponse(hello=answer.signed)

    async def CommitKey(self, request: wire.CommitKeyRequest, context: Context) -> wire.CommitKeyResponse:
        """Step 4.3."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.hellos, request)
        answer = await self._step(request.ceremony_digest, event)
        reach("commit.answering")
        return wire.CommitKeyResponse(commitment=answer.signed)

    async def DealShares(self, request: wire.DealSharesRequest, context: Context) -> wire.DealSharesResponse:
        """Step 4.4."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.commitments, request)
        answer = await self._step(request.ceremony_digest, event)
        reach("deal.answering")
        sealed = [
            ceremony_pb2.SealedDealing(receiver=receiver, sealed=part) for receiver, part in answer.reply.sealed.items()
        ]
        return wire.DealSharesResponse(dealing=ceremony_pb2.DealingBundle(dealing=answer.signed, sealed=sealed))

    async def TryKey(
        self, request_iterator: AsyncIterator[wire.TryKeyRequest], context: Context
    ) -> wire.TryKeyResponse:
        """Step 4.5."""
        self._check_caller()
        first, bundles, content = await read_dealings(within_limit(request_iterator))
        self._admit(first.request_id, content)
        event = await self._book.run(self._reader.dealings, bundles)
        answer = await self._step(first.ceremony_digest, event)
        reach("try.answering")
        return wire.TryKeyResponse(trial=ceremony_pb2.TrialBundle(trial=answer.signed, answer=answer.reply.attachment))

    async def CertifyKey(self, request: wire.CertifyKeyRequest, context: Context) -> wire.CertifyKeyResponse:
        """Step 4.6."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.trials, request)
        answer = await self._step(request.ceremony_digest, event)
        reach("certify.answering")
        _log.info("key certified", ceremony=request.ceremony_digest.hex())
        return wire.CertifyKeyResponse(statement=answer.signed, b=answer.reply.attachment)

    async def OpenSeed(self, request: wire.OpenSeedRequest, context: Context) -> wire.OpenSeedResponse:
        """Step 4.7."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.failed_trials, request)
        answer = await self._step(request.ceremony_digest, event)
        reach("seed.answering")
        _log.warning("key is dead, its randomness was opened", ceremony=request.ceremony_digest.hex())
        return wire.OpenSeedResponse(opening=answer.signed)

    async def LayBlame(
        self, request_iterator: AsyncIterator[wire.LayBlameRequest], context: Context
    ) -> wire.LayBlameResponse:
        """Step 4.8."""
        self._check_caller()
        first, bundles, content = await read_dealings(within_limit(request_iterator))
        self._admit(first.request_id, content)
        event = await self._book.run(self._reader.blame, cast("wire.LayBlameRequest", first), bundles)
        answer = await self._step(first.ceremony_digest, event)
        reach("blame.answering")
        return wire.LayBlameResponse(verdict=answer.signed)

    async def SealRoster(self, request: wire.SealRosterRequest, context: Context) -> wire.SealRosterResponse:
        """Step 5.4."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.roster, request)
        seal = await self._openings.seal(event)
        _log.info("roster sealed", key=seal.key_id.hex(), roster=seal.roster_digest.hex())
        signed = await self._sign(seal)
        reach("seal.answering")
        return wire.SealRosterResponse(seal=signed)

    async def Approve(
        self, request_iterator: AsyncIterator[wire.ApproveRequest], context: Context
    ) -> wire.ApproveResponse:
        """Steps 6.1 and 6.2."""
        self._check_caller()
        requests = within_limit(request_iterator)
        header = await read_header(requests)
        self._admit(header.request_id, header)
        request = await self._book.run(self._reader.request, header)
        approval = await self._openings.approve(request, self._counted(read_parts(requests)))
        _log.info("approved", key=approval.key_id.hex(), request=approval.request_digest.hex())
        signed = await self._sign(approval)
        reach("approve.answering")
        return wire.ApproveResponse(approval=signed)

    async def Decrypt(self, request: wire.DecryptRequest, context: Context) -> AsyncIterator[wire.DecryptResponse]:
        """Steps 6.3 and 6.4."""
        self._admit(request.request_id, request)
        event = await self._book.run(self._reader.decryption, request)
        async with aclosing(self._openings.decrypt(event)) as parts:
            async for part in parts:
                if isinstance(part, bytes):
                    yield wire.DecryptResponse(data=part)
                else:
                    statement = await self._sign(part)
                    reach("decrypt.stating")
                    yield wire.DecryptResponse(statement=statement)
        _log.info("answered", key=event.key_id.hex(), request=event.request_digest.hex())

    async def EndRound(self, request: wire.EndRoundRequest, context: Context) -> wire.EndRoundResponse:
        """Step 6.6."""
        self._admit(request.request_id, request)
        await self._book.end(digest_of(request.ceremony_digest, "ceremony_digest"), RoundEnded())
        reach("end.answering")
        return wire.EndRoundResponse()

    def _check_caller(self) -> Party:
        caller = current_caller()
        if self._coordinators and caller.name not in self._coordinators:
            raise NotAllowedError(f"{caller} is not one of the coordinators that this key holder answers")
        return caller

    def _admit(self, request_id: str, content: Message | bytes) -> None:
        caller = self._check_caller()
        data = content if isinstance(content, bytes) else content.SerializeToString(deterministic=True)
        self._request_ids.verify(str(caller), request_id, data)

    async def _step(self, ceremony_digest: bytes, event: CeremonyEvent) -> SignedReply:
        digest = digest_of(ceremony_digest, "ceremony_digest")
        return await self._signed(await self._ceremonies.step(digest, event))

    async def _signed(self, reply: Reply) -> SignedReply:
        return SignedReply(reply=reply, signed=await self._sign(reply.message))

    async def _sign(self, message: object) -> signed_pb2.Signed:
        self._metrics.answered.labels(kind=type(message).__name__).inc()
        return codec.signed_to_wire(await self._book.run(codec.sign, message, self._signer))

    async def _counted(self, parts: AsyncIterator[wire.ApprovePart]) -> AsyncIterator[wire.ApprovePart]:
        async for part in parts:
            yield part
            self._metrics.c1_bytes.inc(len(part.data))
