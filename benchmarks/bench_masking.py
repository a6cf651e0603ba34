"""What a client of a masking round computes in all phases, against the client mod of Flower's SecAgg+.

Both have as many neighbours, deal as many shares and open them with as many: the peer's numbers. Ours is held to the goals as it is done,
every signature and certificate verified; the line without them does what the peer, which has none, does, and the one in between is a
client that saw the certificates in an earlier round. At the numbers that our planner chooses everybody is everybody's neighbour: for 100
clients that stands beside the same peer, without a goal.
"""

from dataclasses import replace

from benchmarks.arena import Contestant, race
from benchmarks.environments import contestant
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options
from benchmarks.records import Case, Missing

ROW = "masking client, n = 100, k = 31, 1e6 values, all phases"
SIGNED, UNSIGNED = "sumveil, signed", "sumveil, without signatures"
LATER = "sumveil, signed, in a later round"
GOAL_SECONDS, GOAL_BYTES = 0.2, 0.5
CASES: tuple[Case, ...] = (
    {"clients": 100, "shares": 31, "threshold": 17, "values": 1_000_000},
    {"clients": 100, "shares": 31, "threshold": 17, "values": 100_000},
    {"clients": 50, "shares": 21, "threshold": 12, "values": 1_000_000},
    {"clients": 10, "shares": 10, "threshold": 6, "values": 1_000_000},
)
PLANNED: tuple[Case, ...] = (
    {"clients": 10, "values": 1_000_000},
    {"clients": 50, "values": 1_000_000},
    {"clients": 100, "values": 1_000_000, "shares": 31, "threshold": 17, "planned": True},
)
"""Ours with our planner's numbers; shares and threshold are the peer's, where it runs too."""
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""The peer reports its use to its makers otherwise, which would be timed too."""
QUICK: Case = {"clients": 10, "shares": 10, "threshold": 6, "values": 2000}
QUICK_PLANNED: Case = {**QUICK, "shares": 5, "threshold": 3, "planned": True}


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook("masking", "The whole work of one client of a masking round", asked)
    ours, flower = both(notebook, asked, "masking")
    ours = (
        replace(ours[0], name=SIGNED, env={"SIGNED": "at first sight"}),
        replace(ours[0], name=LATER, env={"SIGNED": "before"}),
        replace(ours[0], name=UNSIGNED),
    )
    for case in (QUICK,) if asked.quick else CASES:
        measure(notebook, asked, case, (*ours, *flower))
    for case in (QUICK_PLANNED,) if asked.quick else PLANNED:
        measure_planned(notebook, asked, case, (*ours, *(flower if "shares" in case else ())))
    notebook.write()


def both(notebook: Notebook, asked: Options, question: str) -> tuple[tuple[Contestant, ...], tuple[Contestant, ...]]:
    """Ourselves, and the peer unless it is missing or not asked for."""
    ours = contestant("sumveil", question)
    assert isinstance(ours, Contestant)
    flower = contestant("flower", question) if asked.peers else None
    if isinstance(flower, Missing):
        notebook.miss(flower)
    return (ours,), (replace(flower, env=QUIET),) if isinstance(flower, Contestant) else ()


def measure(notebook: Notebook, asked: Options, case: Case, contestants: tuple[Contestant, ...]) -> None:
    """One case; the goals hold for the first."""
    found = race("masking", "client", case, contestants, asked.repetitions)
    notebook.add(found)
    ours, peer = found.of(SIGNED), found.of("flower")
    goal = case is CASES[0]
    row = ROW if goal else f"masking client, n = {case['clients']}, {case['values']:,} values, all phases"
    notebook.compare(row, ours, peer, at_most=GOAL_SECONDS if goal else None)
    notebook.compare(f"{row}: sent", ours, peer, figure="bytes", at_most=GOAL_BYTES if goal else None)
    bare = f"{row}, without signatures, as the peer"
    notebook.compare(bare, found.of(UNSIGNED), peer, at_most=GOAL_SECONDS if goal else None)
    notebook.compare(f"{row}, certificates seen in an earlier round", found.of(LATER), peer)


def measure_planned(notebook: Notebook, asked: Options, case: Case, contestants: tuple[Contestant, ...]) -> None:
    """One case at our planner's numbers; no goal holds for it."""
    found = race("masking", "client", case, contestants, asked.repetitions)
    notebook.add(found)
    ours, peer = found.of(SIGNED), found.of("flower")
    if ours is None or peer is None:
        return
    row = f"masking client, n = {case['clients']}, {case['values']:,} values, with our planner's k = {ours.extra['neighbours'][0]}"
    notebook.compare(row, ours, peer)
    notebook.compare(f"{row}: sent", ours, peer, figure="bytes")
    notebook.compare(f"{row}, without signatures, as the peer", found.of(UNSIGNED), peer)


if __name__ == "__main__":
    main()
