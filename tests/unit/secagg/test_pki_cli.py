"""`secagg pki` as a person and as a script use it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from he.errors import ParameterError
from secagg.cli.errors import INTERRUPTED_EXIT_CODE, friendly_errors
from secagg.cli.pki import PASSPHRASE_VARIABLE, app
from secagg.errors import PlanError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "pki"


def _run(directory: Path, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dir", str(directory)], env=env)


def _states(directory: Path) -> list[tuple[str, str]]:
    shown = _run(directory, "show", "--json")
    assert shown.exit_code == 0
    return [(one["party"], one["state"]) for one in json.loads(shown.stdout)]


def test_init_issue_show_revoke(directory: Path) -> None:
    assert _run(directory, "init").exit_code == 0
    assert _run(directory, "issue", "client", "alice").exit_code == 0
    issued = _run(directory, "issue", "key-holder", "north", "--host", "north.example.org", "--days", "30")
    assert str(directory / "key-holder" / "north") in issued.stdout
    assert _run(directory, "revoke", "client", "alice").exit_code == 0
    assert _states(directory) == [("secagg://client/alice", "revoked"), ("secagg://key-holder/north", "valid")]
    table = _run(directory, "show").stdout
    assert "alice" in table
    assert "revoked" in table


def test_a_failure_is_a_cause_and_a_next_step_on_stderr_and_exit_code_1(directory: Path) -> None:
    failed = _run(directory, "issue", "client", "alice")
    assert failed.exit_code == 1
    assert failed.stdout == ""
    cause, next_step = failed.stderr.splitlines()
    assert cause == f"error: {directory} holds no CA"
    assert next_step == "next step: Make one with `secagg pki init`, or name its directory"


def test_overwriting_needs_force(directory: Path) -> None:
    _run(directory, "init")
    _run(directory, "issue", "client", "alice")
    refused = _run(directory, "issue", "client", "alice")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert _run(directory, "issue", "client", "alice", "--force").exit_code == 0


def test_renewing_leaves_the_old_one_until_it_is_revoked_by_its_number(directory: Path) -> None:
    _run(directory, "init")
    _run(directory, "issue", "client", "alice")
    assert _run(directory, "renew", "client", "alice").exit_code == 0
    assert _states(directory) == [("secagg://client/alice", "valid")] * 2
    old = json.loads(_run(directory, "show", "--json").stdout)[0]["serial"]
    revoked = _run(directory, "revoke", "client", "alice", "--serial", old, "--reason", "key-compromise")
    assert (revoked.exit_code, "Revoked 1 of client/alice" in revoked.stdout) == (0, True)
    first, second = json.loads(_run(directory, "show", "--json").stdout)
    assert (first["state"], first["reason"], second["state"]) == ("revoked", "key-compromise", "valid")
    assert first["revoked_at"] is not None
    table = " ".join(_run(directory, "show").stdout.split())
    assert "revoked" in table


@pytest.mark.parametrize("serial", ["xyz", ""])
def test_a_number_that_is_none_is_told(directory: Path, serial: str) -> None:
    _run(directory, "init")
    failed = _run(directory, "revoke", "client", "alice", "--serial", serial)
    assert failed.exit_code == 1
    assert "is no serial number" in failed.stderr


def test_a_bad_name_is_told_without_a_traceback(directory: Path) -> None:
    _run(directory, "init")
    failed = _run(directory, "issue", "client", "Alice")
    assert failed.exit_code == 1
    assert "a party's name has" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_passphrase_comes_from_a_file_or_the_environment(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    assert _run(directory, "init", "--passphrase-file", str(file)).exit_code == 0
    assert _run(directory, "issue", "client", "alice").exit_code == 1
    assert _run(directory, "issue", "client", "alice", env={PASSPHRASE_VARIABLE: "correct horse"}).exit_code == 0
    assert _run(directory, "renew-crl", "--passphrase-file", str(file)).exit_code == 0


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read"), ("\n", "is empty")])
def test_a_passphrase_file_without_a_passphrase_is_told(
    directory: Path, tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_text(content)
    failed = _run(directory, "init", "--passphrase-file", str(file))
    assert failed.exit_code == 1
    assert reason in failed.stderr
    assert not directory.exists()


def _command_that_raises(error: BaseException) -> typer.Typer:
    broken = typer.Typer()

    @broken.command()
    @friendly_errors
    def run() -> None:
        raise error

    return broken


def test_text_of_a_peer_cannot_steer_the_terminal() -> None:
    failed = CliRunner().invoke(_command_that_raises(PlanError("[red]x[/red]\x1b[2J\n", next_step="a\x07b")))
    assert failed.exit_code == 1
    assert failed.stderr == "error: [red]x[/red] [2J \nnext step: a b\n"


def test_errors_of_the_lattice_layer_are_told_as_well() -> None:
    failed = CliRunner().invoke(_command_that_raises(ParameterError("lower max_clients")))
    assert (failed.exit_code, failed.stderr) == (1, "error: lower max_clients\n")


def test_ctrl_c_ends_quietly() -> None:
    failed = CliRunner().invoke(_command_that_raises(KeyboardInterrupt()))
    assert (failed.exit_code, failed.output) == (INTERRUPTED_EXIT_CODE, "")


def test_a_defect_keeps_its_traceback() -> None:
    failed = CliRunner().invoke(_command_that_raises(ZeroDivisionError("a defect")))
    assert isinstance(failed.exception, ZeroDivisionError)
