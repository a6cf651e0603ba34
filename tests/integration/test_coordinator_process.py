"""A coordinator as a process: who may ask what, how it ends, why it does not start, and what a kill leaves behind."""

import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.access_table import ACCESS
from coordinator.contracts import RoundMove
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg.errors import NotAllowedError, UnreachableError
from secagg.ids import RoundNumber
from secagg.messages.round import Phase
from secagg.operator import OperatorClient
from secagg.transport import error_from_rpc
from secagg.wire.v1 import client_service_pb2, masking_service_pb2, operator_service_pb2
from tests.coordinator_process import CoordinatorProcess, coordinator_process
from tests.job_material import FIRST, JOB, a_job, a_record, an_opening
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, NORTH, OPERATOR

EXIT_FAILED = 1
LIMIT_SECONDS = 30.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    made = coordinator_process(tmp_path)
    made.write_config()
    yield made
    made.kill()


@pytest.fixture
def running(process: CoordinatorProcess) -> CoordinatorProcess:
    process.start()
    return process


def _operator(process: CoordinatorProcess, *, silence_seconds: float = 15.0) -> OperatorClient:
    identity, address = process.deployment.identity(OPERATOR), f"127.0.0.1:{process.port}"
    return OperatorClient(address, identity, coordinator=COORDINATOR, silence_seconds=silence_seconds)


def test_the_table_names_every_method_that_is_served() -> None:
    files = (client_service_pb2, masking_service_pb2, operator_service_pb2, health_pb2, reflection_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    served = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    # List came with a later version of the health service than the oldest that we take.
    assert set(ACCESS) - {"/grpc.health.v1.Health/List"} == served - {"/grpc.health.v1.Health/List"}


@pytest.mark.parametrize("party", [ALICE, OPERATOR, AUDITOR])
def test_callers_may_ask_for_health(running: CoordinatorProcess, party: object) -> None:
    assert running.health(party) == health_pb2.HealthCheckResponse.SERVING  # type: ignore[arg-type]


def test_a_key_holder_never_dials(running: CoordinatorProcess) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        running.health(NORTH)
    assert isinstance(error_from_rpc(caught.value), NotAllowedError)


def test_reflection_lists_the_services(running: CoordinatorProcess) -> None:
    with running.channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(iter(stub.ServerReflectionInfo(iter([asked]), timeout=10)))
    names = {service.name for service in answer.list_services_response.service}
    assert {"secagg.wire.v1.ClientService", "secagg.wire.v1.OperatorService", "grpc.health.v1.Health"} <= names


def test_metrics_are_for_operators(running: CoordinatorProcess) -> None:
    paths = running.deployment.identity(OPERATOR).paths
    context = ssl.create_default_context(cafile=str(paths.authority))
    context.load_cert_chain(paths.certificate, paths.private_key)
    with urllib.request.urlopen(
        f"https://localhost:{running.metrics_port}/metrics", context=context, timeout=10
    ) as found:
        text = found.read().decode()
    assert "process_resident_memory_bytes" in text
    assert "secagg_rounds" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(running: CoordinatorProcess, number: int) -> None:
    with _operator(running) as operator:
        operator.create_job(a_job())
        assert running.signal(number) == 0
    log = running.log.read_text()
    assert "coordinator draining" in log
    assert "coordinator stopped" in log
    assert "Traceback" not in log


def test_a_draining_coordinator_says_so_and_a_second_signal_ends_the_wait(process: CoordinatorProcess) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        # Its round hangs on key holders that never answer, so that only the second signal ends it in time.
        process.write_config(holder_port=silent.getsockname()[1], grace_seconds=600)
        process.start()
        with _operator(process) as operator:
            operator.create_job(a_job())
            assert next(operator.watch_rounds(JOB, RoundNumber(0))).phase is Phase.KEYING
        assert process.process is not None
        process.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: process.health() == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert process.signal(signal.SIGTERM) == 0
    store = SqlRoundStore(f"sqlite:///{process.directory / 'data' / 'coordinator.db'}")
    last = store.last_round(JOB)
    store.close()
    assert last is not None
    # It is left as it stands, to be gone on with.
    assert (last.status.round, last.status.phase) == (1, Phase.KEYING)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline


def test_a_watch_ends_with_the_coordinator(running: CoordinatorProcess) -> None:
    with _operator(running, silence_seconds=0.5) as operator:
        operator.create_job(a_job())
        watching = operator.watch_rounds(JOB, RoundNumber(0))
        next(watching)
        began = time.monotonic()
        assert running.signal(signal.SIGTERM) == 0
        assert time.monotonic() - began < LIMIT_SECONDS
        # The job has not ended: who watches is not told so.
        with pytest.raises(UnreachableError):
            list(watching)


def test_a_job_outlives_a_kill(running: CoordinatorProcess) -> None:
    with _operator(running) as operator:
        made = operator.create_job(a_job())
    running.kill()
    running.start()
    with _operator(running) as operator:
        assert operator.get_job(JOB).spec == made.spec
        assert operator.get_job(JOB).created_at == made.created_at


def test_a_round_without_its_events_is_aborted_and_what_it_left_behind_is_gone(process: CoordinatorProcess) -> None:
    """So it is with a round that a version of before 2026-11 left unfinished."""
    data = process.directory / "data"
    blobs = DirectoryBlobStore(data / "blobs")
    blobs.write(f"uploads/{JOB}/2/alice", [b"half"])
    blobs.write(f"uploads/{JOB}/1/alice", [b"whole"])
    blobs.write(f"means/{JOB}/1", [b"mean"])
    store = SqlRoundStore(f"sqlite:///{data / 'coordinator.db'}")
    now = time.time()
    store.create_job(a_job(), now)
    for number, phase in ((1, Phase.PUBLISHED), (2, Phase.UPLOADING)):
        store.open_round(an_opening(round=number, at=now))
        record = a_record(phase, round=RoundNumber(number), phase_started={Phase.KEYING: now, phase: now})
        store.advance_round(RoundMove(job=JOB, round=RoundNumber(number), at=now, record=record))
    store.close()
    process.start()
    with _operator(process) as operator:
        published, aborted = list(operator.rounds(JOB))[:2]
    process.kill()
    assert published.phase is Phase.PUBLISHED
    assert aborted.phase is Phase.ABORTED
    assert "it could not be read back: its 0 events lead to phase keying, not uploading" in aborted.reason
    assert blobs.names("") == [f"means/{JOB}/1"]
    store = SqlRoundStore(f"sqlite:///{data / 'coordinator.db'}")
    assert store.round(JOB, FIRST) == a_record(phase_started={Phase.KEYING: now, Phase.PUBLISHED: now})
    assert "round-aborted" in [event.event for event in store.events(JOB, RoundNumber(2))]
    store.close()


def _refusal(process: CoordinatorProcess) -> str:
    done = process.run_to_its_end()
    assert done.returncode == EXIT_FAILED
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "next step: "))]
    assert len(lines) == 2, done.stderr
    return lines[0]


def test_a_port_in_use_is_one_clear_line(process: CoordinatorProcess) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", process.port))
        other.listen()
        assert f"127.0.0.1:{process.port} is in use" in _refusal(process)


def test_two_coordinators_never_share_a_data_directory(running: CoordinatorProcess) -> None:
    assert "another coordinator uses" in _refusal(running)


def test_a_certificate_of_another_role_is_one_clear_line(process: CoordinatorProcess) -> None:
    process.deployment.identity(OPERATOR)
    wrong = process.config.read_text().replace("coordinator/main", "operator/olga")
    process.config.write_text(wrong)
    assert "is for operator/olga, not for a coordinator" in _refusal(process)


def test_a_revoked_certificate_is_one_clear_line(process: CoordinatorProcess) -> None:
    process.deployment.pki.revoke(COORDINATOR, at=process.deployment.at)
    assert "revoked" in _refusal(process)


def test_an_unknown_key_is_one_clear_line(process: CoordinatorProcess) -> None:
    process.write_config(first_lines="lissten = 1")
    assert "coordinator.toml: lissten is not a setting" in _refusal(process)


def test_a_missing_file_is_one_clear_line(process: CoordinatorProcess) -> None:
    process.config.unlink()
    assert "cannot be read" in _refusal(process)
