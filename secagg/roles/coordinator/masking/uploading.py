"""UPLOADING: one masked vector of each sharer, and then who survived (``docs/protocol.md``, 10.4)."""

from __future__ import annotations

from dataclasses import replace

from secagg import transcript
from secagg.errors import ConflictError, FaultyClientError, LateError, WrongPhaseError
from secagg.messages.masking import MaskedUpload
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import Audit, SetDeadline
from secagg.roles.coordinator.ending import abort, stored, unchanged
from secagg.roles.coordinator.events import DeadlinePassed, UploadRefused, VectorVerified
from secagg.roles.coordinator.masking.sharing import check_member
from secagg.roles.coordinator.masking.state import MaskingRoundState, MaskingStep
from secagg.roles.coordinator.state import named

_BEFORE = (Phase.OPEN, Phase.SHARING)


def check_vector(state: MaskingRoundState, upload: MaskedUpload) -> bool:
    """Say whether the upload is already counted; raise when it must not count.

    The driver asks before it takes the first byte, and the machine again before it counts.

    Raises:
        WrongPhaseError: the shares are not closed yet.
        LateError: the uploads are closed, or the client dropped out before.
        ConflictError: the client's other vector is counted already.
        FaultyClientError: what the client signed is not what the round asks for.
    """
    known = state.uploads.get(upload.client)
    if known is not None:
        return _is_repetition(known.message, upload)
    if upload.client in state.refused:
        raise FaultyClientError(upload.client, state.refused[upload.client])
    if state.phase in _BEFORE:
        raise WrongPhaseError(f"round {state.round} is {state.phase.value}: its sharers are not published yet")
    if state.phase is not Phase.UPLOADING:
        raise LateError(f"the uploads of round {state.round} are closed")
    check_member(state, upload.client)
    if upload.client not in state.sharers:
        raise LateError(
            f"client {upload.client} did not share its secrets in time: it has dropped out of round {state.round}"
        )
    _check_content(state, upload)
    return False


def _is_repetition(known: MaskedUpload, upload: MaskedUpload) -> bool:
    if known != upload:
        raise ConflictError(f"client {upload.client} has uploaded something else")
    return True


def _check_content(state: MaskingRoundState, upload: MaskedUpload) -> None:
    client = upload.client
    if upload.plan_digest != state.certified.digest:
        raise FaultyClientError(client, "its upload is for another plan")
    if upload.roster_digest != state.frozen_digest:
        raise FaultyClientError(client, "its upload is signed for another roster")
    if upload.sharers_digest != state.sharers_digest:
        raise FaultyClientError(client, "its vector is masked for other sharers")
    due = state.spec.masking_parameters.vector_bytes
    if upload.vector_bytes != due:
        raise FaultyClientError(client, f"its vector has {upload.vector_bytes} bytes, the plan has {due}")


def vector_verified(state: MaskingRoundState, event: VectorVerified) -> MaskingStep:
    """Count a vector, once."""
    upload = event.upload.message
    if check_vector(state, upload):
        return unchanged(state)
    return _closed_if_complete(replace(state, uploads={**state.uploads, upload.client: event.upload}))


def upload_refused(state: MaskingRoundState, event: UploadRefused) -> MaskingStep:
    """Reject the sender of wrong bytes; the round goes on without it, as if it had dropped out."""
    check_member(state, event.client)
    if event.client in state.uploads or event.client in state.refused:
        return unchanged(state)
    step = _closed_if_complete(replace(state, refused={**state.refused, event.client: event.reason}))
    audit = Audit(event="upload-refused", details={"client": event.client, "reason": event.reason})
    return replace(step, effects=(*step.effects, audit))


def vector_late(state: MaskingRoundState, event: VectorVerified) -> MaskingStep:
    """Answer a repetition; refuse everything else, however complete: its mask key opens, and its self mask alone would be left."""
    check_vector(state, event.upload.message)
    return unchanged(state)


def refusal_late(state: MaskingRoundState, _event: UploadRefused) -> MaskingStep:
    """A verification that ended after the uploads were closed changes nothing: nothing was counted."""
    return unchanged(state)


def uploading_deadline(state: MaskingRoundState, event: DeadlinePassed) -> MaskingStep:
    """Go on with what arrived in time."""
    return _close(state) if event.phase is Phase.UPLOADING else unchanged(state)


def _closed_if_complete(state: MaskingRoundState) -> MaskingStep:
    complete = set(state.sharers) <= state.uploads.keys() | state.refused.keys()
    return _close(state) if complete else stored(state)


def _close(state: MaskingRoundState) -> MaskingStep:
    have, need = len(state.uploads), max(state.spec.min_contributors, state.quorum)
    missing = named(set(state.sharers) - set(state.uploads))
    if have < need:
        return abort(state, f"too few contributions: {missing} did not upload in time or were refused", have, need)
    lonely = _lonely(state)
    if lonely:
        gone = named(set(state.joins) - set(state.uploads))
        return abort(state, f"too few neighbours of {lonely} are left to open their masks: {gone} dropped out")
    survivors = state.contributors
    digest = transcript.survivors_digest(state.sharers_digest, survivors)
    closed = replace(state, phase=Phase.CONFIRMING, survivors=survivors, survivors_digest=digest)
    deadline = SetDeadline(phase=Phase.CONFIRMING, seconds=state.spec.deadlines.confirming_seconds)
    details: dict[str, str | int | float] = {
        "survivors": have,
        "set": closed.survivors_digest.hex(),
        "dropped": missing,
    }
    return stored(closed, deadline, Audit(event="uploads-closed", details=details))


def _lonely(state: MaskingRoundState) -> str:
    """Name sharers with fewer than a threshold of neighbours that survived; nobody could open their secrets."""
    house = state.neighbourhood
    few = house.living(house.members(state.contributors)) < state.threshold
    return named({client for client in state.sharers if few[house.places[client]]})
