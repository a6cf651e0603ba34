"""What `secagg plan` predicts of everybody's seconds, beside what the same work takes.

The calibration is measured first, by the same functions as `secagg plan calibrate`; every work then runs at two sizes. What the client
writes to its spool is measured, and not predicted.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.arena import Contestant, Race, race
from benchmarks.contestants.masking_people import plan_of
from benchmarks.contestants.sumveil_encryption import job_of
from benchmarks.contestants.sumveil_planner import CALIBRATION
from benchmarks.notebook import Notebook
from benchmarks.options import Options, options
from benchmarks.records import Case
from secagg.masking.planner import plan_numbers
from secagg.planning.calibration import Calibration, load
from secagg.planning.seconds import Work, ckks_rates, ckks_work, masking_work

QUESTION = "planner"
TITLE = "What the planner predicts, and what it takes"
SIZES, QUICK_SIZES = (200_000, 1_000_000), (5_000,)
CLIENTS, DROPPED = 20, 4
QUICK_WORKS = ("client: mask", "key holder: read one c1")
"""The others' own programs run them quickly too."""
ANSWERS = 3

Predicted = Callable[[int, Calibration], float]


def of_ckks(values: int, calibration: Calibration) -> Work:
    """The works of the 5 holders' round that the contestants take part in."""
    work = ckks_work(job_of(values), calibration)
    assert work is not None
    return work


def of_masking(values: int, calibration: Calibration) -> Work:
    """Everybody's work in a round of 20 clients, of whom 4 vanish."""
    spec = plan_of(masking_case(values)).spec
    found = plan_numbers(
        CLIENTS,
        corrupt_fraction=spec.masking.corrupt_fraction,
        dropout_fraction=spec.masking.dropout_fraction,
        min_contributors=spec.min_contributors,
    )
    return masking_work(spec, replace(found, dropped=DROPPED), calibration)


def masking_case(values: int) -> Case:
    return {"clients": CLIENTS, "values": values, "dropped": DROPPED}


def of_one_client(values: int, calibration: Calibration) -> tuple[float, float]:
    """What coordinator and key holder do for one client of a `ckks` round."""
    spec = job_of(values)
    rates, chunks = ckks_rates(spec, calibration), spec.parameters(len(spec.ckks.holders)).chunks
    assert rates is not None
    taken = ckks_work(spec, calibration)
    assert taken is not None
    return chunks * rates.receive + taken.coordinator["disk"] / spec.max_clients, chunks * rates.holder_add


def recovering(values: int, calibration: Calibration) -> float:
    """From three answers, as the contestant has them."""
    spec = job_of(values)
    rates, chunks = ckks_rates(spec, calibration), spec.parameters(len(spec.ckks.holders)).chunks
    assert rates is not None
    return chunks * (rates.recover + ANSWERS * rates.recover_answer)


def unmasking(values: int, calibration: Calibration) -> float:
    """From vectors on disk to the mean: what came before is not in it."""
    done = of_masking(values, calibration).coordinator
    return sum(done[part] for part in ("adding", "recovering secrets", "taking masks off", "mean"))


CKKS: dict[str, Predicted] = {
    "client: encrypt": lambda values, rates: of_ckks(values, rates).client["encrypting"],
    "coordinator: take one upload": lambda values, rates: of_one_client(values, rates)[0],
    "coordinator: recover": recovering,
    "key holder: read one c1": lambda values, rates: of_one_client(values, rates)[1],
    "key holder: answer": lambda values, rates: of_ckks(values, rates).key_holder["answering"],
}
MASKING: dict[str, Predicted] = {
    "client: mask": lambda values, rates: sum(of_masking(values, rates).client.values()),
    "coordinator: unmask": unmasking,
}


def main() -> None:
    asked = options(__doc__)
    notebook = Notebook(QUESTION, TITLE, asked)
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        [ours] = notebook.entrants()
        ours = replace(ours, env={"BENCH_FOLDER": folder, "SIGNED": "at first sight"})
        rates = calibrated(notebook, ours, Path(folder), quick=asked.quick)
        for values in QUICK_SIZES if asked.quick else SIZES:
            for works, case in ((CKKS, {"values": values}), (MASKING, masking_case(values))):
                for work in (one for one in works if not asked.quick or one in QUICK_WORKS):
                    notebook.add(told(run(work, case, ours, asked), works[work](values, rates)))
    notebook.write()


def calibrated(notebook: Notebook, ours: Contestant, folder: Path, *, quick: bool) -> Calibration:
    """Measure the rates once, of the preset that the works use."""
    case = {"presets": ["ckks-4096"], "quick": quick}
    notebook.add(race(QUESTION, "calibrate", case, [ours], 1, warmups=0, cores=None))
    rates = load(folder / CALIBRATION)
    assert rates is not None
    return rates


def run(work: str, case: Case, ours: Contestant, asked: Options) -> Race:
    return race(QUESTION, work, case, [ours], asked.repetitions, cores=None)


def told(found: Race, predicted: float) -> Race:
    """Put the prediction beside what was measured."""
    measured = tuple(replace(one, extra={**one.extra, "predicted_seconds": predicted}) for one in found.measurements)
    for one in measured:
        print(f"  {'':24} predicted {predicted:.4f} s, {predicted / one.median:.2f} times what it took")
    return replace(found, measurements=measured)


if __name__ == "__main__":
    main()
