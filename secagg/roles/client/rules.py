"""The legal moves of a client, in one table keyed by (phase, kind of event).

Each event but the last leads to exactly one effect, which ends in the next event. A refusal raises and changes nothing; a
client that was refused something sends nothing more.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from secagg import transcript
from secagg.errors import RoundAbortedError, UsageError
from secagg.ids import NONCE_BYTES, Digest
from secagg.messages.round import Join, Upload
from secagg.roles.client.checks import roster_of, verify_key, verify_mean, verify_offer, verify_result, verify_roster
from secagg.roles.client.events import (
    AwaitResult,
    Cancelled,
    CiphertextReady,
    Effect,
    Encrypt,
    Event,
    Fail,
    FetchMean,
    Finish,
    MeanFetched,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.roles.client.state import (
    ClientPhase,
    Encrypting,
    Ended,
    Fetching,
    Joined,
    State,
    Terms,
    Uploaded,
    Uploading,
    Waiting,
)
from secagg.roles.machine import Machine, Step

# Handlers know their own phase's class; the table is what keeps a state from another phase's handler.
ClientStep: TypeAlias = Step[Any, Effect]


def begin(terms: Terms) -> Waiting:
    """Return a client that waits for a round."""
    return Waiting(terms=terms)


def plan_offered(state: Waiting, event: PlanOffered) -> ClientStep:
    """5.1: believe plan and key only after our own checks."""
    verify_offer(state.terms, event.plan)
    public_key = verify_key(event.plan, event.key)
    effect = Encrypt(plan=event.plan, public_key=public_key)
    return Step(state=Encrypting(terms=state.terms, plan=event.plan), effects=(effect,))


def ciphertext_ready(state: Encrypting, event: CiphertextReady) -> ClientStep:
    """5.2: bind ourselves to the ciphertext before we see anybody else's."""
    if len(event.nonce) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes, or the commitment hides nothing")
    plan, client = state.plan, state.terms.client
    commitment = transcript.ciphertext_commitment(
        plan_digest=plan.digest,
        key_id=plan.protocol.key_id,
        client=client,
        nonce=event.nonce,
        root_c0=event.root_c0,
        root_c1=event.root_c1,
    )
    join = Join(plan_digest=plan.digest, client=client, commitment=commitment)
    joined = Joined(
        terms=state.terms,
        plan=plan,
        join=join,
        nonce=event.nonce,
        root_c0=event.root_c0,
        root_c1=event.root_c1,
    )
    return Step(state=joined, effects=(SendJoin(join=join),))


def roster_frozen(state: Joined, event: RosterFrozen) -> ClientStep:
    """5.4 and 5.5: open our commitment to this roster and no other."""
    plan, terms = state.plan, state.terms
    verify_roster(plan, terms.policy, state.join, event.roster)
    roster = roster_of(plan, event.roster.joins)
    parameters = plan.parameters
    upload = Upload(
        plan_digest=plan.digest,
        roster_digest=roster.digest,
        client=terms.client,
        nonce=state.nonce,
        parameters_digest=Digest(parameters.digest()),
        level=len(parameters.data_primes),
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=state.root_c0,
        root_c1=state.root_c1,
    )
    return Step(state=Uploading(terms=terms, plan=plan, roster=roster), effects=(SendUpload(upload=upload),))


def upload_accepted(state: Uploading, _event: UploadAccepted) -> ClientStep:
    """5.6: from here on the update is never submitted again by itself."""
    uploaded = Uploaded(terms=state.terms, plan=state.plan, roster=state.roster)
    return Step(state=uploaded, effects=(AwaitResult(),))


def result_published(state: Uploaded, event: ResultPublished) -> ClientStep:
    """6.6: believe the result only if it is of our roster."""
    verify_result(state.plan, state.terms, state.roster, event.result)
    result = event.result.message
    return Step(state=Fetching(result=result), effects=(FetchMean(result=result),))


def mean_fetched(state: Fetching, event: MeanFetched) -> ClientStep:
    """6.6: the mean is the one that was signed."""
    verify_mean(state, event.digest, event.size)
    return Step(state=Ended(), effects=(Finish(result=state.result),))


def round_ended(_state: State, event: RoundEnded) -> ClientStep:
    """Nothing was published; whether to take part in another round is the caller's decision."""
    error = RoundAbortedError(event.reason, event.have, event.need)
    return Step(state=Ended(), effects=(Fail(error=error),))


def cancelled(_state: State, _event: Cancelled) -> ClientStep:
    """Send nothing more."""
    return Step(state=Ended())


_AFTER_JOIN = (ClientPhase.JOINED, ClientPhase.UPLOADING, ClientPhase.UPLOADED)
_BEFORE_END = tuple(phase for phase in ClientPhase if phase is not ClientPhase.ENDED)

MACHINE: Machine[State, Event, Effect] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (ClientPhase.WAITING, PlanOffered): plan_offered,
        (ClientPhase.ENCRYPTING, CiphertextReady): ciphertext_ready,
        (ClientPhase.JOINED, RosterFrozen): roster_frozen,
        (ClientPhase.UPLOADING, UploadAccepted): upload_accepted,
        (ClientPhase.UPLOADED, ResultPublished): result_published,
        (ClientPhase.FETCHING, MeanFetched): mean_fetched,
        **dict.fromkeys(((phase, RoundEnded) for phase in _AFTER_JOIN), round_ended),
        **dict.fromkeys(((phase, Cancelled) for phase in _BEFORE_END), cancelled),
    },
)


def step(state: State, event: Event) -> ClientStep:
    """Apply an event.

    Raises:
        WrongPhaseError: the event cannot happen in this phase.
        FaultyCoordinatorError: the coordinator showed what an honest one does not show.
        PolicyError: the plan is weaker than this client's policy.
    """
    return MACHINE.step(state, event)
