"""The measured client of a masking round sees every certificate for the first time, and has the graph that its case names."""

import pytest

from benchmarks.contestants import sumveil_masking
from benchmarks.contestants.masking_people import numbers_of, plan_of
from secagg import trust

CASE = {"clients": 10, "shares": 5, "threshold": 3, "values": 100}


@pytest.mark.parametrize(("seen", "missed"), [("at first sight", CASE["clients"]), ("before", 0)])
def test_a_signed_run_sees_every_certificate_again_or_for_the_first_time(
    monkeypatch: pytest.MonkeyPatch, seen: str, missed: int
) -> None:
    monkeypatch.setenv("SIGNED", seen)
    run = sumveil_masking.client(CASE)
    run()
    before = trust._vouched.cache_info().misses
    run()
    # What is forgotten counts anew.
    assert trust._vouched.cache_info().misses - (0 if missed else before) == missed


def test_a_planned_case_has_our_planners_numbers_and_another_one_the_peers() -> None:
    plan = plan_of(CASE)
    assert numbers_of(CASE | {"planned": True}, plan).neighbours == CASE["clients"] - 1
    assert numbers_of(CASE, plan).neighbours == CASE["shares"] - 1
