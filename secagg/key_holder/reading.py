"""From the wire's requests to what the role machines read: everything is authenticated here, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from secagg import codec
from secagg.errors import MessageError, UnreachableError
from secagg.identity import TrustRoot
from secagg.ids import DIGEST_BYTES, Digest, KeyId
from secagg.messages.ceremony import Hello, KeyCommitment, SeedOpening
from secagg.messages.round import Approval, Upload
from secagg.plan import CeremonyPlan
from secagg.roles.key_holder.events import (
    BlameAsked,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.opening import DecryptionAsked, RosterOffered
from secagg.roles.key_holder.request import Request
from secagg.wire.v1 import ceremony_pb2
from secagg.wire.v1 import key_holder_service_pb2 as wire

MAX_STREAMED_DEALINGS: Final = 9
SILENCE_SECONDS: Final = 60.0
"""How long a caller may leave a stream without a message."""

T = TypeVar("T")


def digest_of(data: bytes, what: str) -> Digest:
    """Return 32 bytes as a digest; raise `MessageError` for any other length."""
    if len(data) != DIGEST_BYTES:
        raise MessageError(f"{what} has {len(data)} bytes, not {DIGEST_BYTES}")
    return Digest(data)


@dataclass(frozen=True, kw_only=True)
class RequestReader:
    """Turns requests into events; every method raises `MessageError` or `CertificateError` and nothing else.

    Attributes:
        trust: the CA and its revocations.
        now: the time at which signatures must hold.
    """

    trust: TrustRoot
    now: Callable[[], datetime]

    def plan(self, request: wire.BeginCeremonyRequest) -> CeremonyPlan:
        """Read what a key is asked for."""
        return codec.ceremony_plan_from_wire(request.plan)

    def hellos(self, request: wire.CommitKeyRequest) -> HellosReceived:
        """Read everybody's hello."""
        return HellosReceived(hellos=codec.authenticate_all(request.hellos, Hello, trust=self.trust, at=self.now()))

    def commitments(self, request: wire.DealSharesRequest) -> CommitmentsReceived:
        """Read everybody's commitment."""
        return CommitmentsReceived(
            commitments=codec.authenticate_all(request.commitments, KeyCommitment, trust=self.trust, at=self.now())
        )

    def dealings(self, bundles: Sequence[ceremony_pb2.DealingBundle]) -> DealingsReceived:
        """Read everybody's dealing with what is sealed to this holder."""
        at = self.now()
        return DealingsReceived(
            dealings=tuple(codec.dealing_from_wire(one, trust=self.trust, at=at) for one in bundles)
        )

    def trials(self, request: wire.CertifyKeyRequest) -> TrialsReceived:
        """Read everybody's trial."""
        at = self.now()
        return TrialsReceived(
            trials=tuple(codec.trial_from_wire(one, trust=self.trust, at=at) for one in request.trials)
        )

    def failed_trials(self, request: wire.OpenSeedRequest) -> SeedAsked:
        """Read everybody's trial, which failed."""
        at = self.now()
        return SeedAsked(trials=tuple(codec.trial_from_wire(one, trust=self.trust, at=at) for one in request.trials))

    def blame(self, first: wire.LayBlameRequest, bundles: Sequence[ceremony_pb2.DealingBundle]) -> BlameAsked:
        """Read the opened seeds and every dealing."""
        openings = codec.authenticate_all(first.openings, SeedOpening, trust=self.trust, at=self.now())
        return BlameAsked(openings=openings, dealings=self.dealings(bundles).dealings)

    def roster(self, request: wire.SealRosterRequest) -> RosterOffered:
        """Read plan and roster."""
        return RosterOffered(
            plan=codec.round_plan_from_wire(request.plan),
            roster=codec.roster_from_wire(request.roster, trust=self.trust, at=self.now()),
        )

    def request(self, header: wire.ApproveHeader) -> Request:
        """Read plan, roster and uploads."""
        at = self.now()
        return Request(
            plan=codec.round_plan_from_wire(header.plan),
            roster=codec.roster_from_wire(header.roster, trust=self.trust, at=at),
            uploads=codec.authenticate_all(header.uploads, Upload, trust=self.trust, at=at),
        )

    def decryption(self, request: wire.DecryptRequest) -> DecryptionAsked:
        """Read a quorum's approvals."""
        return DecryptionAsked(
            key_id=KeyId(digest_of(request.key_id, "key_id")),
            request_digest=digest_of(request.request_digest, "request_digest"),
            approvals=codec.authenticate_all(request.approvals, Approval, trust=self.trust, at=self.now()),
        )


async def within_limit(requests: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what comes; raise `UnreachableError` when nothing comes for 60 s, so that a stream without an end holds no place."""
    iterator = aiter(requests)
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                request = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            reason = f"it sent nothing for {SILENCE_SECONDS:g} s in the middle of a call"
            raise UnreachableError("the coordinator", reason, next_step="Make the call again") from None
        yield request


async def read_dealings(
    requests: AsyncIterator[wire.TryKeyRequest] | AsyncIterator[wire.LayBlameRequest],
) -> tuple[wire.TryKeyRequest | wire.LayBlameRequest, list[ceremony_pb2.DealingBundle], bytes]:
    """Read a stream of dealings.

    Returns:
        The first message, which carries the header; every dealing; and the content of all, for request ids.

    Raises:
        MessageError: nothing came, or more dealings than a ceremony has.
    """
    first: wire.TryKeyRequest | wire.LayBlameRequest | None = None
    dealings: list[ceremony_pb2.DealingBundle] = []
    content: list[bytes] = []
    async for request in requests:
        first = first or request
        content.append(request.SerializeToString(deterministic=True))
        if request.HasField("dealing"):
            dealings.append(request.dealing)
        if len(content) > MAX_STREAMED_DEALINGS + 1:
            raise MessageError(f"more than {MAX_STREAMED_DEALINGS} dealings were sent")
    if first is None:
        raise MessageError("nothing was sent")
    return first, dealings, b"".join(content)


async def read_header(requests: AsyncIterator[wire.ApproveRequest]) -> wire.ApproveHeader:
    """Return the header, which has to come first; raise `MessageError` otherwise."""
    async for request in requests:
        if request.WhichOneof("body") == "header":
            return request.header
        break
    raise MessageError("the first message of an approval carries the header")


async def read_parts(requests: AsyncIterator[wire.ApproveRequest]) -> AsyncIterator[wire.ApprovePart]:
    """Yield the parts that follow the header; raise `MessageError` for anything else."""
    async for request in requests:
        if request.WhichOneof("body") != "part":
            raise MessageError("only parts of c1 follow the header of an approval")
        yield request.part
