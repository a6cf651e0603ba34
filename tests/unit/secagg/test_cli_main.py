"""The one command: help for newcomers, sub-commands loaded on use, and options before files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from secagg.cli import main
from secagg.cli.main import COMMANDS, app

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No operator.toml lies here.
    monkeypatch.chdir(tmp_path)


def test_help_says_where_to_begin() -> None:
    done = RUNNER.invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "New here? Run `secagg demo`" in done.output
    assert all(name in done.output for name in COMMANDS)


def test_no_arguments_show_help() -> None:
    assert "secagg demo" in RUNNER.invoke(app, []).output


def test_the_version_is_the_distributions() -> None:
    done = RUNNER.invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("secagg 0.")


def test_a_version_that_nobody_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "DISTRIBUTION", "no-such-distribution")
    assert "not installed" in RUNNER.invoke(app, ["--version"]).output


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["demo", "--help"], "--threshold"),
        (["pki", "--help"], "issue"),
        (["key-holder", "--help"], "serve"),
        (["coordinator", "--help"], "serve"),
        (["job", "--help"], "create"),
        (["round", "--help"], "watch"),
        (["client", "--help"], "submit"),
        (["job", "create", "--help"], "--min-contributors"),
        (["coordinator", "serve", "--help"], "--config"),
    ],
)
def test_every_sub_command_has_help(command: list[str], found: str) -> None:
    done = RUNNER.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert found in done.output


def test_a_typing_error_is_answered_with_the_command_that_was_meant() -> None:
    done = RUNNER.invoke(app, ["jab"])
    assert done.exit_code == 2
    assert "Did you mean 'job'" in done.output


def test_a_command_of_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "ENTRY_POINTS", "no.such.group")
    done = RUNNER.invoke(app, ["coordinator", "serve"])
    assert done.exit_code == 1
    assert "not installed" in done.output


def test_the_command_runs_as_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["secagg", "--version"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("secagg ")


def _refused(*arguments: str) -> str:
    done = RUNNER.invoke(app, list(arguments))
    assert done.exit_code == 1, done.output
    assert "next step: " in done.output
    return done.output


def test_a_job_that_is_not_described_names_what_is_missing() -> None:
    assert "--purpose and --tensor" in _refused("job", "create", "--job", "mnist")


MASKING = [
    "--protocol",
    "masking",
    "--purpose",
    "p",
    "--tensor",
    "w:3",
    "--min-contributors",
    "5",
    "--max-clients",
    "9",
]


def test_masking_needs_no_key_holder_and_ckks_does() -> None:
    assert "SECAGG_OPERATOR_IDENTITY is missing" in _refused("job", "create", "--job", "m", *MASKING)
    assert "--holder must be given" in _refused("job", "create", "--job", "m", *MASKING[2:])


@pytest.mark.parametrize(
    ("protocol", "option", "named"),
    [
        ("masking", ["--holder", "north"], "--holder belongs to ckks"),
        ("masking", ["--preset", "ckks-8192"], "--preset belongs to ckks"),
        ("ckks", ["--holder", "north", "--value-bits", "16"], "--value-bits belongs to masking"),
        ("ckks", ["--holder", "north", "--dropout-fraction", "0"], "--dropout-fraction belongs to masking"),
        ("rot13", [], "--protocol 'rot13'"),
    ],
)
def test_an_option_of_the_other_protocol_is_refused(protocol: str, option: list[str], named: str) -> None:
    assert named in _refused("job", "create", "--job", "m", *MASKING[2:], "--protocol", protocol, *option)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--value-bits", "32"], "value_bits 32"),
        (["--value-bits", "8"], "raise value_bits"),
        (["--corrupt-fraction", "0.5"], "corrupt_fraction 0.5"),
        (["--dropout-fraction", "0.4"], "lower dropout_fraction"),
        (["--precision", "1e-9"], "precision asks for 1.0e-09"),
    ],
)
def test_the_numbers_of_a_masking_job_reach_its_proof(option: list[str], named: str) -> None:
    assert named in _refused("job", "create", "--job", "m", *MASKING, *option)


def test_a_masking_demo_has_no_key_holders() -> None:
    assert "--holders cannot stand beside --protocol masking" in _refused(
        "demo", "--protocol", "masking", "--holders", "5"
    )


def test_a_file_and_options_do_not_mix() -> None:
    assert "--job cannot stand beside it" in _refused("job", "create", "--file", "job.toml", "--job", "mnist")


def test_without_settings_the_missing_one_is_named() -> None:
    assert "SECAGG_OPERATOR_IDENTITY is missing" in _refused("job", "list")


def test_a_job_that_cannot_work_is_refused_before_anything_is_dialled() -> None:
    options = ["--job", "m", "--purpose", "p", "--tensor", "w:3", "--min-contributors", "1", "--max-clients", "3"]
    holders = [part for name in "abcde" for part in ("--holder", name)]
    assert "min_contributors 1" in _refused("job", "create", *options, *holders)


def test_stand_ins_are_never_called() -> None:
    # Each of them hides a real one.
    assert {name for name in COMMANDS if isinstance(main._found(name), typer.Typer)} == set(COMMANDS) - {
        "demo",
        "doctor",
    }


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("3", "3")])
def test_a_command_has_one_blas_thread_unless_it_was_told_otherwise(before: str | None, after: str) -> None:
    code = """
import os, sys
from secagg.cli.main import main

sys.argv = ["secagg", "--version"]
try:
    main()
except SystemExit:
    pass
assert "numpy" not in sys.modules, "BLAS has made its threads already"
print(os.environ["OPENBLAS_NUM_THREADS"])
"""
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    told = {} if before is None else {"OPENBLAS_NUM_THREADS": before}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment | told
    )
    assert done.stdout.splitlines()[-1] == after
