"""`secagg doctor` beside real processes: a coordinator, its key holders, and those who call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from secagg.ids import HolderId
from secagg.party import Role
from tests.coordinator_process import CoordinatorProcess
from tests.holder_processes import THREE_HOLDERS, HolderProcesses, running
from tests.pki_material import ALICE, COORDINATOR, OPERATOR

LIMIT_SECONDS = 90.0
NORTH, EAST, SOUTH = THREE_HOLDERS
SECRETS = ("he.key_share", "he.keygen", "he.partial", "tenseal", "secagg.client", "secagg.key_holder")
EXAMINE = """
import json, sys
from pathlib import Path
from coordinator.doctor import examine
from secagg.doctor.examination import Examination
found = examine(Path(sys.argv[1]), Examination())
print(json.dumps({"checks": [one.check for one in found], "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def own_holders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderProcesses]:
    with running(tmp_path_factory.mktemp("doctor"), THREE_HOLDERS) as made:
        yield made


@pytest.fixture(scope="module")
def coordinator(own_holders: HolderProcesses) -> Iterator[CoordinatorProcess]:
    made = CoordinatorProcess(directory=own_holders.directory, deployment=own_holders.made)
    made.write_config()
    _write_holders(made, own_holders.addresses)
    made.start()
    yield made
    made.kill()


def _write_holders(made: CoordinatorProcess, addresses: dict[HolderId, str], name: str = "coordinator.toml") -> Path:
    head = made.config.read_text().partition("[key_holders]")[0]
    path = made.directory / name
    path.write_text(head + "[key_holders]\n" + "".join(f'{name} = "{at}"\n' for name, at in addresses.items()))
    path.chmod(0o600)
    return path


def _doctor(*arguments: object) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Run it as a person would; return the exit code, and the findings by their subjects."""
    command = [sys.executable, "-m", "secagg.cli.main", "doctor", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert not done.stderr, done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    found: dict[str, list[dict[str, Any]]] = {}
    for one in report["findings"]:
        found.setdefault(one["subject"], []).append(one)
    return done.returncode, found


def _checks(found: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {one["check"] for findings in found.values() for one in findings}


def _peer(found: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    (finding,) = [
        one for subject, findings in found.items() if subject.startswith(f"key-holder/{name} ") for one in findings
    ]
    return finding


def test_all_is_well_beside_a_running_coordinator_and_stays_so(
    coordinator: CoordinatorProcess, own_holders: HolderProcesses
) -> None:
    before = {path.name for path in (coordinator.directory / "data").iterdir()}
    code, found = _doctor("--config", coordinator.config, "--clock-from", f"localhost:{coordinator.metrics_port}")
    assert code == 0, found
    assert found[f"127.0.0.1:{coordinator.port}"][0]["check"] == "port.ours"
    assert found[f"127.0.0.1:{coordinator.metrics_port}"][0]["check"] == "port.ours"
    assert found[f"localhost:{coordinator.metrics_port}"][0]["check"] == "clock.agrees"
    assert {_peer(found, name)["check"] for name in own_holders.names} == {"peer.serving"}
    assert {"store.schema-current", "store.writable", "blobs.usable"} <= _checks(found)
    assert {path.name for path in (coordinator.directory / "data").iterdir()} == before
    assert not list((coordinator.directory / "data" / "blobs").glob("doctor-*"))
    assert coordinator.health() == health_pb2.HealthCheckResponse.SERVING


def test_a_key_holder_examines_itself_while_it_runs(own_holders: HolderProcesses) -> None:
    code, found = _doctor("--config", own_holders.directory / f"{NORTH}.toml")
    assert code == 0, found
    assert found[own_holders.addresses[NORTH]][0]["check"] == "port.ours"
    assert {"store.schema-current", "store.newest-copy", "sealing.key-file"} <= _checks(found)


@pytest.mark.parametrize("party", [ALICE, OPERATOR])
def test_a_caller_reaches_the_coordinator(coordinator: CoordinatorProcess, party: Any, tmp_path: Path) -> None:
    coordinator.deployment.identity(party)
    policy = '[policy]\nprotocols = ["masking"]\n' if party.role is Role.CLIENT else ""
    config = tmp_path / "caller.toml"
    config.write_text(
        f'identity = "{coordinator.deployment.pki.path_of(party)}"\n{policy}'
        f'[coordinator]\naddress = "127.0.0.1:{coordinator.port}"\nname = "{COORDINATOR.name}"\n'
    )
    code, found = _doctor("--config", config)
    assert code == 0, found
    assert "peer.serving" in _checks(found)


def test_holders_under_each_others_names_are_told_apart(
    coordinator: CoordinatorProcess, own_holders: HolderProcesses
) -> None:
    at = own_holders.addresses
    config = _write_holders(coordinator, {NORTH: at[EAST], EAST: at[NORTH], SOUTH: at[SOUTH]}, "swapped.toml")
    code, found = _doctor("--config", config)
    assert code == 2
    assert _peer(found, NORTH)["check"] == "peer.wrong-name"
    assert f"key-holder/{EAST} answers there" in _peer(found, NORTH)["message"]
    assert _peer(found, SOUTH)["check"] == "peer.serving"


def test_a_holder_that_takes_the_coordinator_for_a_revoked_one_says_so(
    coordinator: CoordinatorProcess, tmp_path: Path
) -> None:
    # The holder read its list at its start; the coordinator's certificate was replaced before, and an old copy is used.
    from tests.pki_material import deployment

    made = deployment(tmp_path / "pki")
    old = made.issue(COORDINATOR)
    kept = {name: (old / name).read_bytes() for name in ("cert.pem", "key.pem", "crl.pem")}
    made.issue(COORDINATOR, force=True)
    with running(tmp_path, [NORTH], made=made) as holders:
        for name, content in kept.items():
            (old / name).write_bytes(content)
        config = tmp_path / "coordinator.toml"
        addresses = "".join(f'{name} = "{holders.addresses[NORTH]}"\n' for name in THREE_HOLDERS)
        config.write_text(f'identity = "{old}"\ndata_dir = "data"\n[key_holders]\n{addresses}')
        code, found = _doctor("--config", config)
    assert code == 2
    assert _peer(found, NORTH)["check"] == "peer.refuses-us"
    assert "revoked" in _peer(found, NORTH)["message"]


def test_the_coordinators_examination_stays_on_its_side_of_the_wall(coordinator: CoordinatorProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXAMINE, coordinator.config],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    found = json.loads(done.stdout)
    assert "peer.serving" in found["checks"]
    assert not [name for name in found["modules"] if any(name == one or name.startswith(f"{one}.") for one in SECRETS)]


def test_a_holder_that_is_down(coordinator: CoordinatorProcess, own_holders: HolderProcesses) -> None:
    own_holders.household.kill(SOUTH)
    code, found = _doctor("--config", coordinator.config)
    assert code == 2
    assert _peer(found, SOUTH)["check"] == "peer.refused"
    assert _peer(found, SOUTH)["advice"].startswith("Start the service")
    assert _peer(found, NORTH)["check"] == "peer.serving"


def test_a_coordinator_that_was_killed_is_examined_as_it_lies(coordinator: CoordinatorProcess) -> None:
    coordinator.kill()
    _, found = _doctor("--config", coordinator.config)
    assert found[f"127.0.0.1:{coordinator.port}"][0]["check"] == "port.free"
    assert {"store.schema-current", "store.writable", "blobs.usable"} <= _checks(found)
