"""What a holder checks before it approves of opening a sum (docs/protocol.md, 6.2; DESIGN 4.4).

Nothing that the coordinator says is taken on trust: joins and uploads are signed by the clients, and the roots of c1 are
those that this holder computed from the very bytes that it added up.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from secagg import transcript
from secagg.errors import FaultyClientError, FaultyCoordinatorError
from secagg.ids import DIGEST_BYTES, ClientId, Digest, KeyId
from secagg.messages.round import FrozenRoster, Join, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.policy import HolderPolicy


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the coordinator shows when it asks for an approval; `uploads` in the order of the clients' names."""

    plan: RoundPlan
    roster: FrozenRoster
    uploads: tuple[Authenticated[Upload], ...]


@dataclass(frozen=True, kw_only=True)
class ComputedHalf:
    """What this holder computed from one contributor's c1: the root, and every chunk's SHA-256, 32 bytes each, in a row."""

    root: Digest
    chunk_digests: bytes


def verify_plan(plan: RoundPlan, ceremony: CeremonyPlan, key_id: KeyId) -> None:
    """Raise `FaultyCoordinatorError` unless the round is the very one that this key was made for."""
    if plan.ckks.key_id != key_id:
        raise FaultyCoordinatorError("the plan of the round names another key")
    if plan.spec != ceremony.spec:
        raise FaultyCoordinatorError("the plan of the round belongs to another job than the key was made for")
    if plan.round != ceremony.round:
        raise FaultyCoordinatorError(f"the plan is of round {plan.round}, the key was made for round {ceremony.round}")
    if plan.ckks.group != ceremony.group:
        raise FaultyCoordinatorError("the plan of the round names other key holders or thresholds than the key has")


def verify_roster(plan: RoundPlan, roster: FrozenRoster) -> None:
    """Raise `FaultyCoordinatorError` unless the roster is one of this plan: sorted, distinct clients and commitments."""
    joins = [one.message for one in roster.joins]
    if roster.plan_digest != plan.digest or any(join.plan_digest != plan.digest for join in joins):
        raise FaultyCoordinatorError("the roster, or a join in it, belongs to another plan")
    if len(joins) > plan.spec.max_clients:
        raise FaultyCoordinatorError(f"the roster has {len(joins)} clients, the plan allows {plan.spec.max_clients}")
    _verify_ordered([join.client for join in joins], "roster")
    if len({join.commitment for join in joins}) != len(joins):
        raise FaultyCoordinatorError("a commitment stands twice in the roster")


def verify_joined(plan: RoundPlan, roster: FrozenRoster, policy: HolderPolicy) -> None:
    """Raise `FaultyCoordinatorError` if fewer joined than plan and policy want in a sum."""
    have, need = len(roster.joins), max(plan.spec.min_contributors, policy.min_contributors)
    if have < need:
        raise FaultyCoordinatorError(f"the roster has {have} clients, at least {need} are due")


def _verify_ordered(clients: Sequence[ClientId], what: str) -> None:
    if any(first >= second for first, second in pairwise(clients)):
        raise FaultyCoordinatorError(f"the {what} names a client twice, or not in the order of the names")


def verify_uploads(request: Request, policy: HolderPolicy) -> None:
    """Check who is to be summed up, and what each of them signed.

    Raises:
        FaultyCoordinatorError: too few contributors, one twice or not of the roster, an upload of another round or roster.
        FaultyClientError: an upload that does not fit the plan.
    """
    plan, uploads = request.plan, [one.message for one in request.uploads]
    need = max(plan.spec.min_contributors, policy.min_contributors)
    if len(uploads) < need:
        raise FaultyCoordinatorError(f"it asks to open a sum of {len(uploads)} contributions, at least {need} are due")
    _verify_ordered([upload.client for upload in uploads], "list of uploads")
    joined = {one.message.client for one in request.roster.joins}
    roster_digest = digest_of(request.roster)
    for upload in uploads:
        if upload.client not in joined:
            raise FaultyCoordinatorError(f"client {upload.client} is not in the roster")
        verify_upload(plan, roster_digest, upload)


def digest_of(roster: FrozenRoster) -> Digest:
    """Return the roster's digest."""
    return transcript.roster_digest(roster.plan_digest, [one.message for one in roster.joins])


def verify_upload(plan: RoundPlan, roster_digest: Digest, upload: Upload) -> None:
    """Check one signed upload; see `verify_uploads`."""
    client, parameters = upload.client, plan.parameters
    if upload.plan_digest != plan.digest:
        raise FaultyCoordinatorError(f"the upload of client {client} belongs to another round or job")
    if upload.roster_digest != roster_digest:
        raise FaultyCoordinatorError(f"client {client} was shown another roster")
    if upload.parameters_digest != parameters.digest():
        raise FaultyClientError(client, "its ciphertext was made under other parameters")
    if upload.level != len(parameters.data_primes) or upload.scale != parameters.scale:
        raise FaultyClientError(client, f"its ciphertext has level {upload.level} and scale {upload.scale:g}")
    if upload.chunks != parameters.chunks:
        raise FaultyClientError(client, f"its ciphertext has {upload.chunks} chunks, the plan {parameters.chunks}")


def verify_computed(request: Request, computed: Sequence[ComputedHalf]) -> None:
    """Check what was added up against what was signed and committed to.

    Raises:
        FaultyCoordinatorError: other bytes than a client signed, a c1 or a chunk of one twice.
        FaultyClientError: the signed upload does not open the client's own commitment.
    """
    if len(computed) != len(request.uploads):
        raise FaultyCoordinatorError(f"it showed {len(computed)} of {len(request.uploads)} contributions")
    commitments = {one.message.client: one.message for one in request.roster.joins}
    for one, half in zip(request.uploads, computed, strict=True):
        verify_contribution(request.plan, commitments[one.message.client], one.message, half)
    if len({half.root for half in computed}) != len(computed):
        raise FaultyCoordinatorError("it showed the same c1 for two clients")
    verify_chunks_distinct(computed)


def verify_contribution(plan: RoundPlan, join: Join, upload: Upload, half: ComputedHalf) -> None:
    """Check one contribution; see `verify_computed`."""
    if len(half.chunk_digests) != DIGEST_BYTES * plan.parameters.chunks:
        raise FaultyCoordinatorError(f"it showed too few or too many chunks of client {upload.client}")
    if not hmac.compare_digest(half.root, upload.root_c1):
        raise FaultyCoordinatorError(f"the c1 that it showed for client {upload.client} is not the one that was signed")
    commitment = transcript.ciphertext_commitment(
        plan_digest=plan.digest,
        key_id=plan.ckks.key_id,
        client=upload.client,
        nonce=upload.nonce,
        root_c0=upload.root_c0,
        root_c1=half.root,
    )
    if not hmac.compare_digest(commitment, join.commitment):
        raise FaultyClientError(upload.client, "its upload does not open the commitment that it joined with")


def verify_chunks_distinct(computed: Sequence[ComputedHalf]) -> None:
    """Raise `FaultyCoordinatorError` when a chunk of c1 stands twice, wherever: a copy, or a part of one."""
    # S32 ends at trailing zero bytes; of equal lengths, strings that are equal without them are equal with them.
    digests = np.frombuffer(b"".join(half.chunk_digests for half in computed), dtype=f"S{DIGEST_BYTES}")
    ordered = np.sort(digests)
    if bool((ordered[1:] == ordered[:-1]).any()):
        raise FaultyCoordinatorError("it showed a chunk of c1 twice")
