"""Limits beside what they bound: the least that has to be computed or moved, and nothing else."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.stage import Run
from secagg.masking.stream import BUFFER_BYTES

Work = Callable[[], object]
Limits = Mapping[str, tuple[Callable[[Mapping[str, Any]], Work], str]]
"""By name: how to prepare a limit for a case, and what it is."""


def keystream(count_bytes: int) -> None:
    """AES-256-CTR into one buffer in the cache."""
    zeros, piece = bytes(BUFFER_BYTES), bytearray(BUFFER_BYTES)
    encryptor = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    for begin in range(0, count_bytes, BUFFER_BYTES):
        encryptor.update_into(memoryview(zeros)[: min(BUFFER_BYTES, count_bytes - begin)], piece)


def beside(limits: Limits, run: Run, case: Mapping[str, Any]) -> Run:
    """Run a path, then each limit, and tell of them under "limits": {name: {"seconds", "what"}}."""
    prepared = {name: (prepare(case), what) for name, (prepare, what) in limits.items()}

    def both() -> dict[str, Any]:
        told = run()
        of_limits = {name: {"seconds": _seconds(work), "what": what} for name, (work, what) in prepared.items()}
        return told | {"limits": of_limits}

    return both


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
