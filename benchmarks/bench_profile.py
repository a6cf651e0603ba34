"""Where the time of each hot path goes, and how far it is from what bounds it: keystreams, BLAS, memory, SEAL's kernel, gRPC's throughput.

Every path runs as the product runs it, in one lane on one core, its functions watched; what bounds it runs in turns with it, in
the same process.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.arena import ours, race
from benchmarks.notebook import Notebook
from benchmarks.options import options
from benchmarks.records import Measurement
from secagg.plan import CkksJob

SCRIPT = Path(__file__).parent / "contestants" / "sumveil_profile.py"
LATTICE = ("client encryption", "coordinator's addition", "partial decryption", "recovery")
MASKING = ("masking client", "unmasking")
LOOPBACK = "gRPC over the loopback"
MESSAGE_BYTES = 1 << 20


def case_of(path: str, *, quick: bool) -> Mapping[str, Any]:
    values = 10_000 if quick else 1_000_000
    if path in LATTICE:
        return {"values": values, "packing": CkksJob.packing}
    people = {"clients": 10, "shares": 9, "threshold": 6} if quick else {"clients": 100, "shares": 31, "threshold": 17}
    dropped = {} if path == "masking client" else {"dropped": 1 if quick else 30}
    return people | {"values": values} | dropped


def apart(found: Measurement) -> Iterator[Measurement]:
    """Tell a path from its limits, which it told of in every repetition."""
    told = found.extra["limits"]
    yield replace(found, extra={name: one for name, one in found.extra.items() if name != "limits"})
    for name, one in told[0].items():
        yield Measurement(
            work=found.work,
            case=found.case,
            contestant=name,
            seconds=tuple(each[name]["seconds"] for each in told),
            note=one["what"],
            extra={"limit": True},
        )


def main() -> None:
    chosen = options(__doc__)
    notes = Notebook("profile", "Where the time goes, and how far from the limit", chosen)
    sumveil = ours(SCRIPT)
    for path in (*LATTICE, *MASKING):
        found = race("profile", path, case_of(path, quick=chosen.quick), [sumveil], chosen.repetitions)
        notes.add(replace(found, measurements=tuple(each for one in found.measurements for each in apart(one))))
    # Both ends compute: a core for each.
    moving = {"messages": 16 if chosen.quick else 256, "message_bytes": MESSAGE_BYTES}
    notes.add(race("profile", LOOPBACK, moving, [sumveil], chosen.repetitions, cores=None))
    notes.write()


if __name__ == "__main__":
    main()
