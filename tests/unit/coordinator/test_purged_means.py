"""A mean that `secagg retention` purges beside a coordinator that has its round in memory still."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.retention import DAY_SECONDS, Purger
from secagg.access import _caller
from secagg.errors import NotFoundError
from secagg.messages.round import Phase
from secagg.wire.v1 import client_service_pb2 as pb
from tests.masking_material import ALICE, ROUND, SPEC
from tests.pki_material import NOW
from tests.round_cluster import eventually
from tests.simulation.masking.parties import COORDINATOR, party, signer
from tests.unit.coordinator.durable_engine import WHOLE, Deployment, run


def test_a_purged_mean_is_not_served_and_its_purge_is_told(tmp_path: Path) -> None:
    deployed = Deployment(tmp_path)

    async def download() -> bytes:
        asked = pb.DownloadMeanRequest(job=SPEC.job, round=ROUND)
        _caller.set(party(ALICE))
        return b"".join([part.data async for part in deployed.clients.DownloadMean(asked, cast("Any", None))])

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        await deployed.play(*WHOLE)
        await deployed.until(Phase.PUBLISHED)
        await eventually(live.closed.is_set)
        assert await download()
        assert _purger(deployed).purge(SPEC.job, ROUND, 1) is not None
        with pytest.raises(NotFoundError, match="purged"):
            await download()
        await deployed.engine.stop(0.0)

    run(work)
    deployed.close()


def _purger(deployed: Deployment) -> Purger:
    """Return what the command purges with: a process of its own, two days later."""
    return Purger(
        store=deployed.store.store,
        blobs=deployed.blobs.store,
        signer=signer(COORDINATOR),
        clock=lambda: NOW.timestamp() + 2 * DAY_SECONDS,
    )
