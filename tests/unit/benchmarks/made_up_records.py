"""Records as the programs write them, with figures that nobody measured."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from benchmarks.records import Comparison, Figure, Machine, Measurement, Missing, Record, Taken
from benchmarks.report.goals import GOALS, Goal

TAKEN = Taken(
    commit="0123456789abcdef0123",
    dirty=False,
    date="2026-11-26",
    machine=Machine(cpu="Imagined CPU", cores=2, memory_gib=15.6, kernel="6.1.0"),
    versions={"sumveil": {"numpy": "2.4.6"}, "flower": {"flwr": "1.42.0"}},
)


def measured(work: str, by: str, middle: float, **more: Any) -> Measurement:
    case = more.pop("case", {"values": 1_000_000})
    seconds = (middle, middle * 0.9, middle * 1.2)
    return Measurement(work=work, case=case, contestant=by, seconds=seconds, **more)


def record(question: str, measurements: Sequence[Measurement], **more: Any) -> Record:
    return Record(
        question=question,
        title=f"Of {question}",
        quick=more.pop("quick", False),
        repetitions=3,
        taken=TAKEN,
        measurements=measurements,
        **more,
    )


def comparison(goal: Goal, figure: Figure, ratio: float) -> Comparison:
    return Comparison(
        row=goal.row_end or goal.work,
        work="work",
        case={"values": 1_000_000},
        ours="sumveil",
        against=goal.against,
        figure=figure,
        ratio=ratio,
        spread=(ratio * 0.9, ratio * 1.1),
        at_most=goal.bounds[figure],
        held=ratio <= goal.bounds[figure],
    )


def goal_records(factor: float = 0.8) -> dict[str, Record]:
    """One record for each question of the goals, every figure at so much of its bound."""
    found: dict[str, list[Comparison]] = {}
    for goal in GOALS:
        figures: list[Figure] = [*goal.bounds]  # type: ignore[list-item]
        ratios = [comparison(goal, figure, goal.bounds[figure] * factor) for figure in figures]
        found.setdefault(goal.question, []).extend(ratios)
    return {
        name: record(name, [measured("work", "sumveil", 0.1), measured("work", "flower", 0.4)], comparisons=ones)
        for name, ones in found.items()
    }


def all_records() -> dict[str, Record]:
    """As after `make bench`: every drawing has what it draws."""
    encrypting = [
        measured("encrypt", by, size * each, case={"values": size}, bytes=24 * size, peak_bytes=300_000_000)
        for size, (by, each) in product((10**5, 10**6, 10**7), (("sumveil", 3e-7), ("nvflare", 8e-7)))
    ]
    unmasking = [
        measured("unmask", by, each * (1 + lost / 30), case={"clients": 100, "values": 10**6, "dropped": lost})
        for lost, (by, each) in product((0, 5, 30), (("sumveil", 0.9), ("flower", 13.0)))
    ]
    growing = [
        measured(
            "round",
            "sumveil",
            factor * 0.3 * clients * size**0.5 / 300,
            case={"protocol": protocol, "clients": clients, "values": size},
            peak_bytes=int(1e8 * factor) + 300_000 * clients,
        )
        for (protocol, factor), (clients, size) in product(
            (("masking", 1), ("ckks", 3)), ((5, 10**4), (5, 10**5), (5, 10**6), (10, 10**5), (50, 10**5))
        )
    ]
    round = measured(
        "round",
        "sumveil",
        4.0,
        case={"protocol": "masking", "clients": 50, "values": 10**6},
        bytes=3_000_000,
        note="a client's bytes",
        extra={"bytes_down": [2_000_000, 2_000_000, 2_000_000]},
    )
    profile = [
        measured("client encryption", "sumveil", 0.4, extra={"phases": {"NTT": [0.2] * 3, "sampling": [0.1] * 3}}),
        measured("client encryption", "SEAL's kernel", 0.3, note="what SEAL takes", extra={"limit": True}),
        measured("masking client", "sumveil", 0.05, extra={"phases": {"keystream": [0.04] * 3, "pack": [0.02] * 3}}),
        measured("masking client", "AES-256-CTR", 0.02, note="33 bare keystreams", extra={"limit": True}),
        measured("gRPC over the loopback", "sumveil", 0.5, case={"messages": 256}, bytes=250_000_000),
    ]
    planned = [measured("encrypt", "sumveil", 0.4, extra={"predicted_seconds": 0.44})]
    missing = (Missing(contestant="openfhe", reason="there is no python3.10 here"),)
    return goal_records() | {
        "encryption": record("encryption", encrypting, comparisons=goal_records()["encryption"].comparisons),
        "unmasking": record("unmasking", unmasking, comparisons=goal_records(1.3)["unmasking"].comparisons),
        "growth": record("growth", growing),
        "round": record("round", [round], comparisons=goal_records()["round"].comparisons),
        "profile": record("profile", profile),
        "planner": record("planner", planned),
        "startup": record("startup", [measured("import", "sumveil", 0.2, case={})], missing=missing),
    }
