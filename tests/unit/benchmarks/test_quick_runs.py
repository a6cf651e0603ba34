"""Every benchmark program at tiny sizes: it runs, checks its own results, and writes what the report takes. Its times mean nothing."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.records import Record
from benchmarks.report.drawings import draw_all
from benchmarks.report.page import ORDER, page, read_records
from tests.unit.benchmarks.made_up_records import measured, record

ROOT = Path(__file__).parents[3]
PROGRAMS = sorted(path.stem for path in (ROOT / "benchmarks").glob("bench_*.py"))
LIMIT_SECONDS = 100


@contextmanager
def on_a_core_of_its_own() -> Iterator[None]:
    """Give each test worker another core: programs bind contestants to the last of theirs, and would all choose the same one."""
    cores, worker = (
        sorted(os.sched_getaffinity(0)),
        int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    )
    os.sched_setaffinity(0, {cores[worker % len(cores)]})  # What is started inherits it.
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def quick_run(program: str, output: Path) -> Record:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / f"{program}.py"),
        "--quick",
        "--no-peers",
        "--output",
        str(output),
    ]
    # Coverage follows child processes, which it makes much slower; these lines are counted where they are tested.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with on_a_core_of_its_own():
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (path,) = output.iterdir()
    return Record.read(path)


def verify_sane(found: Record) -> None:
    """Raises `AssertionError` unless we are in it, and every figure is one."""
    assert found.quick
    assert "sumveil" in {one.contestant.partition(",")[0] for one in found.measurements}
    for one in found.measurements:
        assert one.seconds
        assert all(0 < each < LIMIT_SECONDS for each in one.seconds), one
        for count in (one.peak_bytes, one.bytes):
            assert count is None or 0 < count < 4 << 30, one
    for compared in found.comparisons:
        assert 0 < compared.ratio < math.inf, compared


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_quick_run_writes_a_record_that_the_report_takes(program: str, tmp_path: Path) -> None:
    found = quick_run(program, tmp_path)
    assert f"bench_{found.question}" == program
    verify_sane(found)
    records = read_records(tmp_path)
    assert f"## {found.title}" in page(records, draw_all(records))


def test_every_program_has_its_place_on_the_page() -> None:
    assert {program.removeprefix("bench_") for program in PROGRAMS} == set(ORDER)


def test_a_record_without_us_or_without_time_is_seen() -> None:
    verify_sane(record("memory", [measured("idle", "sumveil", 1.0)], quick=True))
    for wrong in (measured("idle", "flower", 1.0), measured("idle", "sumveil", 0.0)):
        with pytest.raises(AssertionError):
            verify_sane(record("memory", [wrong], quick=True))
