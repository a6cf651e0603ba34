"""What every simulated round starts from, made once for each process: certificates, a job, a certified key, ciphertexts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from he.ciphertext import chunk_to_bytes
from he.encrypt import SEED_BYTES
from he.packing import pack
from he.public_key import PublicKey
from secagg import codec
from secagg.ids import ClientId, Digest, HolderId, JobId
from secagg.messages.ceremony import Hello, KeyStatement, PublicKeyBundle
from secagg.messages.round import FrozenRoster, Half, Join, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import CkksJob, Deadlines, JobSpec, TensorSpec
from secagg.policy import ClientPolicy
from secagg.signing import SignedMessage
from secagg.tls_identity import TlsIdentity
from secagg.transcript import CiphertextRoot
from tests.encryption_material import encrypt_once
from tests.pki_material import COORDINATOR, NOW, deployment

M = TypeVar("M")

HOLDERS = tuple(HolderId(name) for name in ("north", "east", "south", "west", "middle"))
CLIENTS = tuple(ClientId(name) for name in ("alice", "bob", "carol", "dave", "erin"))
EPOCH_SECONDS = NOW.timestamp()
"""What the clocks of a simulation show at its beginning."""
SPEC = JobSpec(
    job=JobId("digits"),
    tensors=(TensorSpec(name="w", shape=(3, 2), dtype="float32"), TensorSpec(name="b", shape=(2,), dtype="float64")),
    protocol=CkksJob(holders=HOLDERS, threshold=3, corrupt_holders=2, min_holders=4),
    min_contributors=3,
    max_clients=5,
    purpose="simulation",
    deadlines=Deadlines(
        keying_seconds=90.0,
        open_seconds=60.0,
        uploading_seconds=90.0,
        approving_seconds=60.0,
        decrypting_seconds=60.0,
    ),
)
POLICY = ClientPolicy(holders=frozenset(HOLDERS))
LONGEST_ROUND_SECONDS = SPEC.longest_seconds + 10.0


def holder_party(holder: HolderId) -> Party:
    return Party(role=Role.KEY_HOLDER, name=holder)


def client_party(client: ClientId) -> Party:
    return Party(role=Role.CLIENT, name=client)


@cache
def _identities(ca: str) -> dict[Party, TlsIdentity]:
    parties = (COORDINATOR, *map(holder_party, HOLDERS), *map(client_party, CLIENTS))
    with TemporaryDirectory() as directory:
        made = deployment(Path(directory) / ca, at=NOW)
        return {party: made.identity(party) for party in parties}


def identity(party: Party) -> TlsIdentity:
    """Return a party's certificate and key."""
    return _identities("ours")[party]


def impostor(party: Party) -> TlsIdentity:
    """Return what a CA that nobody trusts made for the same name."""
    return _identities("another")[party]


def signed_by(party: Party, message: Any) -> Authenticated[Any]:
    """Sign anything as anybody, in whosever name it is."""
    return Authenticated(message=message, party=party, signed=codec.sign(message, identity(party).signer))


_READ: dict[tuple[SignedMessage, object], Authenticated[Any]] = {}
_MOST_READ = 4096


def read(signed: SignedMessage, kind: type[M]) -> Authenticated[M]:
    """Authenticate what came over the network. The same bytes give the same answer, so each is verified once for everybody."""
    if (signed, kind) not in _READ:
        if len(_READ) >= _MOST_READ:
            _READ.clear()
        at = datetime.fromtimestamp(EPOCH_SECONDS, UTC)
        _READ[signed, kind] = codec.authenticate(signed, kind, trust=identity(COORDINATOR).trust, at=at)
    return _READ[signed, kind]


def read_all(messages: tuple[Authenticated[M], ...], kind: type[M]) -> tuple[Authenticated[M], ...]:
    """Authenticate what was signed; the reader takes nobody's word for what it says."""
    return tuple(read(one.signed, kind) for one in messages)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a client wants to have averaged."""

    arrays: dict[str, npt.NDArray[Any]]
    weight: float


@cache
def update_of(client: ClientId) -> Update:
    draws = np.random.default_rng(CLIENTS.index(client))
    arrays = {one.name: draws.uniform(-0.9, 0.9, one.shape).astype(one.dtype) for one in SPEC.tensors}
    return Update(arrays=arrays, weight=float(draws.uniform(0.6, 1.0)))


def expected_mean(contributors: tuple[ClientId, ...]) -> dict[str, npt.NDArray[np.float64]]:
    updates = [update_of(client) for client in contributors]
    total = sum(one.weight for one in updates)
    return {
        tensor.name: np.asarray(sum(one.weight * one.arrays[tensor.name].astype(np.float64) for one in updates) / total)
        for tensor in SPEC.tensors
    }


@dataclass(frozen=True, kw_only=True)
class Ciphertext:
    """An encrypted update as it is uploaded."""

    halves: dict[Half, bytes]
    nonce: bytes

    def root(self, half: Half) -> Digest:
        root = CiphertextRoot()
        root.add(self.halves[half])
        return root.digest()


_CIPHERTEXTS: dict[bytes, dict[ClientId, Ciphertext]] = {}
_MOST_KEYS = 3


def encrypted(public_key: PublicKey, client: ClientId) -> Ciphertext:
    """Encrypt a client's update as a client does, once for each key: one chunk."""
    key = public_key.digest()
    if key not in _CIPHERTEXTS:
        while len(_CIPHERTEXTS) >= _MOST_KEYS:
            # The first key is the one that is used again and again.
            del _CIPHERTEXTS[list(_CIPHERTEXTS)[1]]
        _CIPHERTEXTS[key] = {}
    if client not in _CIPHERTEXTS[key]:
        _CIPHERTEXTS[key][client] = _encrypted(public_key, client)
    return _CIPHERTEXTS[key][client]


def _encrypted(public_key: PublicKey, client: ClientId) -> Ciphertext:
    update = update_of(client)
    vector, _ = pack(update.arrays, update.weight, layout=SPEC.layout, clip=SPEC.clip, max_weight=SPEC.max_weight)
    draws = random.Random(f"client/{public_key.digest().hex()}/{client}")
    made = encrypt_once(public_key, vector, seed=draws.randbytes(SEED_BYTES))
    halves = {Half.C0: chunk_to_bytes(made.c0[0]), Half.C1: chunk_to_bytes(made.c1[0])}
    return Ciphertext(halves=halves, nonce=random.Random(f"nonce/{client}").randbytes(32))


def bundle_as_read(bundle: PublicKeyBundle) -> PublicKeyBundle:
    """Return a key bundle with every signature in it verified by its reader."""
    return PublicKeyBundle(
        plan=bundle.plan,
        hellos=read_all(bundle.hellos, Hello),
        b=bundle.b,
        statements=read_all(bundle.statements, KeyStatement),
    )


def roster_as_read(roster: FrozenRoster) -> FrozenRoster:
    """Return a roster with every signature in it verified by its reader."""
    return FrozenRoster(
        plan_digest=roster.plan_digest, joins=read_all(roster.joins, Join), seals=read_all(roster.seals, RosterSeal)
    )
