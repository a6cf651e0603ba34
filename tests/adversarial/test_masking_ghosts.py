"""A coordinator that fills a roster with honest clients of another roster of the same plan, whose mask keys it has opened there.

Joins are bound to the plan, not to a roster, and the nonce of the plan is the coordinator's: it offers one plan twice. In the
first roster two honest clients are declared dropped once they have shared, so that the others reveal shares of their mask keys,
as they should. In the second roster the joins of the two stand again. They never see it, share nothing and upload nothing; but
they count as survivors, and the masks that the others share with them come off.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from secagg.errors import FaultyCoordinatorError
from secagg.ids import ClientId
from tests.adversarial.masking_adversary import Table
from tests.adversarial.masking_people import Person, a_plan, named, people, roster_of, true_sum

LEAST = 7
"""Of the plan and of every client's policy: contributors of a sum."""
PLAN = a_plan(min_contributors=LEAST, max_clients=10)
(MALLORY,) = named("mallory", 1)
GHOSTS = named("ghost", 2)


def opened_elsewhere() -> tuple[Table, dict[ClientId, Person]]:
    """Play a first roster of ten, as honest as can be: the ghosts drop out after they have shared."""
    everyone = people((*named("earlier", 7), *GHOSTS, MALLORY), PLAN)
    first = Table(roster_of(PLAN, [one.join for one in everyone.values()]), everyone, frozenset({MALLORY}))
    first.deal()
    stay = sorted(set(everyone) - set(GHOSTS))
    first.show_sharers(everyone, to=stay)
    honest = [name for name in stay if name != MALLORY]
    shown = first.confirm(stay, by=honest) + first.forged(stay, everyone)
    first.reveal(shown, by=honest)
    return first, dict(everyone)


def test_no_sum_opens_of_fewer_clients_than_the_plan_and_every_policy_ask_for() -> None:
    """Promise: what opens is a sum of at least `LEAST` contributions. Carries out the attack of the module's docstring."""
    first, before = opened_elsewhere()
    ghost_keys = {name: key for name, key in first.secrets()[1].items() if name in GHOSTS}
    assert set(ghost_keys) == set(GHOSTS), "the first roster opened the keys of those who dropped out, as it should"
    few = named("victim", 4)
    everyone = {**people(few, PLAN), MALLORY: Person(MALLORY, PLAN, salt=b"again")}
    joins = [one.join for one in everyone.values()] + [before[name].join for name in GHOSTS]
    second = Table(roster_of(PLAN, joins), everyone, frozenset({MALLORY}), known_keys=ghost_keys)
    whole = second.roster.clients
    assert len(whole) == LEAST
    with suppress(FaultyCoordinatorError):
        second.deal()
        second.show_sharers(whole, to=everyone)
        shown = second.confirm(whole, by=few) + second.forged(whole, whole)
        second.reveal(shown, by=few)
    if all(everyone[name].vector for name in few):
        assert not np.array_equal(second.sum_of(few), true_sum(everyone, few)), (
            f"the coordinator has the sum of {len(few)} honest clients, who were promised {LEAST} contributors"
        )
