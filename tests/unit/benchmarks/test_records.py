"""What is written is read back, and a ratio is that of pairs."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.arena import Race
from benchmarks.notebook import Notebook, Tree, taken, tree_of
from benchmarks.options import options
from benchmarks.records import Comparison, Figure, Measurement, Missing, Record


def measurement(contestant: str, *seconds: float, **changes: object) -> Measurement:
    fields = {"work": "work", "case": {"values": 5}, "contestant": contestant, "seconds": seconds}
    return Measurement(**(fields | changes))  # type: ignore[arg-type]


def test_seconds_are_compared_pair_by_pair() -> None:
    # A slow minute of the machine doubles both of a pair: the medians 3 and 4 would say 0.75.
    ours, theirs = measurement("sumveil", 1.0, 3.0, 6.0, 2, 2), measurement("peer", 4.0, 3.0, 12.0, 4, 4)
    found = Comparison.of("row", ours, theirs, at_most=0.5)
    assert (found.ratio, found.spread, found.held) == (0.5, (0.25, 1.0), True)


def test_a_goal_that_is_missed_is_not_held_and_without_a_goal_there_is_no_verdict() -> None:
    ours, theirs = measurement("sumveil", *[1.0] * 5, bytes=51), measurement("peer", *[1.0] * 5, bytes=100)
    assert Comparison.of("row", ours, theirs, figure="bytes", at_most=0.5).held is False
    assert Comparison.of("row", ours, theirs, figure="bytes").held is None


@pytest.mark.parametrize("figure", ["seconds", "bytes"])
def test_fewer_than_five_repetitions_are_not_judged(
    figure: Figure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (measurement(name, *[1.0] * 4, bytes=100) for name in ("sumveil", "peer"))
    assert Comparison.of("row", ours, theirs, figure=figure, at_most=0.5).held is None
    notebook = Notebook("question", "Title", options("", ["--quick", "--output", str(tmp_path)]))
    notebook.compare("row", ours, theirs, figure=figure, at_most=0.5)
    assert "at most 0.5: not judged: fewer than 5 repetitions" in capsys.readouterr().out


def test_what_was_not_measured_is_not_compared() -> None:
    with pytest.raises(ValueError, match="no peak_bytes of peer at work"):
        Comparison.of("row", measurement("sumveil", 1.0, peak_bytes=1), measurement("peer", 1.0), figure="peak_bytes")
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Comparison.of("row", measurement("sumveil", 1.0, 2.0), measurement("peer", 1.0))


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    ours, theirs = measurement("sumveil", 1.0, 2.0, extra={"phases": {"a": [1, 2]}}), measurement("peer", 4.0, 5.0)
    record = Record(
        question="question",
        title="title",
        quick=True,
        repetitions=2,
        taken=taken({"sumveil": {"sumveil": "0.1.0"}}, Tree(commit="0123", dirty=True)),
        measurements=(ours, theirs),
        comparisons=(Comparison.of("row", ours, theirs),),
        missing=(Missing(contestant="other", reason="none"),),
    )
    path = record.write(tmp_path / "results")
    assert path.name == "question.json"
    assert Record.read(path) == record
    assert '"median": 1.5' in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"question": "question"}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "question.json"
    path.write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        Record.read(path)


def test_a_notebook_writes_what_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = Notebook("question", "Title", options("", ["--quick", "--output", str(tmp_path)]))
    ours = measurement("sumveil", 1.0)
    notebook.add(ours)
    notebook.miss(Missing(contestant="peer", reason="offline"))
    notebook.miss(Missing(contestant="peer", reason="offline, again"))
    notebook.compare("row", ours, None)
    record = Record.read(notebook.write())
    assert record.measurements == (ours,)
    assert record.missing == (Missing(contestant="peer", reason="offline"),)
    assert record.comparisons == ()
    assert record.taken.machine.cores >= 1
    assert "peer is missing: offline" in capsys.readouterr().out


def test_a_tree_is_dirty_by_what_somebody_wrote_not_by_what_programs_write(tmp_path: Path) -> None:
    (tmp_path / "source.py").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    for made in ("benchmarks/results/a.json", "docs/performance/a.svg", "docs/performance.md"):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).touch()
    clean = tree_of(tmp_path)
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "benchmarks" / "new.py").touch()
    assert tree_of(tmp_path) == clean._replace(dirty=True)
    (tmp_path / "benchmarks" / "new.py").unlink()
    (tmp_path / "source.py").write_text("changed")
    assert tree_of(tmp_path).dirty


def test_the_tree_is_looked_at_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = iter([Tree(commit="first", dirty=False), Tree(commit="second", dirty=True)])
    monkeypatch.setattr("benchmarks.notebook.tree_of", lambda _: next(trees))
    notebook = Notebook("question", "Title", options("", ["--quick", "--output", str(tmp_path)]))
    notebook.add(measurement("sumveil", 1.0))
    taken = Record.read(notebook.write()).taken
    assert (taken.commit, taken.dirty) == ("first", False)


def test_nothing_is_compared_when_we_ourselves_fail(tmp_path: Path) -> None:
    notebook = Notebook("question", "Title", options("", ["--quick", "--output", str(tmp_path)]))
    lost = Race(measurements=(), missing=(Missing(contestant="sumveil, real packing", reason="it broke"),), versions={})
    with pytest.raises(RuntimeError, match="it broke"):
        notebook.add(lost)


def test_quick_figures_do_not_get_among_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("", ["--quick"])
    assert "--quick needs --output" in capsys.readouterr().err


def test_quick_runs_are_short_and_without_peers(tmp_path: Path) -> None:
    asked = options("", ["--quick", "--output", str(tmp_path)])
    assert (asked.repetitions, asked.peers) == (2, False)
    asked = options("", [])
    assert (asked.repetitions, asked.peers, asked.output.name) == (5, True, "results")
