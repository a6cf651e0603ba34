"""Clocks and dates over a restart: what was accepted stays accepted, and no phase lasts longer than its plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.retention import Purger
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.certificates import make_certificate, new_private_key
from secagg.errors import SecAggError
from secagg.ids import RoundNumber
from secagg.messages.round import Phase
from secagg.signing import Signer
from tests.job_material import JOB, a_job
from tests.masking_material import ALICE, CLIENTS, ROUND, SPEC
from tests.pki_material import COORDINATOR, NOW, deployment
from tests.retention_material import keep, signed_record
from tests.simulation.masking import parties
from tests.unit.coordinator import durable_engine
from tests.unit.coordinator.durable_engine import UP_TO, WHOLE, Deployment, run

_ENDS_SECONDS = 20
"""When alice's other certificate ends."""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.close()


def ending_signer() -> Signer:
    """Return alice's other certified key, which she got a day before it ends."""
    key, until = new_private_key(), NOW + timedelta(seconds=_ENDS_SECONDS)
    authority = parties._authority("ours")
    certificate = make_certificate(
        authority, parties.party(ALICE), key.public_key(), at=until - timedelta(days=1), days=1
    )
    return Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize("step", ["shares", "confirm"])
def test_a_message_whose_certificate_ends_while_it_is_stored_costs_nobody_a_round(
    deployed: Deployment, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client signs with a certificate that ends as soon as its message was accepted; then the coordinator restarts."""
    ending, honest = ending_signer(), durable_engine.signed
    hers: list[bool] = []

    def signed(message: Any, by: Any) -> Any:
        return codec.sign(message, ending) if hers and by.name == ALICE else honest(message, by)

    monkeypatch.setattr(durable_engine, "signed", signed)

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        loop = asyncio.get_running_loop()
        await deployed.play(*UP_TO[step][:-1])
        await asyncio.sleep(_ENDS_SECONDS - 0.05 - loop.time())
        hers.append(True)
        # A move that is being stored on a slow disk holds hers up.
        async with live._lock:
            call = asyncio.ensure_future(deployed.call(ALICE, step))
            await asyncio.sleep(0.2)
        await call
        hers.clear()
        await deployed.restart()
        record = deployed.store.round(SPEC.job, ROUND)
        assert not record.status.phase.ended, record.status.reason
        await deployed.play(step, clients=CLIENTS[1:])
        await deployed.play(*WHOLE[WHOLE.index(step) + 1 :])
        assert await deployed.until(Phase.PUBLISHED, Phase.ABORTED) is Phase.PUBLISHED
        await deployed.engine.stop(0.0)

    run(work)


def test_a_clock_that_was_put_back_before_a_restart_makes_no_phase_longer(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a day, or another coordinator's clock is behind by as much: who waits does not wait for a day."""

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        await deployed.play("join", clients=CLIENTS[:1])
        await deployed.engine.stop(0.0)
        monkeypatch.setattr(durable_engine, "NOW", NOW - timedelta(days=1))
        await deployed.start()
        await asyncio.sleep(SPEC.deadlines.open_seconds + 30.0)
        assert deployed.store.round(SPEC.job, ROUND).status.phase is Phase.ABORTED
        await deployed.engine.stop(0.0)

    run(work)


def test_a_clock_that_jumped_beyond_the_coordinators_own_certificate_purges_nothing(tmp_path: Path) -> None:
    """By twenty years: what is deleted stays deleted when the clock is right again, and the receipt would not hold."""
    made = deployment(tmp_path / "pki", at=NOW)
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'rounds.db'}")
    store.create_job(a_job(), 1.0)
    keep(store, signed_record(made, ended_at=NOW.timestamp()))
    wrong = NOW + timedelta(days=20 * 365)
    purger = Purger(
        store=store,
        blobs=DirectoryBlobStore(tmp_path / "blobs"),
        signer=made.identity(COORDINATOR).signer,
        clock=wrong.timestamp,
    )
    with suppress(SecAggError):
        list(purger.purged_rounds(365, lambda *_: None))
    assert not store.round(JOB, RoundNumber(1)).status.purged
    assert store.receipts() == []
    store.close()
