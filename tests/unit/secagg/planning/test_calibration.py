"""The calibration's file: whole or not there, damaged and told, of another machine and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from he.parameters import PRESET_NAMES
from secagg import trust
from secagg.errors import ConfigError, StorageError
from secagg.planning import calibration as file
from secagg.planning import measuring
from secagg.planning.calibration import Calibration, MaskingRates, load, save
from secagg.planning.measuring_ckks import with_packings
from secagg.planning.stopwatch import in_lanes, line_through, seconds_of
from tests.unit.secagg.planning.planning_material import free


def some() -> Calibration:
    """Return one whose seconds are above 0, as measured ones are."""
    made = free()
    rates = {name: type(one)(**dict.fromkeys(one.__dataclass_fields__, 2e-6)) for name, one in made.ckks.items()}
    shared = type(made.shared)(pack=1e-9, publish=1e-9, sign=1e-5, authenticate=1e-4, sync=1e-3, write=1e-9)
    masking = MaskingRates(**dict.fromkeys(MaskingRates.__dataclass_fields__, 1e-9))
    return replace(made, shared=shared, masking=masking, ckks=rates)


def test_a_signer_is_authenticated_at_first_sight_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sees n certificates that it never saw; what is remembered of one takes no time worth measuring."""
    looked: list[object] = []
    original = trust.read_certificate
    monkeypatch.setattr(trust, "read_certificate", lambda der: looked.append(der) or original(der))
    measured = 0

    def counted(work: Callable[[], object], **_: object) -> float:
        nonlocal measured
        before = len(looked)
        work()
        work()
        measured = len(looked) - before
        return 1.0

    monkeypatch.setattr(measuring, "seconds_of", counted)
    measuring._signatures()
    assert measured >= 2


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    save(some(), path)
    assert load(path) == some()
    assert [one.name for one in path.parent.iterdir()] == ["calibration.json"]
    assert load(tmp_path / "nothing.json") is None


def test_only_what_can_be_a_round_is_measured() -> None:
    small = [("ckks-4096", packing) for packing in ("coefficients", "complex", "real")]
    assert [*with_packings(PRESET_NAMES)] == [*small, ("ckks-8192", "coefficients")]


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: found.pop(name)


def _with(place: tuple[str, ...], value: object) -> Callable[[dict[str, Any]], object]:
    def change(found: dict[str, Any]) -> None:
        for name in place[:-1]:
            found = found[name]
        found[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_without("masking"), "masking"),
        (_with(("masking", "mask"), "fast"), r"masking\.mask"),
        (_with(("masking", "mask"), 0.0), r"masking\.mask"),
        (_with(("masking", "mask"), -1.0), r"masking\.mask"),
        (_with(("shared", "sign"), 1e400), r"shared\.sign"),
        (_with(("masking", "more"), 1.0), r"masking\.more"),
        (_with(("ckks", "ckks-4096 real", "encrypt"), None), r"ckks\.ckks-4096 real\.encrypt"),
        (_with(("format",), 2), "format"),
        (_with(("machine",), "mine"), "machine"),
    ],
)
def test_a_damaged_file_says_where(tmp_path: Path, damage: Callable[[dict[str, Any]], object], named: str) -> None:
    path = tmp_path / "calibration.json"
    save(some(), path)
    found = json.loads(path.read_text())
    damage(found)
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=f"damaged at {named}") as caught:
        load(path)
    assert "secagg plan calibrate" in caught.value.next_step


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "null"])
def test_what_is_no_calibration_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        load(path)


def test_a_directory_is_neither_read_nor_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        save(some(), blocked / "calibration.json")


def test_another_machine_and_other_versions_are_named() -> None:
    assert some().differences() == ()
    elsewhere = replace(some(), machine=replace(some().machine, cpu="6502", cores=1))
    assert [one.split(" was ")[0] for one in elsewhere.differences()] == ["cpu", "cores"]
    older = replace(some(), versions={**some().versions, "numpy": "1.0"})
    assert "numpy was 1.0, here it is " in older.differences()[0]
    assert "absent" in replace(some(), versions={}).differences()[0]


def test_it_is_kept_in_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert file.default_path() == tmp_path / "sumveil" / "calibration.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ada")
    assert file.default_path() == Path("/home/ada/.cache/sumveil/calibration.json")


@pytest.mark.parametrize(("elapsed", "clock"), [(False, "process_time"), (True, "perf_counter")])
def test_seconds_are_those_of_the_fastest_repetition(
    monkeypatch: pytest.MonkeyPatch, *, elapsed: bool, clock: str
) -> None:
    ticks = iter([0.0, 5.0, 5.0, 7.0, 7.0, 11.0])
    monkeypatch.setattr(f"secagg.planning.stopwatch.time.{clock}", lambda: next(ticks))
    assert seconds_of(lambda: None, parts=4, elapsed=elapsed) == 0.5


def test_a_clock_that_stands_still_gives_no_seconds_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.planning.stopwatch.time.process_time", lambda: 1.0)
    assert seconds_of(lambda: None) == pytest.approx(1e-7)


def test_a_line_through_two_counts() -> None:
    assert line_through((3, 5.0), (5, 9.0)) == pytest.approx((1e-9, 2.0))
    assert line_through((2, 5.0), (6, 9.0)) == pytest.approx((3.0, 1.0))
    # noise: more of it was faster
    own, each = line_through((2, 5.0), (6, 4.0))
    assert own == pytest.approx(5.0)
    assert each > 0


def test_lanes_do_all_the_work() -> None:
    done: list[int] = []
    in_lanes(done.append, range(20), 3)
    assert sorted(done) == [*range(20)]
