"""The trial of a key: this holder's answer, and what everybody's answers prove (docs/protocol.md, 4.5 to 4.7)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from he import ceremony as steps
from he.errors import CeremonyError, FormatError
from he.public_key import PublicKey
from secagg.errors import FaultyCoordinatorError, FaultyKeyHolderError
from secagg.ids import DIGEST_BYTES, HolderId, KeyId
from secagg.messages.ceremony import Trial, TrialBundle
from secagg.roles.key_holder.dealings import Grievance
from secagg.roles.key_holder.relayed import Reader, verify_everyone, verify_own


def answer_trial(holder: HolderId, share: steps.CeremonyShare, key_id: KeyId) -> tuple[Trial, bytes]:
    """Return the signed part and the answer, (L+1, N) residues as bytes."""
    answer = steps.trial_answer(share, key_id).to_bytes()
    digest = hashlib.sha256(answer).digest()
    return Trial(key_id=key_id, holder=holder, answer_digest=digest, complaint=""), answer


def complain(holder: HolderId, grievance: Grievance, key_id: KeyId) -> tuple[Trial, bytes]:
    """Return the trial of a holder that has no share to try."""
    return Trial(key_id=key_id, holder=holder, answer_digest=b"", complaint=str(grievance)), b""


def verify_trials(reader: Reader, key_id: KeyId, own: Trial, bundles: Sequence[TrialBundle]) -> None:
    """Check that these are everybody's signed trials of this key, with the answers that were signed.

    Raises:
        FaultyKeyHolderError: a signed trial is neither an answer nor a complaint.
        FaultyCoordinatorError: a trial of another key, a missing one, an altered answer.
    """
    trials = [one.trial for one in bundles]
    verify_everyone(reader, trials, "trials")
    verify_own(reader, trials, own, "trial")
    for bundle in bundles:
        _verify_trial(key_id, bundle)


def _verify_trial(key_id: KeyId, bundle: TrialBundle) -> None:
    trial = bundle.trial.message
    if trial.key_id != key_id:
        raise FaultyCoordinatorError(f"{trial.holder} tried another key: it was shown other messages of this ceremony")
    if len(trial.answer_digest) != (0 if trial.complaint else DIGEST_BYTES):
        raise FaultyKeyHolderError(trial.holder, "its trial is neither an answer nor a complaint")
    expected = b"" if trial.complaint else hashlib.sha256(bundle.answer).digest()
    if not hmac.compare_digest(expected, trial.answer_digest) or (trial.complaint and bundle.answer):
        raise FaultyCoordinatorError(f"the trial answer of {trial.holder} was altered")


def verify_key(public_key: PublicKey | None, bundles: Sequence[TrialBundle]) -> None:
    """Raise `CeremonyError` unless all answered, and the answers prove the key; it names nobody."""
    complainers = [number for number, one in enumerate(bundles, start=1) if one.trial.message.complaint]
    if complainers or public_key is None:
        raise CeremonyError(f"the key is dead: key holders {', '.join(map(str, complainers))} complain of a message")
    try:
        answers = [
            steps.TrialAnswer.from_bytes(public_key.parameters, one.answer, holder=number)
            for number, one in enumerate(bundles, start=1)
        ]
    except FormatError as error:
        raise CeremonyError(f"the key is dead: {error}") from error
    steps.verify_trial(public_key, answers)
