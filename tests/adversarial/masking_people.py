"""Honest clients' real machines in a masking round, with real certificates and signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.serialization import Encoding

from secagg import codec
from secagg.certificates import Authority
from secagg.identity import Party, Role, Signer, TrustRoot
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.masks import masked_pieces
from secagg.masking.planner import plan_numbers
from secagg.masking.quantise import quantise
from secagg.masking.stream import MaskStream, Words
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, MaskingRound, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import Event, PlanOffered
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    MaskUpdate,
    SecretsDrawn,
    SharesShown,
    SurvivorsShown,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.masking.state import KeysShown
from tests.pki_material import NOW, Crafted, authority

COORDINATOR = Party(role=Role.COORDINATOR, name="main")
NONCE = bytes(range(32))
VALUES = 40


@cache
def _authority() -> Authority:
    return authority()


@cache
def trust() -> TrustRoot:
    return TrustRoot((_authority().certificate,))


@cache
def signer_of(client: ClientId) -> Signer:
    crafted = Crafted(uris=(Party(role=Role.CLIENT, name=client).uri,))
    certificate = crafted.certificate(_authority()).public_bytes(Encoding.DER)
    return Signer(private_key=crafted.key, certificate=certificate)


def said(message: Any) -> Authenticated[Any]:
    """Sign a message in the name that stands in it, and verify it as everyone who is shown it does."""
    signed = codec.sign(message, signer_of(message.client))
    return codec.authenticate(signed, type(message), trust=trust(), at=NOW)


def a_plan(
    *, min_contributors: int, max_clients: int, corrupt: float = 0.1, nonce: bytes = NONCE, values: int = VALUES
) -> RoundPlan:
    spec = JobSpec(
        job=JobId("digits"),
        purpose="tests",
        tensors=(TensorSpec(name="w", shape=(values,), dtype="float32"),),
        protocol=MaskingJob(corrupt_fraction=corrupt, dropout_fraction=0.0),
        min_contributors=min_contributors,
        max_clients=max_clients,
    )
    return RoundPlan(spec=spec, round=RoundNumber(1), protocol=MaskingRound(nonce=nonce))


def named(stem: str, count: int) -> tuple[ClientId, ...]:
    return tuple(ClientId(f"{stem}-{number:02}") for number in range(count))


class Person:
    """A client's machine in one round, and its update. An adversary reads the state of its own people only."""

    def __init__(
        self, client: ClientId, plan: RoundPlan, policy: ClientPolicy | None = None, salt: bytes = b""
    ) -> None:
        self.client, self.plan = client, plan
        self.state = rules.begin(
            client=client,
            coordinator=COORDINATOR,
            policy=policy or ClientPolicy(),
            job=plan.spec.job,
            after_round=0,
        ).state
        self.update = np.random.default_rng(list(client.encode())).uniform(-1, 1, plan.spec.masking_parameters.values)
        self._tell(PlanOffered(plan=plan, bundle=None))
        effect = self._tell(SecretsDrawn(master_seed=hashlib.sha256(plan.digest + client.encode() + salt).digest()))
        self.join: Authenticated[MaskingJoin] = said(effect.join)
        self.sharers: tuple[ClientId, ...] = ()
        self.vector = b""
        self.quantised: Words = np.empty(0, dtype=np.uint32)

    def _tell(self, event: Event) -> Any:
        step = rules.step(self.state, event)
        self.state = step.state
        (effect,) = step.effects
        return effect

    def sees_roster(self, roster: MaskingRoster) -> Authenticated[Shares]:
        """Seal shares for a roster that came over the wire."""
        wire = codec.masking_roster_to_wire(roster)
        shown = codec.masking_roster_from_wire(wire, trust=trust(), at=NOW)
        self.shares: Authenticated[Shares] = said(self._tell(MaskingRosterFrozen(roster=shown)).shares)
        return self.shares

    def sees_sharers(
        self, sharers: Iterable[ClientId], sealed: Mapping[ClientId, bytes]
    ) -> Authenticated[MaskedUpload]:
        """Mask the update, once."""
        self.sharers = tuple(sorted(sharers))
        effect: MaskUpdate = self._tell(SharesShown(sharers=self.sharers, sealed=sealed))
        parameters = self.plan.spec.masking_parameters
        self.vector = b"".join(masked_pieces(self.update, parameters, effect.masks, effect.noise_key))
        self.quantised = quantise(
            self.update, clip=parameters.clip, value_bits=parameters.value_bits, noise=MaskStream(effect.noise_key)
        )
        digest = Digest(hashlib.sha256(self.vector).digest())
        return said(self._tell(VectorMasked(vector_digest=digest, vector_bytes=len(self.vector))).upload)

    def sees_survivors(self, survivors: Iterable[ClientId]) -> Authenticated[Confirmation]:
        """Sign a set of survivors."""
        self._tell(VectorAccepted())
        return said(self._tell(SurvivorsShown(survivors=tuple(sorted(survivors)))).confirmation)

    def sees_confirmations(self, confirmations: Sequence[Authenticated[Confirmation]]) -> Authenticated[Unmasking]:
        """Reveal, if the machine finds the confirmations good enough."""
        return said(self._tell(ConfirmationsShown(confirmations=confirmations)).unmasking)


def people(names: Iterable[ClientId], plan: RoundPlan, policy: ClientPolicy | None = None) -> dict[ClientId, Person]:
    return {name: Person(name, plan, policy) for name in names}


def roster_of(plan: RoundPlan, joins: Iterable[Authenticated[MaskingJoin]]) -> MaskingRoster:
    """Return the roster that an honest coordinator would make of these joins."""
    ordered = tuple(sorted(joins, key=lambda one: one.message.client))
    masking = plan.spec.masking
    numbers = plan_numbers(
        len(ordered),
        corrupt_fraction=masking.corrupt_fraction,
        dropout_fraction=masking.dropout_fraction,
        min_contributors=plan.spec.min_contributors,
    )
    return MaskingRoster(
        plan_digest=plan.digest,
        joins=ordered,
        neighbours=numbers.neighbours,
        threshold=numbers.threshold,
        quorum=numbers.quorum,
    )


def secrets_of(person: Person) -> Any:
    assert isinstance(person.state, KeysShown)
    return person.state.secrets


def true_sum(everyone: Mapping[ClientId, Person], members: Iterable[ClientId]) -> Words:
    """Return what only somebody who knows every update can say: uint32 (values,), modulo 2^b."""
    chosen = [everyone[name] for name in members]
    total: npt.NDArray[np.uint32] = np.sum([one.quantised for one in chosen], axis=0, dtype=np.uint32)
    return total & np.uint32((1 << chosen[0].plan.spec.masking_parameters.sum_bits) - 1)
