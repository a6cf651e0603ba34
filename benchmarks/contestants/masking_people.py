"""Clients of a masking round as they are: the real machine, real certificates and signatures, a vector of any length.

The machine takes only graphs that its planner thinks strong enough, which for 100 clients is everybody with everybody. To compare at the
number of shares that a peer was given, `Numbers` can leave that one check out.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg import codec
from secagg.client.updates import packed
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.agreement import Agreements
from secagg.masking.masks import masked_pieces
from secagg.masking.planner import plan_numbers
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, MaskingRound, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import Event, PlanOffered
from secagg.roles.client.masking import rules as masking_rules
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SharesShown,
    SurvivorsShown,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.masking.state import KeysShown, Sharing
from secagg.roles.neighbourhood import Neighbourhood
from secagg.transcript import masking_roster_digest
from tests.adversarial.masking_people import COORDINATOR, NONCE, signer_of

WEIGHT = 1.0
SHARE_OF_ONE = os.urandom(32)
"""Seeds the secrets of this run; the same client has the same keys in all of its repetitions."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """k, t and q of a roster's graph; `checked`: by the client, as the planner would have chosen them."""

    neighbours: int
    threshold: int
    quorum: int
    checked: bool


def numbers_of(case: Mapping[str, Any], plan: RoundPlan) -> Numbers:
    """The planner's; or of a peer's shares, one of them its own, as many neighbours and its threshold, unless the case is "planned"."""
    clients = case["clients"]
    if "shares" not in case or case.get("planned"):
        masking = plan.spec.masking
        found = plan_numbers(
            clients,
            corrupt_fraction=masking.corrupt_fraction,
            dropout_fraction=masking.dropout_fraction,
            min_contributors=plan.spec.min_contributors,
        )
        return Numbers(neighbours=found.neighbours, threshold=found.threshold, quorum=found.quorum, checked=True)
    return Numbers(neighbours=case["shares"] - 1, threshold=case["threshold"], quorum=clients * 7 // 10, checked=False)


def plan_of(case: Mapping[str, Any]) -> RoundPlan:
    """A job of one tensor; with its weight a vector has `values` coordinates."""
    clients = case["clients"]
    spec = JobSpec(
        job=JobId("bench"),
        purpose="benchmark",
        tensors=(TensorSpec(name="w", shape=(case["values"] - 1,), dtype="float32"),),
        protocol=MaskingJob(corrupt_fraction=0.05, dropout_fraction=0.3),
        min_contributors=max(2, clients * 7 // 10),
        max_clients=clients,
        max_weight=WEIGHT,
        min_total_weight=WEIGHT * max(2, clients * 7 // 10),
    )
    return RoundPlan(spec=spec, round=RoundNumber(1), protocol=MaskingRound(nonce=NONCE))


def versions() -> dict[str, str]:
    """Of what our figures hang on."""
    packages = ("sumveil", "numpy", "cryptography", "grpcio", "protobuf")
    return {name: version(name) for name in packages}


def names_of(clients: int) -> tuple[ClientId, ...]:
    """In the order of a roster."""
    return tuple(ClientId(f"client-{place:03}") for place in range(clients))


def update_of(place: int, spec: JobSpec) -> dict[str, npt.NDArray[np.float32]]:
    """A client's update, within the clip."""
    draws = np.random.default_rng(place).uniform(-spec.clip, spec.clip, spec.tensors[0].shape)
    return {"w": draws.astype(np.float32)}


class Person:
    """One client in one round. Each method returns what it would send, signed."""

    def __init__(self, place: int, plan: RoundPlan, numbers: Numbers) -> None:
        self.client, self.place, self.plan, self._numbers = names_of(place + 1)[place], place, plan, numbers
        self.state: Any = rules.begin(
            client=self.client,
            coordinator=COORDINATOR,
            policy=ClientPolicy(),
            job=plan.spec.job,
            after_round=0,
        ).state
        self.vector: list[bytes] = []

    def joins(self) -> Authenticated[MaskingJoin]:
        """Make keys for this round."""
        self._tell(PlanOffered(plan=self.plan, bundle=None))
        seed = hashlib.sha256(SHARE_OF_ONE + self.client.encode()).digest()
        return self._signed(self._tell(SecretsDrawn(master_seed=seed)).join)

    def takes_roster(self, roster: MaskingRoster) -> Authenticated[Shares]:
        """Check a roster whose signatures are verified, and seal the shares to the neighbours."""
        if self._numbers.checked:
            return self._signed(self._tell(MaskingRosterFrozen(roster=roster)).shares)
        assert isinstance(self.state, KeysShown)
        digest, numbers = masking_roster_digest(roster), self._numbers
        house = Neighbourhood.of(
            digest, roster.clients, degree=numbers.neighbours, threshold=numbers.threshold, quorum=numbers.quorum
        )
        share_key = Agreements(self.state.secrets.share_private)
        self.state = Sharing(**vars(self.state), roster=roster, roster_digest=digest, house=house, share_key=share_key)
        return self._signed(
            Shares(
                plan_digest=self.plan.digest,
                roster_digest=digest,
                client=self.client,
                sealed=masking_rules._sealed(self.state),  # noqa: SLF001 - the check before it has no other door
            )
        )

    def sees_sharers(
        self, sharers: Sequence[ClientId], sealed: Mapping[ClientId, bytes], update: dict[str, Any]
    ) -> Authenticated[MaskedUpload]:
        """Open the shares and mask the update."""
        effect = self._tell(SharesShown(sharers=tuple(sharers), sealed=sealed))
        spec = self.plan.spec
        vector, _ = packed(update, WEIGHT, spec)
        digest = hashlib.sha256()
        self.vector = []
        for piece in masked_pieces(vector, spec.masking_parameters, effect.masks, effect.noise_key):
            digest.update(piece)
            self.vector.append(piece)
        self.masks, self.noise_key = effect.masks, effect.noise_key
        masked = VectorMasked(vector_digest=Digest(digest.digest()), vector_bytes=sum(map(len, self.vector)))
        return self._signed(self._tell(masked).upload)

    def sees_survivors(self, survivors: Sequence[ClientId]) -> Authenticated[Confirmation]:
        """Sign the set of survivors."""
        self._tell(VectorAccepted())
        return self._signed(self._tell(SurvivorsShown(survivors=tuple(survivors))).confirmation)

    def sees_confirmations(self, shown: Sequence[Authenticated[Confirmation]]) -> Authenticated[Unmasking]:
        """Reveal once a quorum, whose signatures are verified, signed the same set."""
        return self._signed(self._tell(ConfirmationsShown(confirmations=shown)).unmasking)

    def _tell(self, event: Event) -> Any:
        step = rules.step(self.state, event)
        self.state = step.state
        (effect,) = step.effects
        return effect

    def _signed(self, message: Any) -> Authenticated[Any]:
        signer = signer_of(self.client)
        return Authenticated(message=message, party=signer.party, signed=codec.sign(message, signer))


def roster_of(plan: RoundPlan, numbers: Numbers, joins: Iterable[Authenticated[MaskingJoin]]) -> MaskingRoster:
    """As the coordinator makes it."""
    return MaskingRoster(
        plan_digest=plan.digest,
        joins=tuple(joins),
        neighbours=numbers.neighbours,
        threshold=numbers.threshold,
        quorum=numbers.quorum,
    )
