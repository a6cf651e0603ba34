"""Real processes take turns; whoever dies, hangs or talks nonsense is named and stops nobody."""

import os
import platform
import sys
import time
from pathlib import Path

import pytest

from benchmarks.arena import Contestant, Race, race

WELL = """
from benchmarks.stage import serve

def prepare(case):
    def run():
        with open(case["log"], "a") as log:
            log.write(case["letters"]["{name}"])
        return {{"seconds": 0.25, "bytes": 7, "phases": {{"a": 0.1}}, "told": 3, "note": "fine"}}
    return run

serve({{"work": prepare}}, lambda: {{"{name}": "1.0"}})
"""
BAD_RUN = """
import os, signal, subprocess, sys, time
from benchmarks.stage import answer_lines, serve

def prepare(case):
    def run():
        {body}
    return run

serve({{"work": prepare}}, dict)
"""
LARGE_BUT_AT_WORK = """
from benchmarks.stage import Checked, serve

def afterwards():
    bytearray(100_000_000)
    return {"error": 0.5}

def prepare(case):
    bytearray(100_000_000)
    return Checked(lambda: {"seconds": 0.25}, afterwards)

serve({"work": prepare}, dict)
"""
LIMIT_SECONDS = 20.0


class Field:
    """Where contestants are written as scripts, and race."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "log"

    def well(self, name: str) -> Contestant:
        return self.contestant(name, WELL.format(name=name))

    def bad(self, body: str) -> Contestant:
        return self.contestant("bad", BAD_RUN.format(body=body))

    def contestant(self, name: str, text: str) -> Contestant:
        script = self._folder / f"{name}.py"
        script.write_text(text)
        return Contestant(name=name, python=Path(sys.executable), script=script)

    def race(self, *contestants: Contestant, limit_seconds: float = LIMIT_SECONDS, repetitions: int = 2) -> Race:
        case = {"log": str(self.log), "letters": {"one": "1", "two": "2", "three": "3"}}
        return race("question", "work", case, contestants, repetitions, limit_seconds=limit_seconds)


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


def test_contestants_take_turns_and_another_one_begins_each_time(field: Field) -> None:
    found = field.race(field.well("one"), field.well("two"), field.well("three"))
    assert field.log.read_text() == "123" + "231" + "312"
    assert [one.contestant for one in found.measurements] == ["one", "two", "three"]
    assert found.missing == ()
    assert found.versions["two"] == {"python": platform.python_version(), "two": "1.0"}


def test_the_warm_up_does_not_count_and_what_is_told_is_kept(field: Field) -> None:
    (one,) = field.race(field.well("one")).measurements
    assert one.seconds == (0.25, 0.25)
    assert (one.bytes, one.note) == (7, "fine")
    assert one.extra["told"] == [3, 3]
    assert one.extra["phases"] == {"a": [0.1, 0.1]}
    assert one.peak_bytes is not None
    assert one.peak_bytes >= one.extra["base_bytes"] > 1_000_000


def test_a_run_that_does_not_time_itself_is_timed(field: Field) -> None:
    (one,) = field.race(field.bad("time.sleep(0.05); return {}")).measurements
    assert all(0.05 <= seconds < LIMIT_SECONDS for seconds in one.seconds)


def test_memory_is_of_the_process_and_counts_what_was_given_back(field: Field) -> None:
    (small,) = field.race(field.bad("return {}")).measurements
    (large,) = field.race(field.bad("bytearray(100_000_000); return {}")).measurements
    assert large.peak_bytes is not None
    assert small.peak_bytes is not None
    assert large.peak_bytes - small.peak_bytes > 90_000_000


def test_memory_of_the_preparation_and_of_what_comes_afterwards_is_not_the_works(field: Field) -> None:
    (one,) = field.race(field.contestant("large", LARGE_BUT_AT_WORK)).measurements
    assert one.peak_bytes is not None
    assert one.peak_bytes < 90_000_000
    assert one.extra["error"] == 0.5


def test_who_fails_afterwards_is_missing(field: Field) -> None:
    found = field.race(field.contestant("large", LARGE_BUT_AT_WORK.replace('"error": 0.5', '"error": 1 / 0')))
    assert found.measurements == ()
    assert "ZeroDivisionError" in found.missing[0].reason


def test_memory_of_another_process_takes_the_place_of_its_own(field: Field) -> None:
    (one,) = field.race(field.bad("return {'peak_bytes': 12345}")).measurements
    assert one.peak_bytes == 12345


def test_a_contestant_runs_on_one_core_with_one_thread(field: Field) -> None:
    body = "return {'own': len(os.sched_getaffinity(0)), 'threads': os.environ['OPENBLAS_NUM_THREADS']}"
    (one,) = field.race(field.bad(body)).measurements
    assert (one.extra["cores"], one.extra["own"], one.extra["threads"]) == (1, [1, 1], ["1", "1"])
    (free,) = race("question", "work", {}, [field.bad(body)], 1, cores=None).measurements
    assert (free.extra["cores"], free.extra["own"]) == ("all", [len(os.sched_getaffinity(0))])


@pytest.mark.parametrize(
    "body",
    [
        "print('a' * 10000, flush=True); return {}",
        "os.write(1, b'nonsense'); return {}",
        "os.system('echo hi'); return {}",
    ],
)
def test_what_a_library_prints_breaks_no_answer(field: Field, body: str) -> None:
    assert len(field.race(field.bad(body)).measurements) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        ("assert 1 == 2, 'wrong result'", "AssertionError: wrong result"),
        ("print('last words', file=sys.stderr, flush=True); os._exit(3)", "last words"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it ended when asked to run"),
        ("answer_lines().write('nonsense\\n'); return {}", "no answer to run, but b'nonsense'"),
        ("answer_lines().write('[1]\\n'); return {}", "no answer to run"),
        ("answer_lines().write('{\"peak_bytes\": 1}\\n'); return {}", "an answer to run without seconds"),
    ],
)
def test_who_fails_is_missing_with_the_reason_and_the_others_go_on(field: Field, body: str, reason: str) -> None:
    found = field.race(field.bad(body), field.well("one"))
    assert [one.contestant for one in found.measurements] == ["one"]
    (missing,) = found.missing
    assert missing.contestant == "bad"
    assert missing.reason.startswith("question, work: ")
    assert reason in missing.reason


def test_who_hangs_is_ended_together_with_what_it_started(field: Field) -> None:
    body = f"open({str(field.log)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    found = field.race(field.bad(body), limit_seconds=2.0)
    assert "no answer to run within 2 s" in found.missing[0].reason
    status, end = Path(f"/proc/{int(field.log.read_text())}/status"), time.monotonic() + LIMIT_SECONDS
    while _lives(status):  # A signal that was sent takes effect when the machine has time for it.
        assert time.monotonic() < end
        time.sleep(0.01)


def _lives(status: Path) -> bool:
    try:
        return "zombie" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_script_that_cannot_start_is_missing(field: Field) -> None:
    found = field.race(field.contestant("bad", "import no_such_module"))
    assert "No module named 'no_such_module'" in found.missing[0].reason
