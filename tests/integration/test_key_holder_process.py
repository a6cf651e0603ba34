"""`secagg key-holder serve` as a process: it starts, drains on SIGTERM, and says in two lines why it does not start."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secagg.party import Party, Role
from tests.pki_material import Deployment, deployment

SECONDS = 30.0
NORTH = Party(role=Role.KEY_HOLDER, name="north")
PASSPHRASE = "correct horse battery"
PROGRAM = "from secagg.cli.key_holder import app; app()"


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki")


def configured(made: Deployment, tmp_path: Path, *, extra: str = "") -> Path:
    identity = made.identity(NORTH).paths.certificate.parent
    path = tmp_path / "key-holder.toml"
    path.write_text(f'listen = "127.0.0.1:0"\nidentity = "{identity}"\ndata_dir = "data"\n{extra}')
    return path


@pytest.fixture
def run() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(config: Path, *, passphrase: str = PASSPHRASE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--config", str(config)],
        env={**os.environ, "SECAGG_KEY_HOLDER_SEALING__PASSPHRASE": passphrase},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_key_holder_starts_and_drains(made: Deployment, tmp_path: Path, run: list[subprocess.Popen[str]]) -> None:
    process = start(configured(made, tmp_path))
    run.append(process)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "key holder ready":
            break
    assert lines[-1]["party"] == "key-holder/north"
    assert lines[-1]["port"] > 0
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()] == ["key holder draining", "key holder stopped"]
    assert "horse" not in str(lines) + rest


@pytest.mark.parametrize(
    ("extra", "passphrase", "told"),
    [
        ('listen_on = "x"\n', PASSPHRASE, "listen_on"),
        ("", "short", "too short"),
        ('metrics_listen = "nowhere"\n', PASSPHRASE, "metrics_listen"),
    ],
)
def test_what_keeps_it_from_starting_is_told(
    made: Deployment, tmp_path: Path, run: list[subprocess.Popen[str]], extra: str, passphrase: str, told: str
) -> None:
    process = start(configured(made, tmp_path, extra=extra), passphrase=passphrase)
    run.append(process)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert told in errors
    assert "next step:" in errors
    assert "Traceback" not in errors
    assert PASSPHRASE not in errors
