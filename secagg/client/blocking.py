"""The SDK for code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from secagg.client.asynchronous import JOIN_TIMEOUT_SECONDS, SILENCE_SECONDS, AsyncClient, configured
from secagg.client.progress import ProgressCallback, RoundResult
from secagg.client.updates import Update
from secagg.coordinators import Addresses
from secagg.errors import UsageError
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy
from secagg.tls_identity import TlsIdentity

CLEAN_UP_SECONDS: Final = 30.0

T = TypeVar("T")


class Client:
    """As :class:`AsyncClient`, for code without an event loop. Close it, or use it in a ``with`` block.

    It runs an event loop in a thread of its own; ``progress`` is called there.
    """

    def __init__(
        self,
        address: Addresses,
        *,
        coordinator: str,
        identity: TlsIdentity,
        policy: ClientPolicy,
        spool_dir: Path | None = None,
        state_dir: Path | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._client = AsyncClient(
            address,
            coordinator=coordinator,
            identity=identity,
            policy=policy,
            spool_dir=spool_dir,
            state_dir=state_dir,
            silence_seconds=silence_seconds,
        )
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="secagg-client", daemon=True)
        self._thread.start()

    @classmethod
    def from_config(cls, path: Path | str | None = None) -> Self:
        """Read ``client.toml``; as :meth:`AsyncClient.from_config`."""
        return cls(**configured(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the thread; harmless when it was."""
        if self._closed:
            return
        self._run(self._client.close())
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def participate(
        self,
        job: str,
        update: Update,
        weight: float,
        *,
        after_round: int = 0,
        progress: ProgressCallback | None = None,
        join_timeout_seconds: float = JOIN_TIMEOUT_SECONDS,
    ) -> RoundResult:
        """Submit an update to the job's next round; as :meth:`AsyncClient.participate`."""
        return self._run(
            self._client.participate(
                job,
                update,
                weight,
                after_round=after_round,
                progress=progress,
                join_timeout_seconds=join_timeout_seconds,
            )
        )

    def next_plan(
        self, job: str, *, after_round: int = 0, join_timeout_seconds: float = JOIN_TIMEOUT_SECONDS
    ) -> RoundPlan:
        """Return the plan of the job's next round; as :meth:`AsyncClient.next_plan`."""
        return self._run(
            self._client.next_plan(job, after_round=after_round, join_timeout_seconds=join_timeout_seconds)
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise UsageError("this client is closed")
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_watched(work, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C arrives here, in the caller's thread: let the call end in order before it goes on.
            future.cancel()
            ended.wait(CLEAN_UP_SECONDS)
            raise


async def _watched(work: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await work
    finally:
        ended.set()
