"""A key holder's process: one service on one port, from the start to a drained end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from secagg.identity import Role
from secagg.identity_keeper import followed
from secagg.ids import HolderId
from secagg.key_holder.access_table import ACCESS, HEALTH_SERVICE, KEY_HOLDER_SERVICE, REFLECTION_SERVICE
from secagg.key_holder.book import RoundBook
from secagg.key_holder.claim import Claim
from secagg.key_holder.config import KeyHolderSettings
from secagg.key_holder.held_round import Limits
from secagg.key_holder.metrics import KeyHolderMetrics
from secagg.key_holder.reading import RequestReader
from secagg.key_holder.service import KeyHolderServicer
from secagg.key_holder.store import HolderStore
from secagg.key_holder.vault import SealingSecret
from secagg.metrics_server import MetricsServer
from secagg.transport import RoleInterceptor, bind_port, server_options
from secagg.wire.v1.key_holder_service_pb2_grpc import add_KeyHolderServiceServicer_to_server

_WATCHED: Final = ("", KEY_HOLDER_SERVICE)
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

_log: Final = structlog.get_logger("secagg.key_holder")


class KeyHolderServer:
    """Everything that one key holder runs. Make it, and use it, inside a running event loop.

    Args:
        settings: the configuration.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the port is in use, a file is missing, the passphrase or key file is not the database's, another process
            uses the data directory, or what lies there is an old copy.
        CertificateError: the holder's own certificate does not hold.
        StorageError: the database cannot be opened.
    """

    def __init__(self, settings: KeyHolderSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._identity = followed(settings.identity, at=self._now(), expect_role=Role.KEY_HOLDER)
        secret = settings.sealing.secret()
        self._executor = ThreadPoolExecutor(max_workers=settings.limits.workers, thread_name_prefix="key-holder")
        self._claim = Claim(settings.data_dir)
        self._store: HolderStore | None = None
        self._expiring: asyncio.Task[None] | None = None
        try:
            self._store = HolderStore.open(settings.data_dir, settings.witness)
            self._book = self._make_book(self._store, secret)
            self._assemble()
        except BaseException:
            self._close()
            raise

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _make_book(self, store: HolderStore, secret: SealingSecret) -> RoundBook:
        limits = self._settings.limits
        return RoundBook(
            holder=HolderId(self._identity.party.name),
            policy=self._settings.policy.policy(),
            limits=Limits(
                max_rounds=limits.rounds,
                max_sums=limits.sums,
                max_round_seconds=limits.round_seconds,
                retention_seconds=self._settings.retention_days * 86_400.0,
            ),
            store=store,
            vault=store.vault(secret),
            executor=self._executor,
            clock=self._clock,
        )

    def _assemble(self) -> None:
        registry = CollectorRegistry()
        servicer = KeyHolderServicer(
            book=self._book,
            reader=RequestReader(trust=self._identity.trust, now=self._now),
            signer=self._identity.signer,
            metrics=KeyHolderMetrics(registry, self._book),
            coordinators=self._settings.coordinators,
        )
        self._server = grpc.aio.server(
            interceptors=(RoleInterceptor(ACCESS, self._identity.trust, now=self._now),),
            options=server_options(),
            maximum_concurrent_rpcs=self._settings.limits.calls,
        )
        self._health = health.aio.HealthServicer()
        add_KeyHolderServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((KEY_HOLDER_SERVICE, HEALTH_SERVICE, REFLECTION_SERVICE), self._server)
        self._port = bind_port(self._server, self._settings.listen, self._identity)
        self._metrics_server = self._make_metrics_server(registry)

    def _make_metrics_server(self, registry: CollectorRegistry) -> MetricsServer | None:
        if self._settings.metrics_listen is None:
            return None
        host, _, port = self._settings.metrics_listen.rpartition(":")
        return MetricsServer(self._identity, registry, host=host.strip("[]"), port=int(port))

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, if there are any."""
        return None if self._metrics_server is None else self._metrics_server.port

    async def start(self) -> None:
        """Take up the shares on disk and begin to serve."""
        restored = await self._book.restore()
        self._expiring = asyncio.create_task(self._book.expire_for_ever())
        if self._metrics_server is not None:
            self._metrics_server.start()
        await self._server.start()
        await self._set_health(_SERVING)
        party = str(self._identity.party)
        _log.info("key holder ready", party=party, port=self.port, metrics_port=self.metrics_port, restored=restored)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let running ones go on for `grace_seconds` at the most, then end; shares stay on disk."""
        _log.info("key holder draining", grace_seconds=grace_seconds)
        await self._set_health(_NOT_SERVING)
        await self._server.stop(grace_seconds)
        await self._book.finish()
        if self._expiring is not None:
            self._expiring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiring
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.stop)
        await asyncio.to_thread(self._close)
        _log.info("key holder stopped")

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in _WATCHED:
            await self._health.set(service, status)

    def _close(self) -> None:
        self._executor.shutdown(wait=True)
        if self._store is not None:
            self._store.close()
        self._claim.release()


async def serve(settings: KeyHolderSettings) -> None:
    """Run a key holder until SIGTERM or SIGINT, then drain it; a second signal ends the wait.

    Raises:
        ConfigError: as :class:`KeyHolderServer`.
        CertificateError: as there.
        StorageError: as there.
    """
    server = KeyHolderServer(settings)
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await server.start()
    await signals.get()
    draining = asyncio.ensure_future(server.stop(settings.grace_seconds))
    second = asyncio.ensure_future(signals.get())
    await asyncio.wait({draining, second}, return_when=asyncio.FIRST_COMPLETED)
    second.cancel()
    if not draining.done():
        _log.warning("ended before the grace was over")
        draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
