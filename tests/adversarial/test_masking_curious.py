"""A curious coordinator: it keeps to the protocol, and looks at all that it gets. What it sees does not depend on an update."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from secagg.masking.packing import unpack
from tests.adversarial.masking_adversary import Table
from tests.adversarial.masking_people import a_plan, named, people, roster_of

PLAN = a_plan(min_contributors=4, max_clients=4, values=40_000)
NAMES = named("honest", 4)
CELLS = 256
MOST_CHI_SQUARE = 370.0
"""For 255 degrees of freedom: a uniform sample exceeds it with probability below 10^-5. The seeds are fixed."""


def a_table(update: npt.NDArray[np.float64] | None = None) -> Table:
    """Return a round in which everybody has masked; the first client masks this update."""
    everyone = people(NAMES, PLAN)
    if update is not None:
        everyone[NAMES[0]].update = update
    table = Table(roster_of(PLAN, [one.join for one in everyone.values()]), everyone, frozenset())
    table.deal()
    table.show_sharers(NAMES, to=NAMES)
    return table


@pytest.mark.parametrize("bits_from_the_top", [True, False])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_the_masked_vector_of_a_constant_update_is_uniform(level: float, bits_from_the_top: bool) -> None:
    """Chi-square over the high and the low bits of every value: nothing of the update is left, whatever it was."""
    parameters = PLAN.spec.masking_parameters
    table = a_table(np.full(parameters.values, level))
    values = unpack(table.everyone[NAMES[0]].vector, parameters.sum_bits, parameters.values)
    cells = values >> np.uint32(parameters.sum_bits - 8) if bits_from_the_top else values & np.uint32(255)
    counts = np.bincount(cells, minlength=CELLS)
    expected = len(cells) / CELLS
    assert float(((counts - expected) ** 2).sum() / expected) < MOST_CHI_SQUARE


def test_without_what_survivors_reveal_no_set_of_vectors_adds_up_to_anything() -> None:
    """Every self mask is still there."""
    assert not a_table().opened_sets()


def test_of_all_that_survivors_reveal_the_sum_of_all_is_the_only_one_that_opens() -> None:
    """The coordinator has every vector and every self mask. It tries every set of vectors, and no mask key is known to it."""
    table = a_table()
    table.reveal(table.confirm(NAMES, by=NAMES), by=NAMES)
    seeds, keys = table.secrets()
    assert set(seeds) == set(NAMES)
    assert not keys
    assert table.opened_sets() == {frozenset(NAMES)}
