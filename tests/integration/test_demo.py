"""The demo as a person runs it: its own process, its own children, and nothing left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NAMES = [f"client-0{number}" for number in range(1, 10)]
COMMAND = [sys.executable, "-m", "secagg.cli.main", "demo"]


@pytest.fixture
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that only this demo uses, so that what it leaves behind shows."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    return scratch


def processes_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(directory) in command:
                found.append(command)
    return found


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=110)


def test_secure_equals_plain_and_nothing_is_left(private_tmp: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run = demo("--clients", "3", "--rounds", "2", "--json", str(figures))
    assert run.returncode == 0, run.stderr
    found = json.loads(figures.read_text())
    assert found["protocol"] == "ckks"
    assert (found["clients"], found["holders"], found["threshold"], found["rounds"]) == (3, 5, 3, 2)
    assert found["values"] == 4060
    assert 0 < found["max_error"] < 1e-4
    assert abs(found["accuracy_secure"] - found["accuracy_plain"]) < 0.02
    assert 24 <= found["bytes_per_value"] < 25
    assert found["seconds_per_round"] > 0
    assert "Who could see what" in run.stdout
    assert list(private_tmp.iterdir()) == []
    assert processes_of(private_tmp) == []


def test_clients_that_vanish_and_a_dead_key_holder_do_not_stop_it(private_tmp: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run = demo("--clients", "4", "--rounds", "2", "--dropouts", "1", "--dead-holders", "1", "--json", str(figures))
    assert run.returncode == 0, run.stderr
    found = json.loads(figures.read_text())
    assert found["max_error"] < 1e-4
    assert [len(one["contributors"]) for one in found["by_round"]] == [3, 3]
    assert found["by_round"][1]["holders"]["holder-5"] == "unreachable"
    assert "holder-5 unreachable" in run.stdout
    assert list(private_tmp.iterdir()) == []
    assert processes_of(private_tmp) == []


def test_masked_updates_equal_plain_ones_though_clients_vanish_after_they_shared(
    private_tmp: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    asked = ("--protocol", "masking", "--clients", "6", "--rounds", "2", "--dropouts", "1")
    run = demo(*asked, "--json", str(figures))
    assert run.returncode == 0, run.stderr
    found = json.loads(figures.read_text())
    assert (found["protocol"], found["clients"], found["holders"], found["rounds"]) == ("masking", 6, 0, 2)
    assert (found["neighbours"], found["threshold"], found["quorum"]) == (5, 4, 4)
    assert 0 < found["max_error"] < 1e-4
    assert found["accuracy_secure"] == pytest.approx(found["accuracy_plain"], abs=0.02)
    assert 2.5 < found["bytes_per_value"] < 3.5
    assert found["seconds_per_round"] > 0
    for one in found["by_round"]:
        # Its pairwise masks are in the vectors of the others, so a sum without them shows that they were recovered.
        assert (one["shared"], len(one["contributors"])) == (6, 5)
        assert set(one["seconds"]) == {"open", "sharing", "uploading", "confirming", "unmasking"}
    vanished = [set(NAMES[:6]) - set(one["contributors"]) for one in found["by_round"]]
    assert vanished[0] != vanished[1], "who vanished in the first round is back in the second"
    assert "Who could see what" in run.stdout
    assert "a key holder" not in run.stdout
    assert list(private_tmp.iterdir()) == []
    assert processes_of(private_tmp) == []


@pytest.mark.parametrize(("number", "protocol"), [(signal.SIGINT, "ckks"), (signal.SIGTERM, "masking")])
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    private_tmp: Path, number: signal.Signals, protocol: str
) -> None:
    command = [*COMMAND, "--rounds", "50", "--protocol", protocol]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any("secagg.demo.client" in one for one in processes_of(private_tmp)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                pytest.fail(process.communicate()[1])
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert list(private_tmp.iterdir()) == []
    assert processes_of(private_tmp) == []


def test_options_that_do_not_fit_are_refused_at_once() -> None:
    run = demo("--dead-holders", "3")
    assert run.returncode == 1
    assert "--dead-holders 3 of 5: at least 3 must be left" in run.stderr
    assert "Traceback" not in run.stderr


def test_drop_outs_that_no_graph_bears_are_refused_at_once() -> None:
    run = demo("--protocol", "masking", "--clients", "6", "--dropouts", "2")
    assert run.returncode == 1
    assert "2 drop-outs" in run.stderr
    assert "fewer --dropouts" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_figures_file_that_cannot_be_written_is_noticed_first(tmp_path: Path) -> None:
    run = demo("--json", str(tmp_path / "no" / "such" / "file.json"))
    assert run.returncode == 1
    assert "cannot be written" in run.stderr
