"""Who takes part in simulated masking rounds: certificates, jobs and updates, made once for each process."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.serialization import Encoding

from he.packing import pack
from secagg import codec
from secagg.certificates import Authority, make_authority, make_certificate, new_private_key
from secagg.codec.masking import masking_roster_from_bytes, masking_roster_to_bytes
from secagg.errors import MessageError
from secagg.ids import ClientId, JobId, RoundNumber
from secagg.messages.masking import MaskingRoster
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import Deadlines, JobSpec, MaskingJob, MaskingRound, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy
from secagg.signing import SignedMessage, Signer
from secagg.trust import TrustRoot
from tests.pki_material import NOW

M = TypeVar("M")

COORDINATOR = Party(role=Role.COORDINATOR, name="main")
DEADLINES = Deadlines(
    open_seconds=60.0,
    sharing_seconds=60.0,
    uploading_seconds=90.0,
    confirming_seconds=60.0,
    unmasking_seconds=60.0,
)
ROUND = RoundNumber(1)


@cache
def clients(count: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(f"client-{number:03}") for number in range(count))


def party(client: ClientId) -> Party:
    return Party(role=Role.CLIENT, name=client)


@cache
def _authority(ca: str) -> Authority:
    return make_authority(common_name=ca, at=NOW, days=3650)


@cache
def signer(name: Party, ca: str = "ours") -> Signer:
    """Return a party's certified key; another CA's certificates are an impostor's."""
    key = new_private_key()
    certificate = make_certificate(_authority(ca), name, key.public_key(), at=NOW, days=30)
    return Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER))


@cache
def trust() -> TrustRoot:
    return TrustRoot((_authority("ours").certificate,))


def signed(message: Any, by: Party, ca: str = "ours") -> SignedMessage:
    return codec.sign(message, signer(by, ca))


_READ: dict[tuple[SignedMessage, type], Authenticated[Any]] = {}
_MOST_READ = 8192


def read(message: SignedMessage, kind: type[M]) -> Authenticated[M]:
    """Authenticate what came over the network. The same bytes give the same answer, so each is verified once for everybody."""
    if (message, kind) not in _READ:
        if len(_READ) >= _MOST_READ:
            _READ.clear()
        _READ[message, kind] = codec.authenticate(message, kind, trust=trust(), at=NOW)
    return _READ[message, kind]


_ROSTERS: dict[bytes, MaskingRoster] = {}
_MOST_ROSTERS = 16


def roster_as_read(roster: MaskingRoster) -> MaskingRoster:
    """Return a roster as a client decodes it from the wire, with every signature in it verified."""
    data = masking_roster_to_bytes(roster)
    if data not in _ROSTERS:
        if len(_ROSTERS) >= _MOST_ROSTERS:
            _ROSTERS.clear()
        _ROSTERS[data] = masking_roster_from_bytes(data, trust=trust(), at=NOW)
    return _ROSTERS[data]


@cache
def job(
    most: int, *, least: int, corrupt_fraction: float = 0.1, dropout_fraction: float = 0.1, values: int = 50
) -> JobSpec:
    return JobSpec(
        job=JobId("digits"),
        purpose="simulation",
        tensors=(
            TensorSpec(name="b", shape=(values // 5,), dtype="float64"),
            TensorSpec(name="w", shape=(values - values // 5,), dtype="float32"),
        ),
        protocol=MaskingJob(corrupt_fraction=corrupt_fraction, dropout_fraction=dropout_fraction, precision=0.01),
        min_contributors=least,
        max_clients=most,
        deadlines=DEADLINES,
    )


def plan_of(spec: JobSpec, nonce: bytes, round: RoundNumber = ROUND) -> RoundPlan:
    return RoundPlan(spec=spec, round=round, protocol=MaskingRound(nonce=nonce))


def policy_of(spec: JobSpec) -> ClientPolicy:
    fraction = spec.masking.corrupt_fraction
    return ClientPolicy(min_contributors=spec.min_contributors, min_corrupt_fraction=fraction)


def nonce_of(plan: RoundPlan) -> bytes:
    if not isinstance(plan.protocol, MaskingRound):
        raise MessageError("the plan is none of a masking round")
    return plan.protocol.nonce


@cache
def update_of(client: ClientId, spec: JobSpec) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Return what a client wants to have averaged, and its weight."""
    draws = np.random.default_rng(list(client.encode()))
    arrays = {one.name: draws.uniform(-0.9, 0.9, one.shape).astype(one.dtype) for one in spec.tensors}
    return arrays, float(draws.uniform(0.6, 1.0))


@cache
def vector_of(client: ClientId, spec: JobSpec) -> npt.NDArray[np.float64]:
    arrays, weight = update_of(client, spec)
    return pack(arrays, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)[0]
