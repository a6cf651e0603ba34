"""`secagg doctor` as a person and as a script use it: whose file it is, what is printed, and the exit code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from secagg.cli.main import app
from secagg.doctor.examination import Examination
from secagg.doctor.findings import Report, warning
from secagg.doctor.roles import detected_role, report_of
from secagg.errors import ConfigError
from secagg.ids import Digest
from secagg.key_holder.config import load_key_holder_settings
from secagg.key_holder.store import HolderStore
from secagg.party import Role
from tests.live_process import ReservedPort
from tests.pki_material import ALICE, COORDINATOR, NORTH, Deployment, deployment

SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"
SECRET = "a passphrase that nobody may read"
RUNNER = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.chdir(tmp_path)
    return deployment(tmp_path / "pki")


def _holder_config(made: Deployment, *, first_lines: str = "", sealing: str = 'passphrase = "SECRET"') -> Path:
    port = ReservedPort()
    path = made.directory.parent / "key-holder.toml"
    path.write_text(
        f'listen = "{port.address}"\nidentity = "{made.issue(NORTH)}"\ndata_dir = "data"\n{first_lines}\n'
        f"[sealing]\n{sealing.replace('SECRET', SECRET)}\n"
    )
    path.chmod(0o600)
    port.release()
    return path


def _masking_coordinator(made: Deployment, *, first_lines: str = "") -> Path:
    port = ReservedPort()
    path = made.directory.parent / "coordinator.toml"
    path.write_text(
        f'listen = "{port.address}"\nidentity = "{made.issue(COORDINATOR)}"\ndata_dir = "data"\n{first_lines}\n'
        "[limits]\nspool_bytes = 1048576\n"
    )
    port.release()
    return path


def _run(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["doctor", "--timeout", "1", *arguments])


def _json(*arguments: str) -> dict[str, object]:
    done = _run(*arguments, "--json")
    found: dict[str, object] = json.loads(done.stdout)
    return found


# Whose configuration


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("coordinator", Role.COORDINATOR),
        ("key-holder", Role.KEY_HOLDER),
        ("client", Role.CLIENT),
        ("operator", Role.OPERATOR),
    ],
)
def test_every_sample_tells_whose_it_is(name: str, role: Role) -> None:
    assert detected_role(SAMPLES / f"{name}.toml") is role
    assert report_of(SAMPLES / f"{name}.toml", None, Examination(timeout_seconds=0.5)).role == role


def test_a_file_that_tells_nothing_asks_for_the_role(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('identity = "pki"\n')
    with pytest.raises(ConfigError, match="--role"):
        detected_role(tmp_path / "x.toml")
    done = _run("--config", str(tmp_path / "x.toml"))
    assert done.exit_code == 2
    assert "--role" in done.output


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    done = _run("--config", str(tmp_path / "missing.toml"))
    assert done.exit_code == 2
    assert "missing.toml cannot be read" in done.output


def test_an_unknown_key_is_a_finding_with_the_key_that_was_meant(made: Deployment) -> None:
    done = _run("--config", str(_holder_config(made, first_lines='lissten = "x"')))
    assert done.exit_code == 2
    assert "Did you mean listen?" in done.output


def test_without_a_file_the_usual_names_of_the_directory_count(made: Deployment) -> None:
    done = _run()
    assert done.exit_code == 2
    assert "key-holder.toml" in done.output
    _holder_config(made)
    assert "key-holder: key-holder.toml" in _run().stdout


def test_a_role_alone_reads_the_environment(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECAGG_KEY_HOLDER_IDENTITY", str(made.issue(NORTH)))
    monkeypatch.setenv("SECAGG_KEY_HOLDER_DATA_DIR", "data")
    monkeypatch.setenv("SECAGG_KEY_HOLDER_SEALING__PASSPHRASE", SECRET)
    done = _run("--role", "key-holder")
    assert "key-holder: the environment" in done.stdout
    assert SECRET not in done.output


def test_several_files_are_examined_and_the_worst_counts(made: Deployment) -> None:
    holder, coordinator = _holder_config(made), _masking_coordinator(made, first_lines='metrics_listen = "192.0.2.1:1"')
    found = _json("--config", str(holder), "--config", str(coordinator))
    reports = found["reports"]
    assert isinstance(reports, list)
    assert [(one["role"], one["level"]) for one in reports] == [("key-holder", "warning"), ("coordinator", "broken")]
    assert found["level"] == "broken"


# Exit codes


@pytest.fixture
def with_warnings(made: Deployment) -> Path:
    """Before its first start a key holder has no database, which is worth a warning."""
    return _holder_config(made)


def test_warnings_alone_fail_only_when_strict(with_warnings: Path) -> None:
    assert _run("--config", str(with_warnings)).exit_code == 0
    assert _run("--config", str(with_warnings), "--strict").exit_code == 1


def test_what_is_broken_always_fails(with_warnings: Path, made: Deployment) -> None:
    (made.pki.path_of(NORTH) / "key.pem").chmod(0o644)
    assert _run("--config", str(with_warnings)).exit_code == 2
    assert _run("--config", str(with_warnings), "--strict").exit_code == 2


def test_all_well_is_zero_even_when_strict(made: Deployment) -> None:
    (made.directory.parent / "spool").mkdir(mode=0o700)
    config = _masking_coordinator(made)
    from coordinator.config import load_coordinator_settings
    from coordinator.store.schema import open_database

    (made.directory.parent / "data").mkdir(mode=0o700)
    open_database(load_coordinator_settings(config).resolved_database_url).dispose()
    done = _run("--config", str(config), "--strict")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("wrong", [["--clock-from", "nonsense"], ["--role", "auditor"], ["--timeout", "0"]])
def test_a_wrong_option_is_a_usage_error(with_warnings: Path, wrong: list[str]) -> None:
    assert RUNNER.invoke(app, ["doctor", "--config", str(with_warnings), *wrong]).exit_code == 2


# What is printed


def test_the_json_has_a_form_that_scripts_rely_on(with_warnings: Path) -> None:
    found = _json("--config", str(with_warnings))
    assert set(found) == {"version", "level", "reports"}
    assert found["version"] == 1
    (report,) = found["reports"]  # type: ignore[misc]
    assert set(report) == {"role", "config", "level", "findings"}
    for finding in report["findings"]:
        assert set(finding) == {"check", "level", "subject", "message", "advice"}
        assert re.fullmatch(r"[a-z]+\.[a-z-]+", finding["check"])
        assert finding["level"] in {"ok", "warning", "broken"}
        assert bool(finding["advice"]) == (finding["level"] != "ok")


def test_lines_begin_with_the_level_and_advice_follows(with_warnings: Path) -> None:
    lines = _run("--config", str(with_warnings)).stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if "[store.missing]" in line]
    assert lines[at].startswith("  warning  ")
    assert lines[at + 1].startswith("            Nothing, before the first start")
    assert lines[-1].endswith("1 warnings, 0 broken")
    assert "\x1b" not in "".join(lines)


def test_no_secret_is_printed(made: Deployment, with_warnings: Path) -> None:
    url = f"postgresql://secagg:{SECRET}@127.0.0.1:1/secagg".replace(" ", "-")
    coordinator = _masking_coordinator(made, first_lines=f'database_url = "{url}"')
    key = (made.pki.path_of(NORTH) / "key.pem").read_text().splitlines()[1]
    for form in ([], ["--json"]):
        done = _run("--config", str(with_warnings), "--config", str(coordinator), *form)
        assert "127.0.0.1:1/secagg" in done.output
        assert not [word for word in (SECRET, SECRET.replace(" ", "-"), key) if word in done.output]


def test_a_file_with_a_secret_in_it_is_its_owners_alone(made: Deployment) -> None:
    config = _holder_config(made)
    config.chmod(0o644)
    assert "[config.open]" in _run("--config", str(config)).stdout
    coordinator = _masking_coordinator(made, first_lines='database_url = "postgresql://u:secret@127.0.0.1:1/x"')
    coordinator.chmod(0o644)
    assert "[config.open]" in _run("--config", str(coordinator)).stdout


def test_text_of_others_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from secagg.cli.doctor import _show

    evil = warning("peer.stranger", "x", "it says \x1b[2J\nbroken  all is lost", "a\x07b")
    _show([Report(role="client", config="client.toml", findings=(evil,))])
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\x07"}
    assert len(printed.splitlines()) == 4


# The key holder's own


def test_a_lost_key_file_is_noticed_and_not_replaced(made: Deployment) -> None:
    config = _holder_config(made, sealing='key_file = "seal.key"\ncreate_key_file = true')
    assert "[sealing.not-made]" in _run("--config", str(config)).stdout
    (made.directory.parent / "data").mkdir(mode=0o700)
    (made.directory.parent / "data" / "key-holder.sqlite3").touch()
    done = _run("--config", str(config))
    assert "[sealing.lost]" in done.stdout
    assert done.exit_code == 2
    assert not (made.directory.parent / "seal.key").exists()


def test_a_key_file_that_others_may_read(made: Deployment) -> None:
    config = _holder_config(made, sealing='key_file = "seal.key"')
    (made.directory.parent / "seal.key").write_bytes(bytes(32))
    (made.directory.parent / "seal.key").chmod(0o644)
    assert "others may use the key file" in _run("--config", str(config)).stdout


def test_the_statement_for_the_newest_time_fits_the_holders_tables(made: Deployment) -> None:
    from secagg.key_holder.database import open_database

    config = _holder_config(made)
    open_database(load_key_holder_settings(config).data_dir).dispose()
    done = _run("--config", str(config), "--strict")
    assert "[store.schema-current]" in done.stdout
    assert done.exit_code == 0, done.output


def test_an_old_copy_of_the_ledger_is_noticed_before_the_start(made: Deployment) -> None:
    config = _holder_config(made)
    settings = load_key_holder_settings(config)
    store = HolderStore.open(settings.data_dir, settings.witness)
    store.record_ceremony(Digest(bytes(32)), at=1.0)
    store.close()
    assert "[store.newest-copy]" in _run("--config", str(config), "--strict").stdout
    mark = settings.witness.read()
    assert mark is not None
    settings.witness.write(replace(mark, generation=mark.generation + 3))
    done = _run("--config", str(config))
    assert "[store.old-copy]" in done.stdout
    assert "secagg key-holder restore" in done.stdout
    assert done.exit_code == 2


def test_a_coordinator_among_several_says_where_it_is_found(made: Deployment) -> None:
    lines = 'database_url = "postgresql://127.0.0.1:1/secagg"'
    config = _masking_coordinator(made, first_lines=lines)
    assert "[config.advertise]" not in _run("--config", str(config)).stdout
    everywhere = config.read_text().replace("127.0.0.1:", "0.0.0.0:", 1)
    config.write_text(everywhere)
    assert "[config.advertise]" in _run("--config", str(config)).stdout
    config.write_text(f'advertise = "coordinator.example:7443"\n{everywhere}')
    assert "[config.advertise]" not in _run("--config", str(config)).stdout


# Several coordinators


def test_one_of_several_coordinators_that_is_down_is_a_warning(made: Deployment) -> None:
    from tests.doctor_material import grpc_server

    down = ReservedPort()
    with grpc_server(made.issue(COORDINATOR)) as up:
        config = made.directory.parent / "operator.toml"
        config.write_text(
            f'identity = "{made.issue(ALICE)}"\n[policy]\nholders = []\nprotocols = ["masking"]\n'
            f'[coordinator]\nname = "{COORDINATOR.name}"\naddress = ["{up}", "{down.address}"]\n'
        )
        findings = _json("--config", str(config))["reports"][0]["findings"]  # type: ignore[index]
        levels = {one["check"]: one["level"] for one in findings}
        assert (levels["peer.serving"], levels["peer.refused"]) == ("ok", "warning")
    down.release()
    found = _json("--config", str(config))
    assert found["level"] == "broken"
