"""What a coordinator takes of memory and disk, at the most.

The constants are those of `docs/samples/coordinator.toml`, measured by `benchmarks/bench_memory.py` with MALLOC_ARENA_MAX=1, without
which malloc's arenas come on top: the sum, its opening and the mean are worked on block by block, so that the length of a vector does
not count, and joins are kept as they were signed.
"""

from __future__ import annotations

from typing import Final

from secagg.identity import Role
from secagg.plan import CkksJob, JobSpec
from secagg.planning.sizes import certificate_bytes

MEBIBYTE: Final = 1024**2
BASE_BYTES: Final = 150 * MEBIBYTE
"""Interpreter, libraries and the blocks that are worked on: 113 MiB before the first caller, and some of it for a round."""
ARENAS_BYTES: Final = 100 * MEBIBYTE
"""What malloc holds besides in the arenas of several threads, unless MALLOC_ARENA_MAX=1 is in the environment."""
CONNECTION_BYTES: Final = 2 * MEBIBYTE
"""What gRPC holds for each client that is connected."""
UPLOAD_BYTES: Final = 2 * MEBIBYTE
"""The parts under way of each client that uploads."""
CONCURRENT_UPLOADS: Final = 64
"""`[limits] concurrent_uploads`, unless the coordinator's operator says otherwise."""
SPOOL_BYTES: Final = 50 * 1024**3
"""`[limits] spool_bytes`, likewise."""
_SIGNED_BYTES: Final = 400
"""A signed message without its certificate, and its place in a dictionary."""
_MESSAGES: Final = {"ckks": 2, "masking": 5}
_SUM_BYTES_PER_VALUE: Final = 12
"""The sum as float64 and the mean as float32, on disk."""


def coordinator_memory_bytes(spec: JobSpec, neighbours: int = 0) -> int:
    """Return the most memory of a coordinator that runs one round of the job; ``neighbours``: k of a ``masking`` round."""
    clients = spec.max_clients
    uploading = min(clients, CONCURRENT_UPLOADS)
    each = certificate_bytes(Role.CLIENT, len(spec.job)) + _SIGNED_BYTES
    # a pair of sealed shares and two shares of each neighbour, as bytes objects
    shares = neighbours * (88 + 36 + 36 + 100)
    records = clients * (_MESSAGES[spec.protocol.NAME] * each + shares)
    return BASE_BYTES + ARENAS_BYTES + clients * CONNECTION_BYTES + uploading * UPLOAD_BYTES + records


def spool_bytes(spec: JobSpec, upload_bytes: int) -> int:
    """Return what a round takes of the coordinator's disk: every client's upload, and in ``ckks`` the answers."""
    answers = 0
    if isinstance(spec.protocol, CkksJob):
        answers = len(spec.ckks.holders) * upload_bytes // 2
    return spec.max_clients * upload_bytes + answers + _SUM_BYTES_PER_VALUE * spec.values
