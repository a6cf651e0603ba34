"""The options that all benchmark programs take."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
REPETITIONS, QUICK_REPETITIONS = 5, 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for. `quick`: tiny sizes, only to see that the program works; its figures mean nothing."""

    quick: bool
    output: Path
    repetitions: int
    peers: bool


def options(description: str | None, arguments: Sequence[str] | None = None) -> Options:
    """Read the command line, or `arguments`; ends the program with a text on what cannot be."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, 2 repetitions, no peers; needs --output")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"where the record goes; default: {RESULTS.name}/ beside"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help=f"default: {REPETITIONS}")
    parser.add_argument("--no-peers", action="store_true", help="measure ours alone")
    asked = parser.parse_args(arguments)
    if asked.quick and asked.output is None:
        parser.error("--quick needs --output: its figures do not belong among the results")
    if asked.repetitions is not None and asked.repetitions < 1:
        parser.error("--repetitions must be 1 or more")
    return Options(
        quick=asked.quick,
        output=asked.output or RESULTS,
        repetitions=asked.repetitions or (QUICK_REPETITIONS if asked.quick else REPETITIONS),
        peers=not (asked.no_peers or asked.quick),
    )
