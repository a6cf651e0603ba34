"""One client cannot keep the others from uploading by beginning its own upload over and over."""

from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from coordinator.contracts import Limits
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.uploads import STREAMS_PER_CLIENT, Uploads
from secagg.errors import BusyError
from tests.machines.coordinator_events import CLIENTS, World, upload

ALICE, BOB, CAROL, _ = CLIENTS


async def test_every_client_has_its_own_place(tmp_path: Path) -> None:
    around = SimpleNamespace(
        spool=UploadSpool(DirectoryBlobStore(tmp_path), max_bytes=1 << 30), metrics=RoundMetrics(CollectorRegistry())
    )
    uploads = Uploads(cast("Surroundings", around), Limits(concurrent_uploads=2))
    state = World().uploading().state
    live = cast("LiveRound", SimpleNamespace(state=state))
    async with AsyncExitStack() as stack:
        for _ in range(STREAMS_PER_CLIENT):
            await stack.enter_async_context(uploads.begin(live, upload(state, ALICE).upload.message))
        with pytest.raises(BusyError, match="alice"):
            await stack.enter_async_context(uploads.begin(live, upload(state, ALICE).upload.message))
        await stack.enter_async_context(uploads.begin(live, upload(state, BOB).upload.message))
        with pytest.raises(BusyError, match="2 clients"):
            await stack.enter_async_context(uploads.begin(live, upload(state, CAROL).upload.message))
    async with uploads.begin(live, upload(state, CAROL).upload.message):
        pass
