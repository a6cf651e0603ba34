"""What a client checks of all that the coordinator shows it in a masking round (docs/protocol.md, 10.2 to 10.6).

Signatures, certificates, roles and names are verified before, by the codec; here it is about what was signed.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from secagg.errors import FaultyCoordinatorError, MessageError, PlanError, PolicyError
from secagg.ids import ClientId
from secagg.masking.agreement import verify_public_key
from secagg.masking.planner import corrupt_count, verify_numbers
from secagg.messages.masking import Confirmation, MaskingJoin, MaskingRoster
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client.checks import verify_ordered
from secagg.roles.neighbourhood import Neighbourhood, numbers_shown


def fewest_contributors(plan: RoundPlan, policy: ClientPolicy) -> int:
    """Return the stricter of policy and plan."""
    return max(plan.spec.min_contributors, policy.min_contributors)


def verify_masking_roster(plan: RoundPlan, policy: ClientPolicy, own: MaskingJoin, roster: MaskingRoster) -> None:
    """Raise `FaultyCoordinatorError` unless the roster is of this plan, holds our own join and enough others, nobody twice.

    The numbers of its graph are held against the plan: weaker ones are refused.

    Raises `PolicyError` when a roster of this length bears fewer corrupt clients than the policy allows for: the plan's share is
    of whatever roster the coordinator makes.
    """
    joins = [one.message for one in roster.joins]
    if roster.plan_digest != plan.digest or any(join.plan_digest != plan.digest for join in joins):
        raise FaultyCoordinatorError("the roster, or a join in it, belongs to another plan")
    verify_ordered(roster.clients, "roster")
    if own not in joins:
        raise FaultyCoordinatorError(f"the roster does not hold the join of {own.client} as it was sent")
    keys = [key for join in joins for key in (join.mask_key, join.share_key)]
    if len(set(keys)) != len(keys):
        raise FaultyCoordinatorError("a key stands twice in the roster: one client has copied another's")
    _verify_keys(keys)
    need = fewest_contributors(plan, policy)
    if not need <= len(joins) <= plan.spec.max_clients:
        message = f"the roster has {len(joins)} clients, between {need} and {plan.spec.max_clients} are allowed"
        raise FaultyCoordinatorError(message)
    _verify_graph(plan, roster)
    borne = corrupt_count(len(joins), plan.spec.masking.corrupt_fraction)
    if borne < policy.corrupt_clients:
        message = (
            f"a roster of {len(joins)} bears {borne} corrupt clients, this client allows for {policy.corrupt_clients}"
        )
        raise PolicyError(message)


def _verify_keys(keys: Sequence[bytes]) -> None:
    try:
        for key in keys:
            verify_public_key(key)
    except MessageError as error:
        raise FaultyCoordinatorError(f"the roster holds a key that is none: {error.reason}") from error


def _verify_graph(plan: RoundPlan, roster: MaskingRoster) -> None:
    numbers = numbers_shown(
        plan.spec,
        len(roster.joins),
        degree=roster.neighbours,
        threshold=roster.threshold,
        quorum=roster.quorum,
    )
    try:
        verify_numbers(
            numbers,
            corrupt_fraction=plan.spec.masking.corrupt_fraction,
            min_contributors=plan.spec.min_contributors,
        )
    except PlanError as error:
        raise FaultyCoordinatorError(f"the roster's graph is too weak: {error.reason}") from error


def verify_sharers(
    plan: RoundPlan, policy: ClientPolicy, house: Neighbourhood, client: ClientId, sharers: tuple[ClientId, ...]
) -> None:
    """Raise `FaultyCoordinatorError` unless these are clients of the roster, ourselves and enough others and neighbours."""
    _verify_set(plan, policy, client, sharers, within=house.clients, what="list of sharers")
    living = frozenset(sharers) & frozenset(house.neighbours_of(client))
    if len(living) < house.threshold:
        message = f"{len(living)} neighbours of {client} are among the sharers, at least {house.threshold} are due"
        raise FaultyCoordinatorError(message)


def verify_survivors(
    plan: RoundPlan,
    policy: ClientPolicy,
    client: ClientId,
    sharers: Sequence[ClientId],
    survivors: tuple[ClientId, ...],
) -> None:
    """Raise `FaultyCoordinatorError` unless these are sharers, ourselves and enough others among them."""
    _verify_set(plan, policy, client, survivors, within=sharers, what="list of survivors")


def _verify_set(
    plan: RoundPlan,
    policy: ClientPolicy,
    client: ClientId,
    shown: tuple[ClientId, ...],
    *,
    within: Sequence[ClientId],
    what: str,
) -> None:
    verify_ordered(shown, what)
    strangers = sorted(set(shown) - set(within))
    if strangers:
        raise FaultyCoordinatorError(f"the {what} names {', '.join(strangers[:5])}, who cannot be in it")
    if client not in shown:
        raise FaultyCoordinatorError(f"the {what} leaves out {client}, whose part it had taken")
    need = fewest_contributors(plan, policy)
    if len(shown) < need:
        raise FaultyCoordinatorError(f"the {what} names {len(shown)} clients, at least {need} are due")


def verify_confirmations(
    own: Confirmation,
    house: Neighbourhood,
    survivors: Sequence[ClientId],
    confirmations: Sequence[Authenticated[Confirmation]],
) -> None:
    """Raise `FaultyCoordinatorError` unless a quorum of the roster signed this very set, a threshold of our neighbours among them.

    2q > n + C: then no other set has a quorum too, whatever the coordinator shows to whom. q is no less than `min_contributors`:
    who signed is here and now, and a survivor who did not may be a ghost from another roster.
    """
    messages = [one.message for one in confirmations]
    for one in messages:
        if not _same_set(one, own):
            raise FaultyCoordinatorError(f"it shows a confirmation of {one.client} for another plan, roster or set")
    signers = [one.client for one in messages]
    if len(set(signers)) != len(signers) or not set(signers) <= set(survivors):
        raise FaultyCoordinatorError("it shows a confirmation twice, or one of a client that is no survivor")
    confirmed = frozenset(signers) | {own.client}
    if len(confirmed) < house.quorum:
        raise FaultyCoordinatorError(f"{len(confirmed)} clients confirmed the survivors, {house.quorum} are due")
    near = len(confirmed & frozenset(house.neighbours_of(own.client)))
    if near < house.threshold:
        message = f"{near} neighbours of {own.client} confirmed the survivors, {house.threshold} are due"
        raise FaultyCoordinatorError(message)


def _same_set(one: Confirmation, own: Confirmation) -> bool:
    return all(
        hmac.compare_digest(said, due)
        for said, due in (
            (one.plan_digest, own.plan_digest),
            (one.roster_digest, own.roster_digest),
            (one.survivors_digest, own.survivors_digest),
        )
    )


def verify_contributors(survivors: Sequence[ClientId], contributors: Sequence[ClientId]) -> None:
    """Raise `FaultyCoordinatorError` unless the result is the sum of exactly the survivors that were shown before."""
    if tuple(contributors) != tuple(survivors):
        raise FaultyCoordinatorError("the result counts other clients than the survivors that it had shown")
