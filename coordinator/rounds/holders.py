"""Key holders over gRPC: one channel to each, every answer authenticated, every failure told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar
from uuid import uuid4

import grpc.aio

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from secagg import codec
from secagg.errors import CertificateError, FaultyKeyHolderError, MessageError, RemoteError, UnreachableError
from secagg.identity import Party, Role
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import (
    DealingBundle,
    Hello,
    KeyCommitment,
    KeyStatement,
    SeedOpening,
    TrialBundle,
    Verdict,
)
from secagg.messages.round import Approval, FrozenRoster, PartialStatement, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.transport import TlsIdentity, error_from_rpc, open_channel
from secagg.wire.v1 import key_holder_service_pb2 as pb
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceStub
from secagg.wire.v1.signed_pb2 import Signed

T = TypeVar("T")

# A holder that was restarted is found again within seconds, not within gRPC's two minutes.
_RECONNECT: Final = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 5_000))


class OfHolder(Protocol):
    """A message that names the holder who signed it."""

    @property
    def holder(self) -> HolderId:
        """Its signer."""


OfHolderT = TypeVar("OfHolderT", bound=OfHolder)


class HolderPool:
    """The key holders that the coordinator knows addresses of. gRPC connects on the first call and again after a failure.

    Args:
        identity: the coordinator's own.
        addresses: ``host:port`` by name; the name must stand in the certificate that answers there.
    """

    def __init__(self, identity: TlsIdentity, addresses: Mapping[HolderId, str]) -> None:
        self._channels = {
            holder: open_channel(address, identity, target=Party(role=Role.KEY_HOLDER, name=holder), options=_RECONNECT)
            for holder, address in addresses.items()
        }
        self.calls = {holder: HolderClient(holder, channel, identity) for holder, channel in self._channels.items()}

    async def close(self) -> None:
        """Close every channel; calls that run are cancelled."""
        for channel in self._channels.values():
            await channel.close()


class HolderClient:
    """One key holder over one channel; see :class:`~coordinator.rounds.calls.KeyHolderCalls`."""

    def __init__(self, holder: HolderId, channel: grpc.aio.Channel, identity: TlsIdentity) -> None:
        self._holder = holder
        self._trust = identity.trust
        self._stub = KeyHolderServiceStub(channel)

    @property
    def holder(self) -> HolderId:
        """Its name."""
        return self._holder

    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Authenticated[Hello]:
        """Step 4.2."""
        request = pb.BeginCeremonyRequest(request_id=_request_id(), plan=codec.ceremony_plan_to_wire(plan))
        answer = await self._answer(self._stub.BeginCeremony(request, timeout=timeout_seconds))
        return self._signed(answer.hello, Hello)

    async def commit_key(
        self, ceremony: Digest, hellos: Sequence[Authenticated[Hello]], *, timeout_seconds: float
    ) -> Authenticated[KeyCommitment]:
        """Step 4.3."""
        request = pb.CommitKeyRequest(request_id=_request_id(), ceremony_digest=ceremony, hellos=_wire(hellos))
        answer = await self._answer(self._stub.CommitKey(request, timeout=timeout_seconds))
        return self._signed(answer.commitment, KeyCommitment)

    async def deal_shares(
        self, ceremony: Digest, commitments: Sequence[Authenticated[KeyCommitment]], *, timeout_seconds: float
    ) -> DealingBundle:
        """Step 4.4."""
        request = pb.DealSharesRequest(
            request_id=_request_id(), ceremony_digest=ceremony, commitments=_wire(commitments)
        )
        answer = await self._answer(self._stub.DealShares(request, timeout=timeout_seconds))
        with self._reading():
            bundle = codec.dealing_from_wire(answer.dealing, trust=self._trust, at=_now())
            self._check_name(bundle.dealing)
            return bundle

    async def try_key(
        self, ceremony: Digest, dealings: Sequence[DealingBundle], *, timeout_seconds: float
    ) -> TrialBundle:
        """Step 4.5."""

        async def requests() -> AsyncIterator[pb.TryKeyRequest]:
            yield pb.TryKeyRequest(request_id=_request_id(), ceremony_digest=ceremony)
            for bundle in dealings:
                yield pb.TryKeyRequest(dealing=codec.dealing_to_wire(bundle))

        answer = await self._answer(self._stub.TryKey(requests(), timeout=timeout_seconds))
        with self._reading():
            bundle = codec.trial_from_wire(answer.trial, trust=self._trust, at=_now())
            self._check_name(bundle.trial)
            return bundle

    async def certify_key(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> tuple[Authenticated[KeyStatement], bytes]:
        """Step 4.6."""
        wire = [codec.trial_to_wire(trial) for trial in trials]
        request = pb.CertifyKeyRequest(request_id=_request_id(), ceremony_digest=ceremony, trials=wire)
        answer = await self._answer(self._stub.CertifyKey(request, timeout=timeout_seconds))
        return self._signed(answer.statement, KeyStatement), answer.b

    async def open_seed(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> Authenticated[SeedOpening]:
        """Step 4.7."""
        wire = [codec.trial_to_wire(trial) for trial in trials]
        request = pb.OpenSeedRequest(request_id=_request_id(), ceremony_digest=ceremony, trials=wire)
        answer = await self._answer(self._stub.OpenSeed(request, timeout=timeout_seconds))
        return self._signed(answer.opening, SeedOpening)

    async def lay_blame(
        self,
        ceremony: Digest,
        openings: Sequence[Authenticated[SeedOpening]],
        dealings: Sequence[DealingBundle],
        *,
        timeout_seconds: float,
    ) -> Authenticated[Verdict]:
        """Step 4.8."""

        async def requests() -> AsyncIterator[pb.LayBlameRequest]:
            yield pb.LayBlameRequest(request_id=_request_id(), ceremony_digest=ceremony, openings=_wire(openings))
            for bundle in dealings:
                yield pb.LayBlameRequest(dealing=codec.dealing_to_wire(bundle))

        answer = await self._answer(self._stub.LayBlame(requests(), timeout=timeout_seconds))
        return self._signed(answer.verdict, Verdict)

    async def seal_roster(
        self, plan: RoundPlan, roster: FrozenRoster, *, timeout_seconds: float
    ) -> Authenticated[RosterSeal]:
        """Step 5.4."""
        request = pb.SealRosterRequest(
            request_id=_request_id(), plan=codec.round_plan_to_wire(plan), roster=codec.roster_to_wire(roster)
        )
        answer = await self._answer(self._stub.SealRoster(request, timeout=timeout_seconds))
        return self._signed(answer.seal, RosterSeal)

    async def approve(
        self, request: ApprovalRequest, parts: AsyncIterator[ContributorPart], *, timeout_seconds: float
    ) -> Authenticated[Approval]:
        """Steps 6.1 and 6.2."""
        header = pb.ApproveHeader(
            request_id=_request_id(),
            plan=codec.round_plan_to_wire(request.plan),
            roster=codec.roster_to_wire(request.roster),
            uploads=_wire(request.uploads),
        )

        async def requests() -> AsyncIterator[pb.ApproveRequest]:
            yield pb.ApproveRequest(header=header)
            async for part in parts:
                yield pb.ApproveRequest(
                    part=pb.ApprovePart(contributor=part.contributor, first_chunk=part.first_chunk, data=part.data)
                )

        answer = await self._answer(self._stub.Approve(requests(), timeout=timeout_seconds))
        return self._signed(answer.approval, Approval)

    async def decrypt(
        self, request: DecryptionRequest, *, timeout_seconds: float
    ) -> AsyncIterator[bytes | Authenticated[PartialStatement]]:
        """Steps 6.3 and 6.4."""
        wire = pb.DecryptRequest(
            request_id=_request_id(),
            key_id=request.key_id,
            request_digest=request.request_digest,
            approvals=_wire(request.approvals),
        )
        with self._calling():
            async for message in self._stub.Decrypt(wire, timeout=timeout_seconds):
                if message.WhichOneof("body") == "statement":
                    yield self._signed(message.statement, PartialStatement)
                else:
                    yield message.data

    async def end_round(self, ceremony: Digest, *, timeout_seconds: float) -> None:
        """Step 6.6."""
        request = pb.EndRoundRequest(request_id=_request_id(), ceremony_digest=ceremony)
        await self._answer(self._stub.EndRound(request, timeout=timeout_seconds))

    async def _answer(self, call: Awaitable[T]) -> T:
        with self._calling():
            return await call

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Tell silence from refusal; what a peer calls itself decides nothing."""
        party = f"key holder {self._holder}"
        try:
            yield
        except grpc.aio.AioRpcError as failed:
            error = error_from_rpc(failed, party=party)
            if isinstance(error, UnreachableError):
                raise error from failed
            raise RemoteError(party, f"it refused: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Blame the holder for what does not verify: TLS says that the bytes came from it."""
        try:
            yield
        except (MessageError, CertificateError) as error:
            raise FaultyKeyHolderError(self._holder, error.cause) from error

    def _signed(self, wire: Signed, kind: type[OfHolderT]) -> Authenticated[OfHolderT]:
        with self._reading():
            message = codec.authenticate(codec.signed_from_wire(wire), kind, trust=self._trust, at=_now())
            self._check_name(message)
            return message

    def _check_name(self, message: Authenticated[OfHolderT]) -> None:
        if message.message.holder != self._holder:
            raise MessageError(f"it handed on a message of {message.message.holder}")


def _request_id() -> str:
    return uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


def _wire(messages: Sequence[Authenticated[T]]) -> list[Signed]:
    return [codec.signed_to_wire(message.signed) for message in messages]
