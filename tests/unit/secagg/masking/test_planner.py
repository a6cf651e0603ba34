import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from secagg.errors import PlanError
from secagg.masking.planner import (
    Numbers,
    availability_tail,
    corrupt_count,
    dropped_count,
    plan_numbers,
    quorum_of,
    split_tail,
    verify_feasible,
    verify_numbers,
)

RINGS = [
    (201, 0.05, 0.1),
    (300, 0.02, 0.2),
    # Two neighbours fewer would do if a client counted among its own neighbours.
    (306, 0.02, 0.2),
    (500, 0.1, 0.05),
    (1000, 0.05, 0.1),
    (1500, 0.05, 0.1),
    (600, 0.1, 0.15),
    (700, 0.0, 0.1),
    (400, 0.05, 0.0),
]
COMPLETE = [(2, 0.0, 0.0), (3, 0.05, 0.0), (20, 0.05, 0.1), (21, 0.1, 0.2), (200, 0.1, 0.2), (201, 0.0, 0.49)]


def planned(clients: int, corrupt: float, dropout: float) -> Numbers:
    least = clients - math.ceil(dropout * clients)
    return plan_numbers(clients, corrupt_fraction=corrupt, dropout_fraction=dropout, min_contributors=least)


def chance(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """P[X >= at_least], each term from the definition."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, drawn - x) for x in range(max(at_least, 0), drawn + 1)
    )
    return Fraction(ways, math.comb(population, drawn))


def is_safe(n: int, corrupt: int, k: int, t: int) -> bool:
    return (n + n * (n - 1) // 2) * chance(n, corrupt, k, 2 * t - k) <= Fraction(1, 2**100)


def is_available(n: int, dropped: int, k: int, t: int) -> bool:
    return n * chance(n - 1, dropped, k, k - t + 1) <= Fraction(1, 2**20)


@pytest.mark.parametrize(("clients", "corrupt", "dropout"), RINGS)
def test_a_ring_is_safe_and_available_and_no_smaller_one_is_both(clients: int, corrupt: float, dropout: float) -> None:
    numbers = planned(clients, corrupt, dropout)
    n, c, d, k, t = numbers.clients, numbers.corrupt, numbers.dropped, numbers.neighbours, numbers.threshold
    assert k < n - 1
    assert k % 2 == 0
    assert is_safe(n, c, k, t)
    assert is_available(n, d, k, t)
    assert not is_safe(n, c, k, t - 1), "the threshold is higher than it must be"
    for fewer in range(k - 2, max(k - 16, 0), -2):
        assert not any(is_safe(n, c, fewer, less) and is_available(n, d, fewer, less) for less in range(1, fewer + 1))


def test_of_every_smaller_ring_none_would_do() -> None:
    numbers = planned(260, 0.05, 0.1)
    n, c, d = numbers.clients, numbers.corrupt, numbers.dropped
    for k in range(2, numbers.neighbours, 2):
        assert not any(is_available(n, d, k, t) and is_safe(n, c, k, t) for t in range(1, k + 1))


@pytest.mark.parametrize(("clients", "corrupt", "dropout"), COMPLETE)
def test_few_clients_all_neighbour_each_other(clients: int, corrupt: float, dropout: float) -> None:
    numbers = planned(clients, corrupt, dropout)
    k, t = numbers.neighbours, numbers.threshold
    assert k == clients - 1
    assert numbers.complete
    assert 2 * (t - 1) <= k + numbers.corrupt < 2 * t
    assert clients - 1 - numbers.dropped >= t, "the living neighbours of a client are enough"


@pytest.mark.parametrize(("clients", "corrupt", "dropout"), RINGS + COMPLETE)
def test_two_quorums_share_an_honest_client_and_the_living_are_one(
    clients: int, corrupt: float, dropout: float
) -> None:
    numbers = planned(clients, corrupt, dropout)
    overlapping = quorum_of(clients, numbers.corrupt)
    assert 2 * (overlapping - 1) <= clients + numbers.corrupt < 2 * overlapping
    # Every survivor that signs is no ghost, so as many sign as a sum must have contributors.
    assert numbers.quorum == max(overlapping, clients - dropped_count(clients, dropout, 0))
    assert clients - numbers.dropped >= numbers.quorum
    fewer = plan_numbers(clients, corrupt_fraction=corrupt, dropout_fraction=dropout, min_contributors=overlapping)
    assert fewer.quorum == overlapping


def test_a_thousand_clients_need_about_a_hundred_neighbours() -> None:
    numbers = planned(1000, 0.05, 0.1)
    assert 90 <= numbers.neighbours <= 110
    assert 65 <= numbers.threshold <= 78


def test_the_tails_are_what_the_conditions_say() -> None:
    numbers = planned(1000, 0.05, 0.1)
    k, t = numbers.neighbours, numbers.threshold
    assert split_tail(numbers) == (1000 + 1000 * 999 // 2) * chance(1000, 50, k, 2 * t - k)
    assert availability_tail(numbers) == 1000 * chance(999, 100, k, k - t + 1)
    everyone = planned(20, 0.05, 0.1)
    assert split_tail(everyone) == availability_tail(everyone) == 0
    assert split_tail(replace(everyone, threshold=10)) == 1


def test_fractions_count_as_they_are_written() -> None:
    assert math.ceil(0.07 * 100) == 8, "what floats make of it"
    assert corrupt_count(100, 0.07) == 7
    assert corrupt_count(101, 0.07) == 8
    assert corrupt_count(3, 0.05) == 1
    assert corrupt_count(1000, float(np.float64(0.29))) == 290
    assert dropped_count(100, 0.07, 3) == 7


def test_no_more_drop_out_than_leave_the_fewest_contributors() -> None:
    assert dropped_count(20, 0.4, 15) == 5
    assert dropped_count(20, 0.4, 20) == 0
    assert dropped_count(20, 0.4, 25) == 0


@pytest.mark.parametrize("fraction", [-0.01, 0.5, 1.0, float("nan"), float("inf")])
def test_a_fraction_is_at_least_nothing_and_less_than_half(fraction: float) -> None:
    with pytest.raises(PlanError, match="corrupt_fraction"):
        corrupt_count(10, fraction)
    with pytest.raises(PlanError, match="dropout_fraction"):
        dropped_count(10, fraction, 2)


WEAKENED = [
    (20, {"corrupt": 0}, "corrupt is 0"),
    (20, {"clients": 1, "corrupt": 1, "neighbours": 0}, "2 or more"),
    (20, {"neighbours": 20}, "20 neighbours"),
    (20, {"neighbours": 0}, "0 neighbours"),
    (20, {"neighbours": -2}, "-2 neighbours"),
    (20, {"threshold": 10}, "threshold 10 .* at least 11"),
    (20, {"threshold": 0}, "threshold 0"),
    (20, {"threshold": 20}, "threshold 20"),
    (20, {"quorum": 10}, "quorum 10 .* at least 11"),
    (20, {"quorum": 21}, "quorum 21"),
    (20, {"neighbours": 8, "threshold": 4}, "threshold 4 of 8"),
    (1000, {"corrupt": 49}, "corrupt is 49"),
    (1000, {"threshold": 71}, "threshold 71 of 102"),
    (1000, {"threshold": 1}, "threshold 1 of 102"),
    (1000, {"neighbours": 104}, "threshold 72 of 104"),
    (1000, {"neighbours": 101}, "even"),
    (1000, {"neighbours": 2, "threshold": 1}, "threshold 1 of 2"),
    (1000, {"quorum": 525}, "quorum 525"),
]


def test_fewer_signers_than_contributors_are_refused() -> None:
    numbers = planned(20, 0.05, 0.1)
    with pytest.raises(PlanError, match="quorum 17 is below the 18 contributors"):
        verify_numbers(replace(numbers, quorum=17), corrupt_fraction=0.05, min_contributors=18)


@pytest.mark.parametrize(("clients", "change", "named"), WEAKENED)
def test_a_client_refuses_each_weakened_number(clients: int, change: dict[str, int], named: str) -> None:
    numbers = planned(clients, 0.05, 0.1)
    verify_numbers(numbers, corrupt_fraction=0.05, min_contributors=numbers.corrupt + 2)
    with pytest.raises(PlanError, match=named):
        verify_numbers(replace(numbers, **change), corrupt_fraction=0.05, min_contributors=numbers.corrupt + 2)


def test_a_client_wants_two_honest_contributors() -> None:
    numbers = planned(1000, 0.05, 0.1)
    with pytest.raises(PlanError, match="raise min_contributors to 52"):
        verify_numbers(numbers, corrupt_fraction=0.05, min_contributors=51)


@pytest.mark.parametrize(
    "change",
    [{"neighbours": 100}, {"threshold": 80}, {"quorum": 600}, {"neighbours": 999, "threshold": 530}, {"dropped": 0}],
)
def test_a_client_takes_numbers_that_are_stronger_than_planned(change: dict[str, int]) -> None:
    numbers = replace(planned(1000, 0.05, 0.1), **change)
    verify_numbers(numbers, corrupt_fraction=0.05, min_contributors=100)


@pytest.mark.parametrize("clients", [1, 3])
def test_a_roster_below_the_fewest_contributors_has_no_numbers(clients: int) -> None:
    with pytest.raises(PlanError, match="fewer"):
        plan_numbers(clients, corrupt_fraction=0.0, dropout_fraction=0.0, min_contributors=4 if clients == 3 else 1)


def test_too_many_drop_outs_are_an_error_that_says_what_would_do() -> None:
    with pytest.raises(PlanError) as caught:
        plan_numbers(20, corrupt_fraction=0.05, dropout_fraction=0.45, min_contributors=3)
    text = str(caught.value)
    assert "20 clients, 1 corrupt and 9 drop-outs" in text
    assert "lower dropout_fraction to 0.4, or lower corrupt_fraction to 0.0, or raise min_contributors to 12" in text


def feasible(**changes: float) -> dict[str, float]:
    return {"max_clients": 20, "min_contributors": 5, "corrupt_fraction": 0.05, "dropout_fraction": 0.1} | changes


INFEASIBLE = [
    feasible(min_contributors=3),
    feasible(dropout_fraction=0.45),
    feasible(max_clients=10, min_contributors=2, corrupt_fraction=0.0),
    feasible(min_contributors=10, corrupt_fraction=0.1, dropout_fraction=0.49),
    feasible(max_clients=1500, min_contributors=200, dropout_fraction=0.48),
    feasible(max_clients=40, min_contributors=17, corrupt_fraction=0.37, dropout_fraction=0.33),
    feasible(max_clients=40, min_contributors=20, corrupt_fraction=0.45, dropout_fraction=0.45),
]


@pytest.mark.parametrize("numbers", INFEASIBLE)
def test_each_way_out_of_an_impossible_job_leads_out(numbers: dict[str, float]) -> None:
    with pytest.raises(PlanError) as caught:
        verify_feasible(**numbers)  # type: ignore[arg-type]
    ways = re.findall(r"(?:lower|raise) (\w+) to ([\d.]+\d|\d+)", str(caught.value))
    assert ways
    for name, value in ways:
        changed = numbers | {name: float(value) if name.endswith("fraction") else int(value)}
        verify_feasible(**changed)


@pytest.mark.parametrize(
    "numbers",
    [
        feasible(),
        feasible(max_clients=1500, min_contributors=77),
        feasible(max_clients=3, min_contributors=3, corrupt_fraction=0.3),
    ],
)
def test_a_feasible_job_has_numbers_for_every_roster(numbers: dict[str, float]) -> None:
    verify_feasible(**numbers)  # type: ignore[arg-type]
    least, most = int(numbers["min_contributors"]), int(numbers["max_clients"])
    fractions = {name: numbers[name] for name in ("corrupt_fraction", "dropout_fraction")}
    for clients in {*range(least, min(most, 250) + 1), most}:
        numbers_of_size = plan_numbers(clients, min_contributors=least, **fractions)
        verify_numbers(numbers_of_size, corrupt_fraction=fractions["corrupt_fraction"], min_contributors=least)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_contributors": 1}, "min_contributors 1: choose 2 to 20"),
        ({"min_contributors": 21}, "min_contributors 21: choose 2 to 20"),
        ({"corrupt_fraction": 0.5}, "corrupt_fraction"),
        ({"dropout_fraction": -0.1}, "dropout_fraction"),
        ({"max_clients": 1500}, "raise min_contributors to 77"),
    ],
)
def test_an_impossible_job_is_refused_by_name(change: dict[str, float], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        verify_feasible(**feasible(**change))  # type: ignore[arg-type]
