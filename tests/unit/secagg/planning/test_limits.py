"""Which limit comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secagg.errors import PlanError
from secagg.plan import JobSpec
from secagg.planning.calibration import Calibration
from secagg.planning.forecast import Ckks, forecast_ckks, forecast_masking
from secagg.planning.limits import Limit, first, largest, precision
from secagg.planning.memory import ARENAS_BYTES, SPOOL_BYTES, coordinator_memory_bytes
from secagg.planning.question import Question
from tests.unit.secagg.planning.planning_material import counting

GIBIBYTE = 1024**3
QUESTION = Question(clients=20, values=1000)


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
    question = Question(clients=20, values=1_000_000, precision=1e-4)
    most = {one.name: one for one in forecast_ckks(question, Ckks()).limits}["clients"].allowed
    assert 20 <= most < 1500
    within = replace(question, clients=int(most), min_contributors=question.least)
    assert forecast_ckks(within, Ckks()).first_limit.holds
    beyond = forecast_ckks(replace(within, clients=int(most) + 1), Ckks()).first_limit
    assert (beyond.name, beyond.holds) == ("precision", False)


def test_key_holders_that_are_too_slow_come_first() -> None:
    question = Question(clients=20, values=100_000)
    adding = forecast_ckks(question, Ckks(), calibration=counting(ckks="holder_add")).first_limit
    assert (adding.name, adding.holds) == ("approving", False)
    answering = forecast_ckks(question, Ckks(), calibration=counting(ckks="partial_subset")).first_limit
    assert (answering.name, answering.holds) == ("decrypting", True)
    recovering = forecast_ckks(question, Ckks(), calibration=counting(ckks="recover")).limits
    assert {one.name: one.used for one in recovering}["decrypting"] == 0.0, "it comes after all answers"


def test_a_limit_says_what_is_not_in_it() -> None:
    question, calibration = Question(clients=20, values=100_000), counting(ckks="holder_add")
    linked = replace(question, holder_link_mbit=100.0)

    def approving(asked: Question, known: Calibration | None) -> Limit | None:
        return {one.name: one for one in forecast_ckks(asked, Ckks(), calibration=known).limits}.get("approving")

    computing, reading, both = approving(question, calibration), approving(linked, None), approving(linked, calibration)
    assert approving(question, None) is None
    assert computing is not None
    assert reading is not None
    assert both is not None
    down = forecast_ckks(question, Ckks()).key_holder
    assert down is not None
    assert reading.used == pytest.approx(8e-8 * down.total_down)
    assert both.used == computing.used + reading.used
    assert f"500.0 s of computing, without the network that brings {down.total_down:,} bytes" in computing.sentence
    assert "without computing" in reading.sentence
    assert "without" not in both.sentence


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (QUESTION.ckks_job(), "Use preset 'ckks-8192', raise min_contributors, or ask for a coarser precision"),
        (QUESTION.ckks_job(packing="real"), "Use packing 'coefficients', raise min_contributors, or ask for"),
        (QUESTION.ckks_job(preset="ckks-8192"), "Raise min_contributors, or ask for a coarser precision"),
        (QUESTION.masking_job(), "Raise value_bits, raise min_contributors, or ask for a coarser precision"),
    ],
)
def test_an_error_that_is_too_large_has_the_ways_out_of_its_own_protocol(spec: JobSpec, words: str) -> None:
    found = precision(spec, error=1e-4, rounding=1e-8, asked=1e-5)
    assert not found.holds
    assert found.advice.startswith(words)
    coarse = precision(spec, error=1e-4, rounding=9e-5, asked=1e-5)
    assert coarse.advice == "Take a wider dtype, or ask for a coarser precision"


@pytest.mark.parametrize(("clients", "measured_mebibytes"), [(4, 160), (16, 171)])
def test_memory_is_above_what_was_measured_and_not_far(clients: int, measured_mebibytes: int) -> None:
    """Measured by benchmarks/bench_memory.py, 2,000,000 values in ckks."""
    spec = Question(clients=clients, values=2_000_000, min_contributors=3, dropout=0.0).ckks_job()
    # Measured without the arenas, which are in the bound.
    told = (coordinator_memory_bytes(spec) - ARENAS_BYTES) / 1024**2
    assert measured_mebibytes < told < 1.5 * measured_mebibytes
