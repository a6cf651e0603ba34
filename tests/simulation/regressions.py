"""Seeds that once failed, with what was wrong. They run with every `make test`; none is ever removed."""

from __future__ import annotations

WHOLE_ROUND_SEEDS = {
    11: "a holder given up after the abort of its round: the refusal was read by nobody, and logged as a defect",
    44: "the same, with a swapped c1 and a holder that complains without ground",
    54: "the same for a holder that was silent",
    55: "the same for a holder that was silent, beside one that complains",
    1267: "of the simulation itself: a copyist that came before everybody had nothing to copy, and was counted",
}
"""Seeds of `tests.simulation.whole_rounds.random_scenario`."""

DYING_ROUND_SEEDS = {
    9: "of the simulation itself: a call of a store that killed its process was answered to it, and it went on",
    209: "of the simulation itself: what a computing thread ran into as it died was read by nobody",
}
"""Seeds of `tests.simulation.whole_rounds.dying_scenario`."""
