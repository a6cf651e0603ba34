"""A coordinator's process whose disk takes its time: while the file SECAGG_TEST_SLOW names is there, no part gets on file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from coordinator.store.blobs import DirectoryBlobStore
from secagg.cli.main import main

LONGEST_SECONDS = 60.0

_slow = Path(os.environ["SECAGG_TEST_SLOW"])
_append = DirectoryBlobStore.append


def _slowly(store: DirectoryBlobStore, *arguments: Any) -> int:
    end = time.monotonic() + LONGEST_SECONDS
    while _slow.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return _append(store, *arguments)


if __name__ == "__main__":
    DirectoryBlobStore.append = _slowly  # type: ignore[method-assign]
    sys.exit(main())
