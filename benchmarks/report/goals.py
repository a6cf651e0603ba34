"""The seven rows that the project holds itself to, and what the records say of them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.records import FEWEST_REPETITIONS, Comparison, Record
from benchmarks.report.figures import between, ratio, table

OF_NEIGHBOURS = (
    "k = 31 is the peer's choice of shares for 100 clients. Our planner lets everybody deal to everybody up to 200 clients: what a client "
    "does then, with k = 99, stands beside the same peer further down, without a bound."
)
OF_THE_ROUND = (
    "Where the time of the whole masking round goes, which is not held: most of it is computing, on both cores; the rest are phases "
    "that wait for their last client, and for the disk. Of our CPU seconds the clients take two thirds: each masks with all 49 others "
    "(the peer: 20 neighbours), verifies the join of everybody and a quorum of confirmations (the peer signs nothing), and ends with "
    "the mean, which the peer's clients do not get. The coordinator takes the rest: some 16 calls of each client, five of them with a "
    "signature and on disk before they are answered, so that a kill at any instant loses nothing, and TLS both ways. A client costs "
    "some 50 ms whatever the length of its vector. On more than two cores the clients' part shrinks, the coordinator's does not."
)
"""Shown beside the row when it is not held."""
FIGURES = {"seconds": "time", "bytes": "bytes", "peak_bytes": "peak memory"}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One row. `short`: for plots. `bounds`: the most that may be measured of each figure, as a multiple of what it is held against.

    `row_end`: how the rows of the comparisons end that are meant, where a question has several of one figure and bound.
    """

    question: str
    work: str
    against: str
    short: str
    bounds: Mapping[str, float]
    row_end: str = ""


GOALS = (
    Goal(
        question="encryption",
        work="client: pack, encrypt, serialise 1e6 float32",
        against="NVFlare's encryptor, one layer",
        short="client encryption",
        bounds={"seconds": 0.5, "bytes": 0.45},
    ),
    Goal(
        question="addition",
        work="coordinator: add one client's ciphertexts, including parsing from the wire",
        against="TenSEAL: deserialise + add, NVFlare's parameters",
        short="coordinator's addition",
        bounds={"seconds": 0.15},
    ),
    Goal(
        question="opening",
        work="one key holder's partial decryption of 1e6 values, without re-adding",
        against="OpenFHE `MultipartyDecryptMain`, same λ or a stronger one",
        short="partial decryption",
        bounds={"seconds": 0.4},
    ),
    Goal(
        question="opening",
        work="recovery of 1e6 values from t answers",
        against="OpenFHE fusion + read-out",
        short="recovery",
        bounds={"seconds": 1.0},
    ),
    Goal(
        question="masking",
        work="masking client, n = 100, k = 31, 1e6 values, all phases",
        against="Flower SecAgg+ client mod, which signs nothing; ours without signatures too",
        short="masking client",
        bounds={"seconds": 0.2},
        row_end="without signatures, as the peer",
    ),
    Goal(
        question="masking",
        work="masking client, n = 100, k = 31, 1e6 values, all phases",
        against="Flower SecAgg+ client mod",
        short="masking client",
        bounds={"bytes": 0.5},
        row_end="sent",
    ),
    Goal(
        question="masking",
        work="the same with every signature and certificate verified, at first sight",
        against="Flower SecAgg+ client mod, which signs nothing",
        short="masking client, signed",
        bounds={"seconds": 0.2},
        row_end="all phases",
    ),
    Goal(
        question="unmasking",
        work="unmasking, n = 100, k = 31, 1e6 values, 30 % drop-outs",
        against="Flower SecAgg+ workflow",
        short="unmasking",
        bounds={"seconds": 0.1, "peak_bytes": 0.2},
    ),
    Goal(
        question="round",
        work="a whole masking round over gRPC and TLS, n = 50, 1e6 values",
        against="Flower SecAgg+ in its simulation engine",
        short="masking round",
        bounds={"seconds": 0.5},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One figure of a goal beside what was measured; `found` is None where nothing was."""

    goal: Goal
    figure: str
    at_most: float
    found: Comparison | None


def verdicts(records: Mapping[str, Record]) -> Iterator[Verdict]:
    for goal in GOALS:
        for figure, at_most in goal.bounds.items():
            found = _found(records.get(goal.question), figure, at_most, goal.row_end)
            yield Verdict(goal=goal, figure=figure, at_most=at_most, found=found)


def _found(record: Record | None, figure: str, at_most: float, row_end: str) -> Comparison | None:
    """A question's bounds differ from one another, so figure and bound say which comparison is meant; of several, the worst."""
    fitting = [
        one
        for one in (record.comparisons if record else ())
        if one.figure == figure
        and one.at_most is not None
        and math.isclose(one.at_most, at_most)
        and one.row.endswith(row_end)
    ]
    return max(fitting, key=lambda one: one.ratio, default=None)


def goals_table(records: Mapping[str, Record]) -> list[str]:
    rows, before = [], ""
    for one in verdicts(records):
        work = "" if one.goal.work == before else one.goal.work
        against = one.goal.against if work else ""
        rows.append([work, against, FIGURES[one.figure], ratio(one.at_most), *_measured(one, records)])
        before = one.goal.work
    head = ["work", "against", "figure", "at most", "measured", "lowest – highest", "held"]
    return table(head, rows, numbers_from=3)


def _measured(verdict: Verdict, records: Mapping[str, Record]) -> list[str]:
    found = verdict.found
    if found is None:
        return ["not measured", "–", _why_not(records.get(verdict.goal.question))]
    held = {True: "yes", False: "**no**", None: f"not judged: fewer than {FEWEST_REPETITIONS} repetitions"}[found.held]
    return [ratio(found.ratio), between(*found.spread), held]


def _why_not(record: Record | None) -> str:
    if record is None:
        return "no record"
    return "; ".join(f"{one.contestant}: {one.reason}" for one in record.missing) or "–"


def round_words(records: Mapping[str, Record]) -> list[str]:
    """Where the time goes of the one row that is about everything at once; nothing when it is held, or was not measured."""
    missed = any(one.goal.question == "round" and one.found and one.found.held is False for one in verdicts(records))
    return [OF_THE_ROUND, ""] if missed else []
