"""The measured client of a masking round sees every certificate for the first time, and has the graph that its case names."""

import pytest

from benchmarks.contestants import sumveil_masking
from benchmarks.contestants.masking_people import numbers_of, plan_of
from secagg import signing, trust

CASE = {"clients": 10, "shares": 5, "threshold": 3, "values": 100}


def test_a_signed_run_verifies_every_certificate_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNED", "1")
    run = sumveil_masking.client(CASE)
    caches = (trust._vouched, signing._key_of)
    counts = []
    for _ in range(2):
        run()
        counts.append([cache.cache_info() for cache in caches])
    # Forgotten, they count anew: what is remembered from the first run would add its hits to those of the second.
    assert counts[0] == counts[1]
    assert [info.misses for info in counts[1]] == [CASE["clients"]] * 2


def test_a_planned_case_has_our_planners_numbers_and_another_one_the_peers() -> None:
    plan = plan_of(CASE)
    assert numbers_of(CASE | {"planned": True}, plan).neighbours == CASE["clients"] - 1
    assert numbers_of(CASE, plan).neighbours == CASE["shares"] - 1
