"""What a client verifies before it believes the coordinator (``docs/protocol.md``, sections 5.1, 5.4 and 6.6).

Every ``verify_*`` raises and returns nothing. Signatures, and that names are their signers', the codec has verified before.
"""

from __future__ import annotations

import hmac
import math

import numpy as np

from he.errors import HEError
from he.public_key import PublicKey
from he.sampling import expand_public
from secagg import transcript
from secagg.errors import FaultyCoordinatorError
from secagg.ids import Digest
from secagg.messages.ceremony import KeyStatement, PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Result
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import JobSpec, RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client.state import Fetching, Roster, Terms


def _require(holds: bool, reason: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise FaultyCoordinatorError(reason)


def verify_offer(terms: Terms, plan: RoundPlan) -> None:
    """Check that this is a round that was asked for, and that the policy allows it.

    Raises:
        FaultyCoordinatorError: another job, or a round that is not later.
        PolicyError: the plan is weaker than the policy.
    """
    _require(plan.spec.job == terms.job, f"it offered job {plan.spec.job!r} where {terms.job!r} was asked for")
    _require(plan.round > terms.after_round, f"it offered round {plan.round}, not later than {terms.after_round}")
    terms.policy.check(plan)


def verify_key(plan: RoundPlan, bundle: PublicKeyBundle) -> PublicKey:
    """Return the key of the round, built from what all n holders vouch for.

    ``a`` is expanded here from the context of the ceremony, which is recomputed from the holders' own hellos.

    Raises:
        FaultyCoordinatorError: the key is not the one that the plan's holders made for this round.
    """
    verify_ceremony(plan, bundle)
    context = transcript.ceremony_context(bundle.plan.digest, [hello.message for hello in bundle.hellos])
    parameters = plan.parameters
    a = expand_public(context, parameters.key_primes, parameters.degree)
    try:
        public_key = PublicKey.from_bytes(parameters, a, bundle.b)
    except HEError as error:
        raise FaultyCoordinatorError(f"the round's key cannot be read: {error}") from error
    verify_statements(plan, bundle, context, Digest(public_key.digest()))
    return public_key


def verify_ceremony(plan: RoundPlan, bundle: PublicKeyBundle) -> None:
    """Check that the key was made for this very round, and that every holder of the group said hello to it."""
    ceremony, group = bundle.plan, plan.protocol.group
    _require(ceremony.spec == plan.spec, "the key was made for a job with other numbers")
    _require(ceremony.round == plan.round, f"the key was made for round {ceremony.round}, not for {plan.round}")
    _require(ceremony.group == group, "the key was made by other key holders than the plan names")
    holders = tuple(hello.message.holder for hello in bundle.hellos)
    _require(holders == group.holders, "the key does not come with one hello of each of its holders, in their order")
    same = all(hello.message.ceremony_digest == ceremony.digest for hello in bundle.hellos)
    _require(same, "a hello belongs to another ceremony")


def verify_statements(plan: RoundPlan, bundle: PublicKeyBundle, context: Digest, key_digest: Digest) -> None:
    """Check that each of the n holders vouches for exactly this key."""
    group, ceremony_digest = plan.protocol.group, bundle.plan.digest
    vouching = sorted(statement.message.holder for statement in bundle.statements)
    _require(vouching == sorted(group.holders), "not every holder of the plan, and each once, vouches for the key")
    for statement in bundle.statements:
        holder = statement.message.holder
        expected = KeyStatement(
            key_id=plan.protocol.key_id,
            ceremony_digest=ceremony_digest,
            context=context,
            public_key_digest=key_digest,
            holder=holder,
        )
        _require(statement.message == expected, f"key holder {holder} vouches for another key than the one offered")


def verify_roster(plan: RoundPlan, policy: ClientPolicy, own: Join, roster: FrozenRoster) -> None:
    """Check that the roster is this round's, holds our own commitment, and enough others'."""
    joins = [one.message for one in roster.joins]
    names, commitments = [join.client for join in joins], {join.commitment for join in joins}
    same = roster.plan_digest == plan.digest and all(join.plan_digest == plan.digest for join in joins)
    _require(same, "the roster belongs to another round")
    _require(names == sorted(set(names)), "the roster names a client twice, or not in order")
    _require(own in joins, "the roster lacks this client's own commitment")
    _require(len(commitments) == len(joins), "two clients of the roster have the same commitment")
    least, most = max(plan.spec.min_contributors, policy.min_contributors), plan.spec.max_clients
    _require(least <= len(joins) <= most, f"the roster has {len(joins)} clients, and the plan {least} to {most}")


def roster_of(plan: RoundPlan, joins: tuple[Authenticated[Join], ...]) -> Roster:
    """Return who joined, and the digest that binds everything from here on."""
    messages = [one.message for one in joins]
    digest = transcript.roster_digest(plan.digest, messages)
    return Roster(digest=digest, clients=tuple(join.client for join in messages))


def verify_result(plan: RoundPlan, terms: Terms, roster: Roster, signed: Authenticated[Result]) -> None:
    """Check that our coordinator signed the result, for this roster, with enough contributors, this client among them."""
    result, least = signed.message, max(plan.spec.min_contributors, terms.policy.min_contributors)
    expected = Party(role=Role.COORDINATOR, name=terms.coordinator)
    _require(signed.party == expected, f"the result was signed by {signed.party}, not by {expected}")
    same = result.plan_digest == plan.digest and result.roster_digest == roster.digest
    _require(same, "the result belongs to another round, or to another roster than this client was shown")
    verify_contributors(result, terms, roster, least)
    weight = result.total_weight
    enough = math.isfinite(weight) and weight >= plan.spec.min_total_weight
    _require(
        enough, f"the result's total weight is {weight}, and the plan publishes from {plan.spec.min_total_weight} on"
    )
    _require(
        result.mean_bytes == mean_bytes(plan.spec), f"a mean of {result.mean_bytes} bytes is not of the plan's form"
    )


def verify_contributors(result: Result, terms: Terms, roster: Roster, least: int) -> None:
    """Check who counts: distinct clients of the roster, at least ``least``, and us, whose upload was accepted."""
    names = result.contributors
    _require(len(set(names)) == len(names), "the result counts a client twice")
    _require(set(names) <= set(roster.clients), "the result counts clients that are not in the roster")
    _require(len(names) >= least, f"the result has {len(names)} contributors, and at least {least} are needed")
    _require(terms.client in names, "the result leaves out this client, whose upload was accepted")


def verify_mean(fetching: Fetching, digest: Digest, size: int) -> None:
    """Check that what arrived is what the coordinator signed."""
    result = fetching.result
    same = size == result.mean_bytes and hmac.compare_digest(digest, result.mean_digest)
    _require(same, "the mean that arrived is not the one that it signed")


def mean_bytes(spec: JobSpec) -> int:
    """Return the bytes of a mean: every tensor in its own dtype."""
    return sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in spec.tensors)
