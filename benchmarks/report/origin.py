"""Where figures come from: machines, commits, dates, versions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.records import Record
from benchmarks.report.figures import table

COMMIT_DIGITS = 10


def origin_lines(records: Sequence[Record]) -> list[str]:
    machines = sorted({_machine(record) for record in records})
    rows = [[record.title, record.taken.date, _commit(record), str(record.repetitions)] for record in records]
    lines = [*(f"- Machine: {machine}." for machine in machines), *_versions(records), ""]
    return lines + table(["question", "taken", "commit", "repetitions"], rows, numbers_from=3)


def _machine(record: Record) -> str:
    machine = record.taken.machine
    return f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB of memory, Linux {machine.kernel}"


def _commit(record: Record) -> str:
    changed = " and changes" if record.taken.dirty else ""
    return f"`{record.taken.commit[:COMMIT_DIGITS]}`{changed}"


def _versions(records: Sequence[Record]) -> list[str]:
    """One line for each contestant; two versions of a package stand side by side."""
    found: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for contestant, packages in record.taken.versions.items():
            for package, version in packages.items():
                # What follows a comma is a way of ours, not another contestant.
                found[contestant.partition(",")[0]][package].add(version)
    return [f"- Versions, {contestant}: {_packages(packages)}." for contestant, packages in sorted(found.items())]


def _packages(packages: Mapping[str, set[str]]) -> str:
    return ", ".join(f"{package} {' and '.join(sorted(versions))}" for package, versions in sorted(packages.items()))
