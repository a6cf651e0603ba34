"""Draws docs/performance.md and its plots from the records in benchmarks/results/: `make bench-report`.

The same records give the same bytes.
"""

import argparse
from pathlib import Path

from benchmarks.options import RESULTS
from benchmarks.report.page import write_report

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the records")
    parser.add_argument("--docs", type=Path, default=DOCS, help="directory that the page is written to")
    asked = parser.parse_args()
    for path in write_report(asked.results, asked.docs):
        print(path)


if __name__ == "__main__":
    main()
