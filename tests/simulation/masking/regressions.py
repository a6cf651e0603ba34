"""Seeds that once failed, with what was wrong. They run with every `make test`; none is ever removed."""

from __future__ import annotations

MASKING_ROUND_SEEDS = {
    229: "a round ended because 'nobody did not reveal theirs in time': whose shares did not open was not said",
    1011: "the same, in another network",
    1163: "an honest client was called a liar for the shares that a corrupt one had dealt to it",
    436: "of the simulation itself: a swapped key of a client that the other side's roster leaves out",
    467: "of the simulation itself: nobody joined in time, and nobody can be named",
}
"""Seeds of `tests.simulation.masking.rounds.random_scenario`."""

DYING_ROUND_SEEDS = {
    5: "of the simulation itself: whoever stopped a round died with the process that it asked",
}
"""Seeds of `tests.simulation.masking.rounds.dying_scenario`."""
