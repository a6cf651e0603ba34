"""What one key holder receives and sends in a round, its ceremony included (``docs/protocol.md``, sections 4 to 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from he.ciphertext import half_chunk_bytes
from he.parameters import Parameters
from secagg import codec
from secagg.identity import Role
from secagg.ids import ClientId, Digest, KeyId, RoundNumber
from secagg.messages.ceremony import Dealing, KeyCommitment, Trial
from secagg.messages.round import Approval, Join, PartialStatement, RosterSeal
from secagg.plan import CeremonyPlan, CkksRound, HolderGroup, JobSpec, RoundPlan
from secagg.planning.client_bytes import hello, statement, upload_of
from secagg.planning.sizes import (
    DIGEST_FIELD,
    PART_BYTES,
    REQUEST_ID_BYTES,
    Traffic,
    field,
    number_field,
    on_wire,
    signed_bytes,
    with_overhead,
)

HOLDER_CALLS: Final = 9
_SEALING_BYTES: Final = 48
"""HPKE: an X25519 key and a tag (RFC 9180)."""
_HEADER_BYTES: Final = 8
_SMUDGING_KEY_BYTES: Final = 32
_DIGEST: Final = Digest(bytes(32))
_KEY: Final = KeyId(bytes(32))
_FIRST: Final = RoundNumber(1)
_ADDRESSED: Final = field(REQUEST_ID_BYTES) + DIGEST_FIELD
"""A request's id, and the digest that says what it is about."""


def holder_traffic(spec: JobSpec) -> Traffic:
    """Return what one of the job's key holders sends (``up``) and receives (``down``) when everybody takes part."""
    round = _Round(spec)
    received, sent = _ceremony(round)
    received |= {"roster and uploads": _shown(round), "c1 of every client": _c1(round)}
    sent |= {
        "answer": _answer(round),
        "seal and approval": on_wire(field(round.seal)) + on_wire(field(round.approval)) + on_wire(0),
    }
    seen = with_overhead(
        received,
        sent,
        calls=HOLDER_CALLS,
        dials=Role.COORDINATOR,
        serves=Role.KEY_HOLDER,
        name=len(spec.job),
    )
    return Traffic(up=seen.down, down=seen.up)


@dataclass(frozen=True)
class _Round:
    """A job's round with all its holders."""

    spec: JobSpec

    @property
    def parameters(self) -> Parameters:
        return self.spec.parameters(len(self.spec.ckks.holders))

    @property
    def group(self) -> HolderGroup:
        return self.spec.ckks.group(self.spec.ckks.holders)

    @property
    def holders(self) -> int:
        return len(self.spec.ckks.holders)

    @property
    def public_bytes(self) -> int:
        """A polynomial over the key primes."""
        return 4 * len(self.parameters.key_primes) * self.parameters.degree

    def signed(self, message: object, role: Role = Role.KEY_HOLDER) -> int:
        return signed_bytes(message, role, len(self.spec.job))

    @property
    def seal(self) -> int:
        return self.signed(RosterSeal(key_id=_KEY, roster_digest=_DIGEST, holder=self.spec.ckks.holders[0]))

    @property
    def approval(self) -> int:
        return self.signed(Approval(key_id=_KEY, request_digest=_DIGEST, holder=self.spec.ckks.holders[0]))


def _ceremony(round: _Round) -> tuple[dict[str, int], dict[str, int]]:
    """What is received and sent until the key is vouched for."""
    n, holder = round.holders, round.spec.ckks.holders[0]
    greeting, vouching = round.signed(hello(holder)), round.signed(statement(holder))
    committed = round.signed(KeyCommitment(context=_DIGEST, holder=holder, commitment=_DIGEST))
    tried = round.signed(Trial(key_id=_KEY, holder=holder, answer_digest=_DIGEST, complaint=""))
    answer = field(field(tried) + field(_HEADER_BYTES + round.public_bytes))
    ceremony = CeremonyPlan(spec=round.spec, round=_FIRST, attempt=1, group=round.group)
    received = (
        on_wire(field(REQUEST_ID_BYTES) + field(len(codec.ceremony_plan_to_bytes(ceremony)))),
        on_wire(_ADDRESSED + n * field(greeting)),
        on_wire(_ADDRESSED + n * field(committed)),
        n * on_wire(field(_dealing(round, sealed=1))),
        on_wire(_ADDRESSED + n * answer),
    )
    sent = (
        on_wire(field(greeting)),
        on_wire(field(committed)),
        on_wire(field(_dealing(round, sealed=n))),
        on_wire(answer),
        on_wire(field(vouching) + field(round.public_bytes)),
    )
    return {"ceremony": sum(received)}, {"ceremony": sum(sent)}


def _dealing(round: _Round, *, sealed: int) -> int:
    """A signed dealing with so many sealed parts."""
    n, t, name = round.holders, round.parameters.threshold, round.spec.ckks.holders[0]
    message = Dealing(context=_DIGEST, holder=name, b=bytes(round.public_bytes), sealed_digests=(_DIGEST,) * n)
    subsets, members = math.comb(n - 2, t - 1), n - t + 1
    keys = subsets * (members + _SMUDGING_KEY_BYTES)
    part = field(field(len(name)) + field(_SEALING_BYTES + _HEADER_BYTES + round.public_bytes + keys))
    return field(round.signed(message)) + sealed * part


def _shown(round: _Round) -> int:
    """Plan, roster and uploads: the roster once to be sealed and once with the uploads, and the approvals."""
    spec, clients, name = round.spec, round.spec.max_clients, ClientId("c" * len(round.spec.job))
    join = round.signed(Join(plan_digest=_DIGEST, client=name, commitment=_DIGEST), Role.CLIENT)
    roster = field(DIGEST_FIELD + clients * field(join))
    protocol = CkksRound(key_id=_KEY, group=round.group)
    plan = field(len(codec.round_plan_to_bytes(RoundPlan(spec=spec, round=_FIRST, protocol=protocol))))
    uploads = clients * field(round.signed(upload_of(spec, name), Role.CLIENT))
    seals = round.group.quorum * field(round.seal)
    asked = on_wire(_ADDRESSED + DIGEST_FIELD + round.group.quorum * field(round.approval))
    return on_wire(plan + roster) + on_wire(plan + roster + seals + uploads) + asked + on_wire(_ADDRESSED)


def _c1(round: _Round) -> int:
    chunk, chunks = half_chunk_bytes(round.parameters), round.parameters.chunks
    step = PART_BYTES // chunk
    one = sum(
        on_wire(field(2 + number_field(at) + field(min(step, chunks - at) * chunk))) for at in range(0, chunks, step)
    )
    return round.spec.max_clients * one


def _answer(round: _Round) -> int:
    chunk, chunks = half_chunk_bytes(round.parameters), round.parameters.chunks
    step = PART_BYTES // chunk
    data = sum(on_wire(field(min(step, chunks - at) * chunk)) for at in range(0, chunks, step))
    holder = round.spec.ckks.holders[0]
    signed = round.signed(PartialStatement(key_id=_KEY, request_digest=_DIGEST, holder=holder, answer_digest=_DIGEST))
    return data + on_wire(field(signed))
