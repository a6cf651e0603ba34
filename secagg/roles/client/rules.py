"""The legal moves of a client in a round, in one table keyed by (phase, kind of event).

A handler that raises leaves the state as it was; after `FaultyCoordinatorError` or `PolicyError` the driver sends nothing more.
"""

from __future__ import annotations

from secagg import transcript
from secagg.errors import FaultyCoordinatorError, UsageError
from secagg.identity import Party, Role
from secagg.ids import NONCE_BYTES, ClientId, Digest, JobId
from secagg.messages.round import Join, Upload
from secagg.plan import MaskingRound
from secagg.policy import ClientPolicy
from secagg.roles.client.checks import checked_key, mean_bytes, verify_mean, verify_offer, verify_result, verify_roster
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    BuildKey,
    CiphertextReady,
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.roles.client.masking import rules as masking
from secagg.roles.client.masking.state import KeysShown
from secagg.roles.client.state import (
    ClientPhase,
    ClientState,
    Done,
    Failed,
    Joined,
    KeyChecked,
    Offered,
    Uploading,
    Waiting,
)
from secagg.roles.machine import Machine, Step

ClientStep = Step[ClientState, Effect]


def begin(*, client: ClientId, coordinator: Party, policy: ClientPolicy, job: JobId, after_round: int) -> ClientStep:
    """Start with an update that no round has.

    Raises:
        UsageError: the other party is no coordinator, or rounds are counted from below 0.
    """
    if coordinator.role is not Role.COORDINATOR:
        raise UsageError(f"{coordinator} is no coordinator")
    if after_round < 0:
        raise UsageError(f"after_round is {after_round}: 0 or more")
    state = Offered(client=client, coordinator=coordinator, policy=policy, job=job, after_round=after_round)
    return Step(state=state, effects=(AwaitRound(after_round=after_round),))


def plan_offered(state: Offered, event: PlanOffered) -> ClientStep:
    """5.1 and 10.1: hold the plan against job and policy, and a key against the holders' own signatures.

    Raises:
        PolicyError: the plan is weaker than the policy.
        FaultyCoordinatorError: plan or key are not what was asked for, or not what the holders vouch for.
    """
    plan = event.plan
    verify_offer(plan, job=state.job, after_round=state.after_round)
    state.policy.check(plan)
    if isinstance(plan.protocol, MaskingRound):
        return masking.planned(state, plan)
    if event.bundle is None:
        raise FaultyCoordinatorError("it offers a round without its key")
    public_key = checked_key(plan, event.bundle)
    checked = KeyChecked(**vars(state), plan=plan)
    return Step(state=checked, effects=(BuildKey(plan=plan, public_key=public_key),))


def ciphertext_ready(state: KeyChecked, event: CiphertextReady) -> ClientStep:
    """5.2: commit to the ciphertext, before anybody else's is seen."""
    if len(event.nonce) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes")
    commitment = transcript.ciphertext_commitment(
        plan_digest=state.plan.digest,
        key_id=state.plan.ckks.key_id,
        client=state.client,
        nonce=event.nonce,
        root_c0=event.root_c0,
        root_c1=event.root_c1,
    )
    join = Join(plan_digest=state.plan.digest, client=state.client, commitment=commitment)
    joined = Joined(**vars(state), **vars(event), join=join)
    return Step(state=joined, effects=(SendJoin(join=join),))


def join_refused(state: Joined | KeysShown, _event: JoinRefused) -> ClientStep:
    """Go on to the next round: nothing of the update was sent, and its ciphertext or its masks are made anew."""
    return begin(
        client=state.client,
        coordinator=state.coordinator,
        policy=state.policy,
        job=state.job,
        after_round=state.plan.round,
    )


def roster_frozen(state: Joined, event: RosterFrozen) -> ClientStep:
    """5.5 and 5.6: open the commitment to this roster, once it holds our own join and enough others."""
    verify_roster(state.plan, state.policy, state.join, event.roster)
    joins = [one.message for one in event.roster.joins]
    parameters = state.plan.parameters
    upload = Upload(
        plan_digest=state.plan.digest,
        roster_digest=transcript.roster_digest(state.plan.digest, joins),
        client=state.client,
        nonce=state.nonce,
        parameters_digest=Digest(parameters.digest()),
        level=len(parameters.data_primes),
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=state.root_c0,
        root_c1=state.root_c1,
    )
    uploading = Uploading(**vars(state), roster=tuple(join.client for join in joins), upload=upload)
    return Step(state=uploading, effects=(SendUpload(upload=upload),))


def upload_accepted(state: Uploading, _event: UploadAccepted) -> ClientStep:
    """The update counts; nothing but the end of the round is left to wait for."""
    return Step(state=Waiting(**vars(state)), effects=(AwaitResult(mean_bytes=mean_bytes(state.plan)),))


def result_published(state: Waiting, event: ResultPublished) -> ClientStep:
    """6.6: take the result if it is one of this roster, with enough contributors, and the mean is the one signed."""
    verify_result(
        state.plan,
        state.policy,
        state.coordinator,
        event.result,
        client=state.client,
        roster=state.roster,
        roster_digest=state.upload.roster_digest,
    )
    result = event.result.message
    verify_mean(state.plan, result, event.mean_digest, event.mean_bytes)
    deliver = DeliverResult(round=state.plan.round, result=result)
    return Step(state=Done(plan=state.plan, result=result), effects=(deliver,))


def round_ended(_state: ClientState, event: RoundEnded) -> ClientStep:
    """Tell the caller; an update of a joined round is never submitted again by itself."""
    fail = Fail(reason=event.reason, have=event.have, need=event.need)
    return Step(state=Failed(reason=event.reason), effects=(fail,))


_P = ClientPhase
MACHINE: Machine[ClientState, Event, Effect] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (_P.OFFERED, PlanOffered): plan_offered,
        (_P.KEY_CHECKED, CiphertextReady): ciphertext_ready,
        (_P.JOINED, JoinRefused): join_refused,
        (_P.JOINED, RosterFrozen): roster_frozen,
        (_P.JOINED, RoundEnded): round_ended,
        (_P.UPLOADING, UploadAccepted): upload_accepted,
        (_P.UPLOADING, RoundEnded): round_ended,
        (_P.WAITING, ResultPublished): result_published,
        (_P.WAITING, RoundEnded): round_ended,
        (_P.KEYS_SHOWN, JoinRefused): join_refused,
        **masking.MOVES,
        **{(phase, RoundEnded): round_ended for phase in masking.ENDING},
    },
)


def step(state: ClientState, event: Event) -> ClientStep:
    """Apply an event.

    Raises:
        WrongPhaseError: the event cannot happen in this phase.
        SecAggError: what the coordinator showed is refused; the state is as it was.
    """
    return MACHINE.step(state, event)
