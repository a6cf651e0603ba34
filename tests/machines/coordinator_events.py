"""Events for the coordinator's machine: messages as `codec.authenticate` would hand them on, made without keys."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from secagg import transcript
from secagg.identity import Party, Role, SignedMessage
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import KeyStatement, PublicKeyBundle
from secagg.messages.round import Approval, HolderVerdict, Join, Phase, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import Effect
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    CancelRequested,
    Event,
    HolderLost,
    JoinReceived,
    KeyCertified,
    SealReceived,
    SumOpened,
    UploadVerified,
)
from secagg.roles.coordinator.state import CkksRoundState

HOLDERS = tuple(HolderId(f"holder-{number}") for number in range(1, 6))
CLIENTS = tuple(ClientId(name) for name in ("alice", "bob", "carol", "dave"))
STRANGER = ClientId("mallory")
SIGNED = SignedMessage(payload=b"payload", signature=b"signature", certificate=b"certificate")
KEY_ID = KeyId(sha256(b"key").digest())
SPEC = JobSpec(
    job=JobId("digits"),
    purpose="tests",
    tensors=(TensorSpec(name="w", shape=(10,), dtype="float32"),),
    protocol=CkksJob(holders=HOLDERS, precision=1.0),
    min_contributors=2,
    max_clients=4,
)
GROUP = SPEC.ckks.group(HOLDERS)
PLAN = RoundPlan(spec=SPEC, round=RoundNumber(1), protocol=CkksRound(key_id=KEY_ID, group=GROUP))
CEREMONY = CeremonyPlan(spec=SPEC, round=RoundNumber(1), attempt=1, group=GROUP)


def digest(*words: str) -> Digest:
    return Digest(sha256("/".join(words).encode()).digest())


def by_client(message: Join | Upload) -> Party:
    return Party(role=Role.CLIENT, name=message.client)


def statement(holder: HolderId) -> Authenticated[KeyStatement]:
    message = KeyStatement(
        key_id=KEY_ID,
        ceremony_digest=CEREMONY.digest,
        context=digest("context"),
        public_key_digest=digest("key"),
        holder=holder,
    )
    return Authenticated(message=message, party=Party(role=Role.KEY_HOLDER, name=holder), signed=SIGNED)


def certified() -> KeyCertified:
    bundle = PublicKeyBundle(plan=CEREMONY, hellos=(), b=b"b", statements=tuple(map(statement, HOLDERS)))
    return KeyCertified(bundle=bundle, plan=PLAN)


def commitment(client: ClientId, salt: str = "") -> bytes:
    return transcript.ciphertext_commitment(
        plan_digest=PLAN.digest,
        key_id=KEY_ID,
        client=client,
        nonce=digest("nonce", client),
        root_c0=digest("c0", client, salt),
        root_c1=digest("c1", client, salt),
    )


def join(client: ClientId, **changes: object) -> JoinReceived:
    message = Join(plan_digest=PLAN.digest, client=client, commitment=commitment(client))
    message = replace(message, **changes)  # type: ignore[arg-type]
    return JoinReceived(join=Authenticated(message=message, party=by_client(message), signed=SIGNED))


def seal(state: CkksRoundState, holder: HolderId, **changes: object) -> SealReceived:
    message = RosterSeal(key_id=KEY_ID, roster_digest=state.roster_digest or digest("no roster"), holder=holder)
    message = replace(message, **changes)  # type: ignore[arg-type]
    party = Party(role=Role.KEY_HOLDER, name=holder)
    return SealReceived(seal=Authenticated(message=message, party=party, signed=SIGNED))


def upload(state: CkksRoundState, client: ClientId, **changes: object) -> UploadVerified:
    parameters = PLAN.parameters
    message = Upload(
        plan_digest=PLAN.digest,
        roster_digest=state.roster_digest or digest("no roster"),
        client=client,
        nonce=digest("nonce", client),
        parameters_digest=Digest(parameters.digest()),
        level=len(parameters.data_primes),
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=digest("c0", client, ""),
        root_c1=digest("c1", client, ""),
    )
    message = replace(message, **changes)  # type: ignore[arg-type]
    return UploadVerified(upload=Authenticated(message=message, party=by_client(message), signed=SIGNED))


def approval(state: CkksRoundState, holder: HolderId, **changes: object) -> ApprovalReceived:
    message = Approval(key_id=KEY_ID, request_digest=state.request_digest or digest("no request"), holder=holder)
    message = replace(message, **changes)  # type: ignore[arg-type]
    party = Party(role=Role.KEY_HOLDER, name=holder)
    return ApprovalReceived(approval=Authenticated(message=message, party=party, signed=SIGNED))


class World:
    """A round that is moved on by events; what the machine asked for last is in `effects`."""

    def __init__(self) -> None:
        first = rules.begin(SPEC, RoundNumber(1), nonce=bytes(32))
        self.state: CkksRoundState = first.state
        self.effects: tuple[Effect, ...] = first.effects

    def happens(self, event: Event) -> None:
        step = rules.step(self.state, event)
        self.state, self.effects = step.state, step.effects

    def asked(self, kind: type[Effect]) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def opened(self) -> World:
        self.happens(certified())
        return self

    def frozen(self, clients: tuple[ClientId, ...] = CLIENTS) -> World:
        self.opened()
        for client in clients:
            self.happens(join(client))
        return self

    def sealed(self, holders: tuple[HolderId, ...] = HOLDERS[:4]) -> World:
        for holder in holders:
            self.happens(seal(self.state, holder))
        return self

    def uploading(self, clients: tuple[ClientId, ...] = CLIENTS) -> World:
        return self.frozen(clients).sealed()

    def approving(self) -> World:
        self.uploading()
        for client in CLIENTS:
            self.happens(upload(self.state, client))
        return self

    def decrypting(self, holders: tuple[HolderId, ...] = HOLDERS[:4]) -> World:
        self.approving()
        for holder in holders:
            self.happens(approval(self.state, holder))
        return self


OPENED = SumOpened(total_weight=3.0, mean_digest=digest("mean"), mean_bytes=40)


def world_in(phase: Phase) -> World:
    world = World()
    match phase:
        case Phase.OPEN:
            world.opened()
        case Phase.FROZEN:
            world.frozen()
        case Phase.UPLOADING:
            world.uploading()
        case Phase.APPROVING:
            world.approving()
        case Phase.DECRYPTING:
            world.decrypting()
        case Phase.PUBLISHED:
            answer(world.decrypting(), *HOLDERS[:4])
            world.happens(OPENED)
        case Phase.ABORTED:
            world.uploading().happens(CancelRequested(reason="test"))
    return world


def answer(world: World, *holders: HolderId) -> World:
    for holder in holders:
        world.happens(AnswerReceived(holder=holder))
    return world


def lose(world: World, *holders: HolderId, verdict: HolderVerdict = HolderVerdict.UNREACHABLE) -> World:
    for holder in holders:
        world.happens(HolderLost(holder=holder, verdict=verdict, reason="test"))
    return world
