"""What a coordinator and a key holder take of memory while clients upload: by the number of clients, and by the length of a vector.

Real processes: a coordinator, five key holders where the protocol has them, and clients of the SDK in this process. `VmHWM` is what
Linux has ever counted as resident; "over idle" is above what a service took before the first call. Run `make bench` (4 minutes on two
cores); `--quick` leaves the largest out.

The coordinator adds up, opens and averages block by block, so that nothing grows with the length of a vector, and verifies chunk by
chunk, so that nothing grows with the roster, but what gRPC holds for each connection: up to 2 MiB with the options of
`coordinator.upload_streams.INCOMING_OPTIONS`. A key holder keeps its one sum of c1, 24 bytes for each value, and for a while a copy of
it, whatever the number of clients; how much of the copy shows depends on the moment.

Measured on 2026-11-26 (2 cores, 4 minutes), MiB in all, of 4 and of 16 clients. masking, coordinator: 130 and 145 with 500,000 values,
135 and 146 with 2,000,000. ckks, coordinator: 152 and 163, 160 and 171. ckks, key holder: 169 and 196, 185 and 234. A coordinator that
has served nobody takes 113, a key holder 169. So four times the clients are 1.07 to 1.12 times a coordinator's memory, and four times
the values 1.01 to 1.05 times.
"""

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secagg.client import RoundResult
from secagg.plan import CkksJob, JobSpec, MaskingJob, TensorSpec
from tests.live_deployment import LiveDeployment
from tests.live_jobs import HOLDERS, live_deadlines, live_job

FEW, MANY = 4, 16
SHORT, LONG = 500_000, 2_000_000
MEBIBYTE = 2**20
ROUND_SECONDS = 600.0
CONCURRENT_UPLOADS = 4


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Bytes at the most, and over what it was when idle."""

    all: int
    over_idle: int


def job(protocol: str, clients: int, values: int) -> JobSpec:
    names = type(live_deadlines()).__dataclass_fields__
    return live_job(
        tensors=(TensorSpec(name="w", shape=(values - 1,), dtype="float32"),),
        protocol=CkksJob(holders=HOLDERS, precision=1e-3) if protocol == "ckks" else MaskingJob(dropout_fraction=0.0),
        min_contributors=3,
        min_total_weight=100.0,
        max_clients=clients,
        deadlines=live_deadlines(**dict.fromkeys(names, ROUND_SECONDS)),
    )


async def take_part(live: LiveDeployment, spec: JobSpec, clients: int) -> None:
    """Let everybody upload the same vector, whose mean is known."""
    update = {"w": np.random.default_rng(1).uniform(-0.9, 0.9, spec.tensors[0].shape).astype(np.float32)}
    await live.create(spec)
    results = await asyncio.gather(
        *(live.client(f"client-{number:02}").participate(spec.job, update, 50.0) for number in range(clients))
    )
    for result in results:
        assert isinstance(result, RoundResult)
        assert len(result.contributors) == clients
        assert np.abs(result.mean["w"] - update["w"]).max() < 1e-3


def deployment(directory: Path, protocol: str) -> LiveDeployment:
    """Return processes that have done nothing yet."""
    room = Path(tempfile.mkdtemp(dir=directory))
    live = LiveDeployment(room, holders=HOLDERS if protocol == "ckks" else ())
    live.settings["coordinator"] = {"limits.concurrent_uploads": str(CONCURRENT_UPLOADS)}
    return live


async def peaks(directory: Path, protocol: str, clients: int, values: int) -> dict[str, Peak]:
    """Run one round in processes of its own."""
    live = deployment(directory, protocol)
    try:
        live.start()
        idle = {name: service.peak_rss_bytes() for name, service in live.services.items()}
        async with asyncio.timeout(ROUND_SECONDS):
            await take_part(live, job(protocol, clients, values), clients)
        found = {name: service.peak_rss_bytes() for name, service in live.services.items()}
    finally:
        await live.hang_up()
        live.close()
    over = {name: Peak(all=size, over_idle=size - idle[name]) for name, size in found.items()}
    holders = [over[name] for name in HOLDERS if name in over]
    return {"coordinator": over["coordinator"]} | (
        {"key holder": max(holders, key=lambda peak: peak.all)} if holders else {}
    )


async def measure(directory: Path, protocol: str, *, quick: bool) -> None:
    """Print every peak, and how it grows with the clients and with the length."""
    found: dict[tuple[str, int, int], Peak] = {}
    for values in (SHORT,) if quick else (SHORT, LONG):
        for clients in (FEW, MANY):
            began = time.monotonic()
            for service, peak in (await peaks(directory, protocol, clients, values)).items():
                found[service, clients, values] = peak
                print(
                    f"{protocol:8} {values:9,} values {clients:3} clients  {service:11} {peak.all / MEBIBYTE:6.0f} MiB, "
                    f"{peak.over_idle / MEBIBYTE:5.0f} over idle  ({time.monotonic() - began:.0f} s)",
                    flush=True,
                )
    for (service, clients, values), peak in found.items():
        fewer, shorter = found[service, FEW, values], found[service, clients, SHORT]
        if clients == MANY:
            print(f"{protocol:8} {service:11} {values:9,} values: {MANY} clients to {FEW}: {ratio(peak, fewer)}")
        if values == LONG:
            grown = (peak.over_idle - shorter.over_idle) / (LONG - SHORT)
            each = f"{grown:.1f} bytes for each value more"
            print(
                f"{protocol:8} {service:11} {clients} clients: {LONG:,} values to {SHORT:,}: {ratio(peak, shorter)}, {each}"
            )


def ratio(one: Peak, other: Peak) -> str:
    over_idle = f", {one.over_idle / other.over_idle:.2f} over idle" if other.over_idle > MEBIBYTE else ""
    return f"{one.all / other.all:.2f} times the peak{over_idle}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{SHORT:,} values alone")
    quick = parser.parse_args().quick
    # With an arena for each thread, malloc keeps what nobody uses: noise above what is measured here.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    # To the end, for the clients' certificates are looked at again and again.
    with tempfile.TemporaryDirectory() as directory:
        for protocol in ("masking", "ckks"):
            await measure(Path(directory), protocol, quick=quick)


if __name__ == "__main__":
    asyncio.run(main())
