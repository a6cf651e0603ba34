"""Line 5 of the threat model, carried out: one malformed ciphertext and the coordinator read every update of the round.

Every key holder is honest. Mallory joins, commits and signs like anybody else; only her c1 is no encryption but K, a large
constant, so that the answers of the holders say K·s + (a sum that is small beside K): the round's secret key s. What the
coordinator adds to this is what it has anyway, every c0 and c1 and the answers. Mallory's commitment stands before she sees
another ciphertext, and K depends on none.

The day on which clients prove that their ciphertexts are well formed, these tests fail: then line 5 of
`docs/threat-model.md`, section 7 of DESIGN and the README's warning have to change, and these tests have to show a refusal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from coordinator.spool import UploadKey, UploadPart, UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from he.accumulate import Accumulator
from he.ciphertext import Ciphertext, chunk_to_bytes, half_chunk_bytes
from he.decode import coefficients
from he.errors import ImplausibleSumError
from he.key_share import KeyShare
from he.keygen import generate
from he.packing import pack, unpack_mean
from he.partial import Partial, answer_block
from he.public_key import PublicKey
from he.recover import recover
from he.residues import Residues
from he.ring import ring_for
from he.sharing import value_at_zero
from secagg import codec
from secagg.ids import ClientId, HolderId, KeyId
from secagg.key_holder.contributions import ContributionReader, SumOfC1
from secagg.messages.round import Approval, FrozenRoster, Half
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import opening
from secagg.roles.key_holder.opening import (
    Answer,
    ApprovalAsked,
    ApprovalOffered,
    DecryptionAsked,
    OpeningState,
    ReplyApproval,
)
from secagg.roles.key_holder.request import Request
from secagg.transcript import CiphertextRoot
from tests.encryption_material import encrypt_once
from tests.he_material import open_alone, random_residues
from tests.holder_material import ALL_HOLDERS, Contributor, ceremony_plan, job_spec, request_of, round_plan
from tests.pki_material import Deployment, deployment

HOLDERS, THRESHOLD = 5, 3
CEREMONY = ceremony_plan(job_spec(HOLDERS, THRESHOLD))
SPEC = CEREMONY.spec
PARAMETERS = CEREMONY.parameters
RING = ring_for(PARAMETERS)
WEIGHTS = {"alice": 0.8, "bob": 0.35, "carol": 1.0}
MALLORY = "mallory"
MessageT = TypeVar("MessageT")
USUAL = 0.02
"""Updates far below the clip bound, as training makes them: they do not hide which multiple of K a coefficient has."""
RESOLUTION = np.finfo(np.float32).eps
ERROR_BOUND = 21 * HOLDERS
"""The largest coefficient that the error of an honest public key can have: one draw of each holder."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round whose victims are honest, up to the moment at which Mallory chooses her ciphertext."""

    plan: RoundPlan
    public_key: PublicKey
    shares: tuple[KeyShare, ...]
    updates: Mapping[str, npt.NDArray[np.float32]]
    ciphertexts: Mapping[str, Ciphertext]
    certificates: Deployment


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Round:
    public_key, shares = generate(PARAMETERS, randomness=bytes(range(32)))
    source = np.random.default_rng(7)
    updates = {name: source.uniform(-USUAL, USUAL, SPEC.values).astype(np.float32) for name in WEIGHTS}
    return Round(
        plan=round_plan(CEREMONY, KeyId(shares[0].key_id)),
        public_key=public_key,
        shares=shares,
        updates=updates,
        ciphertexts={name: encrypt_once(public_key, packed(updates[name], weight)) for name, weight in WEIGHTS.items()},
        certificates=deployment(tmp_path_factory.mktemp("pki")),
    )


def packed(update: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float64]:
    return pack({"w": update}, weight, layout=SPEC.layout, clip=SPEC.clip, max_weight=SPEC.max_weight)[0]


# What Mallory sends, and what the coordinator knows of it.


@dataclass(frozen=True, kw_only=True)
class Trap:
    """A ciphertext with c1 = K / `mask`; K is about 2^77, `mask` a short polynomial, in NTT form (L, N)."""

    ciphertext: Ciphertext
    mask: Residues


def step_size() -> int:
    """K: its multiples by -n..n, as far as a coefficient of s goes, stay apart modulo Q."""
    return PARAMETERS.data_modulus // (2 * PARAMETERS.holders + 2)


def plain_trap(_stage: Round) -> Trap:
    """A constant has the same residue in every place: simple, and simple to recognise."""
    return trap_with(short_polynomial([0]))


def disguised_trap(_stage: Round) -> Trap:
    """K divided by a short polynomial looks as random as any c1: no look at its residues tells it from an honest one."""
    source = np.random.default_rng(99)
    while True:
        mask = short_polynomial(source.choice(PARAMETERS.degree, size=6, replace=False).tolist())
        if mask.all():
            return trap_with(mask)


def honest_fourth(stage: Round) -> Trap:
    """An honest client, whom the coordinator takes for Mallory."""
    vector = packed(np.zeros(SPEC.values, dtype=np.float32), 1.0)
    return Trap(ciphertext=encrypt_once(stage.public_key, vector), mask=short_polynomial([0]))


def short_polynomial(powers: list[int]) -> Residues:
    """Return the sum of these powers of X, in NTT form, (L, N)."""
    polynomial = np.zeros(PARAMETERS.degree, dtype=np.int64)
    polynomial[powers] = 1
    return RING.forward(RING.reduce(polynomial))


def trap_with(mask: Residues) -> Trap:
    """Make a c1 that differs from chunk to chunk, as the holders ask for, and a c0 that says nothing at all."""
    inverse = [[pow(value, -1, prime) for value in row] for row, prime in zip(mask.tolist(), RING.primes, strict=True)]
    constants = [[(step_size() + chunk) % prime for prime in RING.primes] for chunk in range(PARAMETERS.chunks)]
    shape = (PARAMETERS.chunks, *mask.shape)
    c1 = RING.multiply(np.array(inverse, dtype=np.uint32), spread(constants, shape))
    c0 = random_residues(RING.primes, PARAMETERS.degree, np.random.default_rng(3), PARAMETERS.chunks)
    return Trap(ciphertext=Ciphertext(PARAMETERS, c0, c1), mask=mask)


def spread(constants: list[list[int]], shape: tuple[int, ...]) -> Residues:
    """Return constants (chunks, L) as polynomials in NTT form, (chunks, L, N)."""
    return np.ascontiguousarray(np.broadcast_to(np.array(constants, dtype=np.uint32)[..., None], shape))


# What the honest parties check, each with its own code.


def request_for(stage: Round, ciphertexts: Mapping[str, Ciphertext]) -> Request:
    """Return what the coordinator shows the holders, with joins and uploads signed by their clients."""
    request = request_of(stage.plan, [contribution(name, one) for name, one in ciphertexts.items()])
    joins = tuple(authentic(stage, one.message, Role.CLIENT, one.message.client) for one in request.roster.joins)
    uploads = tuple(authentic(stage, one.message, Role.CLIENT, one.message.client) for one in request.uploads)
    seals = tuple(authentic(stage, one.message, Role.KEY_HOLDER, one.message.holder) for one in request.roster.seals)
    roster = FrozenRoster(plan_digest=stage.plan.digest, joins=joins, seals=seals)
    return Request(plan=request.plan, roster=roster, uploads=uploads)


def contribution(name: str, ciphertext: Ciphertext) -> Contributor:
    root = CiphertextRoot()
    for chunk in ciphertext.c0:
        root.add(chunk_to_bytes(chunk))
    nonce = hashlib.sha256(name.encode()).digest()
    return Contributor(client=ClientId(name), nonce=nonce, root_c0=root.digest(), c1=ciphertext.c1)


def authentic(stage: Round, message: MessageT, role: Role, name: str) -> Authenticated[MessageT]:
    """Sign with a real certificate, and verify as the receiver does."""
    identity = stage.certificates.identity(Party(role=role, name=name))
    signed = codec.sign(message, identity.signer)
    return codec.authenticate(signed, type(message), trust=identity.trust, at=stage.certificates.at)


def count_as_a_coordinator_does(request: Request, ciphertexts: Mapping[str, Ciphertext], directory: Path) -> None:
    """Let the coordinator's spool verify every upload; it raises when one must not count."""
    spool = UploadSpool(DirectoryBlobStore(directory), max_bytes=1 << 30)
    for upload in (one.message for one in request.uploads):
        key = UploadKey(job=SPEC.job, round=request.plan.round, client=upload.client)
        spool.reserve(key, PARAMETERS.chunks * half_chunk_bytes(PARAMETERS))
        halves = {Half.C0: ciphertexts[upload.client].c0, Half.C1: ciphertexts[upload.client].c1}
        for half, residues in halves.items():
            data = b"".join(map(chunk_to_bytes, residues))
            spool.append(key, UploadPart(half=half, offset=0, data=data, digest=hashlib.sha256(data).digest()))
        spool.verify(key, PARAMETERS, upload)


def answers_of_honest_holders(stage: Round, request: Request, c1: Mapping[str, Residues]) -> dict[int, Residues]:
    """Let every holder add up c1, approve and answer, as its service does; return the answers by the holders' numbers."""
    opened = [approved(stage, request, c1, holder) for holder in ALL_HOLDERS]
    approvals = tuple(approval for _, _, approval in opened)
    answers = {}
    for share, (state, total, _) in zip(stage.shares, opened, strict=True):
        digest = opening.request_digest_of(request)
        asked = DecryptionAsked(key_id=state.key_id, request_digest=digest, approvals=approvals)
        assert opening.step(state, asked).effects == (Answer(key_id=state.key_id, request_digest=digest),)
        answers[share.holder] = answer_block(share, total.block(0, PARAMETERS.chunks))
    return answers


def approved(
    stage: Round, request: Request, c1: Mapping[str, Residues], holder: HolderId
) -> tuple[OpeningState, SumOfC1, Authenticated[Approval]]:
    """Take one holder to its approval."""
    key_id = stage.plan.ckks.key_id
    state = OpeningState(holder=holder, policy=HolderPolicy(), ceremony=CEREMONY, key_id=key_id)
    state = opening.step(state, ApprovalOffered(request=request)).state
    reader = ContributionReader(PARAMETERS, [one.message.client for one in request.uploads])
    for place, upload in enumerate(request.uploads):
        data = b"".join(map(chunk_to_bytes, c1[upload.message.client]))
        reader.add(contributor=place, first_chunk=0, data=data)
    computed, total = reader.finish()
    step = opening.step(state, ApprovalAsked(request=request, computed=computed))
    [reply] = [effect for effect in step.effects if isinstance(effect, ReplyApproval)]
    return step.state, total, authentic(stage, reply.approval, Role.KEY_HOLDER, holder)


# What Mallory and the coordinator make of the answers.


def read_off_key(stage: Round, trap: Trap, answers: Mapping[int, Residues]) -> Residues:
    """Return s as it would be, in NTT form, (L, N): the nearest multiple of K, by the majority of the chunks."""
    opened, agree = value_at_zero(answers, PARAMETERS.threshold, PARAMETERS.data_primes)
    assert agree.all()
    for victim in stage.ciphertexts.values():
        opened = RING.add(opened, victim.c0)
    multiples = coefficients(PARAMETERS, RING.multiply(opened, trap.mask)) / step_size()
    secret = np.rint(np.median(multiples, axis=0)).astype(np.int64)
    return RING.forward(RING.reduce(secret))


def is_the_key(stage: Round, secret: Residues) -> bool:
    """The public key tells the attackers that they have s: b + a·s is as small as the holders' errors."""
    primes = len(PARAMETERS.data_primes)
    error = RING.add(stage.public_key.b[:primes], RING.multiply(stage.public_key.a[:primes], secret))
    return bool(np.abs(coefficients(PARAMETERS, error[None])).max() <= ERROR_BOUND)


def attack(stage: Round, trap: Trap, directory: Path) -> tuple[dict[int, Residues], Residues]:
    """Run the round with this ciphertext; return the holders' answers and what the attackers take for s."""
    ciphertexts = {**stage.ciphertexts, MALLORY: trap.ciphertext}
    request = request_for(stage, ciphertexts)
    count_as_a_coordinator_does(request, ciphertexts, directory)
    answers = answers_of_honest_holders(stage, request, {name: one.c1 for name, one in ciphertexts.items()})
    return answers, read_off_key(stage, trap, dict(list(answers.items())[:THRESHOLD]))


@pytest.mark.parametrize("make", [plain_trap, disguised_trap])
def test_a_malformed_c1_gives_every_update_of_the_round_away(
    stage: Round, tmp_path: Path, make: Callable[[Round], Trap]
) -> None:
    _, secret = attack(stage, make(stage), tmp_path)
    assert is_the_key(stage, secret)
    for name, ciphertext in stage.ciphertexts.items():
        mean, weight = unpack_mean(open_alone(ciphertext, secret), SPEC.layout, SPEC.clip, SPEC.max_weight)
        assert weight == pytest.approx(WEIGHTS[name], abs=1e-9)
        # Better than any sum is published: the attackers get no smudging.
        assert np.abs(mean["w"].astype(np.float32) - stage.updates[name]).max() < RESOLUTION


def test_a_well_formed_c1_gives_nothing_away(stage: Round, tmp_path: Path) -> None:
    """The same reading of the same answers is worth nothing when the fourth client is honest: it is the c1 that does it."""
    _, secret = attack(stage, honest_fourth(stage), tmp_path)
    assert not is_the_key(stage, secret)


def test_an_honest_coordinator_publishes_nothing_of_such_a_round(stage: Round, tmp_path: Path) -> None:
    """It notices when it opens: too late to keep the answers from a coordinator that lies, in time to publish no garbage."""
    trap = disguised_trap(stage)
    answers, _ = attack(stage, trap, tmp_path)
    accumulator = Accumulator(PARAMETERS)
    for ciphertext in (*stage.ciphertexts.values(), trap.ciphertext):
        accumulator.add(ciphertext)
    with pytest.raises(ImplausibleSumError):
        recover(accumulator.finish(), [partial_of(stage, holder, values) for holder, values in answers.items()])


def partial_of(stage: Round, holder: int, values: Residues) -> Partial:
    key_id, threshold = stage.plan.ckks.key_id, PARAMETERS.threshold
    return Partial(parameters=PARAMETERS, holder=holder, threshold=threshold, key_id=key_id, values=values)
