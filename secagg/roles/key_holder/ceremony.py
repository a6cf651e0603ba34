"""A key holder's part in making a key (docs/protocol.md, section 4; DESIGN 4.2), as a pure machine.

A handler that raises leaves the state as it was. A step that is repeated with the same messages gets the same answer; with
others of the same holder, that holder is named.
"""

from __future__ import annotations

from typing import Any, Final

from he import ceremony as steps
from he.errors import CeremonyError
from he.public_key import PublicKey
from secagg import transcript
from secagg.errors import (
    FaultyCoordinatorError,
    FaultyKeyHolderError,
    MessageError,
    PlanError,
)
from secagg.ids import NONCE_BYTES, Digest
from secagg.messages.ceremony import Hello, KeyCommitment, KeyStatement, SeedOpening, Verdict
from secagg.roles.key_holder.blame import DeadCeremony, liars_of, verify_openings
from secagg.roles.key_holder.dealings import Grievance, assemble_share, deal_to_all, verify_dealing
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CeremonyEffect,
    CeremonyEnded,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    RecordCeremony,
    Reply,
    SealShare,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.relayed import Reader, verify_everyone, verify_no_equivocation, verify_own
from secagg.roles.key_holder.sealing import sealing_public_key, verify_sealing_key
from secagg.roles.key_holder.state import (
    CeremonyPhase,
    CeremonyState,
    Certified,
    Committed,
    Dead,
    Dealt,
    Ended,
    Greeted,
    New,
    Tried,
)
from secagg.roles.key_holder.trials import answer_trial, complain, verify_key, verify_trials
from secagg.roles.machine import Machine, Step

CeremonyStep = Step[Any, CeremonyEffect]


def begin(state: New, event: BeginCeremony) -> CeremonyStep:
    """4.2: check the plan against the policy, and bind to the seed.

    Raises:
        PolicyError: the plan is weaker than this holder allows.
        PlanError: this holder is not one of the group.
    """
    plan, seed = event.plan, event.seed
    state.policy.check_ceremony(plan)
    reader = Reader(group=plan.group, holder=state.holder)
    hello = Hello(
        ceremony_digest=plan.digest,
        holder=state.holder,
        nonce=steps.nonce(reader.number, seed),
        hpke_public_key=sealing_public_key(steps.hpke_private_key(reader.number, seed)),
        seed_commitment=steps.seed_commitment(reader.number, seed),
    )
    greeted = Greeted(plan=plan, reader=reader, seed=seed, hello=hello)
    return Step(state=greeted, effects=(RecordCeremony(ceremony_digest=plan.digest), Reply(message=hello)))


def begin_again(state: Greeted, event: BeginCeremony) -> CeremonyStep:
    """Repeat the hello of the same plan."""
    if event.plan.digest != state.plan.digest:
        raise PlanError("another plan was offered for this ceremony")
    return Step(state=state, effects=(Reply(message=state.hello),))


def commit(state: Greeted, event: HellosReceived) -> CeremonyStep:
    """4.3: draw everything under the context of all hellos, and commit to b_i."""
    verify_everyone(state.reader, event.hellos, "hellos")
    verify_own(state.reader, event.hellos, state.hello, "hello")
    hellos = [one.message for one in event.hellos]
    for hello in hellos:
        verify_hello(state, hello)
    context = transcript.ceremony_context(state.plan.digest, hellos)
    number = state.reader.number
    secrets = steps.draw(state.parameters, number, state.seed, context)
    commitment = KeyCommitment(context=context, holder=state.reader.holder, commitment=secrets.opening_commitment)
    committed = Committed(
        plan=state.plan,
        reader=state.reader,
        seed=state.seed,
        hello=state.hello,
        hellos=event.hellos,
        context=context,
        secrets=secrets,
        commitment=commitment,
    )
    return Step(state=committed, effects=(Reply(message=commitment),))


def verify_hello(state: Greeted, hello: Hello) -> None:
    """Check one hello.

    Raises:
        FaultyCoordinatorError: it was made for another ceremony.
        FaultyKeyHolderError: nonce, key or commitment have another form.
    """
    if hello.ceremony_digest != state.plan.digest:
        raise FaultyCoordinatorError(f"the hello of {hello.holder} belongs to another ceremony")
    if len(hello.nonce) != NONCE_BYTES or len(hello.seed_commitment) != NONCE_BYTES:
        raise FaultyKeyHolderError(hello.holder, "nonce and seed commitment of a hello have 32 bytes each")
    try:
        verify_sealing_key(hello.hpke_public_key, steps.hpke_private_key(state.reader.number, state.seed))
    except MessageError as error:
        raise FaultyKeyHolderError(hello.holder, error.reason) from error


def commit_again(state: Committed, event: HellosReceived) -> CeremonyStep:
    """Repeat the commitment, or name who now says something else."""
    verify_everyone(state.reader, event.hellos, "hellos")
    verify_no_equivocation(state.reader, state.hellos, event.hellos, "hello")
    return Step(state=state, effects=(Reply(message=state.commitment),))


def deal(state: Committed, event: CommitmentsReceived) -> CeremonyStep:
    """4.4: everybody is bound to its b; open ours, and deal."""
    verify_everyone(state.reader, event.commitments, "commitments")
    verify_own(state.reader, event.commitments, state.commitment, "commitment")
    for one in event.commitments:
        verify_commitment(state.context, one.message)
    hellos = [one.message for one in state.hellos]
    dealing, sealed = deal_to_all(state.secrets, context=state.context, holder=state.reader.holder, hellos=hellos)
    dealt = Dealt(**vars(state), commitments=event.commitments, dealing=dealing, sealed=sealed)
    return Step(state=dealt, effects=(Reply(message=dealing, sealed=sealed),))


def verify_commitment(context: Digest, commitment: KeyCommitment) -> None:
    """Check one commitment.

    Raises:
        FaultyCoordinatorError: its signer was shown other hellos than we.
        FaultyKeyHolderError: it has another form.
    """
    if commitment.context != context:
        raise FaultyCoordinatorError(f"the commitment of {commitment.holder} follows other hellos than we were shown")
    if len(commitment.commitment) != NONCE_BYTES:
        raise FaultyKeyHolderError(commitment.holder, "a commitment has 32 bytes")


def deal_again(state: Dealt, event: CommitmentsReceived) -> CeremonyStep:
    """Repeat the dealing, or name who now commits to something else."""
    verify_everyone(state.reader, event.commitments, "commitments")
    verify_no_equivocation(state.reader, state.commitments, event.commitments, "commitment")
    return Step(state=state, effects=(Reply(message=state.dealing, sealed=state.sealed),))


def try_key(state: Dealt, event: DealingsReceived) -> CeremonyStep:
    """4.5: assemble the share and answer the trial, or complain of what cannot be used."""
    reader, dealings = state.reader, tuple(one.dealing for one in event.dealings)
    verify_everyone(reader, dealings, "dealings")
    verify_own(reader, dealings, state.dealing, "dealing")
    for bundle in event.dealings:
        verify_dealing(reader, state.context, bundle, [reader.holder])
    key_id = transcript.key_id(
        state.context, [one.message for one in state.commitments], [one.message for one in dealings]
    )
    share = assemble_share(state.secrets, reader, state.commitments, event.dealings)
    if isinstance(share, Grievance):
        trial, answer = complain(reader.holder, share, key_id)
        tried = Tried(
            **vars(state), dealings=dealings, key_id=key_id, trial=trial, answer=answer, share=None, public_key=None
        )
    else:
        trial, answer = answer_trial(reader.holder, share, key_id)
        public_key = _public_key(state, event)
        tried = Tried(
            **vars(state),
            dealings=dealings,
            key_id=key_id,
            trial=trial,
            answer=answer,
            share=share,
            public_key=public_key,
        )
    return Step(state=tried, effects=(Reply(message=trial, attachment=answer),))


def _public_key(state: Dealt, event: DealingsReceived) -> PublicKey:
    openings = [steps.opening_from_bytes(state.parameters, one.dealing.message.b) for one in event.dealings]
    return PublicKey(
        parameters=state.parameters,
        a=steps.public_a(state.parameters, state.context),
        b=steps.collective_b(state.parameters, openings),
    )


def try_again(state: Tried, event: DealingsReceived) -> CeremonyStep:
    """Repeat the trial, or name who now deals something else."""
    dealings = tuple(one.dealing for one in event.dealings)
    verify_everyone(state.reader, dealings, "dealings")
    verify_no_equivocation(state.reader, state.dealings, dealings, "dealing")
    return Step(state=state, effects=(Reply(message=state.trial, attachment=state.answer),))


def certify(state: Tried, event: TrialsReceived) -> CeremonyStep:
    """4.6: vouch for the key once the trial of all n proves it; the share is stored first.

    Raises:
        CeremonyError: the trial failed; the key is dead, and the seed may be asked for.
    """
    verify_trials(state.reader, state.key_id, state.trial, event.trials)
    verify_key(state.public_key, event.trials)
    if state.share is None or state.public_key is None:
        raise CeremonyError("the key is dead: this holder has no share of it")
    statement = KeyStatement(
        key_id=state.key_id,
        ceremony_digest=state.plan.digest,
        context=state.context,
        public_key_digest=Digest(state.public_key.digest()),
        holder=state.reader.holder,
    )
    b = state.public_key.to_bytes()
    certified = Certified(
        plan=state.plan, reader=state.reader, key_id=state.key_id, trials=event.trials, statement=statement, b=b
    )
    seal_share = SealShare(plan=state.plan, share=state.share.key_share(state.key_id))
    return Step(state=certified, effects=(seal_share, Reply(message=statement, attachment=b)))


def certify_again(state: Certified, event: TrialsReceived) -> CeremonyStep:
    """Repeat the statement, or name who now answers the trial differently."""
    trials = [one.trial for one in event.trials]
    verify_everyone(state.reader, trials, "trials")
    verify_no_equivocation(state.reader, [one.trial for one in state.trials], trials, "trial")
    return Step(state=state, effects=(Reply(message=state.statement, attachment=state.b),))


def open_seed(state: Tried, event: SeedAsked) -> CeremonyStep:
    """4.7: the key is dead, so its seed is no secret any more.

    Raises:
        FaultyCoordinatorError: the trial succeeded, and an opened seed would give the key away.
    """
    verify_trials(state.reader, state.key_id, state.trial, event.trials)
    try:
        verify_key(state.public_key, event.trials)
    except CeremonyError:
        opening = SeedOpening(key_id=state.key_id, holder=state.reader.holder, seed=state.seed)
        fields = {**vars(state), "share": None}
        return Step(state=Dead(**fields, trials=event.trials, opening=opening), effects=(Reply(message=opening),))
    raise FaultyCoordinatorError("it asks for the seed of a key whose trial succeeded")


def open_again(state: Dead, event: SeedAsked) -> CeremonyStep:
    """Repeat the opening, or name who now answers the trial differently."""
    trials = [one.trial for one in event.trials]
    verify_everyone(state.reader, trials, "trials")
    verify_no_equivocation(state.reader, [one.trial for one in state.trials], trials, "trial")
    return Step(state=state, effects=(Reply(message=state.opening),))


def lay_blame(state: Dead, event: BlameAsked) -> CeremonyStep:
    """4.8: recompute who lied; the state stays, so that a better set of openings may follow."""
    reader, dealings = state.reader, [one.dealing for one in event.dealings]
    verify_everyone(reader, dealings, "dealings")
    verify_no_equivocation(reader, state.dealings, dealings, "dealing")
    for bundle in event.dealings:
        verify_dealing(reader, state.context, bundle, reader.group.holders)
    verify_openings(reader, state.key_id, state.opening, event.openings)
    ceremony = DeadCeremony(
        parameters=state.parameters,
        context=state.context,
        key_id=state.key_id,
        holders=reader.group.holders,
        hellos=state.hellos,
        commitments=state.commitments,
        bundles=event.dealings,
        trials=state.trials,
        openings=event.openings,
    )
    verdict = Verdict(key_id=state.key_id, holder=reader.holder, liars=liars_of(ceremony))
    return Step(state=state, effects=(Reply(message=verdict),))


def end(_state: CeremonyState, _event: CeremonyEnded) -> CeremonyStep:
    """Drop everything; there is no way back. The stored share of a certified key is the opening's to destroy."""
    return Step(state=Ended(), effects=())


_P = CeremonyPhase
MACHINE: Final[Machine[Any, CeremonyEvent, CeremonyEffect]] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (_P.NEW, BeginCeremony): begin,
        (_P.NEW, CeremonyEnded): end,
        (_P.GREETED, BeginCeremony): begin_again,
        (_P.GREETED, HellosReceived): commit,
        (_P.GREETED, CeremonyEnded): end,
        (_P.COMMITTED, BeginCeremony): begin_again,
        (_P.COMMITTED, HellosReceived): commit_again,
        (_P.COMMITTED, CommitmentsReceived): deal,
        (_P.COMMITTED, CeremonyEnded): end,
        (_P.DEALT, BeginCeremony): begin_again,
        (_P.DEALT, HellosReceived): commit_again,
        (_P.DEALT, CommitmentsReceived): deal_again,
        (_P.DEALT, DealingsReceived): try_key,
        (_P.DEALT, CeremonyEnded): end,
        (_P.TRIED, BeginCeremony): begin_again,
        (_P.TRIED, HellosReceived): commit_again,
        (_P.TRIED, CommitmentsReceived): deal_again,
        (_P.TRIED, DealingsReceived): try_again,
        (_P.TRIED, TrialsReceived): certify,
        (_P.TRIED, SeedAsked): open_seed,
        (_P.TRIED, CeremonyEnded): end,
        (_P.CERTIFIED, TrialsReceived): certify_again,
        (_P.CERTIFIED, CeremonyEnded): end,
        (_P.DEAD, SeedAsked): open_again,
        (_P.DEAD, BlameAsked): lay_blame,
        (_P.DEAD, CeremonyEnded): end,
        (_P.ENDED, CeremonyEnded): end,
    },
)


def step(state: CeremonyState, event: CeremonyEvent) -> CeremonyStep:
    """Apply an event; raises as the handlers above, and `WrongPhaseError` for what the phase does not allow."""
    return MACHINE.step(state, event)
