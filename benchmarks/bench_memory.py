"""What a coordinator and a key holder take of memory while clients upload: by the number of clients, and by the length of a vector.

Real processes: a coordinator, five key holders where the protocol has them, and clients of the SDK in processes of theirs. `VmHWM` is what
Linux has ever counted as resident; "base_bytes" is that of a service before the first call. One round for each case: memory is the same in
each.

The coordinator adds up, opens and averages block by block, so that nothing grows with the length of a vector, and verifies chunk by
chunk, so that nothing grows with the roster, but what gRPC holds for each connection: up to 2 MiB with the options of
`coordinator.upload_streams.INCOMING_OPTIONS`. All run with MALLOC_ARENA_MAX=1, which nobody else here has: with an arena for each thread
malloc keeps what nobody uses, noise above what is measured. No peer stands beside them. A key holder keeps its one sum of c1, 24 bytes
for each value, and for a while a copy of it, whatever the number of clients; how much of the copy shows depends on the moment.
"""

import os
from dataclasses import replace

from benchmarks.arena import Contestant, race
from benchmarks.environments import contestant
from benchmarks.notebook import Notebook
from benchmarks.options import options
from benchmarks.records import Case, Measurement

FEW, MANY = 4, 16
SHORT, LONG = 250_000, 1_000_000
SETTINGS = {"limits.concurrent_uploads": "4"}
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
NOTE = "with MALLOC_ARENA_MAX=1; peak since the service started"
FIGURES = {"coordinator": "coordinator", "key holder": "holder"}


def cases(*, quick: bool) -> tuple[Case, ...]:
    """Two numbers of clients, two lengths; the largest of ``ckks`` is the longest round of all."""
    if quick:
        return ({"protocol": "masking", "clients": FEW, "values": 2000, "settings": SETTINGS},)
    return tuple(
        {"protocol": protocol, "clients": clients, "values": values, "settings": SETTINGS}
        for protocol in ("masking", "ckks")
        for values in (SHORT, LONG)
        for clients in (FEW, MANY)
    )


def services(one: Measurement) -> tuple[Measurement, ...]:
    """A measurement of each service from that of a round."""
    case = {name: what for name, what in one.case.items() if name != "settings"}
    found = []
    for service, key in FIGURES.items():
        (peak,), (idle,) = one.extra[f"{key}_peak_bytes"], one.extra[f"{key}_idle_bytes"]
        if peak is not None:
            found.append(
                replace(
                    one, work=service, case=case, peak_bytes=peak, bytes=None, note=NOTE, extra={"base_bytes": idle}
                )
            )
    return tuple(found)


def grown(found: list[Measurement]) -> None:
    """Print how the peaks grow with clients and length."""
    peaks = {
        (one.case["protocol"], one.work, one.case["clients"], one.case["values"]): one.peak_bytes or 0 for one in found
    }
    for (protocol, work, clients, values), peak in peaks.items():
        fewer, shorter = peaks.get((protocol, work, FEW, values)), peaks.get((protocol, work, clients, SHORT))
        if clients == MANY and fewer:
            print(
                f"  {protocol:8} {work:11} {values:9,} values: {MANY} clients to {FEW}: {peak / fewer:.2f} times the peak"
            )
        if values == LONG and shorter:
            each = (peak - shorter) / (LONG - SHORT)
            print(
                f"  {protocol:8} {work:11} {clients:3} clients: {peak / shorter:.2f} times the peak, {each:.1f} bytes for each value more"
            )


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook("memory", "Peak memory of the services by clients and by length", replace(asked, repetitions=1))
    os.environ |= ONE_ARENA
    ours = contestant("sumveil", "round")
    assert isinstance(ours, Contestant)
    found = []
    for case in cases(quick=asked.quick):
        raced = race("memory", "round", case, (ours,), 1, warmups=0, cores=None)
        raced = replace(raced, measurements=tuple(each for one in raced.measurements for each in services(one)))
        notebook.add(raced)
        found += raced.measurements
    grown(found)
    notebook.write()


if __name__ == "__main__":
    main()
