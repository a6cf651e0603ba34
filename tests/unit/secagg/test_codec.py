"""What the codec refuses, each with a message that is sound but for one thing (docs/protocol.md, section 2)."""

from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from he.parameters import PACKINGS
from secagg import codec, labels
from secagg.codec.parsing import MAX_PARTIES
from secagg.codec.signed import MAX_COMPLAINT
from secagg.errors import CertificateError, MessageError
from secagg.identity import Party, Role, Signer
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import Dealing, DealingBundle, Hello, KeyStatement, PublicKeyBundle, Trial, TrialBundle
from secagg.messages.round import (
    Approval,
    FrozenRoster,
    Join,
    PartialStatement,
    Result,
    RosterSeal,
    RoundStatus,
    Upload,
)
from secagg.plan import CeremonyPlan, CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.wire.v1 import ceremony_pb2, operator_service_pb2, plan_pb2, round_pb2
from tests.pki_material import ALICE, COORDINATOR, NORTH, NOW, Deployment, deployment

DIGEST = Digest(b"d" * 32)
JOIN = Join(plan_digest=DIGEST, client=ClientId("alice"), commitment=b"c" * 32)
HELLO = Hello(
    ceremony_digest=DIGEST,
    holder=HolderId("north"),
    nonce=b"n" * 32,
    hpke_public_key=b"k" * 32,
    seed_commitment=b"s" * 32,
)
RESULT = Result(
    plan_digest=DIGEST,
    roster_digest=DIGEST,
    contributors=(ClientId("alice"),),
    total_weight=1.0,
    mean_digest=DIGEST,
    mean_bytes=4,
)


@cache
def _spec() -> JobSpec:
    return JobSpec(
        job=JobId("digits"),
        tensors=(TensorSpec(name="w", shape=(3, 2), dtype="float32"),),
        protocol=CkksJob(holders=tuple(HolderId(f"holder-{i}") for i in range(5))),
        min_contributors=3,
        max_clients=8,
        purpose="a test",
    )


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("pki"), at=NOW)


def _signer(parties: Deployment, party: Party) -> Signer:
    return parties.identity(party).signer


def test_a_message_of_its_signer_is_authenticated(parties: Deployment) -> None:
    trust = parties.identity(ALICE).trust
    arrived = codec.authenticate(codec.sign(JOIN, _signer(parties, ALICE)), Join, trust=trust, at=NOW)
    assert (arrived.message, arrived.party) == (JOIN, ALICE)


def test_a_message_in_anothers_name_is_refused(parties: Deployment) -> None:
    signed = codec.sign(replace(JOIN, client=ClientId("bob")), _signer(parties, ALICE))
    with pytest.raises(MessageError, match="in the name of 'bob'"):
        codec.authenticate(signed, Join, trust=parties.identity(ALICE).trust, at=NOW)


@pytest.mark.parametrize("signer", [NORTH, COORDINATOR, Party(role=Role.OPERATOR, name="alice")])
def test_a_message_signed_by_another_role_is_refused(parties: Deployment, signer: Party) -> None:
    signed = codec.sign(replace(JOIN, client=ClientId(signer.name)), _signer(parties, signer))
    with pytest.raises(MessageError, match="client must sign it"):
        codec.authenticate(signed, Join, trust=parties.identity(ALICE).trust, at=NOW)


def test_a_result_that_no_coordinator_signed_is_refused(parties: Deployment) -> None:
    with pytest.raises(MessageError, match="coordinator must sign it"):
        codec.authenticate(
            codec.sign(RESULT, _signer(parties, ALICE)), Result, trust=parties.identity(ALICE).trust, at=NOW
        )


def test_a_signature_for_one_kind_of_message_means_nothing_for_another(parties: Deployment) -> None:
    # The two messages have the same bytes: only the label tells them apart.
    signed = _signer(parties, NORTH).sign(
        labels.APPROVAL, round_pb2.Approval(key_id=DIGEST, request_digest=DIGEST, holder="north").SerializeToString()
    )
    trust = parties.identity(NORTH).trust
    assert codec.authenticate(signed, Approval, trust=trust, at=NOW).message.holder == "north"
    with pytest.raises(MessageError, match="signature"):
        codec.authenticate(signed, PartialStatement, trust=trust, at=NOW)


def test_an_expired_certificate_is_refused(parties: Deployment) -> None:
    signed = codec.sign(JOIN, _signer(parties, ALICE))
    with pytest.raises(CertificateError):
        codec.authenticate(signed, Join, trust=parties.identity(ALICE).trust, at=NOW + timedelta(days=10_000))


def test_the_certificate_of_another_deployment_is_refused(parties: Deployment, tmp_path: Path) -> None:
    foreign = deployment(tmp_path / "foreign", at=NOW)
    signed = codec.sign(JOIN, _signer(foreign, ALICE))
    with pytest.raises(CertificateError):
        codec.authenticate(signed, Join, trust=parties.identity(ALICE).trust, at=NOW)


SEAL = RosterSeal(key_id=KeyId(DIGEST), roster_digest=DIGEST, holder=HolderId("north"))
SHORT = {
    Join: (JOIN, ("plan_digest", "commitment")),
    Hello: (HELLO, ("ceremony_digest", "nonce", "hpke_public_key", "seed_commitment")),
    RosterSeal: (SEAL, ("key_id", "roster_digest")),
    Result: (RESULT, ("plan_digest", "roster_digest", "mean_digest")),
    Upload: (
        Upload(
            plan_digest=DIGEST,
            roster_digest=DIGEST,
            client=ClientId("alice"),
            nonce=b"n" * 32,
            parameters_digest=DIGEST,
            level=3,
            scale=1.0,
            chunks=1,
            root_c0=DIGEST,
            root_c1=DIGEST,
        ),
        ("plan_digest", "roster_digest", "nonce", "parameters_digest", "root_c0", "root_c1"),
    ),
    KeyStatement: (
        KeyStatement(
            key_id=KeyId(DIGEST),
            ceremony_digest=DIGEST,
            context=DIGEST,
            public_key_digest=DIGEST,
            holder=HolderId("north"),
        ),
        ("key_id", "ceremony_digest", "context", "public_key_digest"),
    ),
}
ROLES = {Join: ALICE, Upload: ALICE, Result: COORDINATOR, Hello: NORTH, KeyStatement: NORTH, RosterSeal: NORTH}


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize(("kind", "field"), [(kind, name) for kind, (_, names) in SHORT.items() for name in names])
def test_a_digest_or_nonce_of_another_length_is_refused(parties: Deployment, kind: type, field: str, size: int) -> None:
    message = replace(SHORT[kind][0], **{field: bytes(size)})  # type: ignore[type-var]
    signed = codec.sign(message, _signer(parties, ROLES[kind]))
    with pytest.raises(MessageError, match=f"{field} has {size} bytes"):
        codec.authenticate(signed, kind, trust=parties.identity(ALICE).trust, at=NOW)


def test_a_complaint_needs_no_answer_and_has_an_end(parties: Deployment) -> None:
    trial = Trial(key_id=KeyId(DIGEST), holder=HolderId("north"), answer_digest=b"", complaint="a dealing did not open")
    trust, signer = parties.identity(NORTH).trust, _signer(parties, NORTH)
    assert codec.authenticate(codec.sign(trial, signer), Trial, trust=trust, at=NOW).message == trial
    endless = codec.sign(replace(trial, complaint="x" * (MAX_COMPLAINT + 1)), signer)
    with pytest.raises(MessageError, match="complaint has more than"):
        codec.authenticate(endless, Trial, trust=trust, at=NOW)


def test_a_list_without_end_is_refused(parties: Deployment) -> None:
    endless = replace(RESULT, contributors=(ClientId("a"),) * (MAX_PARTIES + 1))
    signed = codec.sign(endless, _signer(parties, COORDINATOR))
    with pytest.raises(MessageError, match="contributors are more than"):
        codec.authenticate(signed, Result, trust=parties.identity(ALICE).trust, at=NOW)


def test_a_roster_comes_back_authenticated(parties: Deployment) -> None:
    trust = parties.identity(ALICE).trust
    join = codec.authenticate(codec.sign(JOIN, _signer(parties, ALICE)), Join, trust=trust, at=NOW)
    seal = codec.authenticate(codec.sign(SEAL, _signer(parties, NORTH)), RosterSeal, trust=trust, at=NOW)
    roster = FrozenRoster(plan_digest=DIGEST, joins=(join,), seals=(seal,))
    assert codec.roster_from_bytes(codec.roster_to_bytes(roster), trust=trust, at=NOW) == roster


def test_a_roster_with_one_forged_join_is_refused(parties: Deployment) -> None:
    trust, signer = parties.identity(ALICE).trust, _signer(parties, ALICE)
    honest = codec.authenticate(codec.sign(JOIN, signer), Join, trust=trust, at=NOW)
    forged = replace(honest, signed=replace(honest.signed, payload=honest.signed.payload + b"\x1a\x01x"))
    wire = codec.roster_to_wire(FrozenRoster(plan_digest=DIGEST, joins=(honest, forged)))
    with pytest.raises(MessageError, match="signature"):
        codec.roster_from_wire(wire, trust=trust, at=NOW)


def test_a_roster_with_a_seal_in_another_holders_name_is_refused(parties: Deployment) -> None:
    forged = codec.sign(replace(SEAL, holder=HolderId("south")), _signer(parties, NORTH))
    wire = round_pb2.FrozenRoster(plan_digest=DIGEST, seals=[codec.signed_to_wire(forged)])
    with pytest.raises(MessageError, match="in the name of 'south'"):
        codec.roster_from_wire(wire, trust=parties.identity(NORTH).trust, at=NOW)


def test_a_roster_without_a_plan_is_refused(parties: Deployment) -> None:
    with pytest.raises(MessageError, match="plan digest"):
        codec.roster_from_wire(round_pb2.FrozenRoster(), trust=parties.identity(ALICE).trust, at=NOW)


def _bundle(parties: Deployment) -> PublicKeyBundle:
    trust, signer = parties.identity(NORTH).trust, _signer(parties, NORTH)
    group = _spec().ckks.group(_spec().ckks.holders)
    statement = SHORT[KeyStatement][0]
    return PublicKeyBundle(
        plan=CeremonyPlan(spec=_spec(), round=RoundNumber(1), attempt=1, group=group),
        hellos=(codec.authenticate(codec.sign(HELLO, signer), Hello, trust=trust, at=NOW),),
        b=b"residues",
        statements=(codec.authenticate(codec.sign(statement, signer), KeyStatement, trust=trust, at=NOW),),
    )


def test_a_key_comes_back_authenticated(parties: Deployment) -> None:
    bundle, trust = _bundle(parties), parties.identity(NORTH).trust
    assert codec.key_bundle_from_bytes(codec.key_bundle_to_bytes(bundle), trust=trust, at=NOW) == bundle


@pytest.mark.parametrize("which", ["hellos", "statements"])
def test_a_key_with_a_forged_signature_is_refused(parties: Deployment, which: str) -> None:
    wire = codec.key_bundle_to_wire(_bundle(parties))
    getattr(wire, which)[0].payload += b"\x1a\x01x"
    with pytest.raises(MessageError, match="signature"):
        codec.key_bundle_from_wire(wire, trust=parties.identity(NORTH).trust, at=NOW)


@pytest.mark.parametrize("which", ["hellos", "statements"])
def test_a_key_with_too_many_signatures_is_refused_before_one_is_verified(parties: Deployment, which: str) -> None:
    wire = codec.key_bundle_to_wire(_bundle(parties))
    getattr(wire, which).extend([getattr(wire, which)[0]] * 100)
    with pytest.raises(MessageError, match="are more than 100"):
        codec.key_bundle_from_wire(wire, trust=parties.identity(NORTH).trust, at=NOW)


def test_dealings_and_trials_come_back_authenticated(parties: Deployment) -> None:
    trust, signer = parties.identity(NORTH).trust, _signer(parties, NORTH)
    dealing = Dealing(context=DIGEST, holder=HolderId("north"), b=b"b", sealed_digests=(DIGEST, DIGEST))
    bundle = DealingBundle(
        dealing=codec.authenticate(codec.sign(dealing, signer), Dealing, trust=trust, at=NOW),
        sealed={HolderId("south"): b"sealed"},
    )
    assert codec.dealing_from_wire(codec.dealing_to_wire(bundle), trust=trust, at=NOW) == bundle
    trial = Trial(key_id=KeyId(DIGEST), holder=HolderId("north"), answer_digest=DIGEST, complaint="")
    answered = TrialBundle(trial=codec.authenticate(codec.sign(trial, signer), Trial, trust=trust, at=NOW), answer=b"a")
    assert codec.trial_from_wire(codec.trial_to_wire(answered), trust=trust, at=NOW) == answered


def test_two_sealed_parts_for_one_receiver_are_refused(parties: Deployment) -> None:
    part = ceremony_pb2.SealedDealing(receiver="south", sealed=b"x")
    with pytest.raises(MessageError, match="two sealed parts"):
        codec.dealing_from_wire(
            ceremony_pb2.DealingBundle(sealed=[part, part]), trust=parties.identity(NORTH).trust, at=NOW
        )


def test_what_is_unspecified_or_unknown_is_refused() -> None:
    for number in (0, 99):
        with pytest.raises(MessageError):
            codec.phase_from_wire(number)
        with pytest.raises(MessageError):
            codec.half_from_wire(number)


def _job_without(change: str) -> plan_pb2.JobSpec:
    wire = codec.job_spec_to_wire(_spec())
    match change:
        case "protocol":
            wire.ClearField("ckks")
        case "packing":
            wire.ckks.packing = plan_pb2.PACKING_UNSPECIFIED
        case "new packing":
            wire.ckks.packing = 4  # type: ignore[assignment] - of a later version
        case "dtype":
            wire.tensors[0].type = plan_pb2.TENSOR_TYPE_UNSPECIFIED
        case "holders":
            wire.ckks.holders.extend(f"h{i}" for i in range(100))
        case "dimensions":
            wire.tensors[0].shape.extend([1] * 33)
        case "clip":
            wire.clip = float("nan")
    return wire


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("protocol", "protocol is none of"),
        ("packing", "packing is none of: coefficients, complex, real"),
        ("new packing", "packing is none of: coefficients, complex, real"),
        ("dtype", "not well formed"),
        ("holders", "105 key holders are more than 100"),
        ("dimensions", "35 dimensions are more than 32"),
        ("clip", "clip is nan"),
    ],
)
def test_a_job_with_one_thing_wrong_is_refused(change: str, said: str) -> None:
    assert codec.job_spec_from_wire(_job_without("nothing")) == _spec()
    with pytest.raises(MessageError, match=said):
        codec.job_spec_from_wire(_job_without(change))


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packing_travels(packing: str) -> None:
    spec = replace(_spec(), protocol=replace(_spec().ckks, packing=packing))
    assert codec.job_spec_from_wire(codec.job_spec_to_wire(spec)) == spec


@pytest.mark.parametrize(("number", "packing"), [(1, "real"), (2, "complex"), (3, "coefficients")])
def test_a_job_that_was_kept_stays_as_it_was(number: int, packing: str) -> None:
    data = codec.job_spec_to_wire(_spec())
    data.ckks.packing = number  # type: ignore[assignment]
    kept = codec.job_spec_from_bytes(data.SerializeToString())
    assert kept.ckks.packing == packing
    assert codec.job_spec_to_wire(kept) == data


def test_a_plan_without_protocol_or_of_another_group_is_refused() -> None:
    group = _spec().ckks.group(_spec().ckks.holders)
    plan = RoundPlan(spec=_spec(), round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(DIGEST), group=group))
    wire = codec.round_plan_to_wire(plan)
    wire.ckks.group.quorum += 1
    with pytest.raises(MessageError, match="group"):
        codec.round_plan_from_wire(wire)
    wire.ClearField("ckks")
    with pytest.raises(MessageError, match="protocol"):
        codec.round_plan_from_wire(wire)


def test_a_state_without_its_enum_is_refused() -> None:
    with pytest.raises(MessageError):
        codec.job_status_from_wire(operator_service_pb2.JobStatus(spec=codec.job_spec_to_wire(_spec())))
    with pytest.raises(MessageError):
        codec.round_status_from_wire(round_pb2.RoundStatus(job="digits", round=1))
    unknown = round_pb2.RoundStatus(job="digits", round=1, phase=round_pb2.PHASE_OPEN)
    assert isinstance(codec.round_status_from_wire(unknown), RoundStatus)
    unknown.holders.append(round_pb2.HolderStatus(holder="north"))
    with pytest.raises(MessageError):
        codec.round_status_from_wire(unknown)
