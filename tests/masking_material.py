"""A small masking round: both machines with real keys, shares and masks, and messages that nobody had to sign."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from he.packing import pack
from secagg.identity import Party, Role, SignedMessage
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.masks import masked_pieces
from secagg.messages.masking import Confirmation
from secagg.messages.round import Phase
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, MaskingRound, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy
from secagg.roles.client import rules as client_rules
from secagg.roles.client.checks import mean_bytes
from secagg.roles.client.events import Effect, Event, PlanOffered
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    MaskUpdate,
    SecretsDrawn,
    SendConfirmation,
    SendMaskingJoin,
    SendShares,
    SendUnmasking,
    SendVector,
    SharesShown,
    SurvivorsShown,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.state import ClientState
from secagg.roles.coordinator import rules as coordinator_rules
from secagg.roles.coordinator.effects import Effect as CoordinatorEffect
from secagg.roles.coordinator.events import (
    CancelRequested,
    ConfirmationReceived,
    JoinReceived,
    SharesReceived,
    SumUnmasked,
    UnmaskingReceived,
    VectorVerified,
)
from secagg.roles.coordinator.events import Event as CoordinatorEvent
from secagg.roles.coordinator.masking.state import MaskingRoundState

M = TypeVar("M")

CLIENTS = tuple(ClientId(name) for name in ("alice", "bob", "carol", "dave", "erin", "frank", "grace"))
ALICE, BOB, CAROL, DAVE, ERIN, FRANK, GRACE = CLIENTS
STRANGER = ClientId("mallory")
COORDINATOR = Party(role=Role.COORDINATOR, name="main")
SIGNED = SignedMessage(payload=b"payload", signature=b"signature", certificate=b"certificate")
SPEC = JobSpec(
    job=JobId("digits"),
    purpose="tests",
    tensors=(TensorSpec(name="w", shape=(50,), dtype="float32"),),
    protocol=MaskingJob(corrupt_fraction=0.1, dropout_fraction=0.16),
    min_contributors=4,
    max_clients=7,
)
"""Seven clients, one of them corrupt: k = 6, t = 4, q = 5; two may drop out."""
THRESHOLD, QUORUM = 4, 5
ROUND = RoundNumber(1)
NONCE = bytes(range(32))
PLAN = RoundPlan(spec=SPEC, round=ROUND, protocol=MaskingRound(nonce=NONCE))
POLICY = ClientPolicy(min_contributors=4, corrupt_clients=1)
MEAN = Digest(hashlib.sha256(b"mean").digest())
OTHER = Digest(b"\x07" * 32)
UNMASKED = SumUnmasked(total_weight=3.0, mean_digest=MEAN, mean_bytes=mean_bytes(PLAN))


def authenticated(message: M) -> Authenticated[M]:
    """Return a message as the codec hands it on, in the name that stands in it."""
    party = Party(role=Role.CLIENT, name=message.client)  # type: ignore[attr-defined]
    return Authenticated(message=message, party=party, signed=SIGNED)


def master_seed(client: ClientId, plan: RoundPlan = PLAN) -> bytes:
    return hashlib.sha256(plan.digest + client.encode()).digest()


@cache
def vector_of(client: ClientId, spec: JobSpec = SPEC) -> npt.NDArray[np.float64]:
    """Return a client's update as it is packed: float64 (values,)."""
    draws = np.random.default_rng(list(client.encode()))
    update = {one.name: draws.uniform(-0.9, 0.9, one.shape).astype(one.dtype) for one in spec.tensors}
    weight = float(draws.uniform(0.5, 1.0))
    return pack(update, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)[0]


def masked_vector(effect: MaskUpdate, client: ClientId) -> bytes:
    """Do what a driver does to mask a client's update."""
    spec = effect.plan.spec
    pieces = masked_pieces(vector_of(client, spec), spec.masking_parameters, effect.masks, effect.noise_key)
    return b"".join(pieces)


def vector_masked(data: bytes) -> VectorMasked:
    return VectorMasked(vector_digest=Digest(hashlib.sha256(data).digest()), vector_bytes=len(data))


def begun(client: ClientId = ALICE, **changes: object) -> ClientState:
    terms: dict[str, Any] = {
        "client": client,
        "coordinator": COORDINATOR,
        "policy": POLICY,
        "job": SPEC.job,
        "after_round": 0,
        **changes,
    }
    return client_rules.begin(**terms).state


class Round:
    """A round that is moved on phase by phase. `sent`: what each client's machine wanted sent, by kind of effect."""

    def __init__(self, plan: RoundPlan = PLAN, clients: tuple[ClientId, ...] = CLIENTS) -> None:
        self.plan, self.clients = plan, clients
        nonce = plan.protocol.nonce if isinstance(plan.protocol, MaskingRound) else b""
        first = coordinator_rules.begin(plan.spec, plan.round, nonce=nonce)
        self.state: MaskingRoundState = first.state
        self.effects: tuple[CoordinatorEffect, ...] = first.effects
        self.client_states = {client: begun(client) for client in clients}
        self.sent: dict[ClientId, dict[type, Any]] = {client: {} for client in clients}
        self.vectors: dict[ClientId, bytes] = {}

    def happens(self, event: CoordinatorEvent) -> None:
        step = coordinator_rules.step(self.state, event)
        self.state, self.effects = step.state, step.effects

    def asked(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def tell(self, client: ClientId, event: Event) -> Effect:
        step = client_rules.step(self.client_states[client], event)
        self.client_states[client] = step.state
        (effect,) = step.effects
        self.sent[client][type(effect)] = effect
        return effect

    def message(self, client: ClientId, kind: type[Effect], /, **changes: object) -> Authenticated[Any]:
        """Return what a client sent, with changes that its machine would not make."""
        effect = self.sent[client][kind]
        (name,) = {"join", "shares", "upload", "confirmation", "unmasking"} & set(vars(effect))
        return authenticated(replace(getattr(effect, name), **changes))

    def join(self, client: ClientId, /, **changes: object) -> JoinReceived:
        return JoinReceived(join=self.message(client, SendMaskingJoin, **changes))

    def shares(self, client: ClientId, /, **changes: object) -> SharesReceived:
        return SharesReceived(shares=self.message(client, SendShares, **changes))

    def vector(self, client: ClientId, /, **changes: object) -> VectorVerified:
        return VectorVerified(upload=self.message(client, SendVector, **changes))

    def confirmation(self, client: ClientId, /, **changes: object) -> ConfirmationReceived:
        return ConfirmationReceived(confirmation=self.message(client, SendConfirmation, **changes))

    def unmasking(self, client: ClientId, /, **changes: object) -> UnmaskingReceived:
        return UnmaskingReceived(unmasking=self.message(client, SendUnmasking, **changes))

    # what the clients do, one phase after the other

    def drawn(self, clients: Iterable[ClientId] | None = None) -> Round:
        for client in clients or self.clients:
            self.tell(client, PlanOffered(plan=self.plan, bundle=None))
            self.tell(client, SecretsDrawn(master_seed=master_seed(client, self.plan)))
        return self

    def joined(self) -> Round:
        self.drawn()
        for client in self.clients:
            self.happens(self.join(client))
        return self

    def dealt(self) -> Round:
        self.joined()
        for client in self.clients:
            self.tell(client, MaskingRosterFrozen(roster=self.state.roster))
        return self

    def shared(self, clients: Iterable[ClientId] | None = None) -> Round:
        self.dealt()
        for client in clients or self.clients:
            self.happens(self.shares(client))
        return self

    def masked(self) -> Round:
        self.shared()
        self.mask(self.clients)
        return self

    def mask(self, clients: Iterable[ClientId]) -> None:
        for client in clients:
            effect = self.tell(client, self.shares_shown(client))
            assert isinstance(effect, MaskUpdate)
            self.vectors[client] = masked_vector(effect, client)
            self.tell(client, vector_masked(self.vectors[client]))

    def shares_shown(self, client: ClientId) -> SharesShown:
        return SharesShown(sharers=self.state.sharers, sealed=self.state.sealed_to(client))

    def uploaded(self, clients: Iterable[ClientId] | None = None) -> Round:
        self.masked()
        for client in clients or self.clients:
            self.happens(self.vector(client))
            self.tell(client, VectorAccepted())
        return self

    def asked_to_confirm(self, clients: Iterable[ClientId] | None = None) -> Round:
        self.uploaded(clients)
        for client in clients or self.clients:
            self.tell(client, SurvivorsShown(survivors=self.state.survivors))
        return self

    def confirmed(self) -> Round:
        self.asked_to_confirm()
        for client in self.clients:
            self.happens(self.confirmation(client))
        return self

    def confirmations(self, clients: Iterable[ClientId] | None = None) -> tuple[Authenticated[Confirmation], ...]:
        return tuple(self.message(client, SendConfirmation) for client in clients or self.clients)

    def ready_to_unmask(self) -> Round:
        self.confirmed()
        for client in self.clients:
            self.tell(client, ConfirmationsShown(confirmations=self.confirmations()))
        return self

    def unmasking_begun(self) -> Round:
        self.ready_to_unmask()
        for client in self.clients[: THRESHOLD + 1]:
            self.happens(self.unmasking(client))
        return self


@cache
def finished() -> Round:
    """Return one round that was played to its end, for its messages; not to be moved on."""
    round = Round().unmasking_begun()
    round.happens(UNMASKED)
    return round


def round_in(phase: Phase) -> Round:
    """Return a round with the coordinator's machine in a phase."""
    makes: dict[Phase, Callable[[], Round]] = {
        Phase.OPEN: lambda: Round().drawn(),
        Phase.SHARING: lambda: Round().dealt(),
        Phase.UPLOADING: lambda: Round().masked(),
        Phase.CONFIRMING: lambda: Round().asked_to_confirm(),
        Phase.UNMASKING: lambda: Round().ready_to_unmask(),
        Phase.PUBLISHED: lambda: moved(Round().unmasking_begun(), UNMASKED),
        Phase.ABORTED: lambda: moved(Round().masked(), CancelRequested(reason="test")),
    }
    return makes[phase]()


def moved(round: Round, *events: CoordinatorEvent) -> Round:
    for event in events:
        round.happens(event)
    return round
