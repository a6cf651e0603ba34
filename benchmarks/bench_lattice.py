"""What one core does with the lattice layer, part by part, beside what bounds it: memory, AES-CTR's keystream, SEAL's own encryption."""

from benchmarks.arena import Race, race
from benchmarks.contestants.sumveil_lattice import WORKS
from benchmarks.notebook import Notebook
from benchmarks.options import options

QUESTION = "lattice"
TITLE = "Lattice layer: parts and limits"
VALUES, QUICK_VALUES = 1_000_000, 20_000
SEAL = "encrypt chunks"


def per_piece(found: Race) -> str:
    """The figure that a reader of the terminal compares: microseconds for each polynomial, and gigabytes in a second."""
    (one,) = found.measurements
    rate = f", {one.extra['touched_bytes'][0] / one.median / 1e9:.1f} GB/s" if "touched_bytes" in one.extra else ""
    return f"    {one.median / one.extra['count'][0] * 1e6:.1f} us each of {one.extra['count'][0]}{rate}"


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    ours, *rivals = notebook.entrants("tenseal")
    case = {"values": QUICK_VALUES if asked.quick else VALUES}
    for work, contestants in (*((work, [ours]) for work in WORKS), *((SEAL, [one]) for one in rivals)):
        found = race(QUESTION, work, case, contestants, asked.repetitions)
        notebook.add(found)
        if found.measurements:
            print(per_piece(found))
    notebook.write()


if __name__ == "__main__":
    main()
