"""How many threads are of use: the cores that this process may run on."""

import os

import pytest

from secagg.cores import usable_cores
from secagg.planning.calibration import this_machine


def test_cores_that_belong_to_others_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == this_machine().cores == 1


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_a_system_without_affinity_has_all_of_its_cores(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert usable_cores() == cores
