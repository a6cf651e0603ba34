"""Errors, proofs and bytes of a forecast, against what the plans themselves compute."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from he.parameters import PACKINGS, preset
from secagg.errors import PlanError
from secagg.planning.figures import ckks_figures
from secagg.planning.forecast import (
    Ckks,
    ckks_proof,
    deviations,
    forecast_ckks,
    forecast_masking,
    rounding,
)
from secagg.planning.question import Question

MILLION = Question(clients=100, values=1_000_000)


def test_the_error_of_a_ckks_round_is_its_parameters() -> None:
    forecast = forecast_ckks(MILLION, Ckks())
    parameters = forecast.spec.parameters(5)
    assert forecast.error == parameters.mean_error(MILLION.least, MILLION.least)
    assert forecast.error_bound == pytest.approx(7.53 * forecast.error, rel=0.01)


def test_enough_deviations_for_every_value_in_all_but_one_of_a_million_rounds() -> None:
    for values in (1, 1000, 10**6):
        z = deviations(values)
        assert values * math.erfc(z / math.sqrt(2)) < 2.0**-20 < 50 * values * math.erfc(z / math.sqrt(2))


def test_the_error_of_a_masking_round_is_a_bound_and_the_dtypes_rounding() -> None:
    forecast = forecast_masking(MILLION)
    bound = forecast.spec.masking_parameters.mean_error(MILLION.least)
    assert forecast.error == bound
    assert forecast.error_bound == bound + rounding(forecast.spec)
    single, double = (rounding(replace(MILLION, dtype=dtype).masking_job()) for dtype in ("float32", "float64"))
    assert double < 2.0**-39 < 2.0**-24 < single


def test_clip_is_the_unit_of_errors() -> None:
    wide = replace(MILLION, clip=8.0)
    assert forecast_masking(wide).error == pytest.approx(forecast_masking(MILLION).error)
    assert forecast_ckks(wide, Ckks()).error == pytest.approx(forecast_ckks(MILLION, Ckks()).error)


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_proof_names_numbers_that_hold(packing: str) -> None:
    parameters = preset("ckks-4096", values=1000, max_clients=50, holders=5, threshold=3, packing=packing)
    proof = ckks_proof(parameters)
    below, above = (float(part.split("2^")[1].split()[0]) for part in proof.split(" = ")[1:])
    assert below <= above
    assert 2**below == pytest.approx(parameters.coefficient_bound, rel=1e-2)
    assert "50 clients x clip 1 x scale 2^" in proof
    assert ("sqrt(2)" in proof) == (packing == "complex")


def test_a_plan_says_what_its_packing_hides_and_promises_security_bits_for_none_but_coefficients() -> None:
    for values in (10, 10**5, 10**7):
        question = Question(clients=9, values=values)
        found = {
            one: ckks_figures(question, forecast_ckks(question, Ckks(packing=one)))["hidden_bits"] for one in PACKINGS
        }
        assert 40 <= found["coefficients"] < 41.001
        assert max(found["complex"], found["real"]) < 40


def test_coefficients_halve_the_ciphertext_and_nothing_else() -> None:
    real, packed = (forecast_ckks(MILLION, Ckks(packing=packing)).client for packing in ("real", "coefficients"))
    assert forecast_ckks(MILLION, Ckks(packing="complex")).client == packed
    assert packed.up["ciphertext"] == pytest.approx(real.up["ciphertext"] / 2, rel=0.01)
    assert packed.down["mean"] == real.down["mean"]
    assert packed.up["signed messages"] == real.up["signed messages"]


def test_a_key_holder_reads_every_c1_and_answers_once() -> None:
    forecast = forecast_ckks(MILLION, Ckks(packing="real"))
    assert forecast.key_holder is not None
    assert forecast.key_holder.down["c1 of every client"] == pytest.approx(100 * 24e6, rel=0.01)
    assert forecast.key_holder.up["answer"] == pytest.approx(24e6, rel=0.01)
    # b and the sealed shares to n holders, answers to the trial: 65,536 bytes each
    assert forecast.key_holder.up["ceremony"] == pytest.approx((1 + 5 + 1 + 1) * 65_536, rel=0.02)
    assert forecast_masking(MILLION).key_holder is None


def test_more_clients_are_a_longer_roster_for_everybody() -> None:
    few, many = (forecast_masking(replace(MILLION, clients=n, min_contributors=None)).client for n in (50, 150))
    assert many.down["roster"] == pytest.approx(3 * few.down["roster"], rel=0.01)
    assert many.up["signed messages"] > few.up["signed messages"] + 100 * (88 + 36)


def test_what_overflows_is_named_before_anything_else() -> None:
    with pytest.raises(PlanError, match="lower value_bits to 25"):
        forecast_masking(MILLION, value_bits=30)
