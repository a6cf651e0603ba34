"""Whose turn it is: a coordinator runs a job's rounds as long as it holds the job's lease, and renews it in time.

Nothing hangs on its being in time: every write of a round carries the lease's token, and the store refuses an old one. A process
that was stopped for longer than its lease, and wakes up, can show what was true before and change nothing.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from coordinator.contracts import Lease, RoundStore
from secagg import faults
from secagg.errors import StorageError
from secagg.ids import JobId

RENEWALS_PER_LEASE: Final = 3
_THREADS: Final = 2

_log: Final = structlog.get_logger("coordinator.leases")


class LeaseHolder:
    """The leases of one process.

    Args:
        store: where leases stand.
        owner: this process, by a name that it keeps when it is restarted on the same data directory.
        address: where clients find it.
        seconds: how long a lease lasts without being renewed.
        alone: whether no other process can use the store: then a lease that could not be renewed is nobody else's.
    """

    def __init__(self, store: RoundStore, *, owner: str, address: str, seconds: float, alone: bool = False) -> None:
        self._store = store
        self._owner = owner
        self._address = address
        self.seconds = seconds
        self._alone = alone
        self._renewed: dict[JobId, float] = {}
        # Of their own: whatever else waits for a slow disk keeps no lease from being renewed.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lease")

    @property
    def renewal_seconds(self) -> float:
        """How often a lease is renewed, and one of another process is looked at."""
        return self.seconds / RENEWALS_PER_LEASE

    async def take(self, job: JobId) -> Lease | None:
        """Take or renew a lease; None while another process has it. :class:`StorageError` when that is not known."""
        asked = time.monotonic()
        take = partial(self._store.take_lease, job, self._owner, self.seconds, address=self._address)
        taken = await asyncio.get_running_loop().run_in_executor(self._threads, take)
        self._renewed[job] = asked
        faults.reach("lease.taken")
        return taken

    async def still_held(self, lease: Lease) -> bool:
        """Renew a lease, and say whether it is still this process's under the same token.

        A store that fails proves nothing until the lease has run out.
        """
        try:
            renewed = await self.take(lease.job)
        except StorageError as error:
            _log.warning("lease not renewed", job=lease.job, cause=str(error))
            return self._alone or time.monotonic() - self._renewed[lease.job] < self.seconds
        return renewed is not None and renewed.token == lease.token

    async def owner_of(self, job: JobId) -> str:
        """Return the address of whoever has a job's lease; empty where nobody has."""
        lease = await asyncio.to_thread(self._store.lease_of, job)
        return "" if lease is None or lease.owner == self._owner else lease.address

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def give_back(self, lease: Lease) -> None:
        """Let another process go on at once; where that fails, the lease runs out."""
        try:
            await asyncio.to_thread(self._store.give_back, lease)
        except StorageError as error:
            _log.warning("lease not given back", job=lease.job, cause=str(error))
