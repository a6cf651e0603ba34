"""Messages of the key ceremony that hold others' signed messages."""

from __future__ import annotations

from datetime import datetime

from secagg.codec.parsing import bounded, parsed, reading
from secagg.codec.plan import MAX_HOLDERS, group_from_wire, group_to_wire, job_spec_from_wire, job_spec_to_wire
from secagg.codec.signed import authenticate, authenticate_all, signed_from_wire, signed_to_wire
from secagg.errors import MessageError
from secagg.identity import TrustRoot
from secagg.ids import HolderId, RoundNumber
from secagg.messages.ceremony import Dealing, DealingBundle, Hello, KeyStatement, PublicKeyBundle, Trial, TrialBundle
from secagg.plan import CeremonyPlan
from secagg.wire.v1 import ceremony_pb2


def ceremony_plan_to_wire(plan: CeremonyPlan) -> ceremony_pb2.CeremonyPlan:
    """Return the wire's form."""
    return ceremony_pb2.CeremonyPlan(
        spec=job_spec_to_wire(plan.spec),
        round=plan.round,
        attempt=plan.attempt,
        group=group_to_wire(plan.group),
    )


def ceremony_plan_from_wire(wire: ceremony_pb2.CeremonyPlan) -> CeremonyPlan:
    """Return ours."""
    with reading("ceremony plan"):
        return CeremonyPlan(
            spec=job_spec_from_wire(wire.spec),
            round=RoundNumber(wire.round),
            attempt=wire.attempt,
            group=group_from_wire(wire.group),
        )


def ceremony_plan_to_bytes(plan: CeremonyPlan) -> bytes:
    """Return the wire's bytes, for a store."""
    return ceremony_plan_to_wire(plan).SerializeToString(deterministic=True)


def ceremony_plan_from_bytes(data: bytes) -> CeremonyPlan:
    """Read what :func:`ceremony_plan_to_bytes` wrote."""
    return ceremony_plan_from_wire(parsed(ceremony_pb2.CeremonyPlan, data, "ceremony plan"))


def dealing_to_wire(bundle: DealingBundle) -> ceremony_pb2.DealingBundle:
    """Return the wire's form."""
    sealed = [ceremony_pb2.SealedDealing(receiver=name, sealed=part) for name, part in bundle.sealed.items()]
    return ceremony_pb2.DealingBundle(dealing=signed_to_wire(bundle.dealing.signed), sealed=sealed)


def dealing_from_wire(wire: ceremony_pb2.DealingBundle, *, trust: TrustRoot, at: datetime) -> DealingBundle:
    """Return ours, authenticated; whether the sealed parts are those that were signed is the machine's question."""
    with reading("dealing"):
        parts = bounded(wire.sealed, "sealed parts", MAX_HOLDERS)
        sealed = {HolderId(part.receiver): part.sealed for part in parts}
        if len(sealed) != len(parts):
            raise MessageError("a dealing has two sealed parts for one receiver")
    dealing = authenticate(signed_from_wire(wire.dealing), Dealing, trust=trust, at=at)
    return DealingBundle(dealing=dealing, sealed=sealed)


def trial_to_wire(bundle: TrialBundle) -> ceremony_pb2.TrialBundle:
    """Return the wire's form."""
    return ceremony_pb2.TrialBundle(trial=signed_to_wire(bundle.trial.signed), answer=bundle.answer)


def trial_from_wire(wire: ceremony_pb2.TrialBundle, *, trust: TrustRoot, at: datetime) -> TrialBundle:
    """Return ours, authenticated; whether the answer is the one that was signed is the machine's question."""
    trial = authenticate(signed_from_wire(wire.trial), Trial, trust=trust, at=at)
    return TrialBundle(trial=trial, answer=wire.answer)


def key_bundle_to_wire(bundle: PublicKeyBundle) -> ceremony_pb2.PublicKeyBundle:
    """Return the wire's form."""
    return ceremony_pb2.PublicKeyBundle(
        plan=ceremony_plan_to_wire(bundle.plan),
        hellos=[signed_to_wire(hello.signed) for hello in bundle.hellos],
        b=bundle.b,
        statements=[signed_to_wire(statement.signed) for statement in bundle.statements],
    )


def key_bundle_from_wire(wire: ceremony_pb2.PublicKeyBundle, *, trust: TrustRoot, at: datetime) -> PublicKeyBundle:
    """Return ours, with every signature verified."""
    bounded(wire.hellos, "hellos", MAX_HOLDERS)
    bounded(wire.statements, "key statements", MAX_HOLDERS)
    return PublicKeyBundle(
        plan=ceremony_plan_from_wire(wire.plan),
        hellos=authenticate_all(wire.hellos, Hello, trust=trust, at=at),
        b=wire.b,
        statements=authenticate_all(wire.statements, KeyStatement, trust=trust, at=at),
    )


def key_bundle_to_bytes(bundle: PublicKeyBundle) -> bytes:
    """Return the wire's bytes, for a store."""
    return key_bundle_to_wire(bundle).SerializeToString(deterministic=True)


def key_bundle_from_bytes(data: bytes, *, trust: TrustRoot, at: datetime) -> PublicKeyBundle:
    """Read what :func:`key_bundle_to_bytes` wrote; ``at``: the time at which the signatures must hold."""
    wire = parsed(ceremony_pb2.PublicKeyBundle, data, "public key")
    return key_bundle_from_wire(wire, trust=trust, at=at)
