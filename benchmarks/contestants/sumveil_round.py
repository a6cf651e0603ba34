"""Whole rounds of ours: a coordinator, key holders, and houses of clients as processes of their own, mutual TLS between them.

There are as many houses as cores, as Flower's simulation engine has as many workers: Python runs one thread of a process at a time. One
job runs on from round to round; its key ceremony, in ``ckks``, is over before the first repetition. A round lasts from the moment at
which the clients have their updates to the moment at which the last of them has the mean.
"""

import asyncio
import atexit
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arena import ONE_THREAD
from benchmarks.contestants.client_house import PRECISION, WEIGHT, ClientHouse, Lease, Played, Tenant
from benchmarks.contestants.houses import Houses
from benchmarks.contestants.masking_people import versions
from benchmarks.stage import serve
from secagg.identity import Role
from secagg.masking.planner import COMPLETE_UP_TO
from secagg.messages.round import Phase
from secagg.plan import CkksJob, JobSpec, MaskingJob, TensorSpec
from tests.live_deployment import LiveDeployment
from tests.live_jobs import HOLDERS, live_deadlines, live_job

ROUND_SECONDS = 200.0
GRACE_SECONDS = 30.0
"""For a house to tell what went wrong in a round, and to check its means."""
BUILT_SECONDS = 60.0
NOTE = (
    "cores: all; clients in as many processes as cores, those of one process share one cache of verified certificates; "
    "a client's bytes are all that its connection carried, TLS and HTTP/2 included"
)


def job(protocol: str, clients: int, values: int) -> JobSpec:
    """A job that ends only with the benchmark; everybody is waited for."""
    names = type(live_deadlines()).__dataclass_fields__
    return live_job(
        tensors=(TensorSpec(name="w", shape=(values - 1,), dtype="float32"),),
        protocol=CkksJob(holders=HOLDERS, precision=PRECISION)
        if protocol == "ckks"
        else MaskingJob(dropout_fraction=0.0),
        min_contributors=max(2, clients * 4 // 5),
        min_total_weight=WEIGHT * max(2, clients * 4 // 5),
        max_clients=clients,
        rounds=100,
        deadlines=live_deadlines(**dict.fromkeys(names, ROUND_SECONDS)),
    )


class Deployed:
    """Services that run, a job, and clients with an update each, spread over houses.

    Args:
        case: "protocol", "clients", "values"; "settings" of the coordinator, where it is not as it comes.
        houses: processes to spread the clients over; as many as there are cores when left out.
    """

    def __init__(self, case: dict[str, Any], houses: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="round-")
        self.clients, self.round = case["clients"], 0
        self._note = NOTE if case["protocol"] == "ckks" else f"{neighbours(self.clients)}; {NOTE}"
        self.spec = job(case["protocol"], self.clients, case["values"])
        self.live = LiveDeployment(Path(self._folder.name), holders=HOLDERS if case["protocol"] == "ckks" else ())
        self.live.settings["coordinator"] = dict(case.get("settings", {}))
        self.houses = Houses(ClientHouse, self._leases(houses or len(os.sched_getaffinity(0))), ONE_THREAD)
        atexit.register(self.close)
        self.live.start()
        self.idle = self._peaks()
        asyncio.run(self._begin())
        self.houses.started(BUILT_SECONDS)

    def _leases(self, houses: int) -> list[Lease]:
        """Every house gets as many clients as any other, or one more."""
        tenants = [self._tenant(place) for place in range(self.clients)]
        return [
            Lease(
                tenants=tuple(tenants[first::houses]),
                clients=self.clients,
                spec=self.spec,
                addresses=tuple(self.live.called_addresses),
                holders=frozenset(self.live.holders),
                round_seconds=ROUND_SECONDS,
            )
            for first in range(min(houses, self.clients))
        ]

    def _tenant(self, place: int) -> Tenant:
        name = f"client-{place:03}"
        return Tenant(place=place, identity=self.live.path(Role.CLIENT, name), spool=self.live.spool(name))

    async def _begin(self) -> None:
        await self.live.create(self.spec)
        await self.live.reached(self.spec, Phase.OPEN)
        await self.live.hang_up()

    def play(self) -> dict[str, Any]:
        """Run the next round; return its figures."""
        began = time.monotonic()
        played: list[Played] = self.houses.ask("play", self.round, limit_seconds=ROUND_SECONDS + GRACE_SECONDS)
        ended = max(one.ended for one in played)
        self.houses.ask("check", limit_seconds=GRACE_SECONDS)
        self.round += 1
        return {
            "seconds": ended - began,
            "bytes": sum(one.sent for one in played) // self.clients,
            "bytes_down": sum(one.received for one in played) // self.clients,
            "phases": phases(played, began, ended),
            "note": self._note,
            "client_processes": len(played),
            "clients_cpu_seconds": sum(one.cpu_seconds for one in played),
            "peak_bytes": max(self.houses.peak_bytes()),
            **_largest("idle", self.idle),
            **_largest("peak", self._peaks()),
        }

    def _peaks(self) -> dict[str, int]:
        return {name: one.peak_rss_bytes() for name, one in self.live.services.items()}

    def close(self) -> None:
        """End everything."""
        atexit.unregister(self.close)
        self.houses.close()
        self.live.close()
        self._folder.cleanup()


def phases(played: Sequence[Played], began: float, ended: float) -> dict[str, float]:
    """Seconds from the first client of all houses in a phase to the first in the next one."""
    reached = sorted((at, phase.value) for one in played for phase, at in one.reached.items())
    starts: dict[str, float] = {}
    for at, phase in reached:
        starts.setdefault(phase, at)
    # The first phase begins with the round, before anybody was told of it.
    ends = [*list(starts.values())[1:], ended]
    return dict(zip(starts, (after - start for start, after in zip([began, *ends], ends, strict=False)), strict=True))


def neighbours(clients: int) -> str:
    """What our planner makes of so many clients, in words."""
    assert clients <= COMPLETE_UP_TO, "a sparse graph has fewer"
    return f"{clients - 1} neighbours, the complete graph"


def _largest(what: str, sizes: dict[str, int]) -> dict[str, int | None]:
    """Of the coordinator, and of the key holder that has most; None where there is none."""
    holders = [size for name, size in sizes.items() if name in HOLDERS]
    return {f"coordinator_{what}_bytes": sizes["coordinator"], f"holder_{what}_bytes": max(holders, default=None)}


def prepare(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Whole rounds of a protocol."""
    return Deployed(case).play


if __name__ == "__main__":
    serve({"round": prepare}, versions)
