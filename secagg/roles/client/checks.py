"""What a client checks of all that the coordinator shows it (docs/protocol.md, 5.1, 5.5 and 6.6).

Signatures, certificates, roles and names are verified before, by the codec; here it is about what was signed.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from he.errors import FormatError
from he.public_key import PublicKey
from he.sampling import expand_public
from secagg import transcript
from secagg.errors import FaultyCoordinatorError
from secagg.identity import Party
from secagg.ids import NONCE_BYTES, ClientId, Digest, HolderId, JobId
from secagg.messages.ceremony import Hello, KeyStatement, PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Result
from secagg.messages.signed import Authenticated
from secagg.plan import HolderGroup, RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.roster_seals import verify_seals


def verify_offer(plan: RoundPlan, *, job: JobId, after_round: int) -> None:
    """Raise `FaultyCoordinatorError` unless the plan is of the job that was asked for, and of a later round."""
    if plan.spec.job != job:
        raise FaultyCoordinatorError(f"it offers a round of job {plan.spec.job}, and {job} was asked for")
    if plan.round <= after_round:
        raise FaultyCoordinatorError(f"it offers round {plan.round}, and one after {after_round} was asked for")


def checked_key(plan: RoundPlan, bundle: PublicKeyBundle) -> PublicKey:
    """Return the key, its `a` recomputed, once every holder of the plan's group vouches for exactly this key.

    Raises:
        FaultyCoordinatorError: the key is of another job, round, group, ceremony or transcript, or not the one vouched for.
    """
    verify_ceremony(plan, bundle)
    verify_hellos(bundle)
    context = transcript.ceremony_context(bundle.plan.digest, [one.message for one in bundle.hellos])
    public_key = _built(plan, context, bundle.b)
    verify_statements(plan, bundle, context, Digest(public_key.digest()))
    return public_key


def verify_ceremony(plan: RoundPlan, bundle: PublicKeyBundle) -> None:
    """Raise `FaultyCoordinatorError` unless the ceremony made a key for this very plan."""
    ceremony = bundle.plan
    if ceremony.spec != plan.spec:
        raise FaultyCoordinatorError("the key was made for another job, or for the job with other numbers")
    if ceremony.round != plan.round:
        raise FaultyCoordinatorError(f"the key was made for round {ceremony.round}, not for round {plan.round}")
    if ceremony.group != plan.ckks.group:
        raise FaultyCoordinatorError("the key was made by other key holders than the plan names")


def verify_hellos(bundle: PublicKeyBundle) -> None:
    """Raise `FaultyCoordinatorError` unless there is one hello of each holder, of this ceremony, in their order."""
    hellos = [one.message for one in bundle.hellos]
    _verify_signers(bundle.plan.group, hellos, "hellos")
    for hello in hellos:
        if hello.ceremony_digest != bundle.plan.digest:
            raise FaultyCoordinatorError(f"the hello of {hello.holder} belongs to another ceremony")
        if len(hello.nonce) != NONCE_BYTES:
            raise FaultyCoordinatorError(f"the nonce of {hello.holder} has not {NONCE_BYTES} bytes")


def verify_statements(plan: RoundPlan, bundle: PublicKeyBundle, context: Digest, key_digest: Digest) -> None:
    """Raise `FaultyCoordinatorError` unless every holder of the group vouches for this key, id, ceremony and context."""
    statements = [one.message for one in bundle.statements]
    _verify_signers(plan.ckks.group, statements, "key statements")
    for one in statements:
        _verify_statement(one, plan, bundle, context, key_digest)


def _verify_statement(
    one: KeyStatement, plan: RoundPlan, bundle: PublicKeyBundle, context: Digest, key_digest: Digest
) -> None:
    for said, due, what in (
        (one.key_id, plan.ckks.key_id, "another key id"),
        (one.ceremony_digest, bundle.plan.digest, "a key of another ceremony"),
        (one.context, context, "a key made from other hellos"),
        (one.public_key_digest, key_digest, "another public key"),
    ):
        if not hmac.compare_digest(said, due):
            raise FaultyCoordinatorError(f"key holder {one.holder} vouches for {what}, not for the one that was shown")


def _verify_signers(group: HolderGroup, messages: Sequence[Hello] | Sequence[KeyStatement], what: str) -> None:
    signers: tuple[HolderId, ...] = tuple(one.holder for one in messages)
    if signers != group.holders:
        shown = ", ".join(signers) or "nobody"
        raise FaultyCoordinatorError(f"it shows {what} of {shown}, and the key holders are {', '.join(group.holders)}")


def _built(plan: RoundPlan, context: Digest, b: bytes) -> PublicKey:
    parameters = plan.parameters
    a = expand_public(context, parameters.key_primes, parameters.degree)
    try:
        return PublicKey.from_bytes(parameters, a, b)
    except FormatError as error:
        raise FaultyCoordinatorError(f"what it shows as the public key is none: {error}") from error


def verify_roster(plan: RoundPlan, policy: ClientPolicy, own: Join, roster: FrozenRoster) -> None:
    """Raise `FaultyCoordinatorError` unless the roster is of this plan, holds our own join and enough others, nobody twice.

    A quorum of the key's holders has to have sealed it: then nobody was, or will be, shown another one.
    """
    joins = [one.message for one in roster.joins]
    if roster.plan_digest != plan.digest or any(join.plan_digest != plan.digest for join in joins):
        raise FaultyCoordinatorError("the roster, or a join in it, belongs to another plan")
    verify_ordered([join.client for join in joins], "roster")
    if own not in joins:
        raise FaultyCoordinatorError(f"the roster does not hold the join of {own.client} as it was sent")
    if len({join.commitment for join in joins}) != len(joins):
        raise FaultyCoordinatorError("a commitment stands twice in the roster: one client has copied another's")
    need = max(plan.spec.min_contributors, policy.min_contributors)
    if not need <= len(joins) <= plan.spec.max_clients:
        message = f"the roster has {len(joins)} clients, between {need} and {plan.spec.max_clients} are allowed"
        raise FaultyCoordinatorError(message)
    verify_seals(plan, transcript.roster_digest(plan.digest, joins), roster.seals)


def verify_ordered(clients: Sequence[ClientId], what: str) -> None:
    """Raise `FaultyCoordinatorError` unless the names ascend: nobody twice."""
    if any(first >= second for first, second in pairwise(clients)):
        raise FaultyCoordinatorError(f"the {what} names a client twice, or not in the order of the names")


def verify_result(
    plan: RoundPlan,
    policy: ClientPolicy,
    coordinator: Party,
    result: Authenticated[Result],
    *,
    client: ClientId,
    roster: Sequence[ClientId],
    roster_digest: Digest,
) -> None:
    """Raise `FaultyCoordinatorError` unless this coordinator publishes a sum of enough of the roster, ours among them."""
    message = result.message
    if result.party != coordinator:
        raise FaultyCoordinatorError(f"the result is signed by {result.party}, not by {coordinator}")
    if message.plan_digest != plan.digest or message.roster_digest != roster_digest:
        raise FaultyCoordinatorError("the result belongs to another round, or to another roster")
    verify_ordered(message.contributors, "list of contributors")
    strangers = sorted(set(message.contributors) - set(roster))
    if strangers:
        raise FaultyCoordinatorError(f"the result counts {', '.join(strangers)}, not in the roster")
    need, have = max(plan.spec.min_contributors, policy.min_contributors), len(message.contributors)
    if have < need:
        raise FaultyCoordinatorError(f"the result is a sum of {have} contributions, at least {need} are due")
    if client not in message.contributors:
        raise FaultyCoordinatorError(f"the result leaves out {client}, whose upload it had counted")
    weight = message.total_weight
    if not (math.isfinite(weight) and weight >= plan.spec.min_total_weight):
        raise FaultyCoordinatorError(f"the result's total weight {weight} is below {plan.spec.min_total_weight}")


def verify_mean(plan: RoundPlan, result: Result, digest: Digest, size: int) -> None:
    """Raise `FaultyCoordinatorError` unless the downloaded bytes are the mean that was signed, in the size of the plan."""
    if result.mean_bytes != mean_bytes(plan) or size != result.mean_bytes:
        message = f"the mean has {size} bytes, {result.mean_bytes} are signed and the plan has {mean_bytes(plan)}"
        raise FaultyCoordinatorError(message)
    if not hmac.compare_digest(digest, result.mean_digest):
        raise FaultyCoordinatorError("the mean that was downloaded is not the one that it signed")


def mean_bytes(plan: RoundPlan) -> int:
    """Return the length of a mean's bytes: every tensor in its own dtype."""
    return sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in plan.spec.tensors)
