"""A holder's answers: what was begun for a caller that goes away is put away too."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from he.ciphertext import half_chunk_bytes
from he.parameters import Parameters
from secagg.ids import Digest
from secagg.key_holder.openings import Openings
from secagg.key_holder.sums import KeptSum, SumReader
from tests.he_material import preset_parameters
from tests.round_cluster import eventually

LIMIT_SECONDS = 20.0


def kept(directory: Path, parameters: Parameters) -> KeptSum:
    path, data = directory / "sum", bytes(parameters.chunks * half_chunk_bytes(parameters))
    path.write_bytes(data)
    return KeptSum(path=path, parameters=parameters, digest=Digest(hashlib.sha256(data).digest()))


async def test_a_sum_that_opens_after_its_caller_has_gone_is_closed(tmp_path: Path) -> None:
    total, going, gone = kept(tmp_path, preset_parameters("ckks-4096")), threading.Event(), threading.Event()
    opened: list[SumReader] = []

    def slowly() -> SumReader:
        going.set()
        assert gone.wait(LIMIT_SECONDS)
        opened.append(total.open())
        return opened[0]

    openings = Openings(cast("Any", SimpleNamespace(run=asyncio.to_thread)))
    held = cast("Any", SimpleNamespace(total=SimpleNamespace(open=slowly)))
    asking = asyncio.create_task(openings._opened(held))
    assert await asyncio.to_thread(going.wait, LIMIT_SECONDS)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    gone.set()
    await eventually(lambda: bool(opened) and opened[0]._file.closed)
