"""Which protocol is recommended, and why."""

from __future__ import annotations

from dataclasses import replace

from secagg.errors import PlanError
from secagg.planning.choice import attempt, choose
from secagg.planning.forecast import Ckks, Forecast, forecast_ckks, forecast_masking
from secagg.planning.question import Question
from secagg.planning.sizes import Traffic
from tests.unit.secagg.planning.planning_material import free

FITS = Question(clients=50, values=10_000)
REFUSED = PlanError("raise value_bits")


def both(question: Question, memory: int | None = None) -> dict[str, Forecast | PlanError]:
    return {
        "ckks": attempt(lambda: forecast_ckks(question, Ckks(), memory_there=memory)),
        "masking": attempt(lambda: forecast_masking(question, memory_there=memory)),
    }


def test_masking_where_both_fit() -> None:
    choice = choose(both(FITS), clients_leave=False)
    assert choice.recommended == "masking"
    assert choice.refusals == {}
    assert "no third parties" in choice.reason
    assert "stay online" in choice.reason


def test_it_says_how_many_fewer_or_more_bytes_and_what_masking_takes_more_of() -> None:
    ckks = forecast_ckks(FITS, Ckks(), calibration=free())
    masking = forecast_masking(FITS, calibration=free())

    def reason(ours: Forecast) -> str:
        return choose({"ckks": ckks, "masking": ours}, clients_leave=False).reason

    def sends(times: float, down: int = 0) -> Forecast:
        return replace(masking, client=Traffic(up={"vector": round(times * ckks.client.total_up)}, down={"all": down}))

    assert "it takes 4.0 times fewer bytes up" in reason(sends(0.25))
    assert "it takes 2.5 times more bytes up" in reason(sends(2.5))
    assert "it takes about as many bytes up" in reason(sends(1.01))
    assert "takes more" not in reason(sends(0.5))
    received = ckks.client.total_down
    assert f"; it takes more bytes down (9,999,999 instead of {received:,}). It rests" in reason(sends(0.5, 9_999_999))
    assert "takes more" not in reason(sends(0.5, received + 1)), "nobody cares about a byte"
    assert masking.work is not None
    slow = replace(masking, work=replace(masking.work, coordinator={"taking masks off": 7.0}))
    assert "coordinator seconds (7.0 instead of 0.0)" in reason(slow)


def test_ckks_where_clients_leave() -> None:
    choice = choose(both(FITS), clients_leave=True)
    assert choice.recommended == "ckks"
    assert "key holders in different hands" in choice.reason
    assert "malformed" in choice.reason
    assert "stay online until the round ends" in choice.refusals["masking"]
    assert set(choice.forecasts) == {"ckks", "masking"}


def test_the_only_one_that_can_be_planned_with_what_is_wrong_with_the_other() -> None:
    few = both(Question(clients=3, values=100, min_contributors=2))
    choice = choose(few, clients_leave=False)
    assert choice.recommended == "ckks"
    assert "masking does not fit: " in choice.reason
    assert "raise min_contributors to 3" in choice.refusals["masking"]
    precise = both(Question(clients=1000, values=10**6, precision=8e-6))
    assert choose(precise, clients_leave=False).recommended == "masking"
    leaving = choose(precise, clients_leave=True)
    assert leaving.recommended is None, "neither: what would do has to be changed"
    assert "use preset 'ckks-8192'" in leaving.reason


def test_one_that_does_not_stay_within_a_limit_is_shown_and_not_recommended() -> None:
    slow = Question(clients=50, values=1_000_000, uplink_mbit=1.0, uploading_seconds=60.0)
    choice = choose(both(slow), clients_leave=False)
    assert choice.recommended == "masking"
    assert "raise uploading_seconds or uplink" in choice.refusals["ckks"]
    assert set(choice.forecasts) == {"ckks", "masking"}


def test_neither() -> None:
    choice = choose({"ckks": REFUSED, "masking": REFUSED}, clients_leave=False)
    assert choice.recommended is None
    assert choice.reason == "ckks does not fit: raise value_bits; masking does not fit: raise value_bits"
    cramped = choose(both(FITS, memory=1), clients_leave=False)
    assert cramped.recommended is None
    assert set(cramped.forecasts) == {"ckks", "masking"}
