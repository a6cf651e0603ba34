"""A coordinator that shows key holders whatever a test wants, beside clients whose messages and ciphertexts are real.

What it calls raises the error that the catalogue names, and a refusal with as much as one byte of an answer fails the test.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

import numpy as np
import pytest

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from coordinator.rounds.holders import HolderClient, HolderPool
from coordinator.rounds.relay import make_key
from he.ciphertext import Ciphertext, chunk_to_bytes
from he.partial import Partial
from he.recover import recover
from he.residues import residues_from_bytes
from he.ring import Residues
from secagg import codec, transcript
from secagg.errors import RemoteError, UnreachableError, WrongPhaseError
from secagg.ids import ClientId, Digest, HolderId, RoundNumber
from secagg.messages.round import Approval, FrozenRoster, Join, PartialStatement, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, RoundPlan
from secagg.roles.client.checks import checked_key
from secagg.roles.coordinator.events import KeyCertified
from secagg.tls_identity import TlsIdentity
from tests.encryption_material import encrypt_once
from tests.holder_processes import HolderProcesses

SECONDS = 30.0
ALICE, BOB, CAROL, DAVE = EVERYONE = tuple(ClientId(name) for name in ("alice", "bob", "carol", "dave"))
Answer = tuple[bytes, PartialStatement]
T = TypeVar("T")
_rounds = count(1)
# Rounds are dear: a module's tests share one where refusals have to leave it as it was.
one_loop = pytest.mark.asyncio(loop_scope="module")


@contextmanager
def as_the_catalogue_names_it() -> Iterator[None]:
    """Raise the error that a holder answered with, where the coordinator's own code wraps it."""
    try:
        yield
    except RemoteError as error:
        raise error.__cause__ or error from error


async def asked(call: Awaitable[T]) -> T:
    with as_the_catalogue_names_it():
        return await call


def signed_by(identity: TlsIdentity, message: Any) -> Authenticated[Any]:
    """Sign anything as anybody, in whosever name it is."""
    return Authenticated(message=message, party=identity.party, signed=codec.sign(message, identity.signer))


def root_of(half: Residues) -> Digest:
    root = transcript.CiphertextRoot()
    for chunk in half:
        root.add(chunk_to_bytes(chunk))
    return root.digest()


def parts_of(halves: Sequence[Residues], *, per_part: int = 2) -> list[ContributorPart]:
    return [
        ContributorPart(
            contributor=contributor,
            first_chunk=first,
            data=b"".join(chunk_to_bytes(chunk) for chunk in half[first : first + per_part]),
        )
        for contributor, half in enumerate(halves)
        for first in range(0, len(half), per_part)
    ]


async def streamed(parts: Iterable[ContributorPart]) -> AsyncIterator[ContributorPart]:
    for part in parts:
        yield part


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What a client holds before it joins."""

    identity: TlsIdentity
    vector: np.ndarray
    ciphertext: Ciphertext
    nonce: bytes

    @property
    def client(self) -> ClientId:
        return ClientId(self.identity.party.name)

    def commitment(self, plan: RoundPlan) -> bytes:
        return transcript.ciphertext_commitment(
            plan_digest=plan.digest,
            key_id=plan.ckks.key_id,
            client=self.client,
            nonce=self.nonce,
            root_c0=root_of(self.ciphertext.c0),
            root_c1=root_of(self.ciphertext.c1),
        )

    def join(self, plan: RoundPlan, **changes: Any) -> Authenticated[Join]:
        join = Join(plan_digest=plan.digest, client=self.client, commitment=self.commitment(plan))
        return signed_by(self.identity, replace(join, **changes))

    def upload(self, plan: RoundPlan, roster: FrozenRoster, **changes: Any) -> Authenticated[Upload]:
        parameters = plan.parameters
        upload = Upload(
            plan_digest=plan.digest,
            roster_digest=transcript.roster_digest(plan.digest, [one.message for one in roster.joins]),
            client=self.client,
            nonce=self.nonce,
            parameters_digest=Digest(parameters.digest()),
            level=len(parameters.data_primes),
            scale=parameters.scale,
            chunks=parameters.chunks,
            root_c0=root_of(self.ciphertext.c0),
            root_c1=root_of(self.ciphertext.c1),
        )
        return signed_by(self.identity, replace(upload, **changes))


@dataclass(frozen=True, kw_only=True)
class LyingCoordinator:
    """One round with a certified key and four clients' ciphertexts under it; honest until a test gives it something else."""

    holders: HolderProcesses
    pool: HolderPool
    key: KeyCertified
    clients: dict[ClientId, Contribution]

    @property
    def plan(self) -> RoundPlan:
        return self.key.plan

    @property
    def ceremony(self) -> Digest:
        return self.key.bundle.plan.digest

    def calls(self, holder: HolderId) -> HolderClient:
        return self.pool.calls[holder]

    def roster(self, **joins: Authenticated[Join]) -> FrozenRoster:
        """Return the roster of all; a join given by its client's name takes the place of that client's own."""
        own = [joins.get(client, one.join(self.plan)) for client, one in self.clients.items()]
        return self.sealed(FrozenRoster(plan_digest=self.plan.digest, joins=tuple(own)))

    def sealed(self, roster: FrozenRoster, holders: Sequence[HolderId] | None = None, **changes: Any) -> FrozenRoster:
        """Seal a roster with these holders' real keys, without asking them: a quorum's, if none are named."""
        group = self.plan.ckks.group
        digest = transcript.roster_digest(self.plan.digest, [one.message for one in roster.joins])
        seals = [
            replace(RosterSeal(key_id=self.plan.ckks.key_id, roster_digest=digest, holder=holder), **changes)
            for holder in (group.holders[: group.quorum] if holders is None else holders)
        ]
        return replace(roster, seals=tuple(signed_by(self.holders.holder(one.holder), one) for one in seals))

    def request(
        self, *clients: ClientId, roster: FrozenRoster | None = None, **uploads: Authenticated[Upload]
    ) -> ApprovalRequest:
        """Return what these clients (all, if none are named) signed; an upload given by name takes the place of the own."""
        shown = roster or self.roster()
        chosen = [
            uploads.get(client, self.clients[client].upload(self.plan, shown)) for client in clients or self.clients
        ]
        return ApprovalRequest(plan=self.plan, roster=shown, uploads=tuple(chosen))

    def halves(self, request: ApprovalRequest, **c1: Residues) -> list[Residues]:
        """Return the c1 of every upload of a request; one given by its client's name takes the place of the own."""
        named = [one.message.client for one in request.uploads]
        return [c1[client] if client in c1 else self.clients[client].ciphertext.c1 for client in named]

    async def approve(
        self,
        holder: HolderId,
        request: ApprovalRequest,
        parts: Sequence[ContributorPart] | None = None,
        **c1: Residues,
    ) -> Authenticated[Approval]:
        shown = parts_of(self.halves(request, **c1)) if parts is None else parts
        while True:
            try:
                return await asked(self.calls(holder).approve(request, streamed(shown), timeout_seconds=SECONDS))
            except UnreachableError as error:
                # A refusal that comes while a part is being written is lost in grpc.aio; the holder is still there.
                if "broke while something was being sent" not in error.reason:
                    raise

    async def seal(self, holder: HolderId, roster: FrozenRoster) -> Authenticated[RosterSeal]:
        return await asked(self.calls(holder).seal_roster(self.plan, roster, timeout_seconds=SECONDS))

    async def approve_all(
        self, request: ApprovalRequest, holders: Iterable[HolderId] | None = None
    ) -> list[Authenticated[Approval]]:
        return [await self.approve(holder, request) for holder in holders or self.holders.names]

    async def decrypt(
        self, holder: HolderId, digest: Digest, approvals: Iterable[Authenticated[Approval]], **changes: Any
    ) -> Answer:
        request = DecryptionRequest(key_id=self.plan.ckks.key_id, request_digest=digest, approvals=tuple(approvals))
        received = b""
        with as_the_catalogue_names_it():
            try:
                async for part in self.calls(holder).decrypt(replace(request, **changes), timeout_seconds=SECONDS):
                    if not isinstance(part, bytes):
                        return received, part.message
                    received += part
            except RemoteError:
                if received:
                    pytest.fail(f"{holder} sent {len(received)} bytes of an answer before it refused")
                raise
        raise AssertionError("the answer has no statement")

    def opened(self, request: ApprovalRequest, answers: dict[HolderId, Answer]) -> np.ndarray:
        """Open a sum with answers, as an honest coordinator does."""
        parameters, moduli = self.plan.parameters, np.array(self.plan.parameters.data_primes, np.uint64)[:, None]
        shown = [self.clients[one.message.client].ciphertext for one in request.uploads]
        c0, c1 = (
            (sum(half.astype(np.uint64) for half in halves) % moduli).astype(np.uint32)
            for halves in ([one.c0 for one in shown], [one.c1 for one in shown])
        )
        partials = [
            Partial(
                parameters=parameters,
                holder=self.plan.ckks.group.index(holder),
                threshold=parameters.threshold,
                key_id=self.plan.ckks.key_id,
                values=residues_from_bytes(data, parameters.data_primes, parameters.chunks, degree=parameters.degree),
            )
            for holder, (data, _) in answers.items()
        ]
        return recover(Ciphertext(parameters, c0, c1), partials)

    @asynccontextmanager
    async def refused(self, kind: type[Exception], match: str) -> AsyncIterator[None]:
        """Expect a refusal of just this kind, after which nothing is approved and nothing can be had."""
        with pytest.raises(kind, match=match) as raised:
            yield
        assert type(raised.value) is kind
        await self.verify_nothing_approved()

    async def verify_nothing_approved(self) -> None:
        request, key_id = self.request(), self.plan.ckks.key_id
        for holder in self.holders.names:
            assert self.holders.ledger(holder, key_id) == []
            with pytest.raises(WrongPhaseError):
                await self.decrypt(holder, digest_of(request), forged_approvals(self, request))
        self.verify_nothing_answered()

    def verify_nothing_answered(self) -> None:
        answered = [holder for holder in self.holders.names if self.holders.answered(holder, self.plan.ckks.key_id)]
        assert answered == []


def digest_of(request: ApprovalRequest) -> Digest:
    roster = transcript.roster_digest(request.plan.digest, [one.message for one in request.roster.joins])
    return transcript.request_digest(request.plan.digest, roster, [one.message for one in request.uploads])


def approval_by(
    coordinator: LyingCoordinator, holder: HolderId, request: ApprovalRequest, **changes: Any
) -> Authenticated[Approval]:
    """Sign an approval as a corrupt holder would: with its real key, of whatever is wanted."""
    approval = Approval(key_id=coordinator.plan.ckks.key_id, request_digest=digest_of(request), holder=holder)
    return signed_by(coordinator.holders.holder(holder), replace(approval, **changes))


def forged_approvals(coordinator: LyingCoordinator, request: ApprovalRequest) -> list[Authenticated[Approval]]:
    """Return everybody's approval, as if every key holder had lost its signing key."""
    return [approval_by(coordinator, holder, request) for holder in coordinator.holders.names]


async def certified(pool: HolderPool, spec: JobSpec) -> KeyCertified:
    """Let the holders make a key for a round of its own."""
    made = await make_key(pool.calls, spec, RoundNumber(next(_rounds)))
    assert isinstance(made, KeyCertified), made
    return made


@asynccontextmanager
async def coordinating(holders: HolderProcesses, spec: JobSpec) -> AsyncIterator[LyingCoordinator]:
    """Bring a round as far as an honest coordinator may: key certified, four clients ready."""
    pool = HolderPool(holders.coordinator, holders.addresses)
    try:
        key = await certified(pool, spec)
        public_key, parameters = checked_key(key.plan, key.bundle), key.plan.parameters
        draws = np.random.default_rng(2026)
        clients = {}
        for name in EVERYONE:
            vector = draws.uniform(-1, 1, parameters.values)
            clients[name] = Contribution(
                identity=holders.client(name),
                vector=vector,
                ciphertext=encrypt_once(public_key, vector),
                nonce=secrets.token_bytes(32),
            )
        yield LyingCoordinator(holders=holders, pool=pool, key=key, clients=clients)
    finally:
        await pool.close()
