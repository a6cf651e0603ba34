"""A client whose owner says how many clients may be corrupt, and a coordinator whose plan bears fewer.

The policy's ``corrupt_clients`` is a number, the plan's ``corrupt_fraction`` a share of whatever roster the coordinator chooses
to make: in a small roster the same few corrupt clients are a larger share.
"""

from __future__ import annotations

from contextlib import suppress

from secagg.errors import FaultyCoordinatorError, PolicyError
from secagg.policy import ClientPolicy
from tests.adversarial.masking_adversary import Table
from tests.adversarial.masking_people import a_plan, named, people, roster_of

POLICY = ClientPolicy(min_contributors=6, corrupt_clients=4)
PLAN = a_plan(min_contributors=6, max_clients=10, corrupt=0.1)
"""Ten clients, one of them corrupt, the plan says: k = 9, t = 6, q = 6."""
HONEST, CORRUPT = named("honest", 6), frozenset(named("mallory", 4))


def test_as_many_corrupt_clients_as_a_policy_allows_for_betray_nobody() -> None:
    """Promise P1. Three are told that everybody survived, the other three that the first one did not."""
    target, side, other = HONEST[0], HONEST[:3], HONEST[3:]
    with suppress(PolicyError, FaultyCoordinatorError):
        everyone = people((*HONEST, *CORRUPT), PLAN, POLICY)
        table = Table(roster_of(PLAN, [one.join for one in everyone.values()]), everyone, CORRUPT)
        table.deal()
        table.show_sharers(everyone, to=everyone)
        rest = set(everyone) - {target}
        table.reveal(table.confirm(everyone, by=side) + table.forged(everyone, everyone), by=side)
        table.reveal(table.confirm(rest, by=other) + table.forged(rest, everyone), by=other)
        seeds, keys = table.secrets()
        assert not set(seeds) & set(keys) & set(HONEST)
        assert frozenset({target}) not in table.opened_sets(), "the bare update of one client"
