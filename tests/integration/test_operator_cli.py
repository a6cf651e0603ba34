"""``secagg job`` and ``secagg round`` against a real coordinator. No key holder answers it, so that rounds abort at once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from secagg.cli.main import app
from tests.coordinator_process import CoordinatorProcess, coordinator_process
from tests.job_material import HOLDERS
from tests.pki_material import ALICE, AUDITOR, OPERATOR

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "samples" / "job.toml"
MASKING_SAMPLE = SAMPLE.with_name("job-masking.toml")
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    made = coordinator_process(tmp_path_factory.mktemp("coordinator"))
    made.write_config()
    made.start()
    for party in (OPERATOR, AUDITOR, ALICE):
        made.deployment.identity(party)
    lines = f'identity = "{made.deployment.pki.path_of(OPERATOR)}"\n[coordinator]\naddress = "127.0.0.1:{made.port}"\n'
    (made.directory / "operator.toml").write_text(f'{lines}name = "main"\n')
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def _in_its_directory(running: CoordinatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(running.directory)


def _run(*arguments: str, fails: bool = False) -> Result:
    done = RUNNER.invoke(app, list(arguments))
    assert done.exit_code == (1 if fails else 0), done.output
    return done


@pytest.fixture
def job(running: CoordinatorProcess) -> str:
    holders = [part for name in HOLDERS for part in ("--holder", name)]
    numbers = ["--min-contributors", "3", "--max-clients", "9", "--rounds", "2", "--threshold", "3", "--clip", "2"]
    made = _run("job", "create", "--job", "digits", "--purpose", "a test", "--tensor", "w:8x2", *holders, *numbers)
    assert "secagg round watch digits" in made.output
    return "digits"


def test_a_job_is_made_from_a_file(running: CoordinatorProcess) -> None:
    (running.directory / "job.toml").write_text(SAMPLE.read_text())
    made = json.loads(_run("job", "create", "--file", "job.toml", "--json").stdout)
    assert (made["job"], made["state"], made["values"]) == ("mnist", "running", 2080)
    assert json.loads(_run("job", "show", "mnist", "--json").stdout)["tensors"] == made["tensors"]


def test_a_masking_job_is_made_from_options_and_shown_without_key_holders() -> None:
    numbers = ["--min-contributors", "5", "--max-clients", "9", "--value-bits", "18", "--precision", "1e-3"]
    shares = ["--corrupt-fraction", "0.1", "--dropout-fraction", "0.12"]
    described = ["--job", "masked", "--purpose", "a test", "--tensor", "w:8x2", "--protocol", "masking"]
    made = json.loads(_run("job", "create", *described, *numbers, *shares, "--json").stdout)
    assert (made["protocol"], made["state"]) == ("masking", "running")
    assert made["masking"] == {
        "value_bits": 18,
        "precision": 1e-3,
        "corrupt_fraction": 0.1,
        "dropout_fraction": 0.12,
        "sum_bits": 22,
    }
    shown = _run("job", "show", "masked").output
    assert "masking, 18 bits a value, at most 10 % corrupt and 12 % dropped clients, error below 0.001" in shown
    assert "holders" not in shown
    assert "masked" in _run("job", "list").output


def test_a_masking_round_is_open_at_once_and_shown_without_key_holders(running: CoordinatorProcess) -> None:
    text = MASKING_SAMPLE.read_text().replace("open_seconds = 600.0", "open_seconds = 0.5")
    (running.directory / "masking.toml").write_text(text)
    made = json.loads(_run("job", "create", "--file", "masking.toml", "--json").stdout)
    job = made["job"]
    assert (made["protocol"], job) == ("masking", "mnist-masking")
    watched = _run("round", "watch", job, "1", fails=True)
    assert "round 1 aborted" in watched.output
    ended = json.loads(_run("round", "show", job, "1", "--json").stdout)
    assert (ended["protocol"], ended["joined"], ended["shared"], ended["revealed"]) == ("masking", 0, 0, 0)
    assert "holders" not in ended
    assert "0 joined, 0 shared, 0 uploaded" in _run("round", "show", job, "1").output
    assert "Revealed" in _run("round", "list", job).output


def test_jobs_are_listed_and_shown(job: str) -> None:
    assert job in _run("job", "list").output
    assert job in [one["job"] for one in json.loads(_run("job", "list", "--json").stdout)]
    assert "any 3 open" in _run("job", "show", job).output


def test_the_same_name_for_another_job_is_refused(job: str, running: CoordinatorProcess) -> None:
    text = SAMPLE.read_text().replace('job = "mnist"', f'job = "{job}"')
    (running.directory / "other.toml").write_text(text)
    assert (
        "error: there is a job 'digits' with another content"
        in _run("job", "create", "--file", "other.toml", fails=True).output
    )


def test_a_round_that_ends_badly_fails_the_watch(job: str) -> None:
    watched = _run("round", "watch", job, "1", fails=True)
    assert "round 1 aborted" in watched.output
    assert "error: the round was aborted" in watched.output
    lines = _run("round", "watch", job, "1", "--json", fails=True).stdout.splitlines()
    assert json.loads(lines[-1])["phase"] == "aborted"


def test_rounds_are_listed_and_shown(job: str) -> None:
    _run("round", "watch", job, "1", fails=True)
    assert "aborted" in _run("round", "list", job).output
    assert json.loads(_run("round", "list", job, "--json").stdout)[0]["round"] == 1
    assert json.loads(_run("round", "list", job, "--after", "1000", "--json").stdout) == []
    assert "has no round yet" in _run("round", "list", job, "--after", "1000").output
    shown = json.loads(_run("round", "show", job, "1", "--json").stdout)
    assert {one["verdict"] for one in shown["holders"]} == {"unreachable"}
    assert "unreachable" in _run("round", "show", job, "1").output


def test_an_auditor_may_look_and_not_make(job: str, running: CoordinatorProcess) -> None:
    auditor = str(running.deployment.pki.path_of(AUDITOR).relative_to(running.directory))
    assert job in _run("job", "list", "--identity", auditor).output
    (running.directory / "job.toml").write_text(SAMPLE.read_text())
    refused = _run("job", "create", "--file", "job.toml", "--identity", auditor, fails=True)
    assert "may not call" in refused.output


def test_a_clients_certificate_is_refused_before_anything_is_dialled(running: CoordinatorProcess) -> None:
    client = str(running.deployment.pki.path_of(ALICE))
    assert "is for client/alice" in _run("job", "list", "--identity", client, fails=True).output


def test_an_unknown_job_names_the_next_step() -> None:
    assert "`secagg job list` shows" in _run("round", "show", "nobody", fails=True).output


def test_nobody_at_the_address_is_unreachable() -> None:
    assert "coordinator/main is unreachable" in _run("job", "list", "--coordinator", "127.0.0.1:1", fails=True).output
