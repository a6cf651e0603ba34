"""The coordinator's process: services on one port, from the start to a drained end."""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.access_table import (
    ACCESS,
    CLIENT_SERVICE,
    HEALTH_SERVICE,
    MASKING_SERVICE,
    OPERATOR_SERVICE,
    REFLECTION_SERVICE,
)
from coordinator.client_service import ClientServicer
from coordinator.config import CoordinatorSettings
from coordinator.contracts import Clock
from coordinator.masking_service import MaskingServicer
from coordinator.operator_service import OperatorServicer
from coordinator.periodic_purge import PeriodicPurge
from coordinator.retention import Purger, RetentionRule
from coordinator.rounds.engine import RoundEngine
from coordinator.startup import OpenedResources, open_resources
from coordinator.upload_streams import INCOMING_OPTIONS
from secagg.metrics_server import MetricsServer
from secagg.transport import RoleInterceptor, bind_port, server_options
from secagg.wire.v1.client_service_pb2_grpc import add_ClientServiceServicer_to_server
from secagg.wire.v1.masking_service_pb2_grpc import add_MaskingServiceServicer_to_server
from secagg.wire.v1.operator_service_pb2_grpc import add_OperatorServiceServicer_to_server

LAST_CALLS_SECONDS: Final = 5.0
"""How long calls may go on once every round has ended: they have what they waited for."""
_THREADS: Final = 32
"""For what blocks, the database first of all; uploads and downloads have their own."""
_WATCHED: Final = ("", CLIENT_SERVICE, MASKING_SERVICE, OPERATOR_SERVICE)
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

_log: Final = structlog.get_logger("coordinator.server")


class CoordinatorServer:
    """Everything that one coordinator runs. Make it, and use it, inside a running event loop.

    Args:
        settings: the configuration.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the port is in use, a file is missing, or the configuration does not fit the machine.
        CertificateError: the coordinator's own certificate does not hold.
        StorageError: database or blobs cannot be opened.
    """

    def __init__(self, settings: CoordinatorSettings, *, clock: Clock = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._opened = open_resources(settings, clock)
        try:
            self._assemble(self._opened)
        except BaseException:
            self._opened.close()
            raise

    def _assemble(self, opened: OpenedResources) -> None:
        resources = opened.engine
        self._engine = RoundEngine(resources)
        self._operators = OperatorServicer(resources.store, self._engine, resources.holders, self._clock)
        self._retention = self._periodic_purge(opened)
        self._health = health.aio.HealthServicer()
        roles = RoleInterceptor(
            ACCESS, resources.identity.trust, now=lambda: datetime.fromtimestamp(self._clock(), UTC)
        )
        self._server = grpc.aio.server(
            interceptors=(roles,),
            options=[*server_options(), *INCOMING_OPTIONS],
            # Above what is pushed back with a hint: gRPC's own refusal has none.
            maximum_concurrent_rpcs=resources.limits.waiting_calls + 8 * resources.limits.concurrent_uploads + 1000,
        )
        add_ClientServiceServicer_to_server(ClientServicer(self._engine), self._server)
        add_MaskingServiceServicer_to_server(MaskingServicer(self._engine), self._server)
        add_OperatorServiceServicer_to_server(self._operators, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (CLIENT_SERVICE, MASKING_SERVICE, OPERATOR_SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE)
        reflection.enable_server_reflection(names, self._server)
        self._port = bind_port(self._server, self._settings.listen, resources.identity)
        self._metrics = self._metrics_server(opened)

    def _metrics_server(self, opened: OpenedResources) -> MetricsServer | None:
        if self._settings.metrics_listen is None:
            return None
        host, _, port = self._settings.metrics_listen.rpartition(":")
        return MetricsServer(opened.engine.identity, opened.engine.metrics, host=host.strip("[]"), port=int(port))

    def _periodic_purge(self, opened: OpenedResources) -> PeriodicPurge:
        resources, rule = opened.engine, self._settings.retention
        signer = resources.identity.signer
        purger = Purger(store=resources.store, blobs=resources.blobs, signer=signer, clock=self._clock)
        return PeriodicPurge(purger, RetentionRule(**rule.model_dump()), forget=self._engine.forget)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, if there are any."""
        return None if self._metrics is None else self._metrics.port

    async def start(self) -> None:
        """Begin to serve and to run rounds."""
        await self._set_health(_NOT_SERVING)
        if self._metrics is not None:
            self._metrics.start()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="blocking"))
        # Rounds are taken up first: whoever calls finds them as they stood.
        await self._engine.start()
        await self._server.start()
        self._retention.start()
        await self._set_health(_SERVING)
        identity = self._opened.engine.identity
        _log.info("coordinator ready", party=str(identity.party), port=self.port, metrics_port=self.metrics_port)

    async def stop(self, grace_seconds: float) -> None:
        """Begin nothing new, let rounds and calls go on for ``grace_seconds`` at the most, then end."""
        _log.info("coordinator draining", grace_seconds=grace_seconds)
        await self._set_health(_NOT_SERVING)
        await self._retention.stop()
        await self._engine.stop(grace_seconds)
        self._operators.close()
        await self._server.stop(min(grace_seconds, LAST_CALLS_SECONDS))
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.stop)
        self._opened.close()
        _log.info("coordinator stopped")

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in _WATCHED:
            await self._health.set(service, status)


async def serve(settings: CoordinatorSettings) -> None:
    """Run a coordinator until SIGTERM or SIGINT, then drain it; a second signal ends the wait.

    Raises:
        ConfigError: as :class:`CoordinatorServer`.
        CertificateError: as there.
        StorageError: as there.
    """
    server = CoordinatorServer(settings)
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        await server.start()
    except BaseException:
        await server.stop(0.0)
        raise
    await signals.get()
    await _drain(server, settings.grace_seconds, signals)


async def _drain(server: CoordinatorServer, grace_seconds: float, signals: asyncio.Queue[signal.Signals]) -> None:
    draining = asyncio.ensure_future(server.stop(grace_seconds))
    second = asyncio.ensure_future(signals.get())
    await asyncio.wait({draining, second}, return_when=asyncio.FIRST_COMPLETED)
    second.cancel()
    if not draining.done():
        draining.cancel()
        await asyncio.wait({draining})
        await server.stop(0.0)
    else:
        draining.result()
