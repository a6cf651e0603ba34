"""What one client sends and receives in a round, message by message (``docs/protocol.md``, sections 5, 6, 10)."""

from __future__ import annotations

from typing import Any, Final

from he.ciphertext import half_chunk_bytes
from secagg import codec
from secagg.identity import Role
from secagg.ids import ClientId, Digest, HolderId, KeyId, RoundNumber
from secagg.masking.planner import Numbers
from secagg.masking.shamir import SEALED_PAIR_BYTES, SHARE_BYTES
from secagg.messages.ceremony import Hello, KeyStatement
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import Join, Result, RosterSeal, Upload
from secagg.plan import CeremonyPlan, CkksRound, JobSpec, MaskingRound, RoundPlan
from secagg.planning.question import DTYPE_BYTES
from secagg.planning.sizes import (
    DIGEST_FIELD,
    DOUBLE_FIELD,
    PART_BYTES,
    REQUEST_ID_BYTES,
    Traffic,
    field,
    number_field,
    on_wire,
    signed_bytes,
    varint,
    with_overhead,
)

CKKS_CALLS: Final = 7
MASKING_CALLS: Final = 13
"""Calls of one client in one round, each that waits counted once."""

_ZEROS: Final = Digest(bytes(32))
_KEY: Final = KeyId(bytes(32))
_FIRST: Final = RoundNumber(1)
_STANDING: Final = 2
"""A phase, alone in its message."""


class _Sizes:
    """Lengths of what a round's messages have in common."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.clients = spec.max_clients
        self.name_bytes = len(spec.job)
        self.client = ClientId("c" * self.name_bytes)

    def of_client(self, message: object) -> int:
        return signed_bytes(message, Role.CLIENT, self.name_bytes)

    def of_holder(self, message: object) -> int:
        return signed_bytes(message, Role.KEY_HOLDER, self.name_bytes)

    @property
    def asked(self) -> int:
        """A request that names job and round, and how long it waits."""
        return field(self.name_bytes) + number_field(_FIRST) + DOUBLE_FIELD

    def sent(self, signed: int) -> int:
        """A request that carries a signed message."""
        return field(REQUEST_ID_BYTES) + field(self.name_bytes) + number_field(_FIRST) + field(signed)

    def result(self) -> int:
        """The signed result of all clients."""
        spec = self.spec
        result = Result(
            plan_digest=_ZEROS,
            roster_digest=_ZEROS,
            contributors=(self.client,) * self.clients,
            total_weight=1.0,
            mean_digest=_ZEROS,
            mean_bytes=mean_bytes(spec),
        )
        return 2 + field(signed_bytes(result, Role.COORDINATOR, self.name_bytes))

    def parts(self, size: int, part: int) -> int:
        """An upload in parts, each with offset and SHA-256, on the wire."""
        return sum(
            on_wire(field(number_field(at) + field(min(part, size - at)) + DIGEST_FIELD)) for at in range(0, size, part)
        )


def mean_bytes(spec: JobSpec) -> int:
    """Return the length of a published mean."""
    return sum(tensor.size * DTYPE_BYTES[tensor.dtype] for tensor in spec.tensors)


def _mean_down(spec: JobSpec) -> int:
    size = mean_bytes(spec)
    return sum(on_wire(field(min(PART_BYTES, size - at))) for at in range(0, size, PART_BYTES))


def ckks_client(spec: JobSpec) -> Traffic:
    """Return what one client of a ``ckks`` round sends and receives when everybody takes part."""
    sizes = _Sizes(spec)
    join = sizes.of_client(Join(plan_digest=_ZEROS, client=sizes.client, commitment=_ZEROS))
    upload = sizes.of_client(upload_of(spec, sizes.client))
    roster = field(DIGEST_FIELD + sizes.clients * field(join) + _quorum(spec) * field(sizes.of_holder(_seal(spec))))
    asked = on_wire(sizes.asked)
    up = {
        "ciphertext": _ciphertext(spec, sizes),
        "signed messages": on_wire(sizes.sent(join)) + 2 * on_wire(sizes.sent(upload)),
        "questions": 4 * asked,
    }
    down = {
        "plan and key": on_wire(2 + _offer(spec, sizes)),
        "roster": on_wire(2 + roster),
        "result": on_wire(sizes.result()),
        "mean": _mean_down(spec),
        "receipts": 3 * on_wire(0),
    }
    return with_overhead(up, down, calls=CKKS_CALLS, dials=Role.CLIENT, serves=Role.COORDINATOR, name=sizes.name_bytes)


def _ciphertext(spec: JobSpec, sizes: _Sizes) -> int:
    parameters = spec.parameters(len(spec.ckks.holders))
    chunk = half_chunk_bytes(parameters)
    half = sizes.parts(parameters.chunks * chunk, PART_BYTES // chunk * chunk)
    # each part says which half it is of
    parts = -(-parameters.chunks // (PART_BYTES // chunk))
    return 2 * (half + 2 * parts)


def upload_of(spec: JobSpec, client: ClientId) -> Upload:
    """Return an opening of a commitment, of its length."""
    parameters = spec.parameters(len(spec.ckks.holders))
    return Upload(
        plan_digest=_ZEROS,
        roster_digest=_ZEROS,
        client=client,
        nonce=_ZEROS,
        parameters_digest=_ZEROS,
        level=len(parameters.data_primes),
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=_ZEROS,
        root_c1=_ZEROS,
    )


def _quorum(spec: JobSpec) -> int:
    return spec.ckks.group(spec.ckks.holders).quorum


def _holder(spec: JobSpec) -> HolderId:
    return spec.ckks.holders[0]


def _seal(spec: JobSpec) -> RosterSeal:
    return RosterSeal(key_id=_KEY, roster_digest=_ZEROS, holder=_holder(spec))


def _offer(spec: JobSpec, sizes: _Sizes) -> int:
    """The plan, and the key with what every holder signed."""
    group, parameters = spec.ckks.group(spec.ckks.holders), spec.parameters(len(spec.ckks.holders))
    plan = RoundPlan(spec=spec, round=_FIRST, protocol=CkksRound(key_id=_KEY, group=group))
    ceremony = codec.ceremony_plan_to_bytes(CeremonyPlan(spec=spec, round=_FIRST, attempt=1, group=group))
    signed = sizes.of_holder(hello(_holder(spec))), sizes.of_holder(statement(_holder(spec)))
    public = 4 * len(parameters.key_primes) * parameters.degree
    bundle = field(len(ceremony)) + len(group.holders) * sum(map(field, signed)) + field(public)
    return field(len(codec.round_plan_to_bytes(plan))) + field(bundle)


def hello(holder: HolderId) -> Hello:
    """Return a hello of its length."""
    return Hello(ceremony_digest=_ZEROS, holder=holder, nonce=_ZEROS, hpke_public_key=_ZEROS, seed_commitment=_ZEROS)


def statement(holder: HolderId) -> KeyStatement:
    """Return a key statement of its length."""
    return KeyStatement(key_id=_KEY, ceremony_digest=_ZEROS, context=_ZEROS, public_key_digest=_ZEROS, holder=holder)


def masking_client(spec: JobSpec, numbers: Numbers) -> Traffic:
    """Return what one client of a ``masking`` round sends and receives when everybody stays to the end."""
    sizes = _Sizes(spec)
    k = numbers.neighbours
    common: dict[str, Any] = {"plan_digest": _ZEROS, "client": sizes.client}
    join = sizes.of_client(MaskingJoin(**common, mask_key=_ZEROS, share_key=_ZEROS, seed_commitment=_ZEROS))
    context = common | {"roster_digest": _ZEROS}
    shares = sizes.of_client(Shares(**context, sealed=(bytes(SEALED_PAIR_BYTES),) * k))
    unmasking = sizes.of_client(Unmasking(**context, survivors_digest=_ZEROS, shares=(bytes(SHARE_BYTES),) * k))
    confirmation = sizes.of_client(Confirmation(**context, survivors_digest=_ZEROS))
    vector = spec.masking_parameters.vector_bytes
    upload = sizes.of_client(MaskedUpload(**context, sharers_digest=_ZEROS, vector_digest=_ZEROS, vector_bytes=vector))
    messages = (join, shares, upload, upload, confirmation, unmasking)
    up = {
        "vector": sizes.parts(vector, PART_BYTES),
        "signed messages": sum(on_wire(sizes.sent(one)) for one in messages),
        "questions": 7 * on_wire(sizes.asked),
    }
    positions = sum(varint(place) for place in range(sizes.clients))
    shown = confirmations_shown(numbers)
    roster = DIGEST_FIELD + sizes.clients * field(join) + sum(map(number_field, (k, numbers.threshold, numbers.quorum)))
    down = {
        "plan": on_wire(2 + field(_masking_plan(spec))),
        "roster": on_wire(2 + field(roster)),
        "shares": on_wire(_shown(positions) + k * field(number_field(sizes.clients) + field(SEALED_PAIR_BYTES))),
        "survivors and confirmations": on_wire(_shown(positions)) + on_wire(_shown(0) + shown * field(confirmation)),
        "result": on_wire(sizes.result()),
        "mean": _mean_down(spec),
        "receipts": 6 * on_wire(0),
    }
    calls, name = MASKING_CALLS, sizes.name_bytes
    return with_overhead(up, down, calls=calls, dials=Role.CLIENT, serves=Role.COORDINATOR, name=name)


def confirmations_shown(numbers: Numbers) -> int:
    """Return how many confirmations a client sees: its neighbours', filled up to a quorum, and never its own."""
    return min(numbers.clients - 1, max(numbers.neighbours, numbers.quorum))


def _shown(positions: int) -> int:
    """Standing, readiness and a packed list of positions."""
    return field(_STANDING) + 2 + field(positions)


def _masking_plan(spec: JobSpec) -> int:
    plan = RoundPlan(spec=spec, round=_FIRST, protocol=MaskingRound(nonce=bytes(32)))
    return len(codec.round_plan_to_bytes(plan))
