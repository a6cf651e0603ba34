"""UPLOADING: each client of the roster opens its commitment, and counts once (``docs/protocol.md``, 5.6 and 5.7)."""

from __future__ import annotations

from dataclasses import replace

from secagg import transcript
from secagg.errors import ConflictError, FaultyClientError, LateError, WrongPhaseError
from secagg.messages.round import Phase, Upload
from secagg.roles.coordinator.effects import AskApprovals, Audit, SetDeadline
from secagg.roles.coordinator.ending import CkksStep, abort, stored, unchanged
from secagg.roles.coordinator.events import DeadlinePassed, UploadRefused, UploadVerified
from secagg.roles.coordinator.joining import commitment_of
from secagg.roles.coordinator.state import CkksRoundState, digest_of_request, named


def check_upload(state: CkksRoundState, upload: Upload) -> bool:
    """Say whether the upload is already counted; raise when it must not count.

    The driver asks before it takes the first byte, and the machine again before it counts.

    Raises:
        WrongPhaseError: the roster is not frozen yet.
        LateError: the uploads are closed.
        ConflictError: the client's other upload is counted already.
        FaultyClientError: what the client signed is not what it committed to, or not what the plan asks for.
    """
    known = state.uploads.get(upload.client)
    if known is not None:
        return _is_repetition(known.message, upload)
    if upload.client in state.refused:
        raise FaultyClientError(upload.client, state.refused[upload.client])
    if state.phase in (Phase.KEYING, Phase.OPEN, Phase.FROZEN):
        raise WrongPhaseError(f"round {state.round} is {state.phase.value}: its roster is not published yet")
    if state.phase is not Phase.UPLOADING:
        raise LateError(f"the uploads of round {state.round} are closed")
    _check_commitment(state, upload)
    _check_parameters(state, upload)
    return False


def _is_repetition(known: Upload, upload: Upload) -> bool:
    if known != upload:
        raise ConflictError(f"client {upload.client} has uploaded something else")
    return True


def _check_commitment(state: CkksRoundState, upload: Upload) -> None:
    client, plan = upload.client, state.certified
    committed = commitment_of(state, client)
    if upload.plan_digest != plan.digest:
        raise FaultyClientError(client, "its upload is for another plan")
    if upload.roster_digest != state.roster_digest:
        raise FaultyClientError(client, "its upload is signed for another roster")
    opened = transcript.ciphertext_commitment(
        plan_digest=plan.digest,
        key_id=plan.ckks.key_id,
        client=client,
        nonce=upload.nonce,
        root_c0=upload.root_c0,
        root_c1=upload.root_c1,
    )
    if opened != committed:
        raise FaultyClientError(client, "its upload does not open the commitment of its join")
    if any(other.message.root_c1 == upload.root_c1 for other in state.uploads.values()):
        raise FaultyClientError(client, "its c1 is a copy of another client's")


def _check_parameters(state: CkksRoundState, upload: Upload) -> None:
    parameters = state.certified.parameters
    client = upload.client
    if upload.parameters_digest != parameters.digest():
        raise FaultyClientError(client, "it encrypted under other parameters than the plan's")
    if upload.level != len(parameters.data_primes):
        raise FaultyClientError(client, f"level {upload.level}, the plan has {len(parameters.data_primes)} data primes")
    if upload.scale != parameters.scale:
        raise FaultyClientError(client, f"scale {upload.scale!r}, the plan has {parameters.scale!r}")
    if upload.chunks != parameters.chunks:
        raise FaultyClientError(client, f"{upload.chunks} chunks, the plan has {parameters.chunks}")


def upload_verified(state: CkksRoundState, event: UploadVerified) -> CkksStep:
    """Count a contribution, once."""
    upload = event.upload.message
    if check_upload(state, upload):
        return unchanged(state)
    counted = replace(state, uploads={**state.uploads, upload.client: event.upload})
    return _closed_if_complete(counted)


def upload_refused(state: CkksRoundState, event: UploadRefused) -> CkksStep:
    """Reject the sender of wrong bytes; the round goes on for the others."""
    commitment_of(state, event.client)
    if event.client in state.uploads or event.client in state.refused:
        return unchanged(state)
    refused = replace(state, refused={**state.refused, event.client: event.reason})
    step = _closed_if_complete(refused)
    audit = Audit(event="upload-refused", details={"client": event.client, "reason": event.reason})
    return replace(step, effects=(*step.effects, audit))


def upload_late(state: CkksRoundState, event: UploadVerified) -> CkksStep:
    """Answer a repetition; refuse everything else, however complete."""
    check_upload(state, event.upload.message)
    return unchanged(state)


def refusal_late(state: CkksRoundState, _event: UploadRefused) -> CkksStep:
    """A verification that ended after the uploads were closed changes nothing: nothing was counted."""
    return unchanged(state)


def uploading_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """Go on with what arrived in time."""
    return _close(state) if event.phase is Phase.UPLOADING else unchanged(state)


def _closed_if_complete(state: CkksRoundState) -> CkksStep:
    if len(state.uploads) + len(state.refused) < len(state.joins):
        return stored(state)
    return _close(state)


def _close(state: CkksRoundState) -> CkksStep:
    have, need = len(state.uploads), state.spec.min_contributors
    if have < need:
        missing = named(set(state.joins) - set(state.uploads))
        return abort(state, f"too few contributions: {missing} did not upload in time or were refused", have, need)
    request = digest_of_request(state)
    closed = replace(state, phase=Phase.APPROVING, request_digest=request)
    ask = AskApprovals(request_digest=request, uploads=closed.contributions, holders=closed.group.holders)
    deadline = SetDeadline(phase=Phase.APPROVING, seconds=state.spec.deadlines.approving_seconds)
    audit = Audit(event="approval-asked", details={"request": request.hex(), "contributors": have})
    return stored(closed, deadline, ask, audit)
