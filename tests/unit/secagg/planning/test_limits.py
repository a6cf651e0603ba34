"""Which limit comes first."""

from __future__ import annotations

import pytest

from secagg.errors import PlanError
from secagg.planning.forecast import Ckks, forecast_ckks, forecast_masking
from secagg.planning.limits import Limit, first, largest
from secagg.planning.memory import SPOOL_BYTES, coordinator_memory_bytes
from secagg.planning.question import Question
from tests.unit.secagg.planning.planning_material import counting

GIBIBYTE = 1024**3


def limit(name: str, used: float) -> Limit:
    return Limit(name=name, used=used, allowed=10.0, sentence=name, advice="")


def test_the_first_limit_is_the_one_with_the_least_headroom() -> None:
    nearest = limit("b", 9.0)
    assert first((limit("a", 1.0), nearest, limit("c", 2.0))) is nearest
    assert nearest.holds
    assert not limit("d", 10.1).holds
    assert limit("e", 0.0).headroom == float("inf")


def test_bisection_finds_the_last_number_that_holds() -> None:
    def plan(number: int) -> None:
        if number > 777:
            raise PlanError("too many")

    assert largest(plan, 3, 1500) == 777
    assert largest(plan, 777, 1500) == 777
    assert largest(lambda _: None, 3, 1500) == 1500


def test_a_slow_uplink_comes_first() -> None:
    question = Question(clients=10, values=1_000_000, uplink_mbit=1.0, uploading_seconds=240.0)
    found = forecast_ckks(question, Ckks()).first_limit
    assert found.name == "uplink"
    assert found.used == pytest.approx(8e-6 * forecast_ckks(question, Ckks()).client.total_up)
    assert "24.14 MB at 1 Mbit/s take 193.1 s, of the uploading deadline of 240 s" in found.sentence


def test_masking_is_in_the_phase_that_uploads_and_encrypting_before_it() -> None:
    question, calibration = Question(clients=10, values=999, uplink_mbit=1.0), counting(masking="quantise")
    by_name = {one.name: one for one in forecast_masking(question, calibration=calibration).limits}
    assert by_name["uplink"].used > 1000
    assert "after 1,000.0 s of computing" in by_name["uplink"].sentence
    encrypted = forecast_ckks(question, Ckks(), calibration=counting(ckks="encrypt"))
    assert {one.name: one for one in encrypted.limits}["uplink"].used < 5


def test_a_small_machine_comes_first() -> None:
    question = Question(clients=1000, values=1000)
    forecast = forecast_masking(question, memory_there=2 * GIBIBYTE)
    assert forecast.first_limit.name == "memory"
    assert not forecast.first_limit.holds
    assert "of 2.0 GiB" in forecast.first_limit.sentence


def test_the_spool_holds_every_upload() -> None:
    question = Question(clients=200, values=20_000_000)
    forecast = forecast_ckks(question, Ckks(preset="ckks-8192"))
    assert forecast.disk_bytes > 200 * 20_000_000 * 48 > SPOOL_BYTES
    assert forecast.first_limit.name == "disk"


def test_the_largest_roster_is_one_that_can_be_planned_and_the_next_one_cannot() -> None:
    question = Question(clients=20, values=1_000_000, precision=1e-5)
    most = {one.name: one for one in forecast_ckks(question, Ckks()).limits}["clients"].allowed
    assert 20 <= most < 1500
    within = Question(clients=int(most), values=1_000_000, precision=1e-5, min_contributors=question.least)
    beyond = Question(clients=int(most) + 1, values=1_000_000, precision=1e-5, min_contributors=question.least)
    assert Ckks().job(within).max_clients == most
    with pytest.raises(PlanError):
        Ckks().job(beyond)


def test_key_holders_that_are_too_slow_come_first() -> None:
    question = Question(clients=20, values=100_000)
    adding = forecast_ckks(question, Ckks(), calibration=counting(ckks="holder_add")).first_limit
    assert (adding.name, adding.holds) == ("approving", False)
    answering = forecast_ckks(question, Ckks(), calibration=counting(ckks="partial_subset")).first_limit
    assert (answering.name, answering.holds) == ("decrypting", True)


@pytest.mark.parametrize(("clients", "measured_mebibytes"), [(4, 160), (16, 171)])
def test_memory_is_above_what_was_measured_and_not_far(clients: int, measured_mebibytes: int) -> None:
    """Measured by benchmarks/bench_memory.py, 2,000,000 values in ckks."""
    spec = Question(clients=clients, values=2_000_000, min_contributors=3, dropout=0.0).ckks_job()
    told = coordinator_memory_bytes(spec) / 1024**2
    assert measured_mebibytes < told < 1.5 * measured_mebibytes
