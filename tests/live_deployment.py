"""A whole deployment of real processes for tests: real certificates, mutual TLS, SQLite, TenSEAL at the clients.

One stands for all tests of a module; `heal` gives each test all its services in good health. Each test makes jobs of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio

from secagg.client import AsyncClient, RoundResult
from secagg.identity import Party, Role
from secagg.ids import HolderId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.operator import AsyncOperatorClient
from secagg.plan import JobSpec
from secagg.transport import TlsIdentity, open_channel
from tests.live_jobs import HOLDERS, error_bound, largest_error, updates_of, weights_of
from tests.live_process import LiveProcess, ReservedPort
from tests.pki_material import deployment as make_authority
from tests.round_cluster import ScriptedClient

HONEST = ("secagg.cli.main", "key-holder", "serve", "--config")
COORDINATOR = Party(role=Role.COORDINATOR, name="coordinator")
OPERATOR = Party(role=Role.OPERATOR, name="olga")
ROUND_SECONDS = 60.0

Outcome = RoundResult | BaseException


class LiveDeployment:
    """Processes and certificates; `close` ends all of them.

    Args:
        directory: private to this deployment.
        holder_command: what runs a key holder, as ``python -m`` has it; the path of a configuration comes last.
        log_level: how much the services log.
        holders: the key holders; none for masking jobs alone.
        coordinators: more than one share what ``settings`` of each say; clients know the addresses of ``called``.
    """

    def __init__(
        self,
        directory: Path,
        holder_command: Sequence[str] = HONEST,
        *,
        log_level: str = "info",
        holders: Sequence[HolderId] = HOLDERS,
        coordinators: Sequence[str] = (COORDINATOR.name,),
    ) -> None:
        self.directory = directory
        self._log_level = log_level
        self._holder_command = holder_command
        self.holders = tuple(holders)
        self.authority = make_authority(directory / "pki")
        self.coordinators = tuple(coordinators)
        self.called = self.coordinators
        self.settings: dict[str, dict[str, str]] = {name: {} for name in self.coordinators}
        metrics = [_metrics_of(name) for name in self.coordinators]
        self.ports = {name: ReservedPort() for name in (*self.holders, *self.coordinators, *metrics)}
        self.addresses: dict[str, str] = {name: self.ports[name].address for name in self.holders}
        self.services: dict[str, LiveProcess] = {}
        self._channels: list[grpc.aio.Channel] = []
        self._clients: list[AsyncClient] = []
        self._operators: list[AsyncOperatorClient] = []
        self._shown: dict[str, int] = {}

    @property
    def coordinator(self) -> LiveProcess:
        return self.services["coordinator"]

    @property
    def address(self) -> str:
        return self.ports["coordinator"].address

    @property
    def called_addresses(self) -> list[str]:
        """Where clients and operators look for a coordinator."""
        return [self.ports[name].address for name in self.called]

    def start(self) -> None:
        """Start everything at once; return when all of it serves."""
        for holder in self.holders:
            self.add_holder(holder)
        for name in self.coordinators:
            self.add_coordinator(name)
        self.start_services(self.services)

    def add_holder(self, name: HolderId) -> None:
        """Make a key holder's process, to be started."""
        self._add(name, [*self._holder_command, str(self.holder_config(name))])

    def add_coordinator(self, name: str) -> None:
        """Make a coordinator's process, to be started."""
        config = str(self.coordinator_config(name))
        self._add(name, ["secagg.cli.main", "coordinator", "serve", "--config", config])

    def _add(self, name: str, arguments: list[str]) -> None:
        log = self.directory / f"{name}.log"
        self.services[name] = LiveProcess(name=name, arguments=arguments, log=log)

    def start_services(self, names: Iterable[str]) -> None:
        """Start these together, which is faster on two cores than one after another."""
        chosen = [self.services[name] for name in names]
        for service in chosen:
            service.start()
        for service in chosen:
            service.wait_until_ready()

    def heal(self) -> None:
        """Wake what is frozen and start what is dead, and then the coordinator anew, which is slow to find the risen."""
        for service in self.services.values():
            if service.frozen:
                service.thaw()
        dead = [name for name in self.holders if not self.services[name].running]
        if dead:
            self.coordinator.end()
            self.start_services(dead)
        if not self.coordinator.running:
            self.start_services(["coordinator"])

    def close(self) -> None:
        """End every process and let go of the ports."""
        for service in self.services.values():
            service.ask_to_end()
        for service in self.services.values():
            service.end()
        for port in self.ports.values():
            port.release()

    def new_log_text(self) -> str:
        """Return what every service logged since this was asked last."""
        parts = []
        for name, service in self.services.items():
            text = service.text(whole=True)
            parts.append(f"== {name}\n{text[self._shown.get(name, 0) :]}")
            self._shown[name] = len(text)
        return "\n".join(parts)

    def path(self, role: Role, name: str) -> Path:
        """Return the directory of a certificate, issued when it is first asked for."""
        party = Party(role=role, name=name)
        directory = self.authority.pki.path_of(party)
        return directory if directory.exists() else self.authority.issue(party)

    def identity(self, role: Role, name: str) -> TlsIdentity:
        return TlsIdentity.load(self.path(role, name), at=datetime.now(UTC))

    def holder_config(self, name: str, **changes: str) -> Path:
        lines = {
            "listen": f'"{self.ports[name].address}"',
            "identity": f'"{self.path(Role.KEY_HOLDER, name)}"',
            "data_dir": f'"{self.directory / name}"',
            "grace_seconds": "1",
            "sealing.passphrase": '"correct horse battery staple"',
            "policy.holders": f"{[*self.holders]}",
            "policy.min_holders": "4",
            "policy.min_threshold": "3",
            "log.level": f'"{self._log_level}"',
            **changes,
        }
        return self._write(name, lines)

    def coordinator_config(self, name: str = COORDINATOR.name, **changes: str) -> Path:
        lines = {
            "listen": f'"{self.ports[name].address}"',
            "metrics_listen": f'"{self.ports[_metrics_of(name)].address}"',
            # Of several, all show the same name.
            "identity": f'"{self.path(Role.COORDINATOR, COORDINATOR.name)}"',
            "data_dir": f'"{self.directory / name}"',
            "grace_seconds": "0.2",
            "log.level": f'"{self._log_level}"',
            **{f"key_holders.{name}": f'"{address}"' for name, address in self.addresses.items()},
            **self.settings[name],
            **changes,
        }
        return self._write(name, lines)

    def client_config(self, name: str, *, role: Role = Role.CLIENT, **changes: str) -> Path:
        lines = {
            "identity": f'"{self.path(role, name)}"',
            "spool_dir": f'"{self.spool(name)}"',
            "coordinator.address": _toml_of(self.called_addresses),
            "coordinator.name": f'"{COORDINATOR.name}"',
            "policy.holders": f"{[*self.holders]}",
            "policy.min_contributors": "2",
            **changes,
        }
        return self._write(f"{role}-{name}", lines)

    def _write(self, name: str, lines: Mapping[str, str]) -> Path:
        path = self.directory / f"{name}.toml"
        path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        return path

    def spool(self, name: str) -> Path:
        """Return the directory in which a client's ciphertexts wait."""
        return self.directory / "spools" / name

    def client(self, name: str, *, role: Role = Role.CLIENT) -> AsyncClient:
        """Return a client of the SDK; `hang_up` closes it."""
        made = AsyncClient.from_config(self.client_config(name, role=role))
        self._clients.append(made)
        return made

    def channel(self, identity: TlsIdentity) -> grpc.aio.Channel:
        made = open_channel(self.address, identity, target=COORDINATOR)
        self._channels.append(made)
        return made

    def scripted(self, name: str, *, signing_as: TlsIdentity | None = None) -> ScriptedClient:
        """Return a client that does each step when the test says so, and whatever else the test wants."""
        return ScriptedClient(self, self.identity(Role.CLIENT, name))  # type: ignore[arg-type]

    def operator(self, role: Role = Role.OPERATOR, name: str = OPERATOR.name) -> AsyncOperatorClient:
        made = AsyncOperatorClient(self.called_addresses, self.identity(role, name), coordinator=COORDINATOR)
        self._operators.append(made)
        return made

    async def hang_up(self) -> None:
        """Close every connection that a test opened."""
        for one in (*self._clients, *self._operators, *self._channels):
            await one.close()
        self._clients.clear()
        self._operators.clear()
        self._channels.clear()

    async def create(self, spec: JobSpec) -> JobSpec:
        await self.operator().create_job(spec)
        return spec

    async def reached(self, spec: JobSpec, *phases: Phase, round: int = 1) -> RoundStatus:
        """Watch a job until its round of that number is in one of the phases, or ended."""
        operator = self.operator()
        async with asyncio.timeout(ROUND_SECONDS):
            async for status in operator.watch_rounds(spec.job, RoundNumber(0)):
                if status.round > round:
                    break
                if status.round == round and (status.phase in phases or status.phase.ended):
                    return status
        return await operator.get_round(spec.job, RoundNumber(round))

    async def ended(self, spec: JobSpec, round: int = 1) -> RoundStatus:
        return await self.reached(spec, round=round)

    async def published(self, spec: JobSpec, names: Iterable[str], *, after: int = 0) -> RoundStatus:
        """Let honest clients take part in the next round, and hold the mean of all of them against plain averaging."""
        results = await self.take_part(spec, names, after=after)
        weights, updates = weights_of(results), updates_of(spec, results)
        for result in results.values():
            assert isinstance(result, RoundResult), repr(result)
            assert result.contributors == tuple(sorted(results))
            assert largest_error(result.mean, updates.values(), weights.values()) < error_bound(spec, weights)
        return await self.ended(spec, after + 1)

    async def take_part(
        self, spec: JobSpec, names: Iterable[str], *, after: int = 0, seconds: float = ROUND_SECONDS
    ) -> dict[str, Outcome]:
        """Let clients of the SDK take part at once; return what each of them got, errors included."""
        chosen = list(names)
        updates, weights = updates_of(spec, chosen), weights_of(chosen)
        async with asyncio.timeout(seconds):
            outcomes = await asyncio.gather(
                *(
                    self.client(name).participate(spec.job, updates[name], weights[name], after_round=after)
                    for name in chosen
                ),
                return_exceptions=True,
            )
        return dict(zip(chosen, outcomes, strict=True))


def _toml_of(addresses: Sequence[str]) -> str:
    return f'"{addresses[0]}"' if len(addresses) == 1 else f"{[*addresses]}"


def _metrics_of(coordinator: str) -> str:
    return "metrics" if coordinator == COORDINATOR.name else f"metrics-{coordinator}"


@asynccontextmanager
async def visited(deployment: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    """Lend a deployment to one test, in good health; what was logged meanwhile is shown when the test fails."""
    deployment.heal()
    deployment.new_log_text()
    try:
        yield deployment
    finally:
        await deployment.hang_up()
        print(deployment.new_log_text())
