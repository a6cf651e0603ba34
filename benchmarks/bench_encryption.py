"""What a client's encryption costs: pack, encrypt and serialise float32 values, against NVFlare's encryptor and TenSEAL as it comes.

All have at least 128 bits of security, but not the same precision: each line tells its parameters, and the largest error of all
values when the whole secret key opens what was sent, which is looked at after the last repetition. Only ours is smudged when it is
opened, which costs precision: the deviation that is left is told too.
"""

from dataclasses import replace

from benchmarks.arena import Contestant, race
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options
from benchmarks.records import Measurement

QUESTION = "encryption"
TITLE = "Client: pack, encrypt and serialise"
ROW = "client: pack, encrypt, serialise 1e6 float32"
SIZES, QUICK_SIZE = (100_000, 1_000_000, 10_000_000), 5_000
MAIN_SIZE = 1_000_000
MOST_SECONDS, MOST_BYTES = 0.5, 0.45
LIMIT_SECONDS = 120.0


def variants(ours: Contestant) -> list[Contestant]:
    """Ours with two values in each slot and with one, and with TenSEAL as the engine."""
    return [
        replace(ours, name="sumveil, complex packing", env={"SUMVEIL_PACKING": "complex"}),
        replace(ours, name="sumveil, real packing", env={"SUMVEIL_PACKING": "real"}),
        replace(ours, name="sumveil, TenSEAL engine", env={"SUMVEIL_ENGINE": "tenseal"}),
    ]


def on_one_core(notebook: Notebook, asked: Options) -> None:
    """The work of the row at every size."""
    ours, *rivals = notebook.entrants("nvflare", "tenseal")
    if asked.quick:
        encrypt(notebook, QUICK_SIZE, [ours, *variants(ours)], asked.repetitions)
        return
    for values in SIZES:
        others = variants(ours) if values == MAIN_SIZE else []
        encrypt(notebook, values, [ours, *others, *rivals], asked.repetitions)


def encrypt(notebook: Notebook, values: int, contestants: list[Contestant], repetitions: int) -> None:
    raced = race(QUESTION, "encrypt", {"values": values}, contestants, repetitions, limit_seconds=LIMIT_SECONDS)
    found = replace(raced, measurements=tuple(map(with_error, raced.measurements)))
    notebook.add(found)
    goal = values == MAIN_SIZE
    row = ROW if goal else f"client: pack, encrypt, serialise {values:.0e} float32"
    ours, nvflare = found.of("sumveil"), found.of("nvflare")
    notebook.compare(row, ours, nvflare, at_most=MOST_SECONDS if goal else None)
    notebook.compare(row, ours, nvflare, figure="bytes", at_most=MOST_BYTES if goal else None)
    notebook.compare(row, ours, nvflare, figure="peak_bytes")
    notebook.compare(row, ours, found.of("tenseal"))


def with_error(one: Measurement) -> Measurement:
    """Tell the error in words beside the parameters."""
    return replace(one, note=f"{one.note}; largest error of the encryption {one.extra['error']:.1e}")


def with_spool(notebook: Notebook, asked: Options) -> None:
    """The client's whole way into its spool, digests included: on one core, and with as many lanes as there are cores."""
    ours, *_ = notebook.entrants()
    values = QUICK_SIZE if asked.quick else MAIN_SIZE
    for cores in (1, None):
        case = {"values": values, "cores": "one" if cores else "all"}
        work = "encrypt into the spool"
        notebook.add(race(QUESTION, work, case, [ours], asked.repetitions, cores=cores, limit_seconds=LIMIT_SECONDS))


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    on_one_core(notebook, asked)
    with_spool(notebook, asked)
    notebook.write()


if __name__ == "__main__":
    main()
