"""How long until a program is there, and what it has in memory then: the client's SDK against what peers' clients import; our services."""

import tempfile
from dataclasses import replace

from benchmarks.arena import race
from benchmarks.notebook import Notebook
from benchmarks.options import options

QUESTION = "startup"
TITLE = "Start-up time and idle memory"
OUR_OWN = ("secagg --help", "coordinator answers", "key holder answers", "bare interpreter")


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    warmups = 0 if asked.quick else 1
    ours, *rivals = notebook.entrants("tenseal", "nvflare", "flower")
    with tempfile.TemporaryDirectory() as compiled:
        if not asked.quick:
            # Compiled once, in the first run, which does not count: as what was installed is.
            ours = replace(ours, env={"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled})
        found = race(QUESTION, "import", {}, [ours, *rivals], asked.repetitions, warmups)
        notebook.add(found)
        for peer in rivals:
            row = f"import of what a client needs, against {peer.name}"
            notebook.compare(row, found.of("sumveil"), found.of(peer.name))
            notebook.compare(row, found.of("sumveil"), found.of(peer.name), figure="peak_bytes")
        for work in OUR_OWN:
            notebook.add(race(QUESTION, work, {}, [ours], 1 if asked.quick else asked.repetitions, warmups))
    notebook.write()


if __name__ == "__main__":
    main()
