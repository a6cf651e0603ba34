"""What a quorum of seals says: no other roster of this key has one too, since 2q > n + c (docs/protocol.md, 5.4 and 5.5)."""

from __future__ import annotations

from collections.abc import Sequence

from secagg.errors import FaultyCoordinatorError
from secagg.ids import Digest
from secagg.messages.round import RosterSeal
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan


def verify_seals(plan: RoundPlan, roster_digest: Digest, seals: Sequence[Authenticated[RosterSeal]]) -> None:
    """Raise `FaultyCoordinatorError` unless q distinct holders of the plan's key sealed exactly this roster."""
    group, messages = plan.ckks.group, [one.message for one in seals]
    if any(one.key_id != plan.ckks.key_id or one.roster_digest != roster_digest for one in messages):
        raise FaultyCoordinatorError("it showed a seal of another roster or key")
    signers = [one.holder for one in messages]
    if len(set(signers)) != len(signers) or not set(signers) <= set(group.holders):
        raise FaultyCoordinatorError("it showed a seal twice, or one of a stranger to this key")
    if len(signers) < group.quorum:
        raise FaultyCoordinatorError(f"the roster has the seals of {len(signers)} key holders, {group.quorum} are due")
