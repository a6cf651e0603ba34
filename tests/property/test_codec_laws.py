"""The codec on every message: there and back is the same, and any bytes are either read or one error (docs/protocol.md, 2)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from secagg import codec
from secagg.certificates import new_private_key
from secagg.codec import signed as signed_codec
from secagg.errors import CertificateError, MessageError, PlanError
from secagg.identity import Party, Role, SignedMessage, Signer, TrustRoot
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, KeyStatement, SeedOpening, Trial, Verdict
from secagg.messages.job import JobState, JobStatus
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import (
    Approval,
    Half,
    HolderStatus,
    HolderVerdict,
    Join,
    PartialStatement,
    Phase,
    Result,
    RosterSeal,
    RoundStatus,
    Upload,
)
from secagg.messages.signed import Authenticated
from secagg.plan import (
    CeremonyPlan,
    CkksJob,
    CkksRound,
    Deadlines,
    JobSpec,
    MaskingJob,
    MaskingRound,
    RoundPlan,
    TensorSpec,
)
from secagg.trust import extended_usages
from secagg.wire.v1 import ceremony_pb2, operator_service_pb2, plan_pb2, round_pb2, signed_pb2
from tests.pki_material import NOW, Crafted, authority

DIGESTS = st.binary(min_size=32, max_size=32)
NAMES: st.SearchStrategy[Any] = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
COUNTS = st.integers(0, 2**32 - 1)
REALS = st.floats(allow_nan=False, allow_infinity=False)

# What each field of a signed message may hold; a field that is missing here is a 32-byte digest, nonce, seed or key.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "holder": NAMES,
    "client": NAMES,
    "b": st.binary(max_size=200),
    "sealed_digests": st.lists(DIGESTS, max_size=9).map(tuple),
    "complaint": st.text(max_size=1000),
    "liars": st.lists(NAMES, max_size=9).map(tuple),
    "contributors": st.lists(NAMES, max_size=20).map(tuple),
    "level": COUNTS,
    "chunks": COUNTS,
    "scale": REALS,
    "total_weight": REALS,
    "mean_bytes": st.integers(0, 2**64 - 1),
    "vector_bytes": st.integers(0, 2**64 - 1),
    "sealed": st.lists(st.binary(max_size=100), max_size=9).map(tuple),
    "shares": st.lists(st.binary(max_size=40), max_size=9).map(tuple),
}
KINDS = (
    Hello,
    KeyCommitment,
    Dealing,
    Trial,
    KeyStatement,
    SeedOpening,
    Verdict,
    Join,
    RosterSeal,
    Upload,
    Approval,
    PartialStatement,
    Result,
    MaskingJoin,
    Shares,
    MaskedUpload,
    Confirmation,
    Unmasking,
)
OF_CLIENTS = (Join, Upload, MaskingJoin, Shares, MaskedUpload, Confirmation, Unmasking)
ROLES = {**dict.fromkeys(OF_CLIENTS, Role.CLIENT), Result: Role.COORDINATOR}


@cache
def _trusted() -> tuple[TrustRoot, Any]:
    root = authority()
    return TrustRoot((root.certificate,)), root


@cache
def _signer(role: Role, name: str) -> Signer:
    _, root = _trusted()
    hosts = (Party(role=role, name=name).server_name,) if role.serves else ()
    key = new_private_key()
    crafted = Crafted(
        uris=(Party(role=role, name=name).uri,), hosts=hosts, usages=tuple(extended_usages(role)), key=key
    )
    return Signer(private_key=key, certificate=crafted.der(root))


def _messages(kind: type) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{one.name: FIELDS.get(one.name, DIGESTS) for one in fields(kind)})


def _ckks_jobs() -> st.SearchStrategy[CkksJob]:
    counts = st.integers(4, 6)
    return counts.flatmap(
        lambda count: st.builds(
            CkksJob,
            holders=st.just(tuple(HolderId(f"holder-{i}") for i in range(count))),
            min_holders=st.integers(4, count),
            preset=st.sampled_from(["ckks-4096", "ckks-8192"]),
            security_bits=st.integers(40, 44),
            precision=st.floats(1e-2, 1),
        )
    )


def _masking_jobs() -> st.SearchStrategy[MaskingJob]:
    return st.builds(
        MaskingJob,
        value_bits=st.integers(15, 28),
        precision=st.floats(1e-2, 1),
        corrupt_fraction=st.sampled_from([0.0, 0.05, 0.07]),
        dropout_fraction=st.just(0.0),
    )


@st.composite
def job_specs(draw: st.DrawFn, protocols: st.SearchStrategy[Any] | None = None) -> JobSpec:
    tensors = draw(
        st.lists(
            st.builds(
                TensorSpec,
                name=st.text(min_size=1, max_size=20).filter(
                    lambda text: not any("\ud800" <= c <= "\udfff" for c in text)
                ),
                shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
                dtype=st.sampled_from(["float16", "float32", "float64"]),
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda tensor: tensor.name,
        )
    )
    return JobSpec(
        job=JobId(draw(NAMES)),
        tensors=tuple(tensors),
        protocol=draw(_ckks_jobs() | _masking_jobs() if protocols is None else protocols),
        min_contributors=draw(st.integers(3, 4)),
        max_clients=draw(st.integers(4, 10)),
        purpose=draw(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40)),
        clip=draw(st.floats(0.5, 2)),
        min_total_weight=draw(st.floats(1, 2)),
        rounds=draw(st.integers(0, 2**63)),
        deadlines=Deadlines(open_seconds=draw(st.floats(1, 1e6))),
    )


@st.composite
def round_plans(draw: st.DrawFn) -> RoundPlan:
    spec = draw(job_specs())
    number = RoundNumber(draw(st.integers(1, 2**63)))
    if isinstance(spec.protocol, MaskingJob):
        return RoundPlan(spec=spec, round=number, protocol=MaskingRound(nonce=draw(DIGESTS)))
    group = spec.ckks.group(spec.ckks.holders)
    return RoundPlan(spec=spec, round=number, protocol=CkksRound(key_id=KeyId(draw(DIGESTS)), group=group))


@st.composite
def round_statuses(draw: st.DrawFn) -> RoundStatus:
    return RoundStatus(
        job=JobId(draw(NAMES)),
        round=RoundNumber(draw(st.integers(1, 2**63))),
        phase=draw(st.sampled_from(Phase)),
        reason=draw(st.text(max_size=20)),
        joined=draw(COUNTS),
        uploaded=draw(COUNTS),
        approvals=draw(COUNTS),
        answers=draw(COUNTS),
        phase_started=draw(st.dictionaries(st.sampled_from(Phase), REALS)),
        holders=draw(
            st.lists(
                st.builds(
                    HolderStatus, holder=NAMES, verdict=st.sampled_from(HolderVerdict), reason=st.text(max_size=20)
                ),
                max_size=5,
            ).map(tuple)
        ),
        plan=draw(st.none() | round_plans()),
        contributors=draw(st.lists(NAMES, max_size=5).map(tuple)),
        total_weight=draw(REALS),
        shared=draw(COUNTS),
    )


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_signed_message_arrives_as_it_was_sent(kind: type, data: st.DataObject) -> None:
    message = data.draw(_messages(kind))
    name = getattr(message, "holder", None) or getattr(message, "client", None) or "main"
    signer = _signer(ROLES.get(kind, Role.KEY_HOLDER), name)
    trust, _ = _trusted()
    sent = codec.signed_from_bytes(codec.signed_to_bytes(codec.sign(message, signer)))
    arrived: Authenticated[Any] = codec.authenticate(sent, kind, trust=trust, at=NOW)
    assert arrived.message == message
    assert arrived.party == signer.party
    assert arrived.signed == sent


@given(spec=job_specs())
def test_a_job_comes_back_with_the_same_content(spec: JobSpec) -> None:
    assert codec.job_spec_from_bytes(codec.job_spec_to_bytes(spec)) == spec


@given(plan=round_plans())
def test_a_plan_comes_back_with_the_same_digest(plan: RoundPlan) -> None:
    back = codec.round_plan_from_bytes(codec.round_plan_to_bytes(plan))
    assert back == plan
    assert back.digest == plan.digest


@given(spec=job_specs(_ckks_jobs()), round=st.integers(1, 2**63), attempt=st.integers(1, 2**32 - 1))
def test_a_ceremony_plan_comes_back_with_the_same_digest(spec: JobSpec, round: int, attempt: int) -> None:
    group = spec.ckks.group(spec.ckks.holders)
    ceremony = CeremonyPlan(spec=spec, round=RoundNumber(round), attempt=attempt, group=group)
    back = codec.ceremony_plan_from_bytes(codec.ceremony_plan_to_bytes(ceremony))
    assert back == ceremony
    assert back.digest == ceremony.digest


@given(status=round_statuses())
def test_the_state_of_a_round_comes_back(status: RoundStatus) -> None:
    assert codec.round_status_from_wire(codec.round_status_to_wire(status)) == status


@given(spec=job_specs(), state=st.sampled_from(JobState), ended=st.tuples(COUNTS, COUNTS), at=REALS)
def test_the_state_of_a_job_comes_back(spec: JobSpec, state: JobState, ended: tuple[int, int], at: float) -> None:
    status = JobStatus(spec=spec, state=state, published_rounds=ended[0], aborted_rounds=ended[1], created_at=at)
    assert codec.job_status_from_wire(codec.job_status_to_wire(status)) == status


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_comes_back(phase: Phase) -> None:
    assert codec.phase_from_wire(codec.phase_to_wire(phase)) is phase


@pytest.mark.parametrize("half", Half)
def test_both_halves_come_back(half: Half) -> None:
    assert codec.half_from_wire(codec.half_to_wire(half)) is half


@cache
def _readers() -> dict[str, tuple[Callable[[bytes], object], bytes]]:
    """Every decoder of bytes, and bytes that it takes."""
    trust, _ = _trusted()
    spec = JobSpec(
        job=JobId("digits"),
        tensors=(TensorSpec(name="w", shape=(3,), dtype="float32"),),
        protocol=CkksJob(holders=tuple(HolderId(f"holder-{i}") for i in range(5))),
        min_contributors=3,
        max_clients=8,
        purpose="a test",
    )
    group = spec.ckks.group(spec.ckks.holders)
    plan = RoundPlan(spec=spec, round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(bytes(32)), group=group))
    ceremony = CeremonyPlan(spec=spec, round=RoundNumber(1), attempt=1, group=group)
    join = codec.sign(
        Join(plan_digest=plan.digest, client=ClientId("alice"), commitment=bytes(32)), _signer(Role.CLIENT, "alice")
    )
    seal = codec.sign(
        RosterSeal(key_id=KeyId(bytes(32)), roster_digest=Digest(bytes(32)), holder=HolderId("holder-0")),
        _signer(Role.KEY_HOLDER, "holder-0"),
    )
    signed = codec.signed_to_wire
    roster = round_pb2.FrozenRoster(plan_digest=plan.digest, joins=[signed(join)], seals=[signed(seal)])
    bundle = ceremony_pb2.PublicKeyBundle(plan=codec.ceremony_plan_to_wire(ceremony), b=b"b")
    status = codec.round_status_to_wire(RoundStatus(job=spec.job, round=RoundNumber(1), phase=Phase.OPEN, plan=plan))
    job_status = JobStatus(spec=spec, state=JobState.RUNNING, published_rounds=0, aborted_rounds=0, created_at=0.0)
    dealing = ceremony_pb2.DealingBundle(dealing=signed_pb2.Signed(payload=b"x"))
    trial = ceremony_pb2.TrialBundle(trial=signed_pb2.Signed(payload=b"x"), answer=b"y")

    def parsed(kind: Any, read: Callable[..., object], **options: object) -> Callable[[bytes], object]:
        # gRPC parses before a handler sees anything; bytes that are no message never come this far.
        return lambda data: read(kind.FromString(data), **options)

    at: dict[str, Any] = {"trust": trust, "at": NOW}
    return {
        "job": (codec.job_spec_from_bytes, codec.job_spec_to_bytes(spec)),
        "plan": (codec.round_plan_from_bytes, codec.round_plan_to_bytes(plan)),
        "ceremony": (codec.ceremony_plan_from_bytes, codec.ceremony_plan_to_bytes(ceremony)),
        "signed": (codec.signed_from_bytes, codec.signed_to_bytes(join)),
        "roster": (lambda data: codec.roster_from_bytes(data, **at), roster.SerializeToString()),
        "key": (lambda data: codec.key_bundle_from_bytes(data, **at), bundle.SerializeToString()),
        "round state": (parsed(round_pb2.RoundStatus, codec.round_status_from_wire), status.SerializeToString()),
        "job state": (
            parsed(operator_service_pb2.JobStatus, codec.job_status_from_wire),
            codec.job_status_to_wire(job_status).SerializeToString(),
        ),
        "dealing": (parsed(ceremony_pb2.DealingBundle, codec.dealing_from_wire, **at), dealing.SerializeToString()),
        "trial": (parsed(ceremony_pb2.TrialBundle, codec.trial_from_wire, **at), trial.SerializeToString()),
    }


WHAT = ("job", "plan", "ceremony", "signed", "roster", "key", "round state", "job state", "dealing", "trial")


def _read(what: str, data: bytes) -> None:
    read, _ = _readers()[what]
    outer = (DecodeError,) if what in {"round state", "job state", "dealing", "trial"} else ()
    with suppress(MessageError, CertificateError, *outer):
        read(data)


@pytest.mark.parametrize("what", WHAT)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(what: str, data: bytes) -> None:
    _read(what, data)


@pytest.mark.parametrize("what", WHAT)
@given(data=st.data())
def test_sound_bytes_with_a_few_altered_are_read_or_refused(what: str, data: st.DataObject) -> None:
    _, sound = _readers()[what]
    altered = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(altered)))
    _read(what, bytes(altered if data.draw(st.booleans()) else altered[:end]))


@pytest.mark.parametrize("kind", KINDS)
@given(payload=st.binary(max_size=200))
def test_any_payload_under_a_sound_signature_is_read_or_refused(kind: type, payload: bytes) -> None:
    trust, _ = _trusted()
    signer = _signer(ROLES.get(kind, Role.KEY_HOLDER), "main")
    label = signed_codec._KINDS[kind].label
    with suppress(MessageError):
        codec.authenticate(signer.sign(label, payload), kind, trust=trust, at=NOW)


@given(signature=st.binary(max_size=80), certificate=st.binary(max_size=80), payload=st.binary(max_size=80))
def test_any_signature_and_certificate_are_refused(signature: bytes, certificate: bytes, payload: bytes) -> None:
    trust, _ = _trusted()
    sent = SignedMessage(payload=payload, signature=signature, certificate=certificate)
    with pytest.raises((MessageError, CertificateError)):
        codec.authenticate(sent, Join, trust=trust, at=NOW)


@given(
    wire=st.builds(
        plan_pb2.TensorSpec, name=st.text(max_size=5), shape=st.lists(st.integers(0, 2**64 - 1), max_size=40)
    )
)
def test_a_tensor_of_any_shape_is_refused_without_being_counted_out(wire: plan_pb2.TensorSpec) -> None:
    _, sound = _readers()["job"]
    job = plan_pb2.JobSpec.FromString(sound)
    del job.tensors[:]
    job.tensors.append(wire)
    with pytest.raises(MessageError):
        codec.job_spec_from_wire(job)


def test_what_a_plan_says_of_itself_survives_as_the_next_step() -> None:
    job = plan_pb2.JobSpec.FromString(_readers()["job"][1])
    job.min_contributors = 1
    with pytest.raises(MessageError, match="min_contributors 1") as caught:
        codec.job_spec_from_wire(job)
    assert caught.value.next_step == PlanError.ADVICE
