"""What one client's ciphertexts cost the coordinator: from the wire into the sum, against TenSEAL's deserialising and adding."""

from benchmarks.arena import Contestant, race
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options

QUESTION = "addition"
TITLE = "Coordinator: add one client's ciphertexts"
ROW = "coordinator: add one client's ciphertexts, including parsing from the wire"
ADD, HASHED, TAKE = "add one client", "add one client, hashed", "take one upload"
SIZES, QUICK_SIZE, MAIN_SIZE = (100_000, 1_000_000), 5_000, 1_000_000
AT_MOST = 0.15


def against_peers(notebook: Notebook, asked: Options, contestants: list[Contestant], values: int) -> None:
    """The row, in which we do what TenSEAL does: parse, check, add. NVFlare's aggregator does it with a context for each layer."""
    found = race(QUESTION, ADD, {"values": values}, contestants, asked.repetitions)
    notebook.add(found)
    ours, theirs = found.of("sumveil"), found.of("tenseal")
    goal, row = (AT_MOST, ROW) if values == MAIN_SIZE else (None, f"{ROW}, {values:.0e} values")
    notebook.compare(row, ours, theirs, at_most=goal)
    notebook.compare(row, ours, theirs, figure="bytes")
    notebook.compare(row, ours, theirs, figure="peak_bytes")
    notebook.compare(row, ours, found.of("nvflare"))


def with_hashes(notebook: Notebook, asked: Options, contestants: list[Contestant], values: int) -> None:
    """Our coordinator hashes every byte besides, which no peer does."""
    found = race(QUESTION, HASHED, {"values": values}, contestants, asked.repetitions)
    notebook.add(found)
    row = f"{ROW}, {values:.0e} values, with the SHA-256 of every byte"
    notebook.compare(row, found.of("sumveil"), found.of("tenseal"))


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    ours, *rivals = notebook.entrants("tenseal", "nvflare")
    for values in (QUICK_SIZE,) if asked.quick else SIZES:
        against_peers(notebook, asked, [ours, *rivals], values)
        with_hashes(notebook, asked, [ours, *(one for one in rivals if one.name == "tenseal")], values)
        notebook.add(race(QUESTION, TAKE, {"values": values}, [ours], asked.repetitions))
    notebook.write()


if __name__ == "__main__":
    main()
