"""What opening a sum costs: one holder's partial decryption, and recovery from 3 answers, against OpenFHE's threshold CKKS."""

from benchmarks.arena import race
from benchmarks.notebook import Notebook
from benchmarks.options import options

QUESTION = "opening"
TITLE = "Opening: partial decryption and recovery"
PARTIAL, RECOVERY = "partial decryption", "recovery"
ROWS = (
    (PARTIAL, "one key holder's partial decryption of 1e6 values, without re-adding", 0.4),
    (RECOVERY, "recovery of 1e6 values from t answers", 1.0),
)
SIZES, QUICK_SIZE, MAIN_SIZE = (100_000, 1_000_000), 5_000, 1_000_000


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    ours, *rivals = notebook.entrants("openfhe")
    for values in (QUICK_SIZE,) if asked.quick else SIZES:
        goal = values == MAIN_SIZE
        for work, row, at_most in ROWS:
            found = race(QUESTION, work, {"values": values}, [ours, *rivals], asked.repetitions)
            notebook.add(found)
            text = row if goal else row.replace("1e6", f"{values:.0e}")
            mine, theirs = found.of("sumveil"), found.of("openfhe")
            notebook.compare(text, mine, theirs, at_most=at_most if goal else None)
            if work == PARTIAL:
                notebook.compare(text, mine, theirs, figure="bytes")
    notebook.write()


if __name__ == "__main__":
    main()
