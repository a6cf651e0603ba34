"""A whole round as its clients see it: ours over gRPC with mutual TLS and real processes, Flower's SecAgg+ in its simulation engine.

Both use all cores: our clients are spread over as many processes as there are cores, as the peer's engine spreads its own. In the peer's
round nothing goes over a wire and nothing is signed, clients have 20 neighbours and the mean goes nowhere; in ours all 49 others are
neighbours, as our planner wants it, and every client ends with the mean. `ckks` is ours alone. Peak memory is that of the process with the
coordinator since it started, or of the peer's server since its engine stands.
"""

from dataclasses import replace

from benchmarks.arena import Contestant, Race, race
from benchmarks.bench_masking import both
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options
from benchmarks.records import Case, Measurement

ROW = "a whole masking round over gRPC and TLS, n = 50, 1e6 values"
GOAL = 0.5
MASKING: Case = {"protocol": "masking", "clients": 50, "values": 1_000_000, "shares": 21, "threshold": 12}
CKKS: Case = {"protocol": "ckks", "clients": 8, "values": 1_000_000}
QUICK: Case = {"protocol": "masking", "clients": 5, "values": 2000, "shares": 5, "threshold": 3}
"""Alone: five key holders take their time to start."""


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook("round", "A whole round, from updates to the mean at every client", asked)
    ours, flower = both(notebook, asked, "round")
    found = rounds(notebook, asked, QUICK if asked.quick else MASKING, (*ours, *flower))
    notebook.compare(ROW, found.of("sumveil"), found.of("flower"), at_most=GOAL)
    notebook.compare(f"{ROW}: peak memory of the server", found.of("sumveil"), found.of("flower"), figure="peak_bytes")
    if not asked.quick:
        rounds(notebook, asked, CKKS, ours)
    notebook.write()


def rounds(
    notebook: Notebook, asked: Options, case: Case, contestants: tuple[Contestant, ...], warmups: int = 1
) -> Race:
    """Let whole rounds take turns, and note them."""
    raced = race(
        "round", "round", case, contestants, asked.repetitions, warmups=0 if asked.quick else warmups, cores=None
    )
    found = replace(raced, measurements=tuple(map(of_server, raced.measurements)))
    notebook.add(found)
    return found


def of_server(one: Measurement) -> Measurement:
    """Our clients' processes were measured, and the coordinator's tells more; the peer's server is in the one that was measured."""
    extra = dict(one.extra)
    peaks = extra.pop("coordinator_peak_bytes", None)
    return replace(one, peak_bytes=max(peaks), extra=extra | {"clients_peak_bytes": one.peak_bytes}) if peaks else one


if __name__ == "__main__":
    main()
