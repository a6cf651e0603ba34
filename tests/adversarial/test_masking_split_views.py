"""A coordinator with as many clients as the plan bears, that shows different clients different rosters, sharers and survivors.

Whatever it shows: no client's two secrets are both known, and the one sum that opens, if any does, is that of every honest
member of the one confirmed set. The adversary tries every set of honest vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations

import pytest

from secagg.errors import FaultyCoordinatorError
from secagg.ids import ClientId
from tests.adversarial.masking_adversary import Table
from tests.adversarial.masking_people import Person, a_plan, named, people, roster_of

LEAST = 5
PLAN = a_plan(min_contributors=LEAST, max_clients=9, corrupt=0.2)
"""Nine clients, two of them corrupt: k = 8, t = 6, q = 6."""
HONEST, CORRUPT = named("honest", 7), frozenset(named("mallory", 2))
EVERYONE = tuple(sorted({*HONEST, *CORRUPT}))


def a_table() -> Table:
    """Return a roster that everybody has dealt shares for."""
    everyone = people(EVERYONE, PLAN)
    table = Table(roster_of(PLAN, [one.join for one in everyone.values()]), everyone, CORRUPT)
    table.deal()
    return table


def press_on(table: Table, survivors: Iterable[ClientId], sharers: Iterable[ClientId], by: Iterable[ClientId]) -> None:
    """Have honest clients confirm a set, add what the corrupt ones sign, and show each what there is."""
    members, group = set(survivors), [name for name in by if name in set(survivors)]
    shown = list(table.forged(members, sharers))
    for name in group:
        with suppress(FaultyCoordinatorError):
            shown += table.confirm(members, by=[name])
    for name in group:
        with suppress(FaultyCoordinatorError):
            table.reveal(shown, by=[name])


def assert_nobody_is_betrayed(table: Table, *sets: Iterable[ClientId]) -> set[frozenset[ClientId]]:
    """Return what opened."""
    seeds, keys = table.secrets()
    assert not set(seeds) & set(keys) & set(table.honest)
    opened = table.opened_sets()
    assert len(opened) <= 1
    assert opened <= {frozenset(one) - table.corrupt for one in sets}
    return opened


@pytest.mark.parametrize("size", range(8))
def test_two_survivor_sets_that_differ_by_one_client_never_both_open(size: int) -> None:
    """Promise P1 and P2. Of two sides, one is told that a living client has dropped out."""
    table, target = a_table(), HONEST[0]
    table.show_sharers(EVERYONE, to=EVERYONE)
    with_target, without = HONEST[:size], HONEST[size:]
    press_on(table, EVERYONE, EVERYONE, by=with_target)
    press_on(table, set(EVERYONE) - {target}, EVERYONE, by=without)
    opened = assert_nobody_is_betrayed(table, EVERYONE, set(EVERYONE) - {target})
    assert bool(opened) == (max(size, 7 - max(size, 1)) >= 5), (
        "five honest and two corrupt are seven: t neighbours and oneself"
    )


def test_a_client_that_is_said_to_have_dropped_out_stays_hidden_though_its_vector_is_there() -> None:
    """Promise P4: its mask key opens, as it must, and its self mask does not."""
    table, target = a_table(), HONEST[3]
    table.show_sharers(EVERYONE, to=EVERYONE)
    others = set(EVERYONE) - {target}
    press_on(table, EVERYONE, EVERYONE, by=[target])
    press_on(table, others, EVERYONE, by=HONEST)
    assert assert_nobody_is_betrayed(table, others) == {frozenset(HONEST) - {target}}
    seeds, keys = table.secrets()
    assert target in keys
    assert target not in seeds


@pytest.mark.parametrize("deceived", [names for size in (1, 2, 3) for names in combinations(HONEST[:3], size)])
def test_clients_that_were_shown_other_sharers_are_no_way_into_a_part_of_the_sum(
    deceived: tuple[ClientId, ...],
) -> None:
    """Promise P2: they mask with fewer than they are masked with, count as survivors for the others, and confirm nothing."""
    for hidden in HONEST[4:6]:
        table = a_table()
        fewer = set(EVERYONE) - {hidden}
        table.show_sharers(fewer, to=deceived)
        table.show_sharers(EVERYONE, to=set(EVERYONE) - set(deceived))
        press_on(table, EVERYONE, EVERYONE, by=set(HONEST) - set(deceived))
        press_on(table, fewer, fewer, by=deceived)
        assert_nobody_is_betrayed(table, EVERYONE, fewer)


def test_clients_that_were_shown_other_sharers_stay_hidden_when_their_partner_is_said_to_have_dropped_out() -> None:
    """Promise P2: the sharers that the others confirmed are not those whose masks the deceived vector carries."""
    table, deceived, dropped = a_table(), HONEST[0], HONEST[6]
    table.show_sharers(set(EVERYONE) - {HONEST[1]}, to=[deceived])
    table.show_sharers(EVERYONE, to=set(EVERYONE) - {deceived})
    others = set(EVERYONE) - {dropped}
    press_on(table, others, EVERYONE, by=set(HONEST) - {deceived})
    assert_nobody_is_betrayed(table)


@pytest.mark.parametrize("size", range(1, 7))
def test_two_rosters_of_the_same_clients_with_other_keys_of_the_corrupt_never_both_open(size: int) -> None:
    """Promise P2: one roster is shown to some, another to the rest; corrupt clients stand in both.

    Six of seven honest clients and the two corrupt ones are a quorum of eight, but the seventh, who counts as a sharer, has
    dealt nothing in their roster, so that neither of its secrets opens.
    """
    everyone = people(EVERYONE, PLAN)
    again = {name: Person(name, PLAN, salt=b"again") for name in CORRUPT}
    opened = set[frozenset[ClientId]]()
    for side, corrupt in ((HONEST[:size], {name: everyone[name] for name in CORRUPT}), (HONEST[size:], again)):
        joins = [one.join for one in {**everyone, **corrupt}.values()]
        seen_by = {**{name: everyone[name] for name in side}, **corrupt}
        table = Table(roster_of(PLAN, joins), seen_by, CORRUPT)
        table.deal()
        table.show_sharers(EVERYONE, to=seen_by)
        press_on(table, EVERYONE, EVERYONE, by=side)
        opened |= assert_nobody_is_betrayed(table)
    assert not opened
