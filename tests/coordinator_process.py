"""A real coordinator process with real certificates, for tests."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from secagg.demo.processes import free_port
from secagg.party import Party
from secagg.transport import open_sync_channel
from tests.job_material import HOLDERS
from tests.pki_material import COORDINATOR, OPERATOR, Deployment, deployment

READY_SECONDS = 30.0
END_SECONDS = 30.0


@dataclass
class CoordinatorProcess:
    """Writes a configuration, starts ``secagg coordinator serve`` with it, and ends it."""

    directory: Path
    deployment: Deployment
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None

    @property
    def config(self) -> Path:
        return self.directory / "coordinator.toml"

    @property
    def log(self) -> Path:
        return self.directory / "coordinator.log"

    def write_config(self, *, first_lines: str = "", holder_port: int = 1, grace_seconds: float = 1) -> Path:
        # Nobody listens on port 1: these tests show what a coordinator does without key holders.
        addresses = "\n".join(f'{name} = "127.0.0.1:{holder_port}"' for name in HOLDERS)
        self.deployment.identity(COORDINATOR)
        self.config.write_text(
            f'listen = "127.0.0.1:{self.port}"\nmetrics_listen = "127.0.0.1:{self.metrics_port}"\n'
            f'identity = "{self.deployment.pki.path_of(COORDINATOR)}"\ndata_dir = "data"\ngrace_seconds = {grace_seconds}\n'
            f"{first_lines}\n[key_holders]\n{addresses}\n"
        )
        return self.config

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "secagg.cli.main", "coordinator", "serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.wait_until_serving()

    def run_to_its_end(self) -> "subprocess.CompletedProcess[str]":
        """Start a coordinator that is expected to refuse."""
        return subprocess.run(
            [sys.executable, "-m", "secagg.cli.main", "coordinator", "serve", "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=END_SECONDS,
            check=False,
        )

    def channel(self, party: Party = OPERATOR) -> grpc.Channel:
        return open_sync_channel(f"127.0.0.1:{self.port}", self.deployment.identity(party), target=COORDINATOR)

    def health(self, party: Party = OPERATOR, *, timeout_seconds: float = 5.0) -> int:
        with self.channel(party) as channel:
            request = health_pb2.HealthCheckRequest(service="")
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_seconds, wait_for_ready=True)
            return int(answer.status)

    def wait_until_serving(self) -> None:
        try:
            assert self.health(timeout_seconds=READY_SECONDS) == health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError:
            raise AssertionError(self.log.read_text()) from None

    def signal(self, number: int) -> int:
        """Send a signal, wait for the end, return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        assert self.process is not None
        self.process.communicate(timeout=END_SECONDS)
        return self.process.returncode

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=END_SECONDS)


def coordinator_process(directory: Path) -> CoordinatorProcess:
    return CoordinatorProcess(directory=directory, deployment=deployment(directory / "pki"))
