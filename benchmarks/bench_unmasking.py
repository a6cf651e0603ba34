"""What the coordinator of a masking round computes from masked vectors and shares to the mean, against Flower's SecAgg+ workflow.

Both have as many neighbours, shares and drop-outs: the peer's numbers. Ours begins with vectors on disk and ends with the mean on disk, as
the service does it; the peer begins and ends in memory, and takes up to half a minute for 100 clients.
"""

import tempfile
from dataclasses import replace

from benchmarks.arena import Contestant, race
from benchmarks.bench_masking import both
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options
from benchmarks.records import Case

ROW = "unmasking, n = 100, k = 31, 1e6 values, 30 % drop-outs"
GOAL_SECONDS, GOAL_PEAK = 0.1, 0.2
VALUES = 1_000_000
GRAPHS = {100: (31, 17, (0, 5, 30)), 50: (21, 12, (0, 3, 15)), 10: (10, 6, (0, 1, 3))}
"""Clients: shares and threshold of the peer, and drop-outs of 0, 5 and 30 %."""
LIMIT_SECONDS = 900.0
"""For an answer: that all of the peer's clients have worked, first of all."""
QUICK = {10: (10, 6, (0, 3))}


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook("unmasking", "The coordinator's work from masked vectors to the mean", asked)
    ours, flower = both(notebook, asked, "unmasking")
    with tempfile.TemporaryDirectory(prefix="unmasking-") as folder:
        for case in cases(2000, QUICK) if asked.quick else cases(VALUES, GRAPHS):
            standing = [replace(one, env={**one.env, "BENCH_FOLDER": folder}) for one in (*ours, *flower)]
            measure(notebook, asked, case, standing)
    notebook.write()


def cases(values: int, graphs: dict[int, tuple[int, int, tuple[int, ...]]]) -> list[Case]:
    """Every number of clients with every number of drop-outs."""
    return [
        {"clients": clients, "shares": shares, "threshold": threshold, "values": values, "dropped": dropped}
        for clients, (shares, threshold, drops) in graphs.items()
        for dropped in drops
    ]


def measure(notebook: Notebook, asked: Options, case: Case, contestants: list[Contestant]) -> None:
    """One case. Nobody warms up: the peer's 25 s are Python's, and have nothing to warm."""
    found = race("unmasking", "server", case, contestants, asked.repetitions, warmups=0, limit_seconds=LIMIT_SECONDS)
    notebook.add(found)
    ours, peer = found.of("sumveil"), found.of("flower")
    goal = (case["clients"], case["dropped"]) == (100, 30)
    row = ROW if goal else f"unmasking, n = {case['clients']}, {case['values']:,} values, {case['dropped']} dropped"
    notebook.compare(row, ours, peer, at_most=GOAL_SECONDS if goal else None)
    notebook.compare(f"{row}: peak memory", ours, peer, figure="peak_bytes", at_most=GOAL_PEAK if goal else None)


if __name__ == "__main__":
    main()
