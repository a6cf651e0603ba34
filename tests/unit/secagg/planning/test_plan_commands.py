"""`secagg plan ckks`, `masking`, `compare` and `calibrate` as a person and as a script use them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from secagg.cli.main import app
from secagg.planning.calibration import load, save, this_machine
from secagg.planning.measuring import measure
from tests.unit.secagg.planning.planning_material import counting
from tests.unit.secagg.planning.test_calibration import some

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
SIDE_BY_SIDE = (
    "128 bits",
    "within 2^-40.7 of one that tells the sum alone",
    "tells the sum alone",
    "100 clients x (2^20 - 1)",
    "2,480.7 MB",
    "12,674,439",
    "not in the seconds: the network",
)
MILLION = ("--clients", "100", "--values", "1000000")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["plan", *arguments])


def figures(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "sumveil" / "calibration.json"


def test_a_person_sees_all_that_a_ckks_round_costs() -> None:
    done = run("ckks", *MILLION, "--uplink", "10", "--memory", "4")
    assert done.exit_code == 0, done.output
    for words in (
        "100, at least 53 in a sum",
        "5, any 3 open, 4 approve, 2 may be corrupt",
        "ckks-4096, packing coefficients: 128 bits of security",
        "the opening within 2^-40.7 of one that tells the sum alone",
        "100 clients x clip 1 x scale 2^73 + 8 deviations of noise = 2^79",
        "19.31 at 10 Mbit/s",
        "not calibrated: run `secagg plan calibrate`",
        "up to 578 MiB",
        "network but for the client's uplink; key holders read 1,207,780,970 bytes each (1.6 min at 100 Mbit/s)",
        "First limit",
    ):
        assert words in done.stdout, words


def test_a_script_gets_the_same_as_numbers() -> None:
    found = figures("ckks", *MILLION, "--uplink", "10")
    assert found["calibration"] is None
    assert found["seconds"] == {
        "client": None,
        "coordinator": None,
        "key_holder": None,
        "upload": pytest.approx(19.31, 0.01),
    }
    for way in ("client_up", "client_down", "key_holder_up", "key_holder_down"):
        parts = dict(found["wire_bytes"][way])
        assert parts.pop("total") == sum(parts.values())
    assert found["limits"][0] == found["first_limit"]
    headrooms = [one["headroom"] for one in found["limits"]]
    assert headrooms == sorted(headrooms)
    assert {one["name"] for one in found["limits"]} >= {"uplink", "memory", "clients", "values", "disk"}


def test_masking_has_the_same_costs_beside_its_numbers() -> None:
    found = figures("masking", *MILLION, "--uplink", "10", "--precision", "1e-4")
    assert found["wire_bytes"]["key_holder_up"] is None
    assert found["wire_bytes"]["client_up"]["total"] > found["bytes_up"]["total"]
    assert "precision" in {one["name"] for one in found["limits"]}


def test_seconds_come_from_the_calibration_in_the_cache(tmp_path: Path) -> None:
    save(some(), in_cache(tmp_path))
    found = figures("ckks", *MILLION)
    chunks = -(-1_000_001 // 4096)
    assert found["seconds"]["client"]["encrypting"] == pytest.approx(chunks * 2e-6 + 1e-3)
    assert found["calibration"] == {
        "file": str(in_cache(tmp_path)),
        "taken_at": "2026-11-26T00:00:00+00:00",
        "machine": asdict(this_machine()),
        "differs": [],
    }
    shown = run("masking", *MILLION).stdout
    assert "not calibrated" not in shown
    assert "Calibration" in shown
    here = this_machine()
    for command in ("ckks", "masking", "compare"):
        assert f"each party on a machine like {here.cpu}, {here.cores} cores" in run(command, *MILLION).stdout


def test_a_calibration_of_another_machine_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    save(replace(some(), machine=replace(some().machine, cpu="6502")), path)
    assert "6502" in figures("masking", *MILLION, "--calibration", str(path))["calibration"]["differs"][0]
    for command in ("ckks", "masking", "compare"):
        assert "measured elsewhere: cpu was 6502" in run(command, *MILLION, "--calibration", str(path)).stdout


def test_a_damaged_calibration_and_one_that_is_not_there_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    path.write_text("{}")
    for command in ("ckks", "masking", "compare"):
        refused = run(command, *MILLION, "--calibration", str(path))
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "is damaged at" in refused.stderr
    missing = run("ckks", *MILLION, "--calibration", str(tmp_path / "nothing"))
    assert missing.exit_code == 1
    assert "secagg plan calibrate" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ckks", *MILLION, "--precision", "1e-6"), "use preset 'ckks-8192'"),
        (("masking", *MILLION, "--precision", "1e-9"), "raise value_bits"),
        (("ckks", *MILLION, "--preset", "ckks-1024"), "unknown preset 'ckks-1024': choose one of ckks-4096"),
        (("ckks", *MILLION, "--packing", "dense"), "packing 'dense': choose one of coefficients, complex, real"),
        (("ckks", *MILLION, "--preset", "ckks-8192", "--packing", "complex"), "coefficients"),
        (("ckks", *MILLION, "--holders", "10"), "holders is 10"),
        (("ckks", *MILLION, "--threshold", "6"), "threshold 6 of 5 key holders"),
        (("ckks", "--clients", "1501", "--values", "9"), "max_clients 1501"),
        (("ckks", *MILLION, "--clip", "0"), "clip"),
        (("ckks", *MILLION, "--memory", "-1"), "memory is -1"),
        (("ckks", *MILLION, "--holder-link", "0"), "holder_link_mbit"),
        (("masking", *MILLION, "--value-bits", "2"), "may vanish in the rounding of value_bits 2: raise value_bits"),
        (("masking", *MILLION, "--dtype", "int8"), "dtype 'int8'"),
        (("masking", *MILLION, "--dropout", "0.48", "--corrupt", "0.1"), "lower dropout_fraction"),
        (("compare", "--clients", "1501", "--values", "9"), "max_clients 1501"),
        (("compare", *MILLION, "--precision", "1e-12"), "ckks does not fit"),
    ],
)
def test_an_impossible_plan_names_the_number_to_change(arguments: tuple[str, ...], named: str) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, refused.stdout) == (1, ""), refused.output
    assert named in refused.stderr


@pytest.mark.parametrize("command", ["ckks", "masking"])
def test_a_plan_that_does_not_stay_within_a_limit_is_shown_and_fails(command: str) -> None:
    late = run(command, *MILLION, "--uplink", "0.1", "--uploading-seconds", "30")
    assert late.exit_code == 1
    assert "it does not fit" in late.stdout
    cause, next_step = late.stderr.splitlines()
    assert "of the uploading deadline of 30 s" in cause
    assert "raise uploading_seconds or uplink" in next_step


def test_a_key_holders_link_counts_where_it_is_given() -> None:
    slow = run("ckks", *MILLION, "--holder-link", "20")
    assert slow.exit_code == 1
    assert "483.1 s to read 1,207,780,970 bytes, without computing; the approving deadline is 300 s" in slow.stdout
    assert "(8.1 min at 20 Mbit/s)" in slow.stdout
    assert figures("compare", *MILLION, "--clients-leave", "--holder-link", "50")["recommended"] == "ckks"
    shown = run("compare", *MILLION, "--clients-leave", "--holder-link", "20")
    assert (shown.exit_code, "recommended: neither" in shown.stdout) == (1, True)
    assert "key holders read" not in run("masking", *MILLION).stdout


def test_a_ckks_plan_is_refused_where_values_err_by_more_than_was_asked_though_their_deviation_does_not() -> None:
    refused = run("ckks", *MILLION, "--precision", "1e-5")
    assert refused.exit_code == 1
    assert "err by up to 2.2e-05 of clip, once in 2^20 rounds by more, and 1.0e-05 is asked for" in refused.stderr
    assert "Use preset 'ckks-8192', raise min_contributors, or ask for a coarser precision" in refused.stderr
    assert run("ckks", *MILLION, "--precision", "2.3e-5").exit_code == 0
    both = figures("compare", *MILLION, "--precision", "1e-5")
    assert (both["recommended"], "precision: values of the mean" in both["refused"]["ckks"]) == ("masking", True)


def test_both_protocols_side_by_side_with_a_recommendation() -> None:
    found = figures("compare", *MILLION, "--uplink", "10")
    assert found["recommended"] == "masking"
    assert set(found["protocols"]) == {"ckks", "masking"}
    shown = run("compare", *MILLION, "--uplink", "10").stdout
    for words in (
        "recommended: masking",
        "bytes up per client",
        "19.31",
        "none",
        "5, any 3 open",
        "first limit",
        *SIDE_BY_SIDE,
    ):
        assert words in shown, words
    assert figures("compare", *MILLION, "--clients-leave")["recommended"] == "ckks"


def test_one_column_where_the_other_cannot_be_planned() -> None:
    few = run("compare", "--clients", "3", "--values", "100", "--min-contributors", "2")
    assert few.exit_code == 0
    assert "recommended: ckks: masking does not fit" in few.stdout


def test_a_comparison_that_recommends_neither_fails() -> None:
    neither = run("compare", *MILLION, "--uplink", "0.001")
    assert neither.exit_code == 1
    assert "recommended: neither" in neither.stdout
    assert "masking does not fit" in neither.stderr


def test_calibrate_measures_both_protocols_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One repetition of each, of the smaller ring.
    monkeypatch.setattr("secagg.planning.stopwatch.BUDGET_SECONDS", 0.0)
    monkeypatch.setattr("secagg.planning.stopwatch.FEWEST", 1)
    monkeypatch.setattr("secagg.planning.measuring.measure", partial(measure, presets=["ckks-4096"]))
    done = run("calibrate")
    assert done.exit_code == 0, done.output
    assert "measuring masking" in done.stderr
    assert str(in_cache(tmp_path)) in done.stdout.replace("\n", "")
    kept = load(in_cache(tmp_path))
    assert kept is not None
    assert set(kept.ckks) == {"ckks-4096 coefficients", "ckks-4096 complex", "ckks-4096 real"}
    assert kept.differences() == ()
    assert 0 < figures("ckks", *MILLION)["seconds"]["client"]["total"] < 60
    larger = figures("ckks", *MILLION, "--preset", "ckks-8192")
    assert larger["seconds"]["client"] is None, "it was not measured"


def test_calibrate_says_when_others_had_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.planning.measuring.measure", lambda *_: counting())
    path = str(tmp_path / "named.json")
    for busy, spent in ((True, 1.0), (False, 2.0)):
        ticks, own = iter([0.0, 3.0]), iter([0.0, spent])
        monkeypatch.setattr("secagg.cli.plan.time.perf_counter", lambda ticks=ticks: next(ticks))
        monkeypatch.setattr("secagg.cli.plan.time.process_time", lambda own=own: next(own))
        assert ("this machine was busy" in run("calibrate", "--calibration", path).stderr) == busy


def test_calibrate_tells_a_script_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.planning.measuring.measure", lambda *_: counting())
    path = tmp_path / "named.json"
    told = json.loads(run("calibrate", "--calibration", str(path), "--json").stdout)
    assert told["calibration"] == str(path)
    assert path.exists()
