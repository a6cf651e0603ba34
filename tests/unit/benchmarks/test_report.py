import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.options import RESULTS
from benchmarks.records import Record
from benchmarks.report.curves import curves
from benchmarks.report.drawings import DRAWINGS, apart, draw_all
from benchmarks.report.figures import seconds, size, table, three_digits
from benchmarks.report.goals import GOALS, OF_THE_ROUND, goals_table
from benchmarks.report.page import page, read_records, write_report
from benchmarks.report.profile import paths_of
from tests.unit.benchmarks.made_up_records import all_records, goal_records, measured, record

DOCS = Path(__file__).parents[3] / "docs"


def written(directory: Path, records: dict[str, Record]) -> dict[str, bytes]:
    for one in records.values():
        one.write(directory / "results")
    return {path.name: path.read_bytes() for path in write_report(directory / "results", directory / "docs")}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return draw_all(all_records())


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, all_records()) for name in ("one", "two"))
    assert set(first) == {"performance.md", *DRAWINGS}
    assert first == second


def test_plots_know_no_date_no_program_and_no_hash_and_other_figures_give_other_plots(drawn: dict[str, str]) -> None:
    for text in drawn.values():
        assert "dc:date" not in text
        assert "Matplotlib" not in text
        assert not re.search(r'id="[a-z][0-9a-f]{10}"', text), (
            "a hash of coordinates differs where their last digits do"
        )
        assert len(text) < 60_000
    assert draw_all(goal_records(0.5))["goals.svg"] != draw_all(goal_records(0.6))["goals.svg"]


def test_plots_have_their_words_as_text(drawn: dict[str, str]) -> None:
    words = {name: re.findall(r"<text[^>]*>([^<]+)</text>", text) for name, text in drawn.items()}
    assert "unmasking, peak memory" in words["goals.svg"]
    assert "0.260 of 0.2" in words["goals.svg"]
    assert {"values in the vector", "seconds, median", "sumveil", "nvflare"} <= set(words["encryption.svg"])
    assert {"sumveil, protocol masking", "sumveil, protocol ckks", "clients"} <= set(words["growth.svg"])
    assert {"NTT", "sampling", "rest"} <= set(words["profile.svg"])


def test_what_is_not_there_is_not_drawn_and_an_old_plot_goes(tmp_path: Path) -> None:
    written(tmp_path, all_records())
    for name in ("growth", "profile"):
        (tmp_path / "results" / f"{name}.json").unlink()
    kept = {path.name for path in write_report(tmp_path / "results", tmp_path / "docs")}
    assert kept == {"performance.md", "goals.svg", "encryption.svg", "unmasking.svg"}
    assert {path.name for path in (tmp_path / "docs" / "performance").iterdir()} == kept - {"performance.md"}
    assert "growth.svg" not in (tmp_path / "docs" / "performance.md").read_text()


def test_the_page_links_every_plot_that_was_written(drawn: dict[str, str]) -> None:
    assert set(re.findall(r"\]\(performance/([^)]+)\)", page(all_records(), drawn))) == set(drawn) == set(DRAWINGS)


def test_first_comes_every_row_with_its_bound_and_whether_it_held() -> None:
    lines = page(all_records(), {}).splitlines()
    first = lines.index(next(line for line in lines if line.startswith("| work")))
    rows = lines[first + 2 : first + 2 + sum(len(goal.bounds) for goal in GOALS)]
    assert rows == goals_table(all_records())[2:-1]
    assert [row.count("| yes |") for row in rows] == [1] * 8 + [0, 0] + [1]
    assert "| time | 0.100 × | 0.130 × | 0.117 – 0.143 | **no** |" in rows[8]
    assert all(goal.work in "\n".join(rows) for goal in GOALS)


def test_the_worst_of_several_measurements_of_a_row_counts() -> None:
    mild, severe = goal_records(0.8)["addition"], goal_records(1.2)["addition"]
    both = record("addition", mild.measurements, comparisons=[*severe.comparisons, *mild.comparisons])
    assert any("| 0.180 × |" in row and "**no**" in row for row in goals_table({"addition": both}))


def test_a_row_with_few_repetitions_is_not_judged() -> None:
    mild = goal_records(0.8)["addition"]
    few = record("addition", mild.measurements, comparisons=[replace(one, held=None) for one in mild.comparisons])
    assert any("| not judged: fewer than 5 repetitions |" in row for row in goals_table({"addition": few}))
    assert draw_all({"addition": few})["goals.svg"] != draw_all({"addition": mild})["goals.svg"]


def test_cores_and_other_numbers_of_repetitions_stand_in_their_lines() -> None:
    one = measured("round", "sumveil", 1.0, extra={"cores": 1})
    text = page({"round": record("round", [one, replace(one, seconds=(2.0,), extra={"cores": "all"})])}, {})
    assert "| by | cores | repetitions | median |" in text
    assert "| sumveil | 1 |  | 1.00 s |" in text
    assert "| sumveil | all | 1 | 2.00 s |" in text
    assert "| by | cores | median |" in page({"round": record("round", [one])}, {})


def test_a_row_without_a_measurement_says_why_it_has_none() -> None:
    records = all_records()
    opening = record("opening", [measured("partial", "sumveil", 0.3)], missing=records["startup"].missing)
    rows = goals_table(records | {"opening": opening})
    assert sum("not measured | – | openfhe: there is no python3.10 here" in row for row in rows) == 2
    assert sum("not measured | – | no record" in row for row in goals_table({})) == 11


def test_who_is_missing_is_named_in_its_section() -> None:
    assert "- *openfhe* was not measured: there is no python3.10 here" in page(all_records(), {})


def test_a_quick_run_is_called_one() -> None:
    quick = record("memory", [measured("idle", "sumveil", 1.0)], quick=True)
    assert "**Quick runs, whose figures mean nothing: memory.**" in page({"memory": quick}, {})
    assert "Quick runs" not in page(all_records(), {})


def test_where_and_of_what_it_was_measured_is_said() -> None:
    text = page(all_records(), {})
    assert "Imagined CPU, 2 cores, 15.6 GiB of memory, Linux 6.1.0" in text
    assert "Versions, flower: flwr 1.42.0" in text
    assert "| Of masking | 2026-11-26 | `0123456789` | 3 |" in text


def test_predicted_seconds_stand_beside_measured_ones() -> None:
    assert "| encrypt | values 1,000,000 | 440 ms | 400 ms | 360 ms – 480 ms | 1.10 × |" in page(all_records(), {})


def test_phases_of_a_measurement_are_shown_where_they_were_told() -> None:
    round = measured("round", "sumveil", 3.0, extra={"phases": {"keys": [1.0, 2.0, 3.0], "unmask": [0.5, None, 0.7]}})
    text = page({"round": record("round", [round])}, {})
    assert "| round | values 1,000,000 | sumveil | keys: 2.00 s; unmask: 600 ms |" in text


def test_a_note_that_all_share_stands_once() -> None:
    first, second = (measured("round", by, 1.0, note="both cores") for by in ("sumveil", "flower"))
    assert page({"round": record("round", [first, second])}, {}).count("Of every line: both cores.") == 1
    text = page({"round": record("round", [first, measured("round", "flower", 1.0)])}, {})
    assert "| both cores |" in text
    assert "Of every line: both cores." not in text


def test_bytes_are_told_for_each_value() -> None:
    assert "| 24.0 MB, 24.0 a value |" in page(all_records(), {})


def test_a_profile_tells_stages_rest_and_limit() -> None:
    encryption, masking = paths_of(all_records()["profile"])
    assert encryption.shares == pytest.approx({"NTT": 50, "sampling": 25, "rest": 25})
    assert masking.rest == 0
    assert sum(masking.shares.values()) == pytest.approx(100)
    text = page(all_records(), {})
    assert "| client encryption | 400 ms | SEAL's kernel | 300 ms | 1.33 × | what SEAL takes |" in text
    assert "**client encryption**: *NTT* takes 50 %" in text
    assert "**gRPC over the loopback**: 250 MB in 500 ms, 500 MB a second. At that rate the 250 MB" in text
    assert "of a whole `masking` round of 50 clients take 12 % of its time" in text


def test_curves_hold_everything_but_one_number() -> None:
    growth = all_records()["growth"].measurements
    assert [(curve.name, curve.x) for curve in curves(growth, "clients")] == [
        ("sumveil, protocol masking", [5, 10, 50]),
        ("sumveil, protocol ckks", [5, 10, 50]),
    ]
    assert curves(growth, "nothing") == []


def test_labels_that_would_run_into_one_another_are_left_out() -> None:
    assert apart([3, 5, 8, 9, 16, 17, 50], logarithmic=True) == [3, 5, 8, 16, 50]
    assert apart([0, 1, 30], logarithmic=False) == [0, 30]
    assert apart([7], logarithmic=True) == [7]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0451, "0.0451"),
        (0.1, "0.100"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12_345, "12,345"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_units_follow_the_size() -> None:
    assert [seconds(one) for one in (0, 2e-6, 0.0123, 1.5)] == ["0 s", "2.00 µs", "12.3 ms", "1.50 s"]
    assert [size(one) for one in (None, 12, 1_500, 24_000_000, 3e9)] == ["–", "12 B", "1.50 kB", "24.0 MB", "3.00 GB"]


def test_a_cell_cannot_break_its_table() -> None:
    assert table(["a"], [["x|y\nz"]])[2] == "| x\\|y z |"


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strange.json").write_text('{"question": "strange"}')
    with pytest.raises((KeyError, TypeError)):
        read_records(tmp_path)


def test_the_checked_in_page_is_what_the_checked_in_records_give() -> None:
    records = read_records(RESULTS)
    drawn = draw_all(records)
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == page(records, drawn), "run `make bench-report`"
    kept = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "performance").glob("*.svg")}
    assert kept == drawn, "run `make bench-report`"
    assert not any(record.quick for record in records.values())


@pytest.mark.parametrize(("factor", "said"), [(0.8, False), (1.2, True)])
def test_where_the_time_of_a_round_goes_is_said_when_its_goal_is_missed(factor: float, said: bool) -> None:
    assert (OF_THE_ROUND in page(goal_records(factor), {})) is said
