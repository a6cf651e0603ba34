"""Three key holders over gRPC in one process, and a coordinator that opens sums with them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from coordinator.rounds.holders import HolderPool
from coordinator.rounds.relay import make_key
from he.ciphertext import Ciphertext, chunk_to_bytes
from he.drawing import public_a
from he.partial import Partial
from he.public_key import PublicKey
from he.residues import residues_from_bytes
from secagg import codec, transcript
from secagg.errors import (
    RemoteError,
)
from secagg.ids import ClientId, Digest, HolderId, RoundNumber
from secagg.key_holder.config import KeyHolderSettings
from secagg.key_holder.server import KeyHolderServer
from secagg.key_holder.store import HolderStore
from secagg.messages.round import FrozenRoster, Join, PartialStatement, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import RoundPlan
from secagg.roles.coordinator.events import KeyCertified
from secagg.tls_identity import TlsIdentity
from tests.encryption_material import encrypt_once
from tests.holder_material import job_spec
from tests.pki_material import COORDINATOR, Deployment

SECONDS = 30.0
HOLDERS = tuple(HolderId(name) for name in ("north", "east", "south"))
NORTH, EAST, SOUTH = HOLDERS
SPEC = job_spec()


def party(holder: HolderId) -> Party:
    return Party(role=Role.KEY_HOLDER, name=holder)


@dataclass
class House:
    """The servers, where they keep things, and a coordinator's channels to them."""

    directory: Path
    made: Deployment
    servers: dict[HolderId, KeyHolderServer] = field(default_factory=dict)
    addresses: dict[HolderId, str] = field(default_factory=dict)
    pools: list[HolderPool] = field(default_factory=list)

    def settings(self, holder: HolderId, **changes: Any) -> KeyHolderSettings:
        fields: dict[str, Any] = {
            "listen": self.addresses.get(holder, "127.0.0.1:0"),
            "identity": self.made.identity(party(holder)).paths.certificate.parent,
            "data_dir": self.directory / holder,
            "sealing": {"key_file": self.directory / f"{holder}.key", "create_key_file": True},
        }
        return KeyHolderSettings.model_validate({**fields, **changes})

    async def start(self, holder: HolderId, *, clock: Any = None, **changes: Any) -> KeyHolderServer:
        settings = self.settings(holder, **changes)
        server = KeyHolderServer(settings) if clock is None else KeyHolderServer(settings, clock=clock)
        await server.start()
        self.servers[holder] = server
        self.addresses[holder] = f"127.0.0.1:{server.port}"
        return server

    async def stop(self, holder: HolderId) -> None:
        await self.servers.pop(holder).stop(0.0)

    @property
    def coordinator(self) -> TlsIdentity:
        return self.made.identity(COORDINATOR)

    def pool(self) -> HolderPool:
        self.pools.append(HolderPool(self.coordinator, self.addresses))
        return self.pools[-1]

    def stored(self, holder: HolderId) -> HolderStore:
        return HolderStore.open(self.directory / holder)

    async def close(self) -> None:
        for pool in self.pools:
            await pool.close()
        for holder in list(self.servers):
            await self.stop(holder)


@dataclass(kw_only=True)
class Opening:
    """A certified key, two clients' ciphertexts under it, and the request of an honest coordinator."""

    house: House
    pool: HolderPool
    plan: RoundPlan
    ceremony: Digest
    vectors: dict[ClientId, np.ndarray]
    ciphertexts: dict[ClientId, Ciphertext]
    request: ApprovalRequest

    @property
    def digest(self) -> Digest:
        joins = [one.message for one in self.request.roster.joins]
        roster = transcript.roster_digest(self.plan.digest, joins)
        return transcript.request_digest(self.plan.digest, roster, [one.message for one in self.request.uploads])

    def c1(self) -> list[np.ndarray]:
        return [self.ciphertexts[one.message.client].c1 for one in self.request.uploads]

    async def approve(self, holder: HolderId, c1: Sequence[np.ndarray] | None = None) -> Authenticated[Any]:
        return await self.pool.calls[holder].approve(
            self.request, parts_of(self.c1() if c1 is None else c1), timeout_seconds=SECONDS
        )

    async def decrypt(
        self, holder: HolderId, approvals: Iterable[Authenticated[Any]]
    ) -> tuple[bytes, PartialStatement]:
        request = DecryptionRequest(
            key_id=self.plan.ckks.key_id, request_digest=self.digest, approvals=tuple(approvals)
        )
        data, statement = b"", None
        async for part in self.pool.calls[holder].decrypt(request, timeout_seconds=SECONDS):
            if isinstance(part, bytes):
                assert len(part) <= 1 << 20
                data += part
            else:
                statement = part.message
        assert statement is not None
        return data, statement

    def partial(self, holder: HolderId, data: bytes) -> Partial:
        parameters = self.plan.parameters
        values = residues_from_bytes(data, parameters.data_primes, parameters.chunks, degree=parameters.degree)
        number = self.plan.ckks.group.index(holder)
        return Partial(
            parameters=parameters,
            holder=number,
            threshold=parameters.threshold,
            key_id=self.plan.ckks.key_id,
            values=values,
        )

    def recorded(self, holder: HolderId) -> Digest | None:
        store = self.house.stored(holder)
        try:
            return store.approval(self.plan.ckks.key_id)
        finally:
            store.close()


async def parts_of(halves: Sequence[np.ndarray], *, per_part: int = 2) -> AsyncIterator[ContributorPart]:
    for contributor, half in enumerate(halves):
        for first in range(0, len(half), per_part):
            data = b"".join(chunk_to_bytes(chunk) for chunk in half[first : first + per_part])
            yield ContributorPart(contributor=contributor, first_chunk=first, data=data)


def now() -> datetime:
    return datetime.now(UTC)


def authenticated(identity: TlsIdentity, message: Any) -> Authenticated[Any]:
    signed = codec.sign(message, identity.signer)
    return codec.authenticate(signed, type(message), trust=identity.trust, at=now())


async def key_of(house: House, *, round: int = 1) -> tuple[HolderPool, KeyCertified]:
    pool = house.pool()
    made = await make_key(pool.calls, SPEC, RoundNumber(round))
    assert isinstance(made, KeyCertified), made
    return pool, made


def root_of(half: np.ndarray) -> Digest:
    root = transcript.CiphertextRoot()
    for chunk in half:
        root.add(chunk_to_bytes(chunk))
    return root.digest()


def encrypted(key: KeyCertified, seed: int) -> tuple[np.ndarray, Ciphertext]:
    parameters = key.plan.parameters
    hellos = [one.message for one in key.bundle.hellos]
    context = transcript.ceremony_context(key.bundle.plan.digest, hellos)
    public_key = PublicKey.from_bytes(parameters, public_a(parameters, context), key.bundle.b)
    assert public_key.digest() == key.bundle.statements[0].message.public_key_digest
    vector = np.random.default_rng(seed).uniform(-1, 1, parameters.values)
    return vector, encrypt_once(public_key, vector)


async def opening_of(house: House, *, round: int = 1) -> Opening:
    pool, key = await key_of(house, round=round)
    plan, clients = key.plan, [ClientId("alice"), ClientId("bob")]
    made = {client: encrypted(key, seed) for seed, client in enumerate(clients)}
    roots = {client: (root_of(one.c0), root_of(one.c1)) for client, (_, one) in made.items()}
    identities = {client: house.made.identity(Party(role=Role.CLIENT, name=client)) for client in clients}
    nonces = {client: hashlib.sha256(client.encode()).digest() for client in clients}
    joins = []
    for client in clients:
        commitment = transcript.ciphertext_commitment(
            plan_digest=plan.digest,
            key_id=plan.ckks.key_id,
            client=client,
            nonce=nonces[client],
            root_c0=roots[client][0],
            root_c1=roots[client][1],
        )
        joins.append(Join(plan_digest=plan.digest, client=client, commitment=commitment))
    roster_digest = transcript.roster_digest(plan.digest, joins)
    parameters = plan.parameters
    uploads = [
        Upload(
            plan_digest=plan.digest,
            roster_digest=roster_digest,
            client=client,
            nonce=nonces[client],
            parameters_digest=Digest(parameters.digest()),
            level=len(parameters.data_primes),
            scale=parameters.scale,
            chunks=parameters.chunks,
            root_c0=roots[client][0],
            root_c1=roots[client][1],
        )
        for client in clients
    ]
    seals = [
        RosterSeal(key_id=plan.ckks.key_id, roster_digest=roster_digest, holder=holder)
        for holder in plan.ckks.group.holders
    ]
    roster = FrozenRoster(
        plan_digest=plan.digest,
        joins=tuple(authenticated(identities[one.client], one) for one in joins),
        seals=tuple(
            authenticated(house.made.identity(Party(role=Role.KEY_HOLDER, name=one.holder)), one) for one in seals
        ),
    )
    return Opening(
        house=house,
        pool=pool,
        plan=plan,
        ceremony=key.bundle.plan.digest,
        vectors={client: vector for client, (vector, _) in made.items()},
        ciphertexts={client: one for client, (_, one) in made.items()},
        request=ApprovalRequest(
            plan=plan, roster=roster, uploads=tuple(authenticated(identities[one.client], one) for one in uploads)
        ),
    )


def cause_of(raised: pytest.ExceptionInfo[RemoteError]) -> BaseException | None:
    return raised.value.__cause__


async def refused(call: Any, kind: type[Exception]) -> None:
    """Await a call that has to be refused with the catalogue's error of that kind."""
    with pytest.raises(RemoteError) as raised:
        await call
    assert isinstance(cause_of(raised), kind), cause_of(raised)


def _sum(ciphertexts: Sequence[Ciphertext]) -> Ciphertext:
    from he.accumulate import Accumulator

    total = Accumulator(ciphertexts[0].parameters)
    for ciphertext in ciphertexts:
        total.add(ciphertext)
    return total.finish()


def damaged(half: np.ndarray, damage: str, prime: int) -> np.ndarray:
    made = half.copy()
    if damage == "residue at the prime":
        made[1, 0, 5] = prime
    elif damage == "transparent":
        made[1] = 0
    elif damage == "too few chunks":
        made = made[:-1]
    elif damage == "too many chunks":
        made = np.concatenate([made, made[:1]])
    else:
        made[1, 0, 5] = (int(made[1, 0, 5]) + 1) % prime
    return made
