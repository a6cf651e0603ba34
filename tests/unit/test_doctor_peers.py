"""Who answers at an address: each way in which gRPC would say `UNAVAILABLE` has a name of its own here."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from secagg.doctor.clock import https_check
from secagg.doctor.examination import Examination, run_checks
from secagg.doctor.findings import Finding, Level
from secagg.doctor.identity import ExaminedIdentity
from secagg.doctor.peers import peer_check
from secagg.doctor.ports import port_check
from secagg.party import Party, Role
from tests.doctor_material import NOT_SERVING, QUICK, address_of, examined, grpc_server, listener, own_identity
from tests.live_process import ReservedPort
from tests.pki_material import COORDINATOR, NORTH, Deployment, deployment

EAST = Party(role=Role.KEY_HOLDER, name="east")
PROMPT = Examination(timeout_seconds=0.3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    found = deployment(tmp_path_factory.mktemp("deployment") / "pki")
    for party in (COORDINATOR, NORTH, EAST):
        found.issue(party)
    return found


@pytest.fixture(scope="module")
def own(made: Deployment) -> ExaminedIdentity:
    return own_identity(made, COORDINATOR)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployment(tmp_path_factory.mktemp("foreign") / "pki").issue(NORTH)


def _asked(address: str, own: ExaminedIdentity, examination: Examination = QUICK, target: Party = NORTH) -> Finding:
    (finding,) = run_checks([peer_check(address, target, own, examination)], examination)
    assert finding.subject == f"{target} at {address}"
    assert finding.advice or finding.level is Level.OK
    return finding


def _port(address: str, own: ExaminedIdentity, examination: Examination = QUICK) -> Finding:
    (finding,) = run_checks([port_check(address, own, examination)], examination)
    assert finding.advice or finding.level is Level.OK
    return finding


def test_a_peer_that_serves(made: Deployment, own: ExaminedIdentity) -> None:
    with grpc_server(made.pki.path_of(NORTH)) as address:
        finding = _asked(address, own)
    assert (finding.check, finding.level) == ("peer.serving", Level.OK)


def test_a_peer_that_drains(made: Deployment, own: ExaminedIdentity) -> None:
    with grpc_server(made.pki.path_of(NORTH), status=NOT_SERVING) as address:
        finding = _asked(address, own)
    assert (finding.check, finding.level) == ("peer.not-serving", Level.WARNING)


def test_nothing_listens(own: ExaminedIdentity) -> None:
    port = ReservedPort()
    assert _asked(port.address, own).check == "peer.refused"
    port.release()


def test_a_host_that_nobody_knows(own: ExaminedIdentity) -> None:
    assert _asked("no-such-host.invalid:7444", own).check in {"peer.unknown-host", "peer.timeout"}


def test_a_machine_that_does_not_answer(own: ExaminedIdentity) -> None:
    with listener(backlog=0) as full, ExitStack() as stack:
        # A queue of connections that is full: the system drops whoever comes next.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        finding = _asked(address_of(full), own, PROMPT)
    assert finding.check == "peer.timeout"
    assert "0.3 s" in finding.says


def test_a_process_that_hangs(own: ExaminedIdentity) -> None:
    with listener() as silent:
        assert _asked(address_of(silent), own, PROMPT).check == "peer.silent"


def test_something_that_does_not_speak_tls(own: ExaminedIdentity) -> None:
    with listener() as plain:
        speaker = threading.Thread(target=_say_hello, args=(plain,))
        speaker.start()
        finding = _asked(address_of(plain), own)
        speaker.join(10)
    assert finding.check == "peer.no-tls"


def _say_hello(plain: socket.socket) -> None:
    accepted, _ = plain.accept()
    with accepted:
        accepted.sendall(b"220 mail.example ESMTP ready\r\n" * 20)
        accepted.recv(4096)


def test_a_holder_with_the_certificate_of_another_holder(made: Deployment, own: ExaminedIdentity) -> None:
    with grpc_server(made.pki.path_of(EAST)) as address:
        finding = _asked(address, own)
    assert (finding.check, finding.level) == ("peer.wrong-name", Level.BROKEN)
    assert "key-holder/east answers there" in finding.says


def test_a_holder_of_another_ca_is_a_stranger_even_under_the_right_name(own: ExaminedIdentity, foreign: Path) -> None:
    with grpc_server(foreign) as address:
        finding = _asked(address, own)
    assert (finding.check, finding.level) == ("peer.stranger", Level.BROKEN)
    assert "of another CA" in finding.says


def test_a_holder_whose_certificate_expired(tmp_path: Path) -> None:
    made = deployment(tmp_path / "pki")
    old = Deployment(directory=made.directory, at=made.at - timedelta(days=40)).issue(NORTH, days=30)
    with grpc_server(old) as address:
        finding = _asked(address, own_identity(made, COORDINATOR))
    assert finding.check == "peer.expired"
    assert "secagg pki renew key-holder north" in finding.advice


def test_a_holder_whose_certificate_was_revoked(tmp_path: Path) -> None:
    made = deployment(tmp_path / "pki")
    revoked = shutil.copytree(made.issue(NORTH), tmp_path / "revoked")
    made.pki.revoke(NORTH, at=made.at)
    with grpc_server(Path(revoked)) as address:
        assert _asked(address, own_identity(made, COORDINATOR)).check == "peer.revoked"


def test_a_holder_that_trusts_another_ca_refuses_us(made: Deployment, own: ExaminedIdentity, foreign: Path) -> None:
    with grpc_server(made.pki.path_of(NORTH), trusts=foreign) as address:
        finding = _asked(address, own)
    assert (finding.check, finding.level) == ("peer.no-answer", Level.BROKEN)
    assert "ca.pem" in finding.advice


def test_a_peer_is_looked_at_and_not_asked_with_a_certificate_that_does_not_hold(made: Deployment) -> None:
    directory = made.directory.parent / "open"
    shutil.copytree(made.pki.path_of(COORDINATOR), directory)
    (directory / "key.pem").chmod(0o644)
    broken, _ = examined(directory, COORDINATOR)
    with grpc_server(made.pki.path_of(NORTH)) as address:
        assert _asked(address, broken).check == "peer.not-asked"


def test_without_a_ca_nobody_is_believed(made: Deployment, own: ExaminedIdentity) -> None:
    blind = ExaminedIdentity(paths=own.paths, at=own.at)
    with grpc_server(made.pki.path_of(NORTH)) as address:
        assert _asked(address, blind).level is Level.BROKEN


# Ports


@pytest.fixture
def ours(made: Deployment) -> Iterator[str]:
    with grpc_server(made.pki.path_of(COORDINATOR)) as address:
        yield address


def test_a_free_port_and_looking_does_not_take_it(own: ExaminedIdentity) -> None:
    port = ReservedPort()
    assert _port(port.address, own).check == "port.free"
    assert _port(port.address, own).check == "port.free"
    port.release()


def test_a_port_in_use_by_this_very_party(ours: str, own: ExaminedIdentity) -> None:
    finding = _port(ours, own)
    assert (finding.check, finding.level) == ("port.ours", Level.OK)


def test_a_port_of_this_very_party_that_drains(made: Deployment, own: ExaminedIdentity) -> None:
    with grpc_server(made.pki.path_of(COORDINATOR), status=NOT_SERVING) as address:
        finding = _port(address, own)
    assert (finding.check, finding.level) == ("port.not-serving", Level.WARNING)


def test_without_a_certificate_nobody_can_tell_whose_port_it_is(ours: str, own: ExaminedIdentity) -> None:
    assert _port(ours, ExaminedIdentity(paths=own.paths, at=own.at)).check == "port.unknown"


def test_a_service_that_listens_everywhere_is_asked_on_loopback(ours: str, own: ExaminedIdentity) -> None:
    port = ours.rpartition(":")[2]
    assert _port(f"0.0.0.0:{port}", own).check == "port.ours"


def test_a_port_in_use_by_a_stranger(own: ExaminedIdentity) -> None:
    with listener() as stranger:
        finding = _port(address_of(stranger), own, PROMPT)
    assert (finding.check, finding.level) == ("port.stranger", Level.BROKEN)
    assert "ss -ltnp" in finding.advice


def test_a_port_in_use_by_another_party_of_the_deployment(made: Deployment, own: ExaminedIdentity) -> None:
    with grpc_server(made.pki.path_of(NORTH)) as address:
        finding = _port(address, own)
    assert finding.check == "port.stranger"
    assert "key-holder/north" in finding.says


def test_a_service_that_still_shows_the_certificate_of_yesterday(tmp_path: Path) -> None:
    made = deployment(tmp_path / "pki")
    with grpc_server(made.issue(COORDINATOR)) as address:
        renewed = shutil.copytree(made.pki.path_of(COORDINATOR), tmp_path / "renewed")
        made.issue(COORDINATOR, force=True)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(made.pki.path_of(COORDINATOR) / name, renewed)
        own, _ = examined(Path(renewed), COORDINATOR)
        finding = _port(address, own)
    assert (finding.check, finding.level) == ("port.old-certificate", Level.WARNING)


def test_an_address_of_another_machine(own: ExaminedIdentity) -> None:
    # 192.0.2.0/24 belongs to nobody (RFC 5737).
    finding = _port("192.0.2.1:7443", own)
    assert (finding.check, finding.level) == ("port.no-address", Level.BROKEN)


def test_a_clock_that_cannot_be_asked_is_a_warning(own: ExaminedIdentity) -> None:
    with listener() as silent:
        (finding,) = run_checks([https_check(address_of(silent), own, PROMPT)], PROMPT)
    assert (finding.check, finding.level) == ("clock.no-answer", Level.WARNING)
